//! Next deployment, status, log, inventory (cases 7 to 11, 16, 30, 32).

use crate::mock::{AUTH, Device, NEXT1, NEXT2, Server, accepting, reply};
use std::collections::BTreeMap;
use std::time::Duration;
use thimble::json;
use thimble::server::{Kind, LogBody, Offer};

const OFFER: &[u8] = br#"{"id":"0a-1","artifact":{"artifact_name":"r2","device_types_compatible":["dt"],
    "source":{"uri":"https://storage/a?X=%2F","expire":"2030-01-01T00:00:00Z"}}}"#;

fn provides() -> BTreeMap<String, String> {
    BTreeMap::from([("artifact_name".into(), "r 1".into()), ("rootfs-image.version".into(), "r1".into())])
}

#[test]
fn a_deployment_is_offered_by_v2() {
    let device = Device::new();
    let server = Server::start(accepting(|_, _| reply(200, &[("Content-Type", "application/json")], OFFER)));
    let got = device.client(&[&server]).next_deployment(&provides(), "dt").expect("works");
    let want = Offer {
        id: "0a-1".into(),
        uri: "https://storage/a?X=%2F".into(),
        artifact_name: Some("r2".into()),
        device_types: vec!["dt".into()],
        control_map: Ok(None),
    };
    assert_eq!(got, Some(want));
    let seen = server.seen();
    assert_eq!(seen[1].line(), NEXT2);
    assert_eq!(
        seen[1].text(),
        r#"{"device_provides":{"artifact_name":"r 1","device_type":"dt","rootfs-image.version":"r1"},"update_control_map":true}"#
    );
}

#[test]
fn the_control_map_of_a_deployment_is_asked_for_again() {
    const MAP: &str =
        "{\"update_control_map\":{\"id\":\"00000000-0000-4000-8000-00000000000a\",\"priority\":3}}";
    for (status, body, kind) in [
        (200, MAP, None),
        (200, "{}", Some(Kind::Protocol)),
        (200, "{\"update_control_map\":null}", Some(Kind::Protocol)),
        (200, "{\"update_control_map\":{\"id\":7}}", Some(Kind::Protocol)),
        (200, "", Some(Kind::Protocol)),
        (404, "{}", Some(Kind::NotFound)),
        (500, "{}", Some(Kind::Refused(500))),
    ] {
        let device = Device::new();
        let server = Server::start(accepting(move |_, _| reply(status, &[], body.as_bytes())));
        let got = device.client(&[&server]).control_map("d-1");
        assert_eq!(got.as_ref().err().map(|fault| fault.kind), kind, "{body}");
        assert!(kind.is_some() || got.is_ok_and(|map| map.priority() == 3));
        let line = "GET /api/devices/v2/deployments/device/deployments/d-1/update_control_map";
        assert_eq!(server.seen()[1].line(), line);
    }
}

#[test]
fn a_server_without_v2_is_asked_by_v1_and_remembered() {
    let device = Device::new();
    let server = Server::start(accepting(|seen, _| {
        if seen.line() == NEXT2 { reply(404, &[], b"{}") } else { reply(200, &[], OFFER) }
    }));
    let mut client = device.client(&[&server]);
    assert!(client.next_deployment(&provides(), "d/t").expect("works").is_some());
    assert!(client.next_deployment(&provides(), "d/t").expect("works").is_some());
    let next1 = format!("{NEXT1}?artifact_name=r%201&device_type=d%2Ft");
    assert_eq!(server.lines(), [AUTH, NEXT2, &next1, &next1]);
}

#[test]
fn a_server_that_knows_neither_is_asked_both_ways_again() {
    let device = Device::new();
    let server = Server::start(accepting(|_, _| reply(404, &[], b"")));
    let mut client = device.client(&[&server]);
    for _ in 0..2 {
        assert_eq!(client.next_deployment(&provides(), "dt").expect_err("404").kind, Kind::NotFound);
    }
    assert_eq!(server.lines().iter().filter(|l| *l == NEXT2).count(), 2);
}

#[test]
fn other_refusals_of_v2_are_errors_without_a_fallback() {
    for (status, kind) in [
        (405, Kind::Refused(405)),
        (500, Kind::Refused(500)),
        (409, Kind::Conflict),
        (202, Kind::Refused(202)),
    ] {
        let device = Device::new();
        let server = Server::start(accepting(move |_, _| {
            reply(status, &[("X-MEN-RequestID", "req-9")], b"{\"error\":\"because\"}")
        }));
        let fault = device.client(&[&server]).next_deployment(&provides(), "dt").expect_err("refused");
        assert_eq!(fault.kind, kind);
        assert_eq!(server.lines(), [AUTH, NEXT2]);
        if status != 202 {
            assert!(fault.error.text.contains("because") && fault.error.text.contains("req-9"), "{fault}");
        }
    }
}

#[test]
fn nothing_to_do_is_no_error() {
    let device = Device::new();
    let server = Server::start(accepting(|_, _| reply(204, &[], b"")));
    assert_eq!(device.client(&[&server]).next_deployment(&provides(), "dt"), Ok(None));
}

#[test]
fn senseless_answers_are_errors_and_cost_no_memory() {
    let deep = "[".repeat(100_000);
    let huge = format!("{{\"id\":\"{}\"}}", "a".repeat(10 * 1024 * 1024));
    for body in ["", "null", "[]", "{\"id\":\"../../x\"}", &deep, &huge] {
        let device = Device::new();
        let body = body.to_owned();
        let server = Server::start(accepting(move |_, _| reply(200, &[], body.as_bytes())));
        let fault = device.client(&[&server]).next_deployment(&provides(), "dt").expect_err("senseless");
        assert_eq!(fault.kind, Kind::Protocol, "{fault}");
    }
}

#[test]
fn retry_after_is_understood_as_seconds_or_date_and_bounded() {
    let cases = [
        (429, "7", Some(7)),
        (503, "0", Some(0)),
        (429, "99999999999999", Some(24 * 3600)),
        (429, "99999999999999999999999999", Some(24 * 3600)),
        (429, "Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
        (429, "Fri, 31 Dec 9999 23:59:59 GMT", Some(24 * 3600)),
        (429, "-1", None),
        (429, "abc", None),
        (429, "", None),
        (429, "7 s", None),
    ];
    for (status, text, seconds) in cases {
        let device = Device::new();
        let server = Server::start(accepting(move |_, _| reply(status, &[("Retry-After", text)], b"")));
        let fault = device.client(&[&server]).next_deployment(&provides(), "dt").expect_err("busy");
        assert_eq!(fault.kind, Kind::Busy(seconds.map(Duration::from_secs)), "{text}");
    }
    let device = Device::new();
    let server = Server::start(accepting(|_, _| reply(500, &[("Retry-After", "7")], b"")));
    let fault = device.client(&[&server]).next_deployment(&provides(), "dt").expect_err("500");
    assert_eq!(fault.kind, Kind::Refused(500));
}

#[test]
fn only_204_is_a_successful_report() {
    for (status, kind) in [
        (204, None),
        (200, Some(Kind::Refused(200))),
        (202, Some(Kind::Refused(202))),
        (409, Some(Kind::Conflict)),
        (404, Some(Kind::NotFound)),
        (500, Some(Kind::Refused(500))),
    ] {
        let device = Device::new();
        let server = Server::start(accepting(move |_, _| reply(status, &[], b"")));
        let result = device.client(&[&server]).report("0a-1", "installing");
        assert_eq!(result.err().map(|f| f.kind), kind);
        let seen = server.seen();
        assert_eq!(seen[1].line(), "PUT /api/devices/v1/deployments/device/deployments/0a-1/status");
        assert_eq!(seen[1].text(), "{\"status\":\"installing\"}");
    }
}

#[test]
fn an_id_that_could_change_the_path_is_not_sent() {
    let device = Device::new();
    let server = Server::start(accepting(|_, _| reply(204, &[], b"")));
    let mut client = device.client(&[&server]);
    for id in ["", "..", "a/b", "a?b", "a b", "ä", &"a".repeat(1000)] {
        assert_eq!(client.report(id, "success").expect_err(id).kind, Kind::Protocol);
        assert!(client.upload_log(id, LogBody::from_text("{}")).is_err());
    }
    assert!(server.seen().is_empty());
}

#[test]
fn a_log_is_streamed_with_its_length_and_sent_again_after_a_401() {
    let device = Device::new();
    let server = Server::start(accepting(|_, n| reply(if n == 1 { 401 } else { 204 }, &[], b"")));
    let text = format!("{{\"messages\":[{}]}}", "\"x\",".repeat(100_000));
    device.client(&[&server]).upload_log("0a-1", LogBody::from_text(&text)).expect("works");
    let seen = server.seen();
    assert_eq!(seen[3].line(), "PUT /api/devices/v1/deployments/device/deployments/0a-1/log");
    assert_eq!(seen[1].text(), text);
    assert_eq!(seen[3].text(), text);
}

#[test]
fn a_log_that_is_shorter_than_announced_is_an_error_and_not_a_hang() {
    let device = Device::new();
    let server = Server::start(accepting(|_, _| reply(204, &[], b"")));
    let body = LogBody::new(100, || Ok(Box::new(&b"short"[..])));
    let fault = device.client(&[&server]).upload_log("0a-1", body).expect_err("short");
    assert!(fault.error.text.contains("shorter"), "{fault}");
}

#[test]
fn a_log_that_the_server_refuses_early_is_reported_as_such() {
    let device = Device::new();
    let server = Server::start(accepting(|_, _| reply(413, &[], b"{\"error\":\"too large\"}")));
    let text = "x".repeat(3_000_000);
    let fault = device.client(&[&server]).upload_log("0a-1", LogBody::from_text(&text)).expect_err("413");
    assert_eq!(fault.kind, Kind::TooLarge);
}

#[test]
fn inventory_falls_back_to_patch_only_on_405() {
    let attributes = BTreeMap::from([
        ("z".to_owned(), vec!["1".to_owned(), "2".to_owned()]),
        ("a".to_owned(), vec!["x\ty".to_owned()]),
    ]);
    for (status, lines) in [(200, 1), (405, 2), (500, 1), (204, 1)] {
        let device = Device::new();
        let server = Server::start(accepting(move |seen, _| {
            reply(if seen.method == "PUT" { status } else { 200 }, &[], b"")
        }));
        let result = device.client(&[&server]).send_inventory(&attributes);
        assert_eq!(result.is_ok(), matches!(status, 200 | 405));
        let seen = server.seen();
        assert_eq!(seen.len(), 1 + lines);
        for request in &seen[1..] {
            assert_eq!(request.target, "/api/devices/v1/inventory/device/attributes");
            assert_eq!(request.text(), r#"[{"name":"a","value":"x\ty"},{"name":"z","value":["1","2"]}]"#);
        }
    }
}

#[test]
fn two_thousand_attributes_make_valid_json() {
    let attributes: BTreeMap<String, Vec<String>> =
        (0..2000).map(|i| (format!("k{i}"), vec![format!("\u{fffd}{i}"); i % 3])).collect();
    let device = Device::new();
    let server = Server::start(accepting(|_, _| reply(200, &[], b"")));
    device.client(&[&server]).send_inventory(&attributes).expect("works");
    assert!(json::parse(server.seen()[1].text()).is_ok());
}

#[test]
fn a_redirect_of_an_api_call_is_not_followed() {
    let device = Device::new();
    let other = Server::start(|_, _| reply(204, &[], b""));
    let target = other.url();
    let server = Server::start(accepting(move |_, _| reply(307, &[("Location", &target)], b"")));
    let fault = device.client(&[&server]).report("0a-1", "success").expect_err("not followed");
    assert_eq!(fault.kind, Kind::Refused(307));
    assert!(other.seen().is_empty());
}

#[test]
fn floods_in_the_head_of_an_answer_are_errors() {
    let many = "X-A: b\r\n".repeat(100_000);
    let one = format!("X-A: {}\r\n", "b".repeat(1024 * 1024));
    let endless = "b".repeat(1024 * 1024);
    for head in [many, one, endless] {
        let device = Device::new();
        let server =
            Server::start(accepting(move |_, _| format!("HTTP/1.1 204 X\r\n{head}\r\n").into_bytes()));
        let fault = device.client(&[&server]).report("0a-1", "success").expect_err("flood");
        assert!(matches!(fault.kind, Kind::Protocol | Kind::Transport), "{fault}");
    }
}

#[test]
fn answers_that_are_no_http_are_errors() {
    for raw in
        [&b"SSH-2.0-x\r\n"[..], b"", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]
    {
        let device = Device::new();
        let server = Server::start(accepting(move |_, _| raw.to_vec()));
        let fault = device.client(&[&server]).next_deployment(&provides(), "dt").expect_err("no HTTP");
        assert!(matches!(fault.kind, Kind::Protocol | Kind::Transport), "{fault}");
    }
}

#[test]
fn an_answer_that_ends_early_is_a_lost_connection() {
    let device = Device::new();
    let server =
        Server::start(accepting(|_, _| b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"id\"".to_vec()));
    let fault = device.client(&[&server]).next_deployment(&provides(), "dt").expect_err("cut");
    assert_eq!(fault.kind, Kind::Transport, "{fault}");
}
