//! Cases of the reference's lists that are more than a line in a table of scenarios; the real program plays them.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

#[path = "scenarios/stage.rs"]
mod stage;
#[path = "scenarios/table.rs"]
mod table;

use stage::Stage;
use std::fs;
use table::{Times, When};
use thimble_testkit::{ArtifactSpec, ID, Scene, SigningKey, TempDir, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");
const ONCE: Times = Times { first: 1, last: 1 };

/// A device with a module that can be rolled back, and these scripts for the Artifact beside the noting ones: place and
/// what it does.
fn stage(config: &[(&str, &str)], reboot: &str, scripts: &[(&str, &str)]) -> (Stage, ArtifactSpec) {
    let stage = Stage::new("more", config);
    stage.module(reboot, "Yes", &[]);
    let steps = ["Install", "Reboot", "Commit", "Rollback", "RollbackReboot", "Failure"];
    let mut spec = stage.spec("release-2", false, &[]);
    for place in steps.iter().flat_map(|s| ["Enter", "Leave", "Error"].map(|a| format!("Artifact{s}_{a}"))) {
        let body = scripts.iter().find(|(at, _)| *at == place).map_or("", |(_, body)| *body);
        let dir = stage.scene.device.dir().display();
        let text = format!("#!/bin/sh\n{}device='{dir}'\n{body}\n", stage.note(&place));
        spec = spec.script(&format!("{place}_00"), &text);
    }
    (stage, spec)
}

fn without_questions(stage: &Stage) -> Vec<String> {
    stage.chain().into_iter().filter(|event| !table::QUESTIONS.contains(&event.as_str())).collect()
}

#[test]
fn a_check_that_is_asked_for_during_an_update_comes_after_it() {
    let (stage, spec) = stage(&[], "No", &[("ArtifactInstall_Enter", "kill -USR1 $(cat $device/agent.pid)")]);
    stage.offer(ID, &spec);
    let mut daemon = stage.scene.daemon();
    // The intervals are for ever: the second poll is the one that was asked for.
    stage.scene.wait_until(|server| server.requests_of(What::Next).len() == 2);
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(stage.statuses(ID), ["downloading", "installing", "success"]);
    let requests = stage.scene.server.requests();
    let success = requests.iter().position(|r| r.what == What::Status && r.text().contains("success"));
    let second_poll = requests.iter().rposition(|r| r.what == What::Next);
    assert!(success < second_poll, "the update comes first");
    let install =
        ["ArtifactInstall_Enter", "ArtifactInstall", "ArtifactInstall_Leave", "ArtifactCommit_Enter"];
    assert_eq!(without_questions(&stage)[1..5], install, "and is not disturbed");
}

#[test]
fn before_the_commit_the_device_authorises_anew_even_without_a_restart() {
    let (mut stage, spec) = stage(&[], "No", &[]);
    stage.offer(ID, &spec);
    assert_eq!(stage.scene.update().code, 0);
    let requests = stage.scene.server.requests();
    let installing: Vec<usize> = (0..requests.len())
        .filter(|n| requests[*n].what == What::Status && requests[*n].text().contains("installing"))
        .collect();
    assert_eq!(installing.len(), 2);
    let between = &requests[installing[0]..installing[1]];
    assert!(between.iter().any(|r| r.what == What::Auth), "{between:#?}");
}

#[test]
fn a_token_that_was_revoked_during_the_installation_is_no_reason_to_go_back() {
    let (mut stage, spec) = stage(&[], "No", &[]);
    stage.offer(ID, &spec);
    let rule = |on, act| thimble_testkit::Rule { on, skip: 1, times: 1, act };
    stage.scene.server.rule(rule(What::StatusOf("installing"), thimble_testkit::Act::error(401)));
    assert_eq!(stage.scene.update().code, 0);
    assert_eq!(stage.statuses(ID), ["downloading", "installing", "success"]);
}

#[test]
fn an_artifact_clears_what_it_names_of_the_provides_and_keeps_the_rest() {
    let scene = Scene::new("clears", THIMBLE);
    let first = ArtifactSpec { clears: Some(Vec::new()), ..ArtifactSpec::empty("first") };
    let first = first.provide("rootfs-image.version", "1").provide("data.version", "7");
    let second =
        ArtifactSpec { clears: Some(vec!["rootfs-image.*".to_owned()]), ..ArtifactSpec::empty("second") };
    let second = second.provide("rootfs-image.version", "2");
    for spec in [&first, &second] {
        let artifact = scene.artifact(spec).display().to_string();
        scene.run(&["install", &artifact]).expect(0);
    }
    let both = "artifact_name=second\ndata.version=7\nrootfs-image.version=2\n";
    scene.run(&["show-provides"]).expect(0).says(both);
    // Without a list everything goes.
    let artifact = scene.artifact(&ArtifactSpec::empty("third")).display().to_string();
    scene.run(&["install", &artifact]).expect(0);
    scene.run(&["show-provides"]).expect(0).says("artifact_name=third\nrootfs-image.version=third\n");
}

#[test]
fn a_machine_that_goes_down_is_waited_for_and_the_next_start_verifies() {
    let (mut stage, spec) = stage(&[], "Automatic", &[]);
    // As init does it: `reboot` comes back at once, then everybody is told to end.
    let reboot = format!("#!/bin/sh\n{}kill -TERM $(cat ${{0%/bin/*}}/agent.pid)\n", stage.note("reboot"));
    fs::write(stage.scene.device.dir().join("bin/reboot"), reboot).expect("replace reboot");
    stage.offer(ID, &spec);
    stage.scene.run(&["check"]).expect(1);
    assert_eq!(stage.chain().last().map(String::as_str), Some("reboot"), "nothing is done meanwhile");
    stage.scene.device.boot();
    assert_eq!(stage.scene.update().code, 0);
    let chain = stage.chain();
    let after = chain.iter().skip_while(|event| *event != "reboot").nth(1);
    assert_eq!(after.map(String::as_str), Some("ArtifactVerifyReboot"));
    assert_eq!(stage.statuses(ID), ["downloading", "installing", "rebooting", "installing", "success"]);
}

#[test]
fn a_module_that_hangs_in_the_download_is_ended_and_the_update_fails() {
    let (mut stage, spec) = stage(&[("ModuleTimeoutSeconds", "1")], "No", &[]);
    let module = stage.scene.device.root().join("usr/share/mender/modules/v3/recorder");
    let text = fs::read_to_string(&module).expect("the module");
    fs::write(&module, text + "[ $1 != Download ] || exec sleep 600\n").expect("change the module");
    for set in ["Download_Enter", "Download_Leave", "Download_Error"] {
        stage.rootfs_script(&format!("{set}_00"), set);
    }
    stage.offer(ID, &spec);
    assert_eq!(stage.scene.update().code, 5);
    assert_eq!(without_questions(&stage), ["Download_Enter", "Download", "Download_Error", "Cleanup"]);
    assert_eq!(stage.statuses(ID), ["downloading", "failure"]);
    assert_eq!(stage.scene.artifact_name(), "release-1");
}

#[test]
fn a_tree_that_somebody_has_removed_needs_no_cleanup() {
    let remove = "rm -r \"$device/root/var/lib/mender/modules\"";
    let (mut stage, spec) = stage(&[], "No", &[("ArtifactCommit_Leave", remove)]);
    stage.offer(ID, &spec);
    assert_eq!(stage.scene.update().code, 0);
    assert_eq!(stage.chain().last().map(String::as_str), Some("ArtifactCommit_Leave"));
    assert_eq!(stage.statuses(ID), ["downloading", "installing", "success"]);
    assert_eq!(stage.scene.artifact_name(), "release-2");
}

#[test]
fn a_module_that_is_gone_after_the_restart_fails_the_update_and_the_agent_goes_on() {
    let remove = "rm \"$device/root/usr/share/mender/modules/v3/recorder\"";
    let (mut stage, spec) = stage(&[], "Automatic", &[("ArtifactReboot_Enter", remove)]);
    stage.offer(ID, &spec);
    assert_eq!(stage.scene.update().code, 5);
    let chain = stage.chain();
    let after: Vec<_> = chain.iter().skip_while(|event| *event != "reboot").map(String::as_str).collect();
    assert_eq!(
        after,
        [
            "reboot",
            "ArtifactReboot_Error",
            "ArtifactRollback_Enter",
            "ArtifactRollback_Leave",
            "ArtifactFailure_Enter",
            "ArtifactFailure_Leave"
        ]
    );
    assert_eq!(stage.statuses(ID), ["downloading", "installing", "rebooting", "failure"]);
    assert_eq!(stage.scene.artifact_name(), "release-2_INCONSISTENT");
    let log = stage.scene.server.logs(ID).join("\n");
    assert!(log.contains("MODULE-MISSING") && log.contains("modules/v3/recorder"), "{log}");
    stage.scene.run(&["check"]).expect(0);
}

#[test]
fn a_download_script_in_the_place_of_artifact_scripts_never_runs() {
    let (mut stage, spec) = stage(&[], "No", &[]);
    let text = format!("#!/bin/sh\n{}", stage.note("Download_Enter"));
    stage.scene.device.write_script("var/lib/mender/scripts/Download_Enter_05", &text);
    stage.offer(ID, &spec);
    assert_eq!(stage.scene.update().code, 0);
    assert_eq!(without_questions(&stage).first().map(String::as_str), Some("Download"));
}

#[test]
fn no_report_has_a_substate() {
    let (mut stage, spec) = stage(&[], "Yes", &[]);
    stage.plan(&[When::Exits("ArtifactCommit".to_owned(), 1, ONCE)]);
    stage.offer(ID, &spec);
    assert_eq!(stage.scene.update().code, 5);
    let reports = stage.scene.server.requests_of(What::Status);
    assert_eq!(reports.len(), 5);
    for report in reports {
        assert!(!report.text().contains("substate"), "{}", report.text());
    }
}

#[test]
fn a_truncated_artifact_from_a_url_modifies_nothing() {
    let scene = Scene::new("truncated", THIMBLE);
    let artifact = scene.artifact(&Scene::release());
    let bytes = fs::read(&artifact).expect("read it");
    fs::write(&artifact, &bytes[..bytes.len() / 2]).expect("cut it");
    scene.offer_file(ID, &artifact, "release-2");
    let url = format!("{}/artifact/{ID}?X-Signature=a%2Fb%2bc%20d&expires=9&x=~", scene.server.url());
    let says = "Installing artifact...\nStreaming failed. System not modified.\n";
    scene.run(&["install", &url]).expect(1).says(says).complains("ARTIFACT");
    scene.run(&["resume"]).expect(2);
    assert_eq!(scene.artifact_name(), "release-1");
}

#[test]
fn an_artifact_signed_by_somebody_else_runs_no_script_at_the_command_line() {
    let keys = TempDir::new("keys");
    let (good, other) = (SigningKey::generate(), SigningKey::generate());
    let public = keys.path().join("good.pub");
    fs::write(&public, good.public_pem()).expect("write the public key");
    let config = format!("\"{}\"", public.display());
    let mut scene = Scene::configured("signature", THIMBLE, &[("ArtifactVerifyKey", &config)]);
    let spec = scene.scripted(Scene::release(), &[]).sign(&other);
    let artifact = scene.artifact(&spec).display().to_string();
    let ran = scene.run(&["install", &artifact]);
    ran.expect(1).says("Streaming failed. System not modified.\n").complains("ARTIFACT-SIGNATURE");
    assert!(scene.scripts_ran().is_empty());
    scene.assert_old();
}
