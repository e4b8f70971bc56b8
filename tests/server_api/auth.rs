//! Authentication, the token, the list of servers (cases 1 to 6).

use crate::mock::{AUTH, Device, NEXT2, Server, accepting, reply};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::pki_types::pem::{PemObject, SectionKind};
use std::collections::BTreeMap;
use thimble::json;
use thimble::server::{Client, Kind};

fn provides() -> BTreeMap<String, String> {
    BTreeMap::from([("artifact_name".to_owned(), "r1".to_owned())])
}

fn unbase64(text: &str) -> Vec<u8> {
    let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    <(SectionKind, Vec<u8>)>::from_pem_slice(pem.as_bytes()).expect("base64").1
}

#[test]
fn the_signature_is_over_exactly_the_bytes_of_the_body() {
    let device = Device::new();
    device.identity("echo 'z=a\"<b>'; echo m=1; echo m=2");
    let server = Server::start(accepting(|_, _| reply(204, &[], b"")));
    let mut settings = device.settings(&[server.url()]);
    settings.tenant_token = " the-token\n".into();
    settings.device_tier = Some("micro".into());
    Client::new(settings).expect("good").authorize().expect("accepted");
    let seen = server.seen();
    let [request] = seen.as_slice() else { panic!("one request: {seen:?}") };
    assert_eq!(request.line(), AUTH);
    assert_eq!(request.header("Accept"), Some("application/json"));
    let body = json::parse(request.text()).expect("JSON");
    let member = |name: &str| json::get(&body, name).and_then(json::string).expect("a string").to_owned();
    assert_eq!(member("id_data"), "{\"m\":[\"1\",\"2\"],\"z\":\"a\\\"<b>\"}");
    assert_eq!(member("tenant_token"), "the-token");
    assert_eq!(member("tier"), "micro");
    let names = ["\"id_data\"", "\"pubkey\"", "\"tenant_token\"", "\"tier\""];
    assert!(names.map(|n| request.text().find(n)).is_sorted(), "members are sorted");
    let (_, spki) = <(SectionKind, Vec<u8>)>::from_pem_slice(member("pubkey").as_bytes()).expect("PEM");
    let signature = unbase64(request.header("X-MEN-Signature").expect("signed"));
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &spki[26..])
        .verify(&request.body, &signature)
        .expect("verifies");
}

#[test]
fn neither_tenant_nor_tier_is_sent_when_there_is_none() {
    let device = Device::new();
    let server = Server::start(accepting(|_, _| reply(204, &[], b"")));
    let mut settings = device.settings(&[server.url()]);
    settings.tenant_token = "\n".into();
    Client::new(settings).expect("good").authorize().expect("accepted");
    let body = server.seen()[0].text().to_owned();
    assert!(!body.contains("tenant_token") && !body.contains("tier"), "{body}");
    assert!(body.ends_with('}'));
}

#[test]
fn the_second_server_is_used_when_the_first_refuses_and_keeps_the_calls() {
    for status in [401, 500, 429] {
        let device = Device::new();
        let first = Server::start(move |_, _| reply(status, &[], b"{\"error\":\"no\"}"));
        let second = Server::start(accepting(|_, _| reply(204, &[], b"")));
        let mut client = device.client(&[&first, &second]);
        assert_eq!(client.next_deployment(&provides(), "dt"), Ok(None));
        assert_eq!(client.next_deployment(&provides(), "dt"), Ok(None));
        assert_eq!(first.lines(), [AUTH]);
        assert_eq!(second.lines(), [AUTH, NEXT2, NEXT2]);
    }
}

#[test]
fn the_second_server_is_used_when_the_first_is_gone() {
    let device = Device::new();
    let second = Server::start(accepting(|_, _| reply(204, &[], b"")));
    let mut client =
        Client::new(device.settings(&["http://127.0.0.1:9".into(), second.url()])).expect("good");
    assert_eq!(client.next_deployment(&provides(), "dt"), Ok(None));
    assert_eq!(second.lines(), [AUTH, NEXT2]);
}

#[test]
fn when_all_servers_fail_each_story_is_told() {
    let device = Device::new();
    let second = Server::start(|_, _| reply(401, &[], b"{\"error\":\"dev auth: unauthorized\"}"));
    let mut client =
        Client::new(device.settings(&["http://127.0.0.1:9".into(), second.url()])).expect("good");
    let fault = client.authorize().expect_err("fails");
    assert_eq!((fault.kind, fault.error.code), (Kind::Unauthorized, "AUTH-REFUSED"));
    for part in ["127.0.0.1:9", "refused", "dev auth: unauthorized", "accepted"] {
        assert!(fault.error.text.contains(part), "{part}: {fault}");
    }
}

#[test]
fn an_expired_token_leads_to_one_authentication_and_one_repeat() {
    let device = Device::new();
    let server = Server::start(accepting(|seen, number| {
        let good = seen.header("Authorization") == Some("Bearer t0") && number < 2
            || seen.header("Authorization") == Some("Bearer t3");
        if good { reply(204, &[], b"") } else { reply(401, &[], b"") }
    }));
    let mut client = device.client(&[&server]);
    assert_eq!(client.next_deployment(&provides(), "dt"), Ok(None));
    assert_eq!(client.next_deployment(&provides(), "dt"), Ok(None));
    assert_eq!(server.lines(), [AUTH, NEXT2, NEXT2, AUTH, NEXT2]);
}

#[test]
fn a_second_401_is_final_and_the_token_is_dropped() {
    let device = Device::new();
    let server = Server::start(accepting(|_, _| reply(401, &[], b"")));
    let mut client = device.client(&[&server]);
    let fault = client.next_deployment(&provides(), "dt").expect_err("refused");
    assert_eq!(fault.kind, Kind::Unauthorized);
    assert_eq!(server.lines(), [AUTH, NEXT2, AUTH, NEXT2]);
    assert!(client.next_deployment(&provides(), "dt").is_err());
    assert_eq!(server.lines()[4], AUTH);
}

#[test]
fn a_forgotten_token_is_fetched_again() {
    let device = Device::new();
    let server = Server::start(accepting(|_, _| reply(204, &[], b"")));
    let mut client = device.client(&[&server]);
    client.report("d-1", "installing").expect("works");
    client.forget_token();
    device.identity("echo mac=other");
    client.report("d-1", "success").expect("works");
    let seen = server.seen();
    assert_eq!(seen.iter().filter(|s| s.line() == AUTH).count(), 2);
    assert!(seen[2].text().contains("other"), "identity is read for each authentication");
    assert_eq!(seen[3].header("Authorization"), Some("Bearer t2"));
    assert_eq!(seen[0].header("Authorization"), Some("API_KEY"));
}

#[test]
fn answers_that_are_no_token_never_reach_a_header() {
    let long = vec![b'a'; 1024 * 1024];
    for body in [&b""[..], b"\n", b"a\r\nX-Evil: 1", b"a b", b"\xff\xfe", &long] {
        let device = Device::new();
        let body = body.to_vec();
        let server = Server::start(move |_, _| reply(200, &[], &body));
        let fault = device.client(&[&server]).next_deployment(&provides(), "dt").expect_err("no token");
        assert_eq!(fault.kind, Kind::Protocol);
        assert_eq!(server.lines(), [AUTH], "nothing but authentication is sent");
    }
}

#[test]
fn a_token_with_a_line_end_is_used_without_it() {
    let device = Device::new();
    let server =
        Server::start(
            |seen, _| {
                if seen.line() == AUTH { reply(200, &[], b"a.b.c\r\n") } else { reply(204, &[], b"") }
            },
        );
    device.client(&[&server]).next_deployment(&provides(), "dt").expect("works");
    assert_eq!(server.seen()[1].header("Authorization"), Some("Bearer a.b.c"));
}

#[test]
fn without_an_identity_nothing_is_sent() {
    let device = Device::new();
    device.identity("exit 7");
    let server = Server::start(accepting(|_, _| reply(204, &[], b"")));
    let fault = device.client(&[&server]).authorize().expect_err("no identity");
    assert!(fault.error.code == "IDENTITY-SCRIPT" && fault.error.text.contains("exit status 7"), "{fault}");
    assert!(server.seen().is_empty());
}

#[test]
fn a_call_moves_to_the_next_server_when_the_connection_is_lost() {
    let device = Device::new();
    let first =
        Server::start(
            |seen, number| {
                if seen.line() == AUTH && number == 0 { reply(200, &[], b"one") } else { Vec::new() }
            },
        );
    let second = Server::start(accepting(|_, _| reply(204, &[], b"")));
    let mut client = device.client(&[&first, &second]);
    client.report("d-1", "installing").expect("the second server takes over");
    assert_eq!(first.lines().len(), 3);
    assert_eq!(second.lines(), [AUTH, "PUT /api/devices/v1/deployments/device/deployments/d-1/status"]);
}

#[test]
fn the_list_is_tried_from_its_beginning_each_time_and_in_its_order() {
    let device = Device::new();
    // One broken connection.
    let first =
        Server::start(accepting(|_, number| if number == 1 { Vec::new() } else { reply(204, &[], b"") }));
    let second = Server::start(accepting(|_, _| reply(204, &[], b"")));
    let mut client = device.client(&[&first, &second, &first]);
    client.report("d-1", "downloading").expect("the first is asked again first");
    assert_eq!((first.lines().len(), second.lines().len()), (4, 0));
    client.forget_token();
    client.report("d-1", "installing").expect("works");
    assert_eq!((first.lines().len(), second.lines().len()), (6, 0));
    // A server that stands twice in the list is asked once.
    let (down, down_url) = (Server::start(|_, _| reply(500, &[], b"")), "http://127.0.0.1:9/".to_owned());
    let urls = [down.url(), down_url, format!("{}/", down.url())];
    let fault = Client::new(device.settings(&urls)).expect("good").authorize().expect_err("all down");
    assert_eq!((fault.kind, down.lines().len()), (Kind::Refused(500), 1));
}

#[test]
fn a_server_whose_answer_makes_no_sense_gives_way_to_the_next() {
    for nonsense in
        [&b"SSH-2.0-OpenSSH\r\n"[..], b"HTTP/1.1 200 X\r\nContent-Length: 3\r\n\r\na b", b"\r\n\r\n"]
    {
        let device = Device::new();
        let first = Server::start(move |_, _| nonsense.to_vec());
        let second = Server::start(accepting(|_, _| reply(204, &[], b"")));
        device.client(&[&first, &second]).report("d-1", "success").expect("the second takes over");
        assert_eq!(second.lines().len(), 2);
    }
}

#[test]
fn a_server_that_is_no_url_is_refused_at_once() {
    let device = Device::new();
    let refused = Client::new(device.settings(&["host".to_owned()])).expect_err("refused");
    assert_eq!(refused.code, "SERVER-URL");
}

#[test]
fn without_a_server_every_request_says_what_to_configure() {
    let device = Device::new();
    // Local updates need no server, so this is no mistake yet.
    let mut client = Client::new(device.settings(&[])).expect("usable for downloads");
    let fault = client.report("d-1", "installing").expect_err("nobody to report to");
    assert_eq!(fault.error.code, "SERVER-NONE");
    assert!(fault.error.text.contains("ServerURL"), "{}", fault.error);
}
