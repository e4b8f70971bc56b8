//! The persisted forms.

use super::*;

fn reload(pool: &Pool, boot: &str, written: Duration, read: Duration) -> Pool {
    let text = String::from_utf8(pool.encode("boot-1", written)).expect("text");
    Pool::decode(&value(&text), boot, read, &LIVES).expect("readable")
}

#[test]
fn a_restart_of_the_agent_changes_neither_maps_nor_times() {
    let mut pool = pool(&[says(ID, 0, "pause"), says(OTHER, 4, "fail")]);
    let server = "33333333-2222-3333-4444-555555555555";
    assert_eq!(pool.replace_from_server(server, map(server, -3, ""), s(3), &LIVES), Ok(()));
    assert_eq!(reload(&pool, "boot-1", s(10), s(20)), pool);
    assert_eq!(reload(&Pool::default(), "boot-1", s(10), s(20)), Pool::default());
}

#[test]
fn k18_k20_a_restart_of_the_machine_gives_live_maps_the_boot_lifetime() {
    let pool = pool(&[says(ID, 0, "pause")]);
    for boot in ["boot-2", ""] {
        let after = reload(&pool, boot, s(10), s(5));
        assert_eq!(after.clone().verdict(Point::Install, s(104)), Verdict::Pause, "{boot:?}");
        assert_eq!(after.clone().verdict(Point::Install, s(105)), Verdict::Fail, "{boot:?}");
        assert_eq!(after.next_wake(ID, POLL, s(5)), Wake::Refresh(s(55)), "half the boot lifetime");
        assert_eq!(after.changes(), pool.changes());
    }
}

#[test]
fn where_boots_cannot_be_told_apart_every_start_is_another_boot() {
    let text = String::from_utf8(pool(&[says(ID, 0, "pause")]).encode("", s(10))).expect("text");
    let after = Pool::decode(&value(&text), "", s(10), &LIVES).expect("readable");
    assert_eq!(after.maps(s(10)).next().and_then(|m| m.expires_in), Some(s(100)));
}

#[test]
fn k22_a_map_that_was_written_as_expired_stays_expired_after_a_restart() {
    let pool = pool(&[says(ID, 0, "pause")]);
    for boot in ["boot-1", "boot-2"] {
        assert_eq!(reload(&pool, boot, s(600), s(1)).verdict(Point::Install, s(2)), Verdict::Fail, "{boot}");
    }
}

#[test]
fn k24_what_was_executed_is_persisted() {
    let text = r#""ArtifactInstall_Enter":{"action":"pause","on_action_executed":"continue"}"#;
    let mut pool = pool(&[map(ID, 0, text)]);
    assert_eq!(pool.verdict(Point::Install, s(1)), Verdict::Pause);
    assert_eq!(reload(&pool, "boot-2", s(1), s(1)).verdict(Point::Install, s(2)), Verdict::Continue);
}

#[test]
fn a_damaged_time_is_no_pause_for_ever() {
    let mut text = String::from_utf8(pool(&[says(ID, 0, "pause")]).encode("boot-1", s(1))).expect("text");
    text = text.replace("600000", "18446744073709551615").replace("300000", "18446744073709551615");
    let mut pool = Pool::decode(&value(&text), "boot-1", s(10), &LIVES).expect("readable");
    assert_eq!(pool.verdict(Point::Install, s(609)), Verdict::Pause);
    assert_eq!(pool.verdict(Point::Install, s(610)), Verdict::Fail);
}

#[test]
fn the_stored_form_is_a_promise() {
    let mut pool = pool(&[says(ID, 0, "pause")]);
    assert!(pool.insert(map(OTHER, 1, ""), s(0), &LIVES).is_ok());
    let states =
        r#"{"ArtifactInstall_Enter":{"action":"pause","on_action_executed":"pause","on_map_expire":"fail"}}"#;
    let map = format!(r#"{{"id":"{ID}","priority":0,"states":{states}}}"#);
    let live = format!(
        r#"{{"boot_id":"boot-1","changes":1,"maps":[{{"expires_ms":600000,"half_ms":300000,"map":{map}}}],"version":1}}"#
    );
    assert_eq!(String::from_utf8(pool.encode("boot-1", s(1))).expect("text"), live);
    let over = format!(r#"{{"boot_id":"boot-1","changes":1,"maps":[{{"map":{map}}}],"version":1}}"#);
    assert_eq!(String::from_utf8(pool.encode("boot-1", s(600))).expect("text"), over);
}

#[test]
fn k17_k18_the_form_of_the_official_client_is_read_and_lives_the_boot_lifetime() {
    let (active, expired) = (says(ID, 0, "pause").to_value(), says(OTHER, 9, "pause").to_value());
    let text =
        format!(r#"{{"active":[{}],"expired":[{}]}}"#, json::to_string(&active), json::to_string(&expired));
    let pool = Pool::decode(&value(&text), "boot-1", s(5), &LIVES).expect("readable");
    let listed: Vec<_> = pool.maps(s(5)).map(|m| (m.map.id(), m.expires_in)).collect();
    assert_eq!(listed, [(OTHER, None), (ID, Some(s(100)))]);
    for empty in [r#"{"active":null,"expired":null}"#, r#"{"active":[]}"#, r#"{"expired":null}"#] {
        assert_eq!(Pool::decode(&value(empty), "", s(0), &LIVES), Ok(Pool::default()), "{empty}");
    }
}

#[test]
fn a_stored_pool_that_is_not_understood_is_refused_with_the_reason() {
    let map = json::to_string(&says(ID, 0, "pause").to_value());
    let ours = |rest: &str| format!(r#"{{"version":1,"boot_id":"b","changes":0,{rest}}}"#);
    let many: Vec<String> = (0..65)
        .map(|n| map.replacen("01234567", &format!("{n:08}"), 1))
        .map(|m| format!(r#"{{"map":{m}}}"#))
        .collect();
    for (text, reason) in [
        ("null".into(), "a pool is an object, not null"),
        ("[]".into(), "a pool is an object, not a list"),
        ("{}".into(), "version is missing"),
        (r#"{"version":2,"boot_id":"b","changes":0,"maps":[]}"#.into(), "version 2 of the pool is not known"),
        (r#"{"version":-1}"#.into(), "version is -1"),
        (r#"{"version":1,"changes":0,"maps":[]}"#.into(), "boot_id is missing"),
        (r#"{"version":1,"boot_id":"b","maps":[]}"#.into(), "changes is missing"),
        (r#"{"version":1,"active":[]}"#.into(), "unknown member \"active\""),
        (ours(r#""maps":{}"#), "maps is an object"),
        (ours(r#""maps":[7]"#), "maps is 7"),
        (ours(r#""maps":[{}]"#), "a map is missing"),
        (ours(r#""maps":[{"map":null}]"#), "a map is missing"),
        (ours(r#""maps":[{"map":{}}]"#), "id is missing"),
        (ours(&format!(r#""maps":[{{"map":{map},"x":1}}]"#)), "unknown member \"x\""),
        (ours(&format!(r#""maps":[{{"map":{map},"expires_ms":1}}]"#)), "half_ms is missing"),
        (ours(&format!(r#""maps":[{{"map":{map},"expires_ms":-1,"half_ms":0}}]"#)), "expires_ms is -1"),
        (ours(&format!(r#""maps":[{{"map":{map}}},{{"map":{map}}}]"#)), "is there twice"),
        (ours(&format!(r#""maps":[{}]"#, many.join(","))), "more than 64 maps"),
        (format!(r#"{{"active":[{map}],"expired":[{map}]}}"#), "is there twice"),
        (r#"{"active":7}"#.into(), "active is 7"),
        (r#"{"active":[],"pending":[]}"#.into(), "unknown member \"pending\""),
        (r#"{"active":[null]}"#.into(), "a map is missing"),
    ] {
        let found = Pool::decode(&value(&text), "b", s(0), &LIVES).expect_err(&text).0;
        assert!(found.contains(reason), "{text}: {found}");
    }
}
