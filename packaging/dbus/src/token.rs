//! The token that the agent keeps in `/run/thimble-token`: read, never written.

use std::path::Path;
use thimble::sys::private;

/// First line of the file.
const FORMAT: &str = "thimble token 1";

const LONGEST: u64 = 32 * 1024;

/// What applications are told: both texts are empty if there is no token.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Session {
    /// To be sent as `Authorization: Bearer`. A secret.
    pub token: String,
    /// The server that issued it.
    pub server: String,
}

/// The token that is there now; anything but a whole file that is ours and closed to others counts as none.
pub fn read(path: &Path) -> Session {
    let text = match private::has_own_directory(path) {
        true => private::read(path, LONGEST).unwrap_or_default(),
        false => String::new(),
    };
    parse(&text).unwrap_or_default()
}

fn parse(text: &str) -> Option<Session> {
    let lines: Vec<&str> = text.strip_suffix('\n')?.split('\n').collect();
    let [FORMAT, print, server, token] = lines[..] else { return None };
    let printable = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let good = printable(print) && printable(server) && printable(token);
    good.then(|| Session { token: token.to_owned(), server: server.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_file_is_none() {
        let whole = "thimble token 1\nprint\nhttps://x\nabc.def\n";
        let session = parse(whole).expect("good");
        assert_eq!((session.token.as_str(), session.server.as_str()), ("abc.def", "https://x"));
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).is_none(), "{end} bytes");
        }
        for bad in
            ["thimble token 2\np\ns\nt\n", "thimble token 1\np\ns\nt\nu\n", "thimble token 1\np\ns\nt t\n"]
        {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
