//! One map: what it may say (section 1).

use super::*;

#[test]
fn k1_an_unknown_member_at_any_level_refuses_the_map() {
    assert_eq!(
        refusal(&format!(r#"{{"id":"{ID}","colour":1}}"#)),
        "update control map: colour is an unknown member; allowed: id, priority, states"
    );
    assert_eq!(
        refusal(&format!(r#"{{"id":"{ID}","states":{{"ArtifactReboot_Enter":{{"acton":"fail"}}}}}}"#)),
        "update control map: states.ArtifactReboot_Enter.acton is an unknown member; \
         allowed: action, on_map_expire, on_action_executed"
    );
}

#[test]
fn k1_member_names_match_in_any_case_but_words_do_not() {
    let text = format!(
        r#"{{"ID":"{ID}","Priority":3,"STATES":{{"ArtifactCommit_Enter":{{"Action":"pause","On_Map_Expire":"continue"}}}}}}"#
    );
    let map = parse(&text).expect("valid").expect("a map");
    assert_eq!(map.priority(), 3);
    let expected = StateRule::new(Some(Action::Pause), Some(ExpireAction::Continue), None);
    assert_eq!(map.rule(Point::Commit), Some(expected));
    for states in [
        r#"{"artifactinstall_enter":{"action":"pause"}}"#,
        r#"{"ArtifactInstall_Enter":{"action":"Pause"}}"#,
        r#"{"ArtifactInstall_Enter":{"action":"pause "}}"#,
    ] {
        assert!(parse(&format!(r#"{{"id":"{ID}","states":{states}}}"#)).is_err(), "{states}");
    }
}

#[test]
fn k1_a_member_in_two_spellings_is_refused_as_nobody_knows_which_counts() {
    let text = format!(r#"{{"id":"{ID}","Id":"{OTHER}"}}"#);
    assert!(refusal(&text).contains("id is given twice"), "{}", refusal(&text));
    assert!(
        parse(&format!(r#"{{"id":"{ID}","priority":null,"Priority":1}}"#)).is_err(),
        "even if one is null"
    );
}

#[test]
fn k2_the_id_is_a_uuid_of_any_case_and_version() {
    for good in [ID, "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "00000000-0000-0000-0000-000000000000"] {
        assert_eq!(map(good, 0, "").id(), good);
    }
    for bad in [
        "",
        "0",
        "0123456789abcdef0123456789abcdef0123",
        "01234567-89ab-cdef-0123-456789abcde",
        "01234567-89ab-cdef-0123-456789abcdef0",
        "g1234567-89ab-cdef-0123-456789abcdef",
        "01234567_89ab-cdef-0123-456789abcdef",
        "-1234567-89ab-cdef-0123-456789abcdef",
        " 1234567-89ab-cdef-0123-456789abcdef",
        "é234567-89ab-cdef-0123-456789abcdef",
    ] {
        let text = refusal(&format!(r#"{{"id":"{bad}"}}"#));
        assert!(text.starts_with("update control map: id is \""), "{text}");
        assert!(text.ends_with("allowed: a UUID of 36 characters: 8-4-4-4-12 hexadecimal digits"), "{text}");
    }
    assert!(refusal("{}").contains("id is missing"));
    assert!(refusal(r#"{"id":null}"#).contains("id is missing"));
    assert!(refusal(r#"{"id":7}"#).contains("id is 7"));
}

#[test]
fn k3_the_priority_is_a_whole_number_from_minus_10_to_10_and_0_by_default() {
    for n in -10..=10 {
        assert_eq!(i64::from(map(ID, n, "").priority()), n);
    }
    assert_eq!(parse(&format!(r#"{{"id":"{ID}"}}"#)).expect("valid").expect("a map").priority(), 0);
    for bad in [
        "11",
        "-11",
        "1.5",
        "1.0",
        "\"1\"",
        "true",
        "[]",
        "{}",
        "128",
        "256",
        "-246",
        "4294967296",
        "9223372036854775808",
        "-9223372036854775808",
        "18446744073709551615",
        "1e3",
        "1e300",
    ] {
        let text = refusal(&format!(r#"{{"id":"{ID}","priority":{bad}}}"#));
        assert!(text.contains("priority is ") && text.contains("from -10 to 10"), "{bad}: {text}");
    }
}

#[test]
fn k4_there_are_three_control_points_and_states_may_be_missing_or_empty() {
    for text in [format!(r#"{{"id":"{ID}"}}"#), format!(r#"{{"id":"{ID}","states":{{}}}}"#)] {
        assert!(parse(&text).expect("valid").expect("a map").is_empty());
    }
    for point in Point::ALL {
        let map = map(ID, 0, &format!(r#""{}":{{"action":"fail"}}"#, point.word()));
        assert_eq!(map.rules().map(|(point, _)| point).collect::<Vec<_>>(), [point]);
        assert_eq!(Point::from_word(point.word()), Some(point));
    }
    for bad in ["BogusState_Enter", "ArtifactInstall", "ArtifactInstall_Leave", "Download_Enter", ""] {
        let text = refusal(&format!(r#"{{"id":"{ID}","states":{{"{bad}":{{}}}}}}"#));
        assert!(text.contains("unknown control point") && text.contains("ArtifactCommit_Enter"), "{text}");
    }
}

#[test]
fn k5_each_member_has_its_words_and_a_pause_cannot_follow_expiry() {
    for bad in ["stop", "PAUSE", "pause_before_installing", "null"] {
        for member in ["action", "on_map_expire", "on_action_executed"] {
            let states = format!(r#"{{"ArtifactInstall_Enter":{{"{member}":"{bad}"}}}}"#);
            let text = refusal(&format!(r#"{{"id":"{ID}","states":{states}}}"#));
            assert!(text.contains(&format!("ArtifactInstall_Enter.{member} is \"{bad}\"")), "{text}");
        }
    }
    let text = refusal(&format!(
        r#"{{"id":"{ID}","states":{{"ArtifactInstall_Enter":{{"on_map_expire":"pause"}}}}}}"#
    ));
    assert!(text.ends_with("is \"pause\"; allowed: continue, force_continue, fail"), "{text}");
    for action in Action::ALL {
        assert_eq!(Action::from_word(action.word()), Some(action));
    }
    for action in ExpireAction::ALL {
        assert_eq!(ExpireAction::from_word(action.word()), Some(action));
    }
}

#[test]
fn k5_an_empty_string_and_null_count_as_not_given() {
    let empty = r#"{"action":"pause","on_map_expire":"","on_action_executed":null}"#;
    assert_eq!(install_rule(empty), Some(StateRule::new(Some(Action::Pause), None, None)));
    assert_eq!(install_rule("null"), None);
    let text = format!(r#"{{"id":"{ID}","priority":null,"states":null}}"#);
    assert_eq!(parse(&text), Ok(Some(map(ID, 0, ""))));
}

#[test]
fn k6_on_map_expire_and_on_action_executed_default_to_the_action_but_a_pause_expires_to_fail() {
    use {Action as A, ExpireAction as E};
    for (action, expire, executed) in [
        ("force_continue", E::ForceContinue, A::ForceContinue),
        ("pause", E::Fail, A::Pause),
        ("fail", E::Fail, A::Fail),
    ] {
        let rule = install_rule(&format!(r#"{{"action":"{action}"}}"#)).expect("a rule");
        assert_eq!(
            (rule.action.word(), rule.on_map_expire, rule.on_action_executed),
            (action, expire, executed)
        );
    }
    let rule = install_rule(r#"{"on_map_expire":"fail"}"#).expect("a rule");
    assert_eq!((rule.action, rule.on_action_executed), (A::Continue, A::Continue));
}

#[test]
fn k7_a_point_where_all_is_default_is_dropped() {
    let defaults = r#"{"action":"continue","on_map_expire":"continue","on_action_executed":"continue"}"#;
    for text in [defaults, "{}", r#"{"action":"continue"}"#, r#"{"action":""}"#] {
        assert_eq!(install_rule(text), None, "{text}");
    }
    assert!(install_rule(r#"{"on_action_executed":"fail"}"#).is_some());
}

#[test]
fn k8_null_is_no_map() {
    assert_eq!(parse("null"), Ok(None));
    for other in ["[]", "\"\"", "0", "false"] {
        assert!(refusal(other).starts_with("update control map: it is "), "{other}");
    }
}

#[test]
fn k9_a_map_is_known_by_its_id_and_priority() {
    let (a, b) = (says(ID, 0, "pause"), says(ID, 0, "fail"));
    assert!(a.same_as(&b));
    assert!(!a.same_as(&says(ID, 1, "pause")) && !a.same_as(&says(OTHER, 0, "pause")));
}

#[test]
fn an_error_is_short_and_printable_whatever_was_found() {
    let long = "x\u{7}".repeat(10_000);
    for text in
        [format!(r#"{{"id":"{}"}}"#, "y".repeat(10_000)), format!(r#"{{"{}":1}}"#, "z".repeat(10_000))]
    {
        assert!(refusal(&text).len() < 400);
    }
    let error = ControlMap::parse(&Value::String(long)).expect_err("not a map").to_string();
    assert!(error.len() < 600 && !error.contains('\u{7}'), "{error}");
}

#[test]
fn the_json_form_of_a_map_reads_back_to_the_same_map() {
    let map =
        map(ID, -7, r#""ArtifactCommit_Enter":{"action":"pause","on_action_executed":"force_continue"}"#);
    assert_eq!(ControlMap::parse(&map.to_value()), Ok(Some(map.clone())));
    assert_eq!(
        json::to_string(&map.to_value()),
        format!(
            r#"{{"id":"{ID}","priority":-7,"states":{{"ArtifactCommit_Enter":{{"action":"pause","on_action_executed":"force_continue","on_map_expire":"fail"}}}}}}"#
        )
    );
}

#[test]
fn pause_statuses_are_the_words_of_the_server() {
    assert_eq!(
        Point::ALL.map(Point::pause_status),
        ["pause_before_installing", "pause_before_rebooting", "pause_before_committing"]
    );
}
