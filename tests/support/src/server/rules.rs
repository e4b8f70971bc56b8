//! How the server is told to misbehave.

/// Which requests a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Authentication.
    Auth,
    /// Asking for the next deployment, any version of the operation.
    Next,
    /// Any status report.
    Status,
    /// The report of this status.
    StatusOf(&'static str),
    /// Log upload.
    Log,
    /// Inventory.
    Inventory,
    /// Refresh of an update control map.
    ControlMap,
    /// Artifact download.
    Artifact,
    /// Every request.
    Any,
}

/// "Of the requests `on`, let `skip` pass, then do `act` with the next `times`."
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which requests.
    pub on: What,
    /// How many are served as usual first.
    pub skip: usize,
    /// How many are then hit; `usize::MAX` for all that follow.
    pub times: usize,
    /// What happens to these.
    pub act: Act,
}

/// What happens instead of the usual answer, or to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// This answer; the request has no effect.
    Respond {
        /// HTTP status.
        status: u16,
        /// Headers besides the length.
        headers: Vec<(String, String)>,
        /// Body.
        body: Vec<u8>,
    },
    /// No answer, the connection is closed; the request has no effect.
    DropConnection,
    /// The request takes effect, but instead of the answer the connection is closed.
    LoseResponse,
    /// The connection is closed after so many bytes of the body.
    DropAfter {
        /// Body bytes that are still sent.
        bytes: u64,
    },
    /// Nothing more is sent after so many bytes of the body; the connection stays open.
    HangAfter {
        /// Body bytes that are still sent.
        bytes: u64,
    },
    /// The body comes slowly.
    Slow {
        /// How slowly.
        bytes_per_second: u64,
    },
    /// One byte of the body is changed.
    Corrupt {
        /// Which; counted from the first byte of this answer's body.
        at: u64,
    },
    /// A request with `Range` gets the whole file and 200.
    IgnoreRange,
    /// A request with `Range` gets a 206 that is not what was asked for.
    WrongRange(RangeFault),
    /// The body comes in chunks, its length unsaid.
    NoLength,
    /// 302 to this address; `{url}` in it stands for the server's own.
    Redirect(String),
    /// No answer, the connection stays open; the request has no effect.
    Hang,
}

impl Act {
    /// An answer with that status and the error body of a real server.
    pub fn error(status: u16) -> Act {
        let body = br#"{"error":"the test says so","request_id":"0"}"#.to_vec();
        Act::Respond { status, headers: Vec::new(), body }
    }
}

/// In which way a 206 is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeFault {
    /// The range starts so many bytes later (or earlier), and its header says so.
    Shifted(i64),
    /// The header claims this total.
    Total(u64),
    /// The header gives the total as `*`.
    UnknownTotal,
    /// There is no `Content-Range`.
    NoHeader,
    /// The `ETag` is another one, as after the file was replaced.
    OtherEtag,
}

/// The rules that are still alive, in the order they were given.
#[derive(Default)]
pub(super) struct Rules(Vec<Rule>);

impl Rules {
    pub(super) fn add(&mut self, rule: Rule) {
        self.0.push(rule);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The first rule that hits this request; a rule that only lets it pass hides no other.
    pub(super) fn choose(&mut self, kind: What, status: Option<&str>) -> Option<Act> {
        for rule in &mut self.0 {
            let about = match rule.on {
                What::Any => true,
                What::StatusOf(wanted) => kind == What::Status && status == Some(wanted),
                on => on == kind,
            };
            if !about || rule.times == 0 {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            if rule.times != usize::MAX {
                rule.times -= 1;
            }
            return Some(rule.act.clone());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_skip_count_and_end() {
        let mut rules = Rules::default();
        rules.add(Rule { on: What::Next, skip: 1, times: 2, act: Act::Hang });
        rules.add(Rule {
            on: What::StatusOf("success"),
            skip: 0,
            times: usize::MAX,
            act: Act::DropConnection,
        });
        let hits: Vec<bool> = (0..4).map(|_| rules.choose(What::Next, None).is_some()).collect();
        assert_eq!(hits, [false, true, true, false]);
        assert_eq!(rules.choose(What::Status, Some("failure")), None);
        for _ in 0..3 {
            assert_eq!(rules.choose(What::Status, Some("success")), Some(Act::DropConnection));
        }
    }
}
