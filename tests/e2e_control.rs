//! Update control maps of the server, by the real program: what it is told and asked, and what comes of it
//! (update-control.md sections 6 and 8).
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use thimble_testkit::{Act, ArtifactSpec, Content, ID, Rule, Scene, What};

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
fn a_pause_that_ends_with_force_continue() {
    let mut scene = scene("flow");
    offer(&scene, &says("Install", "pause"));
    scene.run(&["check", "--max-wait", "0"]).expect(6);
    scene.server.control_map(ID, Some(&says("Install", "force_continue")));
    assert_eq!(scene.update().code, 0, "{}", scene.device.log());
    let flow = ["downloading", "pause_before_installing", "installing", "rebooting", "installing", "success"];
    assert_eq!(scene.server.statuses(ID), flow);
    scene.assert_new();
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
    let good = |body: String| Act::Respond { status: 200, headers: Vec::new(), body: body.into_bytes() };
    let other = says("Install", "fail").replace(ID, "00000000-0000-4000-8000-00000000dead");
    for (times, answer, end) in [
        (2, Act::error(500), "success"),
        (2, Act::DropConnection, "success"),
        (2, good("{}".into()), "success"),
        (2, good(format!("{{\"update_control_map\":{other}}}")), "success"),
        (2, good(format!("{{\"update_control_map\":{}}}", says("Bogus", "fail"))), "success"),
        (usize::MAX, Act::error(500), "failure"),
        (usize::MAX, good("[".into()), "failure"),
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

/// K27 and SA-79, not SA-76: that is about the answer to the question for a deployment.
#[test]
fn an_answer_without_a_map_is_no_leave_to_go_on() {
    for body in ["{}", "{\"update_control_map\":null}"] {
        let config = [CONFIG.as_slice(), &[("RetryPollCount", "3")]].concat();
        let mut scene = Scene::configured("without", THIMBLE, &config);
        offer(&scene, &says("Install", "pause"));
        scene.run(&["check", "--max-wait", "0"]).expect(6);
        let act = Act::Respond { status: 200, headers: Vec::new(), body: body.as_bytes().to_vec() };
        scene.server.rule(Rule { on: What::ControlMap, skip: 0, times: 3, act });
        let before = asked(&scene);
        while asked(&scene) < before + 3 {
            scene.run(&["check", "--max-wait", "0"]).expect(6);
            let shown = scene.run(&["control", "show"]);
            assert!(shown.stdout.contains(&format!("pause: map {ID}, priority 0")), "{body}: {shown:#?}");
        }
        assert_eq!(scene.statuses().last().map(String::as_str), Some("pause_before_installing"), "{body}");
        scene.server.control_map(ID, Some(&says("Install", "force_continue")));
        assert_eq!(scene.update().code, 0, "{}", scene.device.log());
        scene.assert_new();
    }
}

#[test]
fn tries_of_a_refresh_are_a_minute_apart() {
    let mut scene = scene("minute");
    offer(&scene, &says("Install", "force_continue"));
    scene.server.rule(Rule { on: What::ControlMap, skip: 0, times: 2, act: Act::error(500) });
    assert_eq!(scene.update().code, 0, "{}", scene.device.log());
    // A minute is 60 ms here.
    let times: Vec<_> = scene.server.requests_of(What::ControlMap).iter().map(|r| r.arrived).collect();
    for pair in times[..3].windows(2) {
        let gap = pair[1] - pair[0];
        assert!(gap >= std::time::Duration::from_millis(60), "{gap:?}");
    }
}

#[test]
fn a_map_that_expires_during_the_download_is_refreshed_before_it_is_asked() {
    let config = [("UpdateControlMapExpirationTimeSeconds", "2")];
    let scene = Scene::configured("slow", THIMBLE, &config);
    // Does not shrink: 100 KB at 30 KB a second.
    let blocks = (0..25).map(|seed| Content::Pattern { size: 4096, seed });
    let image = Content::Bytes(blocks.flat_map(|block| block.bytes()).collect());
    scene.offer(&ArtifactSpec::rootfs("release-2", image).uncompressed());
    scene.server.control_map(ID, Some(&says("Install", "pause")));
    let act = Act::Slow { bytes_per_second: 30_000 };
    scene.server.rule(Rule { on: What::Artifact, skip: 0, times: 1, act });
    let begin = std::time::Instant::now();
    let ran = scene.run(&["check", "--max-wait", "0"]);
    assert!(begin.elapsed() > std::time::Duration::from_secs(2), "too fast to prove anything");
    ran.expect(6).complains("ArtifactInstall_Enter: pause: map");
    assert_eq!(asked(&scene), 1);
}

#[test]
fn the_restart_of_the_way_back_is_not_asked_about() {
    let mut scene = scene("back");
    let later = "{\"action\":\"continue\",\"on_action_executed\":\"pause\"}";
    let fail = "{\"action\":\"fail\"}";
    let local =
        map(&[("Reboot", later), ("Commit", fail)]).replace(ID, "00000000-0000-4000-8000-0000000000aa");
    let file = scene.path().join("map.json");
    std::fs::write(&file, local).expect("write it");
    scene.run(&["control", "set", &file.display().to_string()]).expect(0);
    scene.offer(&Scene::release());
    let ending = scene.update();
    assert_eq!((ending.code, ending.boots), (5, 2), "there and back\n{}", ending.output);
    assert_eq!(scene.statuses(), ["downloading", "installing", "rebooting", "failure"]);
    scene.assert_old();
}

#[test]
fn an_update_without_restart_never_pauses_before_one() {
    let mut scene = scene("norestart");
    scene.device.write_script("usr/share/mender/modules/v3/plain", "#!/bin/sh\nexit 0\n");
    scene.offer(&ArtifactSpec::module("plain", "release-2"));
    let pause = "{\"action\":\"pause\"}";
    scene.server.control_map(ID, Some(&map(&[("Reboot", pause)])));
    assert_eq!(scene.update().code, 0, "{}", scene.device.log());
    assert_eq!(scene.statuses(), ["downloading", "installing", "success"]);
    assert_eq!(asked(&scene), 2, "before the installation and before the commit");
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
