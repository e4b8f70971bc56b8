//! The Artifact storage: `/artifact/<id>`, with ranges, behind a link that must come back unchanged.

use super::http::{Incoming, Response};
use super::rules::{Act, RangeFault};
use super::state::Shared;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// Looks like the signature of a storage link: a client that decodes and encodes it again changes it.
const SIGNED: &str = "X-Signature=a%2Fb%2bc%20d&expires=9&x=~";

/// The address that an offer names.
pub(super) fn link(url: &str, id: &str) -> String {
    format!("{url}/artifact/{id}?{SIGNED}")
}

pub(super) fn answer(shared: &Shared, request: &Incoming, act: Option<&Act>) -> Response {
    let violation = |text: &str| {
        shared.change(|state| state.violations.push(format!("{} {}: {text}", request.method, request.path)));
    };
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        violation("a download is a GET");
        return Response::empty(405);
    }
    if request.header("authorization").is_some() {
        violation("the storage must not get the device's token");
    }
    if request.header("accept-encoding").is_some_and(|value| value != "identity") {
        violation("a compressed answer would break resumption");
    }
    if request.query != SIGNED {
        violation("the link's query was changed");
        return Response::empty(403);
    }
    let id = request.path.trim_start_matches("/artifact/");
    let path = shared.look(|state| state.progress(id).map(|progress| progress.deployment.artifact.clone()));
    let Some(mut file) = path.and_then(|path| File::open(path).ok()) else {
        violation("no such Artifact");
        return Response::empty(404);
    };
    let total = file.metadata().expect("the Artifact's size").len();
    let etag = format!("\"{id}-{total}\"");

    let mut headers = vec![
        ("Accept-Ranges".to_owned(), "bytes".to_owned()),
        ("Content-Type".to_owned(), "application/vnd.mender-artifact".to_owned()),
    ];
    let fault = match act {
        Some(Act::WrongRange(fault)) => Some(*fault),
        _ => None,
    };
    let other = if fault == Some(RangeFault::OtherEtag) { "\"another\"".to_owned() } else { etag.clone() };
    headers.push(("ETag".to_owned(), other));

    let current = request.header("if-range").is_none_or(|wanted| wanted == etag);
    let range = request.header("range").filter(|_| current && act != Some(&Act::IgnoreRange));
    let Some(range) = range else {
        return Response { status: 200, headers, length: total, body: Box::new(file) };
    };
    let Some((mut start, end)) = parse(range, total) else {
        violation(&format!("Range {range:?} of {total} bytes"));
        let mut response = Response::empty(416);
        response.headers.push(("Content-Range".to_owned(), format!("bytes */{total}")));
        return response;
    };
    if let Some(RangeFault::Shifted(by)) = fault {
        start = start.saturating_add_signed(by).min(end);
    }
    let claimed = match fault {
        Some(RangeFault::Total(total)) => total.to_string(),
        Some(RangeFault::UnknownTotal) => "*".to_owned(),
        _ => total.to_string(),
    };
    if fault != Some(RangeFault::NoHeader) {
        headers.push(("Content-Range".to_owned(), format!("bytes {start}-{end}/{claimed}")));
    }
    file.seek(SeekFrom::Start(start)).expect("seek in the Artifact");
    let length = end - start + 1;
    Response { status: 206, headers, length, body: Box::new(file.take(length)) }
}

/// First and last byte of `bytes=FIRST-` or `bytes=FIRST-LAST`.
fn parse(range: &str, total: u64) -> Option<(u64, u64)> {
    let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
    let start: u64 = start.parse().ok()?;
    let last = total.checked_sub(1)?;
    let end = if end.is_empty() { last } else { end.parse::<u64>().ok()?.min(last) };
    (start <= end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    #[test]
    fn ranges() {
        for (range, expected) in [
            ("bytes=0-", Some((0, 9))),
            ("bytes=3-5", Some((3, 5))),
            ("bytes=3-99", Some((3, 9))),
            ("bytes=10-", None),
            ("bytes=5-3", None),
            ("bytes=-3", None),
            ("3-5", None),
        ] {
            assert_eq!(super::parse(range, 10), expected, "{range}");
        }
    }
}
