//! Update control maps of the server, by the real program: what it is told and asked, and what comes of it
//! (update-control.md sections 6 and 8).
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use thimble_testkit::{Act, ID, Rule, Scene, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");
/// A map lives 20 s; in a pause the server is asked every second.
const CONFIG: [(&str, &str); 2] =
    [("UpdateControlMapExpirationTimeSeconds", "20"), ("UpdateControlMapPollIntervalSeconds", "1000")];

fn scene(name: &str) -> Scene {
    Scene::configured(name, THIMBLE, &CONFIG)
}

/// A map of the server with these rules: point and JSON.
fn map(rules: &[(&str, &str)]) -> String {
    let states: Vec<String> = rules.iter().map(|(p, rule)| format!("\"Artifact{p}_Enter\":{rule}")).collect();
    format!("{{\"id\":\"{ID}\",\"priority\":0,\"states\":{{{}}}}}", states.join(","))
}

fn says(point: &str, action: &str) -> String {
    map(&[(point, &format!("{{\"action\":\"{action}\"}}"))])
}

fn offer(scene: &Scene, map: &str) {
    scene.offer(&scene.scripted(Scene::release(), &[]));
    scene.server.control_map(ID, Some(map));
}

fn asked(scene: &Scene) -> usize {
    scene.server.requests_of(What::ControlMap).len()
}

#[test]
fn without_maps_nothing_is_asked_and_nothing_is_written() {
    let mut scene = scene("none");
    scene.offer(&Scene::release());
    assert_eq!(scene.update().code, 0);
    assert_eq!(scene.statuses(), ["downloading", "installing", "rebooting", "installing", "success"]);
    assert_eq!(asked(&scene), 0);
    let question = &scene.server.requests_of(What::Next)[0];
    assert!(question.text().contains("\"update_control_map\":true"), "{}", question.text());
    let names = std::fs::read_dir(scene.device.root().join("var/lib/mender")).expect("the data store");
    let names: Vec<_> = names.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    assert!(!names.iter().any(|name| name.starts_with("thimble-control")), "{names:?}");
    scene.assert_new();
}

#[test]
fn a_map_that_lets_it_pass_is_refreshed_at_each_point() {
    for rules in [map(&[]), says("Install", "force_continue"), says("Commit", "continue")] {
        let mut scene = scene("pass");
        offer(&scene, &rules);
        assert_eq!(scene.update().code, 0);
        assert_eq!(scene.statuses(), ["downloading", "installing", "rebooting", "installing", "success"]);
        assert_eq!(asked(&scene), 3);
        scene.assert_new();
    }
}

/// Point; statuses until then; how often the device boots on the way back.
const POINTS: [(&str, &[&str], usize); 3] = [
    ("Install", &["downloading"], 1),
    ("Reboot", &["downloading", "installing"], 1),
    ("Commit", &["downloading", "installing", "rebooting"], 2),
];

fn status_of(point: &str) -> &'static str {
    match point {
        "Install" => "pause_before_installing",
        "Reboot" => "pause_before_rebooting",
        _ => "pause_before_committing",
    }
}

#[test]
fn fail_takes_the_update_back_without_error_scripts() {
    for (point, before, boots) in POINTS {
        let mut scene = scene("fail");
        offer(&scene, &says(point, "fail"));
        let ending = scene.update();
        assert_eq!((ending.code, ending.boots), (5, boots), "{point}\n{}", ending.output);
        assert_eq!(scene.statuses(), [before, &["failure"]].concat(), "{point}");
        let ran = scene.scripts_ran();
        assert!(!ran.iter().any(|name| name.contains("_Error")), "{point}: {ran:?}");
        assert!(!ran.contains(&format!("Artifact{point}_Enter_00")), "{point}: {ran:?}");
        assert!(ran.contains(&"ArtifactRollback_Enter_00".to_owned()), "{point}: {ran:?}");
        let log = scene.assert_failure_reported();
        let reason = format!("Artifact{point}_Enter: fail: map {ID}, priority 0; expires in ");
        assert!(log.iter().any(|line| line.contains(&reason)), "{point}: {log:#?}");
        scene.assert_old();
    }
}

#[test]
fn the_daemon_pauses_until_the_server_says_otherwise() {
    let mut scene = scene("pause");
    let pause = "{\"action\":\"pause\"}";
    offer(&scene, &map(&[("Install", pause), ("Reboot", pause), ("Commit", pause)]));
    let mut rest = vec![("Commit", pause), ("Reboot", pause)];
    let mut daemon = scene.daemon();
    for (point, ..) in POINTS {
        let status = status_of(point);
        scene.wait_until(|server| server.statuses(ID).last().is_some_and(|last| last == status));
        let before = asked(&scene);
        scene.wait_until(|server| server.requests_of(What::ControlMap).len() > before + 1);
        let here = format!("Artifact{point}_Enter_00");
        assert!(!scene.scripts_ran().contains(&here), "{point}: {:?}", scene.scripts_ran());
        scene.server.control_map(ID, Some(&map(&rest)));
        rest.pop();
        if point == "Reboot" {
            assert_eq!(daemon.wait(), None, "the reboot kills it\n{}", scene.daemon_log());
            scene.device.boot();
            daemon = scene.daemon();
        }
    }
    scene.wait_until(|server| server.statuses(ID).last().is_some_and(|last| last == "success"));
    assert_eq!(daemon.stop(), Some(0));
    let all = scene.server.statuses(ID);
    let flow = [
        "downloading",
        "pause_before_installing",
        "installing",
        "pause_before_rebooting",
        "rebooting",
        "pause_before_committing",
        "installing",
        "success",
    ];
    assert_eq!(all, flow, "each pause is reported once");
    let mut ran = scene.scripts_ran();
    let count = ran.len();
    ran.sort();
    ran.dedup();
    assert_eq!(ran.len(), count, "no script runs twice");
    scene.assert_new();
}

#[test]
fn a_pause_that_ends_with_fail() {
    for (point, before, _) in POINTS {
        let mut scene = scene("pausefail");
        offer(&scene, &says(point, "pause"));
        while scene.run(&["check", "--max-wait", "0"]).code != Some(6) {
            scene.device.boot();
        }
        scene.server.control_map(ID, Some(&says(point, "fail")));
        assert_eq!(scene.update().code, 5);
        assert_eq!(scene.statuses(), [before, &[status_of(point), "failure"]].concat(), "{point}");
        assert!(!scene.scripts_ran().iter().any(|name| name.contains("_Error")), "{:?}", scene.scripts_ran());
        scene.assert_failure_reported();
        scene.assert_old();
    }
}

#[test]
fn a_map_that_cannot_be_used_fails_the_deployment_before_anything_begins() {
    for bad in [
        says("Install", "dance"),
        says("Bogus", "pause"),
        says("Install", "pause").replace(ID, "00000000-0000-4000-8000-00000000dead"),
        "7".to_owned(),
    ] {
        let mut scene = scene("bad");
        offer(&scene, &bad);
        scene.run(&["check"]).expect(5);
        assert_eq!(scene.statuses(), ["failure"], "{bad}");
        assert_eq!(scene.scripts_ran(), Vec::<String>::new());
        assert_eq!(scene.server.requests_of(What::Artifact).len(), 0);
        let log = scene.assert_failure_reported();
        assert!(log.iter().any(|line| line.contains("update control map")), "{log:#?}");
        scene.assert_old();
    }
}

#[test]
fn a_deployment_that_is_aborted_in_a_pause_is_taken_back() {
    for (point, ..) in POINTS {
        let mut scene = scene("aborted");
        offer(&scene, &says(point, "pause"));
        while scene.run(&["check", "--max-wait", "0"]).code != Some(6) {
            scene.device.boot();
        }
        scene.server.abort(ID);
        assert_eq!(scene.update().code, 5);
        assert_eq!(scene.finals(), Vec::<String>::new(), "it does not want to hear any more");
        assert!(scene.scripts_ran().contains(&"ArtifactRollback_Enter_00".to_owned()), "{point}");
        scene.assert_old();
    }
}

#[test]
fn the_report_of_a_pause_may_fail_but_not_be_refused() {
    for (status, end) in [(500, "success"), (409, "failure")] {
        let mut scene = scene("report");
        offer(&scene, &map(&[("Install", "{\"action\":\"pause\",\"on_action_executed\":\"continue\"}")]));
        let on = What::StatusOf("pause_before_installing");
        scene.server.rule(Rule { on, skip: 0, times: 9, act: Act::error(status) });
        while scene.run(&["check", "--max-wait", "0"]).code == Some(6) {
            scene.server.control_map(ID, Some(&map(&[])));
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        scene.device.boot();
        scene.update();
        assert_eq!(scene.finals(), [end], "{}", scene.device.log());
        let sent = scene.server.requests_of(What::Status);
        let pauses = sent.iter().filter(|r| r.text().contains("pause_before_installing")).count();
        assert_eq!(pauses, 1, "it is not repeated");
    }
}

#[test]
fn a_refresh_that_fails_is_repeated_and_then_given_up() {
    for (times, answer, end) in [
        (2, Act::error(500), "success"),
        (2, Act::DropConnection, "success"),
        (2, Act::Respond { status: 200, headers: Vec::new(), body: b"{}".to_vec() }, "success"),
        (usize::MAX, Act::error(500), "failure"),
        (usize::MAX, Act::Respond { status: 200, headers: Vec::new(), body: b"[".to_vec() }, "failure"),
    ] {
        let config = [CONFIG.as_slice(), &[("RetryPollCount", "2")]].concat();
        let mut scene = Scene::configured("refresh", THIMBLE, &config);
        offer(&scene, &says("Install", "force_continue"));
        scene.server.rule(Rule { on: What::ControlMap, skip: 0, times, act: answer.clone() });
        scene.update();
        assert_eq!(scene.finals(), [end], "{answer:?}\n{}", scene.device.log());
        assert!(times == 2 || asked(&scene) == 3, "{}", asked(&scene));
        if end == "success" {
            scene.assert_new();
        } else {
            scene.assert_old();
        }
    }
}

#[test]
fn a_server_that_asks_for_time_gets_it() {
    let mut scene = scene("later");
    offer(&scene, &says("Install", "force_continue"));
    let headers = vec![("Retry-After".to_owned(), "300".to_owned())];
    let act = Act::Respond { status: 503, headers, body: b"{}".to_vec() };
    scene.server.rule(Rule { on: What::ControlMap, skip: 0, times: 20, act });
    scene.update();
    // By far more often than the series of tries.
    assert!(asked(&scene) > 20);
    assert_eq!(scene.finals(), ["success"], "{}", scene.device.log());
    scene.assert_new();
}
