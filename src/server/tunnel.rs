//! What is said to an HTTP proxy: `CONNECT` for https, requests with the whole address for http.

use super::proxy::Proxy;
use crate::error::Error;
use std::io::{self, Read, Write};

/// The longest head of an answer to `CONNECT`.
const HEAD: usize = 8 * 1024;

/// Asks for a tunnel. When this returns, what is written goes to `host` as it is.
pub(super) fn open(line: &mut (impl Read + Write), proxy: &Proxy, host: &str, port: u16) -> io::Result<()> {
    let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut request = format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: thimble/{}\r\n",
        env!("CARGO_PKG_VERSION")
    );
    authenticate(&mut request, proxy);
    request.push_str("\r\n");
    line.write_all(request.as_bytes()).map_err(|e| broken(e, proxy))?;
    judge(&head(line, proxy)?, proxy, &target).map_err(io::Error::other)
}

/// The first bytes of a request, for a proxy: the whole address instead of the path, and who we are.
pub(super) fn whole_address(first: &[u8], origin: &str, proxy: &Proxy) -> io::Result<Vec<u8>> {
    let space = first.iter().position(|b| *b == b' ');
    let end = first.windows(2).position(|w| w == b"\r\n");
    let (Some(space), Some(end)) = (space, end) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a request that does not begin with its line",
        ));
    };
    let (before, rest) = first.split_at(space + 1);
    let (path, rest) = rest.split_at(end + 2 - before.len());
    let mut more = String::new();
    authenticate(&mut more, proxy);
    Ok([before, b"http://", origin.as_bytes(), path, more.as_bytes(), rest].concat())
}

fn authenticate(head: &mut String, proxy: &Proxy) {
    if let Some(credentials) = &proxy.credentials {
        head.push_str(&format!("Proxy-Authorization: {credentials}\r\n"));
    }
}

/// Everything up to the empty line, which must be the last that comes: in a tunnel it is our turn to speak.
fn head(line: &mut impl Read, proxy: &Proxy) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD];
    let mut filled = 0;
    loop {
        let count = line.read(&mut head[filled..]).map_err(|e| broken(e, proxy))?;
        if count == 0 {
            let why = if filled == HEAD {
                "sends an answer to CONNECT that is too long"
            } else {
                "closed the connection instead of answering CONNECT"
            };
            return Err(io::Error::other(trouble("PROXY-ANSWER", proxy, why)));
        }
        filled += count;
        if head[..filled].windows(4).any(|w| w == b"\r\n\r\n") {
            head.truncate(filled);
            return Ok(head);
        }
    }
}

/// Only 200 opens a tunnel.
fn judge(answer: &[u8], proxy: &Proxy, target: &str) -> Result<(), Error> {
    let status = status(answer);
    let refused = |why: String| Err(trouble("PROXY-REFUSED", proxy, &why));
    match status {
        Some(200) if answer.ends_with(b"\r\n\r\n") => Ok(()),
        Some(200) => Err(trouble(
            "PROXY-ANSWER",
            proxy,
            "answered CONNECT with a body: that is no tunnel; is it a proxy?",
        )),
        Some(407) => Err(proxy.wants_authentication()),
        Some(status @ (403 | 405)) => refused(format!(
            "does not allow a connection to {target} ({status}): ask its administrator, or name the host in no_proxy"
        )),
        Some(status @ (502..=504)) => refused(format!("cannot reach {target} ({status})")),
        Some(status) => refused(format!("answered {status} to CONNECT {target}; only 200 will do")),
        None => Err(trouble(
            "PROXY-ANSWER",
            proxy,
            "does not answer as HTTP proxies do: are host and port right?",
        )),
    }
}

/// The number in `HTTP/1.x NNN`.
fn status(answer: &[u8]) -> Option<u16> {
    let (b' ', rest) = answer.strip_prefix(b"HTTP/1.")?.get(1..)?.split_first()? else { return None };
    let (digits, after) = rest.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) || !matches!(after.first(), Some(b' ' | b'\r')) {
        return None;
    }
    Some(digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0')))
}

fn trouble(code: &'static str, proxy: &Proxy, why: &str) -> Error {
    Error::new(code, format!("the proxy {} {why}", proxy.shown))
}

fn broken(e: io::Error, proxy: &Proxy) -> io::Error {
    match e.get_ref() {
        // A signal says enough by itself.
        Some(inner) if inner.is::<Error>() => e,
        Some(inner) if inner.is::<ureq::Error>() => {
            io::Error::other(trouble("PROXY-TIMEOUT", proxy, "does not answer CONNECT within the time limit"))
        }
        _ => io::Error::other(trouble("PROXY-ANSWER", proxy, &format!("broke the connection: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{Proxies, url};
    use std::sync::Arc;

    fn proxy(value: &str) -> Arc<Proxy> {
        let proxies = Proxies::read(|name| (name == "https_proxy").then(|| value.to_owned()));
        proxies.route(&url::check("https://h/").expect("good")).expect("usable").expect("a proxy").clone()
    }

    struct Line {
        answer: Vec<u8>,
        step: usize,
        said: Vec<u8>,
    }

    impl Read for Line {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.step.min(self.answer.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.answer[..count]);
            self.answer.drain(..count);
            Ok(count)
        }
    }

    impl Write for Line {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.said.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn ask(value: &str, host: &str, answer: &[u8], step: usize) -> (Result<(), Error>, String) {
        let mut line = Line { answer: answer.to_vec(), step, said: Vec::new() };
        let got = open(&mut line, &proxy(value), host, 443);
        let got = got.map_err(|e| *e.into_inner().expect("ours").downcast::<Error>().expect("ours"));
        (got, String::from_utf8(line.said).expect("text"))
    }

    const AGENT: &str = concat!("User-Agent: thimble/", env!("CARGO_PKG_VERSION"), "\r\n");

    #[test]
    fn a_tunnel_is_asked_for_by_name_and_with_credentials_if_there_are_any() {
        let (got, said) = ask("p:1", "h.example", b"HTTP/1.1 200 OK\r\n\r\n", 99);
        assert_eq!(got, Ok(()));
        assert_eq!(said, format!("CONNECT h.example:443 HTTP/1.1\r\nHost: h.example:443\r\n{AGENT}\r\n"));
        let answer = b"HTTP/1.0 200 Connection established\r\nVia: x\r\nContent-Length: 0\r\n\r\n";
        let (got, said) = ask("u%20:%3a@p:1", "::1", answer, 1);
        assert_eq!(got, Ok(()));
        let basic = "Proxy-Authorization: Basic dSA6Og==\r\n";
        assert_eq!(said, format!("CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n{AGENT}{basic}\r\n"));
    }

    #[test]
    fn every_other_answer_is_refused_with_the_name_of_the_proxy_and_without_its_password() {
        let long = [b"HTTP/1.1 200 OK\r\nX: ", "a".repeat(20_000).as_bytes(), b"\r\n\r\n"].concat();
        for (answer, code, part) in [
            (&b"HTTP/1.1 407 x\r\n\r\nbody"[..], "PROXY-AUTH", "does not accept"),
            (b"HTTP/1.1 403 x\r\n\r\n", "PROXY-REFUSED", "no_proxy"),
            (b"HTTP/1.1 502 x\r\n\r\n", "PROXY-REFUSED", "cannot reach h:443"),
            (b"HTTP/1.1 201 x\r\n\r\n", "PROXY-REFUSED", "201"),
            (b"HTTP/1.1 302 x\r\nLocation: http://x/\r\n\r\n", "PROXY-REFUSED", "302"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "PROXY-ANSWER", "body"),
            (b"HTTP/1.1 2000 OK\r\n\r\n", "PROXY-ANSWER", "host and port"),
            (b"HTTP/1.1 +20 OK\r\n\r\n", "PROXY-ANSWER", "host and port"),
            (b"HTTP/2 200\r\n\r\n", "PROXY-ANSWER", "host and port"),
            (b"SSH-2.0-x\r\n\r\n", "PROXY-ANSWER", "host and port"),
            (b"\r\n\r\n", "PROXY-ANSWER", "host and port"),
            (b"HTTP/1.1 200 OK\r\n", "PROXY-ANSWER", "closed"),
            (b"", "PROXY-ANSWER", "closed"),
            (&long, "PROXY-ANSWER", "too long"),
        ] {
            let shown = String::from_utf8_lossy(&answer[..answer.len().min(40)]);
            let e = ask("u:secret@proxy.example:1", "h", answer, 4000).0.expect_err(&shown);
            assert_eq!(e.code, code, "{shown}: {e}");
            assert!(e.text.contains(part) && e.text.contains("http://proxy.example:1"), "{shown}: {e}");
            assert!(!e.text.contains("secret"), "{e}");
        }
        let e = ask("proxy.example", "h", b"HTTP/1.1 407 x\r\n\r\n", 99).0.expect_err("407");
        assert!(e.text.contains("https_proxy") && e.text.contains("USER:PASSWORD"), "{e}");
    }

    #[test]
    fn a_plain_request_gets_the_whole_address_and_nothing_else_changes() {
        let first = b"GET /a%2F?b=%20c HTTP/1.1\r\nhost: h:8\r\n\r\nbody \r\n";
        let text = |value: &str| {
            String::from_utf8(whole_address(first, "h:8", &proxy(value)).expect("ok")).expect("text")
        };
        assert_eq!(text("p"), "GET http://h:8/a%2F?b=%20c HTTP/1.1\r\nhost: h:8\r\n\r\nbody \r\n");
        assert_eq!(
            text("a:b@p"),
            "GET http://h:8/a%2F?b=%20c HTTP/1.1\r\nProxy-Authorization: Basic YTpi\r\nhost: h:8\r\n\r\nbody \r\n"
        );
        assert!(whole_address(b"GET /a", "h", &proxy("p")).is_err());
    }
}
