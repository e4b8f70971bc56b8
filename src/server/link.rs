//! What a download knows about its way to the file: the link, fresh links (SA-71), and how often to try.

use super::{Fault, Kind, pause, url};
use std::time::Duration;

/// After a fresh link was asked for, how many tries must fail before another is asked for.
const TRIES_PER_LINK: u32 = 5;

/// Asks for a fresh link to the same file, when the old one has expired (SA-71). `None`: there is none any more.
pub type Refresh = Box<dyn FnMut() -> Result<Option<String>, Fault>>;

/// Where the file is, and who knows when it has moved.
pub(super) struct Link {
    pub uri: String,
    refresh: Option<Refresh>,
    /// Number of the try from which on it may be asked (again).
    from_try: u32,
    /// The last question was not answered.
    owed: bool,
}

/// What came of asking for a fresh link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// There is one: use it at once.
    Fresh,
    /// Not now, but after some more tries.
    Later,
    /// The fault has nothing to do with the link, or nobody can help.
    Useless,
}

impl Link {
    pub(super) fn new(uri: &str, refresh: Option<Refresh>) -> Result<Link, Fault> {
        check(uri)?;
        Ok(Link { uri: uri.to_owned(), refresh, from_try: 0, owed: false })
    }

    /// Asks for a fresh link if this one has expired and it is time to ask; `tries` have been made.
    pub(super) fn renew(&mut self, fault: &Fault, tries: u32) -> Result<Renewal, Fault> {
        let Some(refresh) = self.refresh.as_mut().filter(|_| may_have_expired(fault.kind)) else {
            return Ok(Renewal::Useless);
        };
        if tries < self.from_try {
            return Ok(if self.owed { Renewal::Later } else { Renewal::Useless });
        }
        self.from_try = tries + TRIES_PER_LINK;
        log::info!("{fault}; asking the server for a fresh link");
        self.owed = false;
        match refresh() {
            Ok(Some(uri)) => {
                check(&uri)?;
                self.uri = uri;
                Ok(Renewal::Fresh)
            }
            Ok(None) => {
                let text = format!("{} and the server gives no fresh link for it", fault.error.text);
                Err(Fault::new(fault.kind, "DOWNLOAD-EXPIRED", text))
            }
            Err(fault) if matches!(fault.kind, Kind::Interrupted | Kind::Conflict) => Err(fault),
            Err(fault) => {
                log::warn!("no fresh link: {fault}");
                self.owed = true;
                Ok(Renewal::Later)
            }
        }
    }
}

/// How storages refuse a link whose time has passed, or whose file has moved (SA-71).
fn may_have_expired(kind: Kind) -> bool {
    matches!(kind, Kind::Unauthorized | Kind::NotFound | Kind::Refused(403 | 410))
}

fn check(uri: &str) -> Result<(), Fault> {
    let wrong =
        |why| Fault::new(Kind::Protocol, "DOWNLOAD-URL", format!("the address of the Artifact {why}"));
    url::check(uri).map(|_| ()).map_err(wrong)
}

/// How often and how patiently a download is tried again; counted over the whole download (SA-70).
pub(super) struct Patience {
    left: u32,
    most: u32,
    interval: Duration,
    scale: f64,
}

impl Patience {
    pub(super) fn new(most: u32, interval: Duration, scale: f64) -> Patience {
        Patience { left: most, most, interval, scale }
    }

    /// How many more tries have been made.
    pub(super) fn tries(&self) -> u32 {
        self.most - self.left
    }

    /// Waits for the next try, or gives up with the reason.
    pub(super) fn next(&mut self, fault: Fault) -> Result<(), Fault> {
        if fault.kind == Kind::Interrupted {
            return Err(fault);
        }
        if self.left == 0 {
            let text = format!("{} (given up after {} more tries)", fault.error.text, self.most);
            return Err(Fault::new(fault.kind, "DOWNLOAD-LOST", text));
        }
        self.left -= 1;
        let wait = match fault.kind {
            Kind::Busy(Some(wait)) => wait,
            _ => self.interval,
        };
        let scaled = Duration::try_from_secs_f64(wait.as_secs_f64() * self.scale).unwrap_or(wait);
        let number = self.tries();
        log::warn!("{fault}; try {number} of {} in {} s", self.most, scaled.as_secs());
        pause(scaled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    type Answer = Result<Option<&'static str>, Kind>;

    fn link(answers: Vec<Answer>) -> (Link, Rc<RefCell<usize>>) {
        let asked = Rc::new(RefCell::new(0));
        let count = asked.clone();
        let mut answers = answers.into_iter();
        let refresh = move || {
            *count.borrow_mut() += 1;
            let answer = answers.next().expect("asked too often");
            answer.map(|uri| uri.map(str::to_owned)).map_err(|kind| Fault::new(kind, "X", "from the server"))
        };
        (Link::new("http://h/old", Some(Box::new(refresh))).expect("good"), asked)
    }

    fn expired() -> Fault {
        Fault::new(Kind::Refused(403), "X", "the storage answered 403")
    }

    #[test]
    fn only_answers_that_a_link_may_have_expired_lead_to_a_question() {
        for (kind, asks) in [
            (Kind::Unauthorized, true),
            (Kind::Refused(403), true),
            (Kind::NotFound, true),
            (Kind::Refused(410), true),
            (Kind::Refused(400), false),
            (Kind::Refused(500), false),
            (Kind::Busy(None), false),
            (Kind::Transport, false),
            (Kind::Protocol, false),
        ] {
            let (mut link, asked) = link(vec![Ok(Some("http://h/new"))]);
            let got = link.renew(&Fault::new(kind, "X", "x"), 0).expect("no error");
            assert_eq!(got, if asks { Renewal::Fresh } else { Renewal::Useless }, "{kind:?}");
            assert_eq!(*asked.borrow(), usize::from(asks), "{kind:?}");
            assert_eq!(link.uri, if asks { "http://h/new" } else { "http://h/old" });
        }
    }

    #[test]
    fn at_most_one_fresh_link_is_asked_for_in_five_tries() {
        let (mut link, asked) = link(vec![Ok(Some("http://h/1")), Ok(Some("http://h/2"))]);
        let all: Vec<Renewal> = (3..12).map(|n| link.renew(&expired(), n).expect("no error")).collect();
        let (fresh, none) = (Renewal::Fresh, Renewal::Useless);
        assert_eq!(all[..6], [fresh, none, none, none, none, fresh]);
        assert_eq!((*asked.borrow(), link.uri.as_str()), (2, "http://h/2"));
    }

    #[test]
    fn a_question_that_was_not_answered_is_owed_and_asked_again_later() {
        let (mut link, _) = link(vec![Err(Kind::Transport), Ok(Some("http://h/new"))]);
        for tries in 0..5 {
            assert_eq!(link.renew(&expired(), tries), Ok(Renewal::Later), "{tries}");
        }
        assert_eq!(link.renew(&expired(), 5), Ok(Renewal::Fresh));
        assert_eq!(link.renew(&expired(), 6), Ok(Renewal::Useless));
    }

    #[test]
    fn an_answer_that_settles_it_ends_the_download() {
        let (mut gone, _) = link(vec![Ok(None)]);
        let fault = gone.renew(&expired(), 0).expect_err("no link");
        assert_eq!((fault.kind, fault.error.code), (Kind::Refused(403), "DOWNLOAD-EXPIRED"));
        assert!(fault.error.text.contains("403") && fault.error.text.contains("no fresh link"), "{fault}");
        for kind in [Kind::Conflict, Kind::Interrupted] {
            let (mut link, _) = link(vec![Err(kind)]);
            assert_eq!(link.renew(&expired(), 0).expect_err("ended").kind, kind);
        }
        let (mut bad, _) = link(vec![Ok(Some("file:///etc/passwd"))]);
        assert_eq!(bad.renew(&expired(), 0).expect_err("no address").error.code, "DOWNLOAD-URL");
        let mut alone = Link::new("http://h/old", None).expect("good");
        assert_eq!(alone.renew(&expired(), 0), Ok(Renewal::Useless));
    }
}
