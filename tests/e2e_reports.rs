//! What the server is told, and what the agent does when it does not listen or has aborted the deployment.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use thimble_testkit::{Act, ID, Rule, Scene, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

fn always(on: What, act: Act) -> Rule {
    Rule { on, skip: 0, times: usize::MAX, act }
}

/// 409 at each report before the commit, told once; the final report is heard.
#[test]
fn a_deployment_aborted_at_any_report_ends_with_the_old_system() {
    for (status, skip, boots, statuses) in [
        ("downloading", 0, 0, &["failure"][..]),
        ("installing", 0, 0, &["downloading", "failure"]),
        ("rebooting", 0, 1, &["downloading", "installing", "failure"]),
        ("installing", 1, 2, &["downloading", "installing", "rebooting", "failure"]),
    ] {
        let mut scene = Scene::new("aborted", THIMBLE);
        scene.offer(&Scene::release());
        scene.server.rule(Rule { on: What::StatusOf(status), skip, times: 1, act: Act::error(409) });
        let ending = scene.update();
        assert_eq!((ending.code, ending.boots), (5, boots), "{status}\n{}", ending.output);
        assert_eq!(scene.statuses(), statuses, "{status}");
        let log = scene.assert_failure_reported();
        assert!(log.iter().any(|line| line.contains("aborted the deployment")), "{log:#?}");
        let downloads = scene.server.requests_of(What::Artifact).len();
        assert_eq!(downloads, usize::from(boots > 0 || statuses.len() > 1));
        scene.assert_old();
    }
}

#[test]
fn an_abort_while_the_payload_arrives_is_seen_before_anything_is_installed() {
    let mut scene = Scene::new("midway", THIMBLE);
    scene.offer(&Scene::release());
    // Aborted for good: the final report is refused too, and that is the end of it.
    scene.rootfs_script("Download_Leave_00", "touch \"$device/downloaded\"; sleep 0.3");
    let mut daemon = scene.daemon();
    scene.wait_until(|server| server.requests_of(What::Artifact).last().is_some_and(|r| r.sent > 0));
    scene.server.abort(ID);
    let final_report = |server: &thimble_testkit::Server| {
        server
            .requests_of(What::Status)
            .iter()
            .any(|report| report.text().contains("failure") && report.status == 409)
    };
    scene.wait_until(final_report);
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(scene.server.statuses(ID), ["downloading"]);
    assert_eq!(scene.server.requests_of(What::Log).len(), 0, "a refused report has no log (U33)");
    scene.assert_old();
}

#[test]
fn a_final_report_refused_with_409_is_not_repeated() {
    let mut scene = Scene::new("final409", THIMBLE);
    scene.offer(&Scene::release());
    scene.server.rule(always(What::StatusOf("success"), Act::error(409)));
    // Aborted, so it is not offered again.
    let nothing = Act::Respond { status: 204, headers: Vec::new(), body: Vec::new() };
    scene.server.rule(Rule { on: What::Next, skip: 1, times: usize::MAX, act: nothing });
    let ending = scene.update();
    assert_eq!(ending.code, 0, "{}", ending.output);
    let sent = scene.server.requests_of(What::Status);
    assert_eq!(sent.iter().filter(|report| report.text().contains("success")).count(), 1);
    scene.assert_new();
}

#[test]
fn reports_that_only_inform_do_not_stop_the_update() {
    let mut scene = Scene::new("deaf", THIMBLE);
    scene.offer(&Scene::release());
    for status in ["downloading", "rebooting"] {
        scene.server.rule(always(What::StatusOf(status), Act::error(500)));
    }
    scene.server.rule(Rule { on: What::StatusOf("installing"), skip: 0, times: 1, act: Act::DropConnection });
    let ending = scene.update();
    assert_eq!(ending.code, 0, "{}", ending.output);
    assert_eq!(scene.statuses(), ["installing", "success"]);
    scene.assert_new();
}

#[test]
fn a_new_system_that_never_reaches_the_server_goes_back() {
    for act in [Act::error(500), Act::DropConnection, Act::error(401)] {
        let mut scene = Scene::new("unheard", THIMBLE);
        scene.offer(&Scene::release());
        scene.server.rule(Rule {
            on: What::StatusOf("installing"),
            skip: 1,
            times: usize::MAX,
            act: act.clone(),
        });
        let ending = scene.update();
        assert_eq!((ending.code, ending.boots), (5, 2), "{act:?}\n{}", ending.output);
        assert_eq!(scene.statuses(), ["downloading", "installing", "rebooting", "failure"]);
        scene.assert_failure_reported();
        scene.assert_old();
    }
}

#[test]
fn a_new_system_that_reaches_the_server_late_stays() {
    let mut scene = Scene::new("late", THIMBLE);
    scene.offer(&Scene::release());
    scene.server.rule(Rule { on: What::StatusOf("installing"), skip: 1, times: 4, act: Act::error(502) });
    let ending = scene.update();
    assert_eq!((ending.code, ending.boots), (0, 1), "{}", ending.output);
    scene.assert_success_reported();
    scene.assert_new();
}

#[test]
fn a_new_system_that_is_no_longer_accepted_goes_back() {
    let mut scene = Scene::new("rejected", THIMBLE);
    scene.offer(&Scene::release());
    assert_eq!(scene.device.run(scene.thimble(), &["check"]), None);
    scene.device.boot();
    scene.server.accept(false);
    // Comes back to the old system, which is not accepted either, and goes on asking: nothing is lost.
    assert_eq!(scene.device.run(scene.thimble(), &["check"]), None);
    scene.device.boot();
    assert_eq!(scene.device.running_slot(), 2);
    scene.server.accept(true);
    assert_eq!(scene.update().code, 5);
    scene.assert_failure_reported();
    scene.assert_old();
}

#[test]
fn the_final_report_is_repeated_until_it_is_heard() {
    let mut scene = Scene::new("repeated", THIMBLE);
    scene.offer(&Scene::release());
    scene.server.rule(Rule { on: What::StatusOf("success"), skip: 0, times: 3, act: Act::error(500) });
    let ending = scene.update();
    assert_eq!((ending.code, ending.boots), (0, 1), "{}", ending.output);
    scene.assert_success_reported();
    scene.assert_new();
}

#[test]
fn a_final_report_that_is_never_heard_ends_after_its_tries() {
    let mut scene = Scene::new("never", THIMBLE);
    scene.offer(&Scene::release());
    scene.server.rule(always(What::StatusOf("success"), Act::error(500)));
    scene.update();
    let tries =
        scene.server.requests_of(What::Status).iter().filter(|r| r.text().contains("success")).count();
    assert_eq!(tries, 6, "RetryPollCount is 5 on these devices: one report and five more");
    scene.server.clear_rules();
    scene.assert_new();
}

#[test]
fn a_lost_answer_to_the_final_report_does_no_harm() {
    let mut scene = Scene::new("lostanswer", THIMBLE);
    scene.offer(&Scene::release());
    scene.server.rule(Rule { on: What::StatusOf("success"), skip: 0, times: 1, act: Act::LoseResponse });
    assert_eq!(scene.update().code, 0);
    assert_eq!(scene.finals(), ["success", "success"], "the same report twice is the same report");
    scene.assert_new();
}

#[test]
fn the_log_follows_the_failure_report_and_is_repeated_with_it() {
    let mut scene = Scene::new("log", THIMBLE);
    let spec = scene.scripted(Scene::release(), &[("ArtifactCommit_Enter", "echo 'the reason' >&2; exit 1")]);
    scene.offer(&spec);
    scene.server.rule(Rule { on: What::Log, skip: 0, times: 2, act: Act::error(500) });
    let ending = scene.update();
    assert_eq!(ending.code, 5, "{}", ending.output);
    let log = scene.server.logs(ID);
    assert!(log.iter().any(|line| line.contains("the reason")), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("started")), "the log begins before the reboots: {log:#?}");
    assert_eq!(scene.server.requests_of(What::Log).len(), 3);
    scene.assert_old();
}

#[test]
fn a_log_that_the_server_finds_too_large_is_not_repeated() {
    let mut scene = Scene::new("toolarge", THIMBLE);
    let spec = scene.scripted(Scene::release(), &[("ArtifactInstall_Enter", "exit 1")]);
    scene.offer(&spec);
    scene.server.rule(always(What::Log, Act::error(413)));
    let ending = scene.update();
    assert_eq!(ending.code, 5, "{}", ending.output);
    assert_eq!(scene.finals(), ["failure"]);
    assert_eq!(scene.server.requests_of(What::Log).len(), 1);
    scene.assert_old();
}

#[test]
fn a_server_with_only_the_old_operation_is_served_too() {
    let options = thimble_testkit::Options { v2: false, ..Default::default() };
    let mut scene = Scene::with("v1", THIMBLE, options, thimble_testkit::DeviceOptions::default());
    scene.offer(&Scene::release());
    assert_eq!(scene.update().code, 0);
    scene.assert_success_reported();
    scene.assert_new();
}

#[test]
fn a_check_that_may_not_wait_for_the_server_leaves_the_report_to_the_next_one() {
    let mut scene = Scene::new("reportlater", THIMBLE);
    scene.offer(&Scene::release());
    scene.server.rule(Rule { on: What::StatusOf("installing"), skip: 1, times: 1, act: Act::error(500) });
    scene.server.rule(Rule { on: What::StatusOf("success"), skip: 0, times: 1, act: Act::error(500) });
    assert_eq!(scene.device.run(scene.thimble(), &["check"]), None, "the reboot");
    scene.device.boot();
    scene.run(&["check", "--max-wait", "0"]).expect(6).complains("waits");
    assert_eq!(scene.device.env()["upgrade_available"], "1", "not committed before the server heard of it");
    let next = scene.run(&["check", "--max-wait", "1"]);
    next.expect(0);
    scene.assert_success_reported();
    scene.assert_new();
}

#[test]
fn a_new_system_that_restarts_while_it_waits_for_the_server_goes_back() {
    let mut scene = Scene::new("waitreboot", THIMBLE);
    scene.offer(&Scene::release());
    scene.server.rule(Rule { on: What::StatusOf("installing"), skip: 1, times: 1, act: Act::error(500) });
    assert_eq!(scene.device.run(scene.thimble(), &["check"]), None, "the reboot");
    scene.device.boot();
    scene.run(&["check", "--max-wait", "0"]).expect(6);
    scene.device.boot();
    assert_eq!(scene.update().code, 5);
    scene.assert_failure_reported();
    scene.assert_old();
}
