//! Update control maps, exhaustively: every small pool against a naive evaluation written from the description
//! (update-control.md section 4), long random histories against a naive pool, and hostile input.
#![allow(clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::Duration;
use thimble::agent::control::{
    Action, Change, ControlMap, ExpireAction, Lifetimes, MAP_LIMIT, Point, Pool, Verdict, Wake,
};
use thimble::json::{self, Value};

const IDS: [&str; 3] = [
    "00000000-0000-0000-0000-00000000000a",
    "00000000-0000-0000-0000-00000000000b",
    "00000000-0000-0000-0000-00000000000c",
];
const POLL: Duration = Duration::from_secs(1800);
const ACTIONS: [&str; 4] = ["continue", "force_continue", "pause", "fail"];
const EXPIRE_ACTIONS: [&str; 3] = ["continue", "force_continue", "fail"];

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn lives(seconds: u64) -> Lifetimes {
    Lifetimes { normal: s(seconds), boot: s(seconds) }
}

// ---- The naive evaluation: words, lists and a full sort, as the description has it.

#[derive(Debug, Clone, PartialEq)]
struct Naive {
    id: String,
    priority: i64,
    /// Point to action, on_map_expire, on_action_executed.
    states: BTreeMap<String, [String; 3]>,
    expires: u64,
}

impl Naive {
    fn text(&self) -> String {
        let states: Vec<String> = self
            .states
            .iter()
            .map(|(point, [action, expire, executed])| {
                format!(
                    r#""{point}":{{"action":"{action}","on_map_expire":"{expire}","on_action_executed":"{executed}"}}"#
                )
            })
            .collect();
        format!(r#"{{"id":"{}","priority":{},"states":{{{}}}}}"#, self.id, self.priority, states.join(","))
    }

    fn parsed(&self) -> ControlMap {
        ControlMap::parse(&json::parse(&self.text()).expect("JSON")).expect("valid").expect("a map")
    }
}

fn naive_verdict(maps: &mut [Naive], state: &str, now: u64) -> &'static str {
    maps.sort_by_key(|m| -m.priority);
    let mut priorities: Vec<i64> = maps.iter().map(|m| m.priority).collect();
    priorities.dedup();
    let mut actions: Vec<String> = Vec::new();
    for p in priorities {
        for m in maps.iter_mut().filter(|m| m.priority == p && m.states.contains_key(state)) {
            let expired = now >= m.expires;
            let rule = m.states.get_mut(state).expect("has the state");
            actions.push(if expired { rule[1].clone() } else { rule[0].clone() });
            rule[0] = rule[2].clone();
        }
        let said = |word: &str| actions.iter().any(|a| a == word);
        if said("fail") {
            return "fail";
        } else if said("pause") {
            return "pause";
        } else if said("force_continue") {
            return "continue";
        }
    }
    "continue"
}

/// Point to action, for every map of a pool, by identity.
fn actions(pool: &Pool) -> BTreeMap<(String, i64), Vec<(&'static str, &'static str)>> {
    pool.maps(s(0))
        .map(|listed| {
            let rules = listed.map.rules().map(|(point, rule)| (point.word(), rule.action.word()));
            ((listed.map.id().to_owned(), i64::from(listed.map.priority())), rules.collect())
        })
        .collect()
}

fn naive_actions(maps: &[Naive]) -> BTreeMap<(String, i64), Vec<(&str, &str)>> {
    let order = |state: &str| Point::ALL.iter().position(|p| p.word() == state);
    maps.iter()
        .map(|m| {
            let mut rules: Vec<(&str, &str)> =
                m.states.iter().map(|(state, rule)| (state.as_str(), rule[0].as_str())).collect();
            rules.sort_by_key(|(state, _)| order(state));
            ((m.id.clone(), m.priority), rules)
        })
        .collect()
}

/// Decides once with both; everything that can be observed must agree.
fn step(pool: &mut Pool, naive: &mut [Naive], point: Point, now: u64) {
    let before = pool.clone();
    let explained = pool.explain(point, s(now));
    assert_eq!(*pool, before, "an explanation changes nothing");
    let verdict = pool.verdict(point, s(now));
    let expected = naive_verdict(naive, point.word(), now);
    assert_eq!(verdict.word(), expected, "at {now} s: {before:#?}");
    assert_eq!(explained.verdict, verdict, "the explanation is that of the decision");
    let voice = explained.voice.map(|v| v.says);
    let by_voice = match voice {
        Some(Action::Fail) => "fail",
        Some(Action::Pause) => "pause",
        Some(Action::ForceContinue) | None => "continue",
        Some(Action::Continue) => panic!("continue decides nothing"),
    };
    assert_eq!(by_voice, expected, "the map that is named is one that decides");
    if verdict == Verdict::Pause {
        match pool.next_wake(IDS[0], POLL, s(now)) {
            Wake::Refresh(at) | Wake::Decide(at) => assert!(at > s(now), "a busy loop: {pool:#?}"),
            Wake::AtOnce => panic!("a pause without a live map: {pool:#?}"),
        }
    }
}

/// One map of the small world: at this priority, for ArtifactInstall.
struct Small {
    naive: Naive,
    map: ControlMap,
    life: u64,
}

/// Every rule × priority × life; 10 s: outlives both decisions, 2 s: expires between them, 0: has expired.
fn smalls(id: &str, lifetimes: &[u64], rules: &[Option<[&str; 3]>]) -> Vec<Small> {
    let mut all = Vec::new();
    for priority in [-1, 0, 1] {
        for life in lifetimes {
            for rule in rules {
                let states = rule
                    .iter()
                    .map(|r| ("ArtifactInstall_Enter".to_owned(), r.map(str::to_owned)))
                    .filter(|(_, r)| *r != ["continue"; 3].map(str::to_owned))
                    // A map that says something elsewhere is a map without the state here.
                    .chain([("ArtifactCommit_Enter".to_owned(), ["fail", "fail", "fail"].map(str::to_owned))])
                    .collect();
                let naive = Naive { id: id.to_owned(), priority, states, expires: *life };
                let map = naive.parsed();
                all.push(Small { naive, map, life: *life });
            }
        }
    }
    all
}

fn every_rule() -> Vec<Option<[&'static str; 3]>> {
    let mut rules = vec![None];
    for action in ACTIONS {
        for expire in EXPIRE_ACTIONS {
            for executed in ACTIONS {
                rules.push(Some([action, expire, executed]));
            }
        }
    }
    rules
}

/// Two decisions, at 1 s and at 3 s.
fn decide_twice(maps: &[&Small]) {
    let mut pool = Pool::default();
    let mut naive = Vec::new();
    for small in maps {
        assert_eq!(pool.insert(small.map.clone(), s(0), &lives(small.life)), Ok(Change::Added));
        naive.push(small.naive.clone());
    }
    for now in [1, 3] {
        step(&mut pool, &mut naive, Point::Install, now);
    }
    assert_eq!(actions(&pool), naive_actions(&naive), "what was executed");
}

#[test]
fn every_pool_of_two_maps_decides_twice_as_described() {
    let rules = every_rule();
    let first = smalls(IDS[0], &[10, 2, 0], &rules);
    let second = smalls(IDS[1], &[10, 2, 0], &rules);
    let mut pools = 0;
    for a in &first {
        for b in &second {
            decide_twice(&[a, b]);
            pools += 1;
        }
    }
    // The order in which they were set makes no difference.
    for (a, b) in first.iter().zip(second.iter().rev()).chain(first.iter().zip(&second)) {
        decide_twice(&[b, a]);
    }
    assert_eq!(pools, (3 * 3 * (4 * 3 * 4 + 1)) * (3 * 3 * (4 * 3 * 4 + 1)));
}

#[test]
fn every_pool_of_three_maps_with_default_rules_decides_twice_as_described() {
    let rules: Vec<Option<[&str; 3]>> =
        vec![Some(["force_continue"; 3]), Some(["pause", "fail", "continue"]), Some(["fail"; 3]), None];
    let [first, second, third] = IDS.map(|id| smalls(id, &[10, 0], &rules));
    for a in &first {
        for b in &second {
            for c in &third {
                decide_twice(&[a, b, c]);
            }
        }
    }
}

#[test]
fn one_deployment_may_have_a_map_of_every_priority() {
    let rules = every_rule();
    let all = smalls(IDS[0], &[10], &rules);
    for a in &all {
        for b in all.iter().filter(|b| b.naive.priority != a.naive.priority) {
            decide_twice(&[a, b]);
        }
    }
}

// ---- Long histories.

/// xorshift64*: the same histories in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.roll(of.len() as u64)).expect("small")]
    }

    fn map(&mut self) -> Naive {
        let mut states = BTreeMap::new();
        for point in Point::ALL {
            let rule = [self.one(&ACTIONS), self.one(&EXPIRE_ACTIONS), self.one(&ACTIONS)].map(str::to_owned);
            if self.roll(3) > 0 && rule != ["continue"; 3].map(str::to_owned) {
                states.insert(point.word().to_owned(), rule);
            }
        }
        let priority = self.one(&[-10, -1, 0, 1, 10]);
        Naive { id: self.one(&IDS).to_owned(), priority, states, expires: 0 }
    }
}

#[test]
fn a_thousand_histories_of_a_hundred_steps_agree_with_a_naive_pool() {
    const LIFE: Lifetimes = Lifetimes { normal: Duration::from_secs(40), boot: Duration::from_secs(15) };
    for seed in 1..=1000 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let (mut pool, mut naive, mut now, mut boot) = (Pool::default(), Vec::<Naive>::new(), 0, 0);
        for _ in 0..100 {
            now += dice.roll(8);
            match dice.roll(9) {
                0..=2 => {
                    let map = Naive { expires: now + 40, ..dice.map() };
                    naive.retain(|m| (&m.id, m.priority) != (&map.id, map.priority));
                    pool.insert(map.parsed(), s(now), &LIFE).expect("room");
                    naive.extend(Some(map).filter(|m| !m.states.is_empty()));
                }
                3 => {
                    let map = Naive { expires: now + 40, ..dice.map() };
                    naive.retain(|m| m.id != map.id);
                    pool.replace_from_server(&map.id, map.parsed(), s(now), &LIFE).expect("room");
                    naive.push(map);
                }
                4 => {
                    let id = dice.one(&IDS);
                    assert_eq!(pool.remove_deployment(id), naive.iter().any(|m| m.id == id));
                    naive.retain(|m| m.id != id);
                }
                5 if dice.roll(4) == 0 => {
                    pool.drop_expired(s(now));
                    naive.retain(|m| now < m.expires);
                }
                6 => {
                    // The agent restarts, now and then with the machine.
                    let text = pool.encode(&format!("boot-{boot}"), s(now));
                    if dice.roll(3) == 0 {
                        boot += 1;
                        for map in &mut naive {
                            map.expires = if now < map.expires { 15 } else { 0 };
                        }
                        now = 0;
                    }
                    let value = json::parse_bytes(&text, "TEST", "pool").expect("JSON");
                    let read = Pool::decode(&value, &format!("boot-{boot}"), s(now), &LIFE);
                    pool = read.expect("what was written is read");
                    // States that have come to say nothing are not kept (K7).
                    let calm = ["continue"; 3].map(str::to_owned);
                    naive.iter_mut().for_each(|m| m.states.retain(|_, rule| *rule != calm));
                }
                _ => step(&mut pool, &mut naive, dice.one(&Point::ALL), now),
            }
            assert_eq!(actions(&pool), naive_actions(&naive), "seed {seed} at {now} s");
            for (listed, id) in pool.maps(s(now)).flat_map(|m| IDS.map(|id| (m, id))) {
                let known = |m: &&Naive| m.id == id && m.priority == i64::from(listed.map.priority());
                if listed.map.id() == id {
                    let expires = naive.iter().find(known).expect("known").expires;
                    let left = expires.checked_sub(now).filter(|left| *left > 0).map(s);
                    assert_eq!(listed.expires_in, left, "seed {seed} at {now} s");
                }
                assert_eq!(pool.has_map_of(id), naive.iter().any(|m| m.id == id));
            }
        }
    }
}

// ---- Hostile input.

/// Anything that JSON can say, and then some.
fn hostile_values() -> Vec<String> {
    let mut all: Vec<String> = [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-0.0",
        "1",
        "-1",
        "10",
        "11",
        "1.5",
        "1e0",
        "1e308",
        "5e-324",
        "127",
        "128",
        "-129",
        "255",
        "256",
        "2147483648",
        "4294967296",
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "18446744073709551615",
        "\"\"",
        "\"pause\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"ſtates\"",
        "[]",
        "[null]",
        "{}",
        "{\"\":{}}",
        "{\"action\":\"pause\"}",
        "{\"action\":\"pause\",\"Action\":\"fail\"}",
        "{\"action\":\"pause\",\"action\":\"fail\"}",
        "{\"ArtifactInstall_Enter\":{}}",
    ]
    .map(str::to_owned)
    .into();
    all.push(format!("\"{}\"", IDS[0]));
    all.push(format!("\"{}\"", "x".repeat(1 << 20)));
    all.push(format!("{}{}", "[".repeat(28), "]".repeat(28)));
    all.push(format!("{}null{}", "{\"states\":".repeat(28), "}".repeat(28)));
    let members: Vec<String> = (0..20_000).map(|n| format!("\"k{n}\":{n}")).collect();
    all.push(format!("{{{}}}", members.join(",")));
    all
}

fn parse_both(text: &str) {
    let Ok(value) = json::parse(text) else { return };
    match ControlMap::parse(&value) {
        Ok(Some(map)) => {
            assert_eq!(map.id().len(), 36, "{text}");
            assert!((-10..=10).contains(&map.priority()), "{text}");
            assert_eq!(ControlMap::parse(&map.to_value()), Ok(Some(map)), "{text}");
        }
        Ok(None) => assert_eq!(text, "null"),
        Err(e) => assert!(e.to_string().len() < 4096, "{e}"),
    }
    for now in [Duration::ZERO, s(1), Duration::MAX] {
        match Pool::decode(&value, "b", now, &lives(u64::MAX)) {
            Ok(mut pool) => {
                assert!(pool.maps(now).count() <= MAP_LIMIT);
                for point in Point::ALL {
                    let _ = pool.explain(point, now).to_string();
                    let _ = pool.verdict(point, now);
                }
                let _ = pool.next_wake(IDS[0], Duration::MAX, now);
                let text = pool.encode("b", now);
                let again = json::parse_bytes(&text, "TEST", "pool").expect("JSON");
                let again = Pool::decode(&again, "b", now, &lives(u64::MAX)).expect("readable");
                assert_eq!(again.maps(now).count(), pool.maps(now).count());
            }
            Err(e) => assert!(e.0.len() < 4096, "{}", e.0),
        }
    }
}

#[test]
fn hostile_values_in_every_place_never_panic() {
    let id = IDS[0];
    let map = |member: &str, value: &str| {
        let others = [
            ("id", format!("\"{id}\"")),
            ("priority", "1".into()),
            ("states", r#"{"ArtifactInstall_Enter":{"action":"pause"}}"#.into()),
        ];
        let others = others.iter().filter(|(name, _)| *name != member);
        let members: Vec<String> = others.map(|(name, v)| format!("\"{name}\":{v}")).collect();
        format!("{{{},\"{member}\":{value}}}", members.join(","))
    };
    for value in hostile_values() {
        parse_both(&value);
        for member in ["id", "priority", "states", "ID", "colour", ""] {
            parse_both(&map(member, &value));
            parse_both(&format!(r#"{{"active":[{}],"expired":null}}"#, map(member, &value)));
        }
        for point in ["ArtifactInstall_Enter", "Idle_Enter"] {
            parse_both(&map("states", &format!(r#"{{"{point}":{value}}}"#)));
            for member in ["action", "on_map_expire", "on_action_executed", "ACTION", "else"] {
                parse_both(&map("states", &format!(r#"{{"{point}":{{"{member}":{value}}}}}"#)));
            }
        }
        let whole = map("priority", "2");
        for member in ["version", "boot_id", "changes", "maps", "active", "expired", "else"] {
            let mut form = BTreeMap::from([
                ("version", "1".to_owned()),
                ("boot_id", "\"b\"".to_owned()),
                ("changes", "3".to_owned()),
                ("maps", format!(r#"[{{"map":{whole},"half_ms":1,"expires_ms":2}}]"#)),
            ]);
            form.insert(member, value.clone());
            let members: Vec<String> = form.iter().map(|(name, v)| format!("\"{name}\":{v}")).collect();
            parse_both(&format!("{{{}}}", members.join(",")));
        }
        for (half, expires) in [("1", value.as_str()), (value.as_str(), "1"), (&value, &value)] {
            parse_both(&format!(
                r#"{{"version":1,"boot_id":"b","changes":0,"maps":[{{"map":{whole},"half_ms":{half},"expires_ms":{expires}}}]}}"#
            ));
        }
    }
}

#[test]
fn a_value_nested_beyond_reason_is_refused_without_recursion() {
    let mut value = Value::Null;
    for _ in 0..100_000 {
        let mut array = json::Array::new();
        array.push(value);
        value = Value::Array(array);
    }
    assert!(ControlMap::parse(&value).is_err());
    assert!(Pool::decode(&value, "b", s(0), &lives(1)).is_err());
    let mut object = json::Object::new();
    object.insert("id".into(), value);
    assert!(ControlMap::parse(&Value::Object(object)).is_err());
}

#[test]
fn the_member_of_a_mistake_can_be_found_in_the_text() {
    let text = format!(
        "{{\n  \"ID\": \"{}\",\n  \"States\": {{\"ArtifactInstall_Enter\": {{\"Action\": \"stop\"}}}}\n}}",
        IDS[0]
    );
    let error = ControlMap::parse(&json::parse(&text).expect("JSON")).expect_err("stop is no action");
    let path: Vec<&str> = error.path.iter().map(String::as_str).collect();
    assert_eq!(json::position(&text, &path), Some((3, 50)));
    assert_eq!(
        error.to_string(),
        "update control map: States.ArtifactInstall_Enter.Action is \"stop\"; \
         allowed: continue, force_continue, pause, fail"
    );
}

#[test]
fn the_words_here_are_all_the_words_there_are() {
    assert_eq!(Action::ALL.map(Action::word), ACTIONS);
    assert_eq!(ExpireAction::ALL.map(ExpireAction::word), EXPIRE_ACTIONS);
}
