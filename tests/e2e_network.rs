//! Bad networks and bad servers: downloads that break, tokens that expire, servers that are busy, slow or down.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::time::{Duration, Instant};
use thimble_testkit::{Act, ArtifactSpec, Content, ID, RangeFault, Rule, Scene, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

fn once(on: What, act: Act) -> Rule {
    Rule { on, skip: 0, times: 1, act }
}

/// Noise, so that the Artifact has some size even when compressed.
fn noise(seed: u64) -> Content {
    let blocks = (0..100).map(|number| Content::Pattern { size: 4096, seed: seed * 1000 + number });
    Content::Bytes(blocks.flat_map(|block| block.bytes()).collect())
}

/// An update with `rules` ends well; returns the ranges that were asked for.
#[track_caller]
fn arrives(rules: &[Rule]) -> Vec<String> {
    let mut scene = Scene::new("arrives", THIMBLE);
    let image = noise(1);
    scene.offer(&ArtifactSpec::rootfs("release-2", image.clone()));
    for rule in rules {
        scene.server.rule(rule.clone());
    }
    let ending = scene.update();
    assert_eq!((ending.code, ending.boots), (0, 1), "{}", ending.output);
    assert!(scene.device.slot_holds(3, &image), "slot 3 is not the image");
    scene.assert_settled(3);
    scene.assert_success_reported();
    let gets = scene.server.requests_of(What::Artifact);
    gets.iter().map(|get| get.header("range").unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_download_that_breaks_goes_on_where_it_broke() {
    for act in [Act::DropAfter { bytes: 100_000 }, Act::DropAfter { bytes: 700 }] {
        let ranges = arrives(&[Rule { on: What::Artifact, skip: 0, times: 3, act }]);
        assert_eq!(ranges.len(), 4, "{ranges:?}");
        assert!(ranges[1..].iter().all(|range| range.starts_with("bytes=")), "{ranges:?}");
        let starts: Vec<u64> =
            ranges[1..].iter().map(|r| r[6..].trim_end_matches('-').parse().expect("a number")).collect();
        assert!(starts.windows(2).all(|pair| pair[0] < pair[1]), "each goes on further: {starts:?}");
    }
}

#[test]
fn a_download_that_breaks_before_its_first_byte_starts_over() {
    arrives(&[Rule { on: What::Artifact, skip: 0, times: 2, act: Act::DropConnection }]);
    arrives(&[Rule { on: What::Artifact, skip: 0, times: 2, act: Act::DropAfter { bytes: 0 } }]);
}

#[test]
fn a_server_that_answers_a_range_wrongly_is_asked_again() {
    for act in [
        Act::IgnoreRange,
        Act::WrongRange(RangeFault::Shifted(5)),
        Act::WrongRange(RangeFault::Total(99)),
        Act::WrongRange(RangeFault::NoHeader),
        Act::error(500),
        Act::error(404),
    ] {
        let broken = once(What::Artifact, Act::DropAfter { bytes: 50_000 });
        let ranges = arrives(&[broken, once(What::Artifact, act.clone())]);
        assert!(ranges.len() >= 3, "{act:?}: {ranges:?}");
    }
}

#[test]
fn a_range_that_begins_earlier_than_asked_is_used() {
    let broken = once(What::Artifact, Act::DropAfter { bytes: 50_000 });
    let ranges = arrives(&[broken, once(What::Artifact, Act::WrongRange(RangeFault::Shifted(-100)))]);
    assert_eq!(ranges.len(), 2, "{ranges:?}");
}

#[test]
fn a_server_that_never_serves_ranges_fails_the_deployment_and_nothing_else() {
    let config = [("RetryDownloadCount", "3")];
    let mut scene = Scene::configured("noranges", THIMBLE, &config);
    scene.offer(&ArtifactSpec::rootfs("release-2", noise(2)));
    scene.server.rule(once(What::Artifact, Act::DropAfter { bytes: 50_000 }));
    scene.server.rule(Rule { on: What::Artifact, skip: 0, times: usize::MAX, act: Act::IgnoreRange });
    let ending = scene.update();
    assert_eq!((ending.code, ending.boots), (5, 0), "{}", ending.output);
    scene.assert_failure_reported();
    scene.assert_old();
}

#[test]
fn an_artifact_that_was_replaced_during_the_download_is_not_mixed() {
    let mut scene = Scene::new("replaced", THIMBLE);
    let artifact = scene.artifact(&ArtifactSpec::rootfs("release-2", noise(3)));
    scene.offer_file(ID, &artifact, "release-2");
    scene.server.rule(once(What::Artifact, Act::DropAfter { bytes: 50_000 }));
    scene.server.rule(Rule {
        on: What::Artifact,
        skip: 0,
        times: usize::MAX,
        act: Act::WrongRange(RangeFault::OtherEtag),
    });
    let ending = scene.update();
    assert!([0, 5].contains(&ending.code), "{}", ending.output);
    if ending.code == 0 {
        assert!(scene.device.slot_holds(3, &noise(3)));
        scene.assert_settled(3);
    } else {
        scene.assert_failure_reported();
        scene.assert_old();
    }
}

#[test]
fn redirects_chunks_and_slow_bytes_are_no_trouble() {
    arrives(&[once(What::Artifact, Act::NoLength)]);
    arrives(&[once(What::Artifact, Act::Slow { bytes_per_second: 2_000_000 })]);
    let ranges = arrives(&[once(What::Artifact, Act::Redirect(format!("{{url}}/artifact/{ID}?{}", SIGNED)))]);
    assert_eq!(ranges.len(), 2);
}

/// The query of the server's own links.
const SIGNED: &str = "X-Signature=a%2Fb%2bc%20d&expires=9&x=~";

#[test]
fn an_unauthorised_answer_is_followed_by_one_authorisation() {
    for on in [What::Next, What::Inventory, What::StatusOf("installing"), What::StatusOf("success")] {
        let mut scene = Scene::new("unauthorised", THIMBLE);
        scene.offer(&Scene::release());
        scene.server.rule(once(on, Act::error(401)));
        let ending = scene.update();
        assert_eq!(ending.code, 0, "{on:?}\n{}", ending.output);
        scene.assert_success_reported();
        scene.assert_new();
    }
}

#[test]
fn a_token_that_expires_during_the_download_costs_one_authorisation() {
    let mut scene = Scene::new("expired", THIMBLE);
    scene.offer(&ArtifactSpec::rootfs("release-2", Scene::image()));
    scene.rootfs_script("Download_Leave_00", "");
    scene.server.rule(once(What::Artifact, Act::Slow { bytes_per_second: 10_000 }));
    let mut daemon = scene.daemon();
    scene.wait_until(|server| server.requests_of(What::Artifact).last().is_some_and(|get| get.sent > 0));
    scene.server.expire_tokens();
    assert_eq!(daemon.wait(), None, "the reboot");
    scene.device.boot();
    let ending = scene.update();
    assert_eq!(ending.code, 0, "{}\n{}", scene.daemon_log(), ending.output);
    assert_eq!(scene.statuses(), ["downloading", "installing", "rebooting", "installing", "success"]);
    scene.assert_new();
}

#[test]
fn a_device_that_is_not_accepted_yet_fails_the_check_and_says_so() {
    let scene = Scene::new("pending", THIMBLE);
    scene.server.accept(false);
    let ran = scene.run(&["check"]);
    ran.expect(1).complains("accept");
    scene.server.accept(true);
    scene.run(&["check"]).expect(0);
}

#[test]
fn a_busy_server_is_asked_again_when_it_said() {
    for status in [429, 503] {
        let scene = Scene::new("busy", THIMBLE);
        scene.offer(&ArtifactSpec::empty("release-2"));
        let headers = vec![("Retry-After".to_owned(), "500".to_owned())];
        let act = Act::Respond { status, headers, body: Vec::new() };
        scene.server.rule(Rule { on: What::Next, skip: 0, times: 2, act: act.clone() });
        scene.server.rule(Rule { on: What::StatusOf("success"), skip: 0, times: 2, act });
        let begin = Instant::now();
        let mut daemon = scene.daemon();
        scene.wait_until(|server| server.statuses(ID).last().is_some_and(|last| last == "success"));
        // A scale of a thousandth: 500 s are 0.5 s, four times.
        assert!(begin.elapsed() >= Duration::from_secs(2), "{status}: {:?}", begin.elapsed());
        assert_eq!(daemon.stop(), Some(0));
    }
}

#[test]
fn a_check_does_not_wait_for_a_busy_server() {
    let scene = Scene::new("nowait", THIMBLE);
    let headers = vec![("Retry-After".to_owned(), "86400".to_owned())];
    let act = Act::Respond { status: 429, headers, body: Vec::new() };
    scene.server.rule(Rule { on: What::Next, skip: 0, times: 1, act });
    scene.run(&["check"]).expect(1).complains("429");
}

#[test]
fn the_second_server_is_asked_when_the_first_is_down() {
    let down = "http://127.0.0.1:1";
    let stage = Scene::new("template", THIMBLE);
    let servers = format!(r#"[{{"ServerURL": "{down}"}}, {{"ServerURL": "{}"}}]"#, stage.server.url());
    let mut scene = Scene::configured("several", THIMBLE, &[("ServerURL", "null"), ("Servers", &servers)]);
    // The second one is the stage's: its server serves this scene's device.
    std::mem::swap(&mut scene.server, &mut { stage }.server);
    scene.offer(&Scene::release());
    let ending = scene.update();
    assert_eq!(ending.code, 0, "{}", ending.output);
    scene.assert_success_reported();
    scene.assert_new();
}

#[test]
fn no_server_at_all_is_an_error_that_names_the_address() {
    let scene = Scene::configured("down", THIMBLE, &[("ServerURL", "\"http://127.0.0.1:1\"")]);
    scene.run(&["check"]).expect(1).complains("127.0.0.1:1");
    let scene = Scene::configured("unset", THIMBLE, &[("ServerURL", "null")]);
    scene.run(&["check"]).expect(1).complains("ServerURL");
}

#[test]
fn a_server_that_answers_nothing_does_not_outlive_sigterm() {
    let scene = Scene::new("hangs", THIMBLE);
    scene.server.rule(once(What::Next, Act::Hang));
    let mut daemon = scene.daemon();
    scene.wait_until(|server| !server.requests_of(What::Next).is_empty());
    assert_eq!(daemon.stop(), Some(0), "{}", scene.daemon_log());
}
