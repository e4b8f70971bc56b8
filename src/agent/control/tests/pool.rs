//! The pool: keeping, expiring, deciding, waiting (sections 2-5).

use super::*;

// ---- 2. The pool.

#[test]
fn k10_a_local_map_takes_the_place_of_its_namesake_and_an_empty_one_deletes_it() {
    let mut pool = pool(&[says(ID, 0, "pause"), says(ID, 1, "pause"), says(OTHER, 0, "pause")]);
    assert_eq!(pool.insert(says(ID, 0, "fail"), s(1), &LIVES), Ok(Change::Replaced));
    assert_eq!(pool.maps(s(1)).count(), 3);
    assert_eq!(pool.insert(map(ID, 0, ""), s(1), &LIVES), Ok(Change::Deleted));
    assert_eq!(pool.insert(map(ID, 0, ""), s(1), &LIVES), Ok(Change::Nothing));
    let left: Vec<_> = pool.maps(s(1)).map(|m| (m.map.id(), m.map.priority())).collect();
    assert_eq!(left, [(ID, 1), (OTHER, 0)]);
}

#[test]
fn k11_a_server_map_takes_the_place_of_all_with_its_id() {
    let mut pool = pool(&[says(ID, 0, "pause"), says(ID, 5, "fail"), says(OTHER, 0, "force_continue")]);
    assert_eq!(pool.replace_from_server(ID, says(ID, 2, "pause"), s(1), &LIVES), Ok(()));
    let left: Vec<_> = pool.maps(s(1)).map(|m| (m.map.id(), m.map.priority())).collect();
    assert_eq!(left, [(ID, 2), (OTHER, 0)]);
}

#[test]
fn k11_a_server_map_that_says_nothing_is_kept_so_that_it_is_refreshed() {
    let mut pool = Pool::default();
    assert_eq!(pool.replace_from_server(ID, map(ID, 0, ""), s(1), &LIVES), Ok(()));
    assert!(pool.has_map_of(ID));
    assert_eq!(pool.verdict(Point::Install, s(2)), Verdict::Continue);
}

#[test]
fn k13_a_server_map_of_another_id_is_refused_and_changes_nothing() {
    let mut pool = pool(&[says(ID, 0, "pause")]);
    let before = pool.clone();
    assert_eq!(
        pool.replace_from_server(ID, says(OTHER, 0, "fail"), s(1), &LIVES),
        Err(Refused::OtherDeployment)
    );
    assert_eq!(pool, before);
}

#[test]
fn k12_k14_the_end_of_a_deployment_removes_its_maps_and_no_others() {
    let mut pool = pool(&[says(ID, 0, "pause"), says(ID, 3, "pause"), says(OTHER, 0, "pause")]);
    assert!(pool.remove_deployment(ID));
    assert!(!pool.remove_deployment(ID));
    assert!(!pool.has_map_of(ID) && pool.has_map_of(OTHER));
}

#[test]
fn k15_expired_maps_count_until_they_are_dropped_on_idle() {
    let mut pool = pool(&[says(ID, 0, "pause")]);
    assert_eq!(pool.verdict(Point::Install, s(600)), Verdict::Fail);
    assert!(pool.has_map_of(ID));
    assert!(!pool.drop_expired(s(599)));
    assert!(pool.drop_expired(s(600)));
    assert!(pool.is_empty());
    assert_eq!(pool.verdict(Point::Install, s(600)), Verdict::Continue);
}

#[test]
fn k16_setting_and_removing_maps_counts_as_a_change_and_deciding_does_not() {
    let mut pool = Pool::default();
    let once = r#""ArtifactInstall_Enter":{"action":"pause","on_action_executed":"continue"}"#;
    let mut last = pool.changes();
    let mut changed = |pool: &Pool| std::mem::replace(&mut last, pool.changes()) != pool.changes();
    assert_eq!(pool.insert(map(ID, 0, once), s(0), &LIVES), Ok(Change::Added));
    assert!(changed(&pool));
    assert_eq!(pool.insert(map(ID, 0, once), s(0), &LIVES), Ok(Change::Replaced));
    assert!(changed(&pool), "setting the same map again lets a paused update look");
    assert_eq!(pool.insert(map(OTHER, 0, ""), s(0), &LIVES), Ok(Change::Nothing));
    assert!(!changed(&pool));
    assert_eq!(pool.verdict(Point::Install, s(1)), Verdict::Pause);
    assert!(!changed(&pool));
    assert_eq!(pool.replace_from_server(ID, map(ID, 0, once), s(0), &LIVES), Ok(()));
    assert!(changed(&pool));
    assert!(pool.remove_deployment(ID) && changed(&pool));
    assert!(!pool.drop_expired(s(9999)) && !changed(&pool));
}

#[test]
fn at_most_64_maps_are_held_and_replacing_is_always_possible() {
    let mut pool = Pool::default();
    let nth = |n: usize| says(&format!("{n:08x}-0000-0000-0000-000000000000"), 0, "pause");
    for n in 0..MAP_LIMIT {
        assert_eq!(pool.insert(nth(n), s(0), &LIVES), Ok(Change::Added));
    }
    let before = pool.clone();
    assert_eq!(pool.insert(nth(64), s(0), &LIVES), Err(Refused::Full));
    assert_eq!(pool.replace_from_server(nth(64).id(), nth(64), s(0), &LIVES), Err(Refused::Full));
    assert_eq!(pool, before);
    assert_eq!(pool.insert(nth(3), s(0), &LIVES), Ok(Change::Replaced));
    assert_eq!(pool.replace_from_server(nth(3).id(), nth(3), s(0), &LIVES), Ok(()));
    assert_eq!(pool.maps(s(0)).count(), MAP_LIMIT);
}

// ---- 3. Expiry.

#[test]
fn k19_the_lifetime_is_twice_the_poll_interval_unless_given_and_zero_if_neither_is() {
    let lives = |expiration, poll| Lifetimes::new(expiration, None, poll).normal;
    assert_eq!(lives(Some(s(7)), Some(s(1800))), s(7));
    assert_eq!(lives(None, Some(s(1800))), s(3600));
    assert_eq!(lives(Some(s(0)), Some(s(5))), s(10));
    assert_eq!(lives(None, None), s(0));
    let at_once = Lifetimes { normal: s(0), ..LIVES };
    let mut pool = Pool::default();
    assert_eq!(pool.insert(says(ID, 0, "pause"), s(5), &at_once), Ok(Change::Added));
    assert_eq!(pool.verdict(Point::Install, s(5)), Verdict::Fail);
}

#[test]
fn k20_the_boot_lifetime_is_ten_minutes_unless_given() {
    assert_eq!(Lifetimes::new(None, None, None).boot, s(600));
    assert_eq!(Lifetimes::new(None, Some(s(0)), None).boot, s(600));
    assert_eq!(Lifetimes::new(None, Some(s(30)), None).boot, s(30));
}

#[test]
fn k21_the_owner_is_told_half_the_lifetime_in_whole_seconds() {
    for (life, half) in [(600, 300), (5, 2), (1, 0), (0, 0)] {
        assert_eq!(Lifetimes { normal: s(life), ..LIVES }.refresh_timeout_s(), half);
    }
}

#[test]
fn k22_an_expired_map_says_its_on_map_expire_and_lives_again_only_if_it_is_replaced() {
    let text = r#""ArtifactInstall_Enter":{"action":"force_continue","on_map_expire":"fail"}"#;
    let mut pool = pool(&[map(ID, 0, text)]);
    assert_eq!(pool.verdict(Point::Install, s(599)), Verdict::Continue);
    assert_eq!(pool.verdict(Point::Install, s(600)), Verdict::Fail);
    assert_eq!(pool.insert(map(ID, 0, text), s(700), &LIVES), Ok(Change::Replaced));
    assert_eq!(pool.verdict(Point::Install, s(1299)), Verdict::Continue);
    assert_eq!(pool.verdict(Point::Install, s(1300)), Verdict::Fail);
}

#[test]
fn a_pause_that_is_refreshed_in_time_lasts() {
    let mut pool = Pool::default();
    let lives = Lifetimes { normal: s(4), ..LIVES };
    for now in (0..60).step_by(2) {
        assert!(pool.insert(says(ID, 0, "pause"), s(now), &lives).is_ok());
        assert_eq!(pool.verdict(Point::Install, s(now + 2)), Verdict::Pause);
    }
    assert_eq!(pool.verdict(Point::Install, s(62)), Verdict::Fail);
}

// ---- 4. Deciding.

#[test]
fn k23_continue_never_overrides_a_lower_priority_and_force_continue_does() {
    let calm = map(ID, 1, r#""ArtifactInstall_Enter":{"action":"continue","on_map_expire":"fail"}"#);
    assert_eq!(verdict(&[calm, says(OTHER, 0, "pause")]), Verdict::Pause);
    assert_eq!(verdict(&[says(ID, 1, "force_continue"), says(OTHER, 0, "pause")]), Verdict::Continue);
    assert_eq!(verdict(&[says(ID, 1, "pause"), says(OTHER, 0, "fail")]), Verdict::Pause);
    assert_eq!(verdict(&[says(ID, -10, "fail"), says(OTHER, 10, "force_continue")]), Verdict::Continue);
    assert_eq!(verdict(&[]), Verdict::Continue);
}

#[test]
fn k23_a_lower_priority_that_is_never_asked_is_never_seen() {
    let mut pool = pool(&[says(ID, 1, "pause"), says(OTHER, 0, "fail")]);
    assert_eq!(pool.verdict(Point::Install, s(1)), Verdict::Pause);
    assert_eq!(pool.insert(says(ID, 1, "force_continue"), s(2), &LIVES), Ok(Change::Replaced));
    assert_eq!(pool.verdict(Point::Install, s(2)), Verdict::Continue);
    assert_eq!(pool.verdict(Point::Install, s(599)), Verdict::Continue);
}

#[test]
fn k23_within_a_priority_fail_beats_pause_beats_force_continue() {
    let third = "33333333-2222-3333-4444-555555555555";
    let both = [says(OTHER, 0, "force_continue"), says(ID, 0, "pause")];
    assert_eq!(verdict(&both), Verdict::Pause);
    assert_eq!(verdict(&[&both[..], &[says(third, 0, "fail")]].concat()), Verdict::Fail);
    assert_eq!(verdict(&both[..1]), Verdict::Continue);
}

#[test]
fn k24_on_action_executed_counts_from_the_second_decision_on() {
    let text = r#""ArtifactInstall_Enter":{"action":"pause","on_action_executed":"continue"}"#;
    let mut pool = pool(&[map(ID, 0, text)]);
    assert_eq!(pool.verdict(Point::Install, s(1)), Verdict::Pause);
    assert_eq!(pool.verdict(Point::Install, s(2)), Verdict::Continue);
}

#[test]
fn k24_losers_of_a_priority_are_spent_too_and_lower_priorities_are_not() {
    let once = |action, then| {
        format!(r#""ArtifactInstall_Enter":{{"action":"{action}","on_action_executed":"{then}"}}"#)
    };
    let third = "33333333-2222-3333-4444-555555555555";
    let mut pool = pool(&[
        map(ID, 1, &once("pause", "force_continue")),
        map(OTHER, 1, &once("force_continue", "continue")),
        map(third, 0, &once("fail", "continue")),
    ]);
    assert_eq!(pool.verdict(Point::Install, s(1)), Verdict::Pause);
    let next = |pool: &Pool| -> Vec<Action> {
        pool.maps(s(1)).filter_map(|m| m.map.rule(Point::Install)).map(|rule| rule.action).collect()
    };
    assert_eq!(next(&pool), [Action::ForceContinue, Action::Continue, Action::Fail]);
}

#[test]
fn k24_a_decision_at_one_point_spends_nothing_at_another() {
    let text = r#""ArtifactInstall_Enter":{"action":"pause","on_action_executed":"continue"},
        "ArtifactCommit_Enter":{"action":"pause","on_action_executed":"continue"}"#;
    let mut pool = pool(&[map(ID, 0, text)]);
    assert_eq!(pool.verdict(Point::Install, s(1)), Verdict::Pause);
    assert_eq!(pool.verdict(Point::Commit, s(1)), Verdict::Pause);
    assert_eq!(pool.verdict(Point::Reboot, s(1)), Verdict::Continue);
}

#[test]
fn k25_a_map_of_any_id_counts_for_every_deployment() {
    let mut pool = pool(&[says(OTHER, 0, "pause")]);
    assert!(!pool.has_map_of(ID));
    assert_eq!(pool.verdict(Point::Install, s(1)), Verdict::Pause);
}

#[test]
fn k33_a_pause_before_the_restart_that_is_executed_once_does_pause() {
    let text = r#""ArtifactReboot_Enter":{"action":"pause","on_action_executed":"continue"}"#;
    let mut pool = pool(&[map(ID, 0, text)]);
    assert_eq!(pool.explain(Point::Reboot, s(1)).verdict, Verdict::Pause, "looking");
    assert_eq!(pool.explain(Point::Reboot, s(1)).verdict, Verdict::Pause, "looking again spends nothing");
    assert_eq!(pool.verdict(Point::Reboot, s(1)), Verdict::Pause);
    assert_eq!(pool.verdict(Point::Reboot, s(2)), Verdict::Continue);
}

#[test]
fn an_explanation_names_the_map_that_decides_and_what_becomes_of_it() {
    let mut pool = pool(&[
        map(OTHER, 3, r#""ArtifactInstall_Enter":{"on_action_executed":"fail"}"#),
        says(ID, -2, "pause"),
    ]);
    let told = |pool: &Pool, point, now| pool.explain(point, s(now)).to_string();
    assert_eq!(
        told(&pool, Point::Install, 10),
        format!("ArtifactInstall_Enter: pause: map {ID}, priority -2; expires in 9 min 50 s, then fail")
    );
    assert_eq!(
        told(&pool, Point::Install, 700),
        format!("ArtifactInstall_Enter: fail: map {ID}, priority -2; has expired, and so says fail")
    );
    assert_eq!(told(&pool, Point::Commit, 700), "ArtifactCommit_Enter: continue: no map objects");
    let once = r#""ArtifactInstall_Enter":{"action":"pause","on_map_expire":"continue","on_action_executed":"fail"}"#;
    assert!(pool.insert(map(ID, -2, once), s(0), &LIVES).is_ok());
    assert_eq!(
        told(&pool, Point::Install, 0),
        format!(
            "ArtifactInstall_Enter: pause: map {ID}, priority -2; once, then fail; expires in 10 min, then continue"
        )
    );
    assert!(pool.insert(says(ID, 9, "force_continue"), s(0), &LIVES).is_ok());
    assert_eq!(
        told(&pool, Point::Install, 0),
        format!(
            "ArtifactInstall_Enter: continue: map {ID}, priority 9; force-continue; expires in 10 min, then force-continue"
        )
    );
}

#[test]
fn times_are_told_with_two_units() {
    let told = [0, 59, 60, 61, 3599, 3600, 7380, 86399, 86400, 90000].map(|n| spoken(s(n)));
    let expected = [
        "0 s",
        "59 s",
        "1 min",
        "1 min 1 s",
        "59 min 59 s",
        "1 h",
        "2 h 3 min",
        "23 h 59 min",
        "1 d",
        "1 d 1 h",
    ];
    assert_eq!(told, expected);
}

// ---- 5. Waiting.

#[test]
fn k31_with_a_live_map_of_the_deployment_the_server_is_asked_at_half_life_or_poll_interval() {
    let pool = pool(&[says(ID, 0, "pause"), says(OTHER, 0, "pause")]);
    assert_eq!(pool.next_wake(ID, POLL, s(0)), Wake::Refresh(s(300)));
    assert_eq!(pool.next_wake(ID, POLL, s(100)), Wake::Refresh(s(300)));
    assert_eq!(pool.next_wake(ID, s(5), s(100)), Wake::Refresh(s(105)));
    assert_eq!(pool.next_wake(ID, s(0), s(100)), Wake::Refresh(s(101)), "never a busy loop");
}

#[test]
fn k16_the_expiry_of_any_map_wakes_a_pause() {
    let mut pool = pool(&[says(ID, 0, "pause")]);
    assert!(pool.insert(says(OTHER, 0, "pause"), s(0), &Lifetimes { normal: s(90), ..LIVES }).is_ok());
    assert_eq!(pool.next_wake(ID, POLL, s(0)), Wake::Decide(s(90)));
    assert_eq!(pool.next_wake(ID, POLL, s(90)), Wake::Refresh(s(300)));
    assert_eq!(
        pool.next_wake(ID, s(30), s(60)),
        Wake::Refresh(s(90)),
        "with a tie the server is asked first"
    );
}

#[test]
fn k32_without_one_the_maps_decide_again_at_the_earliest_half_life() {
    let mut pool = pool(&[says(OTHER, 0, "pause")]);
    assert!(pool.insert(says(OTHER, 1, "pause"), s(50), &LIVES).is_ok());
    assert_eq!(pool.next_wake(ID, s(5), s(60)), Wake::Decide(s(300)));
}

#[test]
fn k32_after_half_life_they_decide_every_30_s_until_expiry_and_then_at_once() {
    let mut pool = pool(&[says(OTHER, 0, "pause")]);
    assert_eq!(pool.next_wake(ID, POLL, s(300)), Wake::Decide(s(330)));
    assert_eq!(pool.next_wake(ID, POLL, s(580)), Wake::Decide(s(600)));
    assert_eq!(pool.next_wake(ID, POLL, s(600)), Wake::AtOnce);
    assert_eq!(Pool::default().next_wake(ID, POLL, s(0)), Wake::AtOnce);
    // The whole life of a pause that nobody renews, counted.
    let (mut now, mut looks) = (s(0), 0);
    while pool.verdict(Point::Install, now) == Verdict::Pause {
        looks += 1;
        now = match pool.next_wake(ID, POLL, now) {
            Wake::Decide(at) | Wake::Refresh(at) => at,
            Wake::AtOnce => now,
        };
    }
    assert_eq!((now, looks), (s(600), 11), "at 0, 300, 330 … 570 s");
}
