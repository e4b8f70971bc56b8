//! One update control map: its words, its JSON form, and every way in which that can be wrong. Pure.

use miniserde::json::{Number, Object, Value};
use std::fmt;

/// A place in an update where maps are asked (K4, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Point {
    /// The payload is stored; ArtifactInstall is next.
    Install,
    /// Installed; a restart is needed and next.
    Reboot,
    /// Installed, and verified if there was a restart; ArtifactCommit is next.
    Commit,
}

impl Point {
    /// All of them, in the order of an update.
    pub const ALL: [Point; 3] = [Point::Install, Point::Reboot, Point::Commit];

    /// Its name in a map (K4).
    pub fn word(self) -> &'static str {
        match self {
            Point::Install => "ArtifactInstall_Enter",
            Point::Reboot => "ArtifactReboot_Enter",
            Point::Commit => "ArtifactCommit_Enter",
        }
    }

    /// The point of that name; case matters (K1).
    pub fn from_word(word: &str) -> Option<Point> {
        Point::ALL.into_iter().find(|p| p.word() == word)
    }

    /// The word of the command line and of the console.
    pub fn spoken(self) -> &'static str {
        match self {
            Point::Install => "install",
            Point::Reboot => "reboot",
            Point::Commit => "commit",
        }
    }

    /// The status that the server is told while an update is paused here (section 5, K40).
    pub fn pause_status(self) -> &'static str {
        match self {
            Point::Install => "pause_before_installing",
            Point::Reboot => "pause_before_rebooting",
            Point::Commit => "pause_before_committing",
        }
    }
}

/// What a map says at a point while it is alive (K5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Nothing against it; maps of lower priority may still object (K23).
    Continue,
    /// Go on, whatever maps of lower priority say (K23).
    ForceContinue,
    /// Wait here.
    Pause,
    /// Give the update up.
    Fail,
}

impl Action {
    /// All of them, the strongest of a priority last (K23).
    pub const ALL: [Action; 4] = [Action::Continue, Action::ForceContinue, Action::Pause, Action::Fail];

    /// The word in a map.
    pub fn word(self) -> &'static str {
        match self {
            Action::Continue => "continue",
            Action::ForceContinue => "force_continue",
            Action::Pause => "pause",
            Action::Fail => "fail",
        }
    }

    /// The word of the command line, of log and console.
    pub fn spoken(self) -> &'static str {
        match self {
            Action::ForceContinue => "force-continue",
            Action::Continue | Action::Pause | Action::Fail => self.word(),
        }
    }

    /// The action of that word; case matters (K1).
    pub fn from_word(word: &str) -> Option<Action> {
        Action::ALL.into_iter().find(|a| a.word() == word)
    }
}

/// What a map says once it has expired: never `pause`, which could last for ever (K5, K22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExpireAction {
    /// As [`Action::Continue`].
    Continue,
    /// As [`Action::ForceContinue`].
    ForceContinue,
    /// As [`Action::Fail`].
    Fail,
}

impl ExpireAction {
    /// All of them.
    pub const ALL: [ExpireAction; 3] =
        [ExpireAction::Continue, ExpireAction::ForceContinue, ExpireAction::Fail];

    /// The word in a map.
    pub fn word(self) -> &'static str {
        Action::from(self).word()
    }

    /// The action of that word; case matters (K1).
    pub fn from_word(word: &str) -> Option<ExpireAction> {
        ExpireAction::ALL.into_iter().find(|a| a.word() == word)
    }
}

impl From<ExpireAction> for Action {
    fn from(action: ExpireAction) -> Action {
        match action {
            ExpireAction::Continue => Action::Continue,
            ExpireAction::ForceContinue => Action::ForceContinue,
            ExpireAction::Fail => Action::Fail,
        }
    }
}

/// What a map says at one point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateRule {
    /// While the map is alive.
    pub action: Action,
    /// Once it has expired (K22).
    pub on_map_expire: ExpireAction,
    /// Takes the place of `action` after one decision (K24).
    pub on_action_executed: Action,
}

impl StateRule {
    /// The rule that changes nothing; maps are kept without it (K7).
    pub const DEFAULT: StateRule = StateRule {
        action: Action::Continue,
        on_map_expire: ExpireAction::Continue,
        on_action_executed: Action::Continue,
    };

    /// A rule from what is given of it (K6).
    pub fn new(
        action: Option<Action>,
        on_map_expire: Option<ExpireAction>,
        on_action_executed: Option<Action>,
    ) -> StateRule {
        let action = action.unwrap_or(Action::Continue);
        let expired = match action {
            Action::Continue => ExpireAction::Continue,
            Action::ForceContinue => ExpireAction::ForceContinue,
            // A pause that nobody renews must not end in an update that nobody has allowed.
            Action::Pause | Action::Fail => ExpireAction::Fail,
        };
        StateRule {
            action,
            on_map_expire: on_map_expire.unwrap_or(expired),
            on_action_executed: on_action_executed.unwrap_or(action),
        }
    }
}

/// Why a map is refused: which member, what was found, what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapError {
    /// Where in the map, member by member as spelled there; empty: the map itself.
    pub path: Vec<String>,
    /// What was found there, in words, of bounded length.
    pub found: String,
    /// What is allowed there.
    pub allowed: &'static str,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("update control map: ")?;
        if self.path.is_empty() {
            f.write_str("it")?;
        }
        for (n, member) in self.path.iter().enumerate() {
            write!(f, "{}{}", if n > 0 { "." } else { "" }, shortened(member))?;
        }
        write!(f, " is {}; allowed: {}", self.found, self.allowed)
    }
}

impl std::error::Error for MapError {}

const TOP: [&str; 3] = ["id", "priority", "states"];
const RULE: [&str; 3] = ["action", "on_map_expire", "on_action_executed"];
const UUID: &str = "a UUID of 36 characters: 8-4-4-4-12 hexadecimal digits";
const POINTS: &str = "ArtifactInstall_Enter, ArtifactReboot_Enter, ArtifactCommit_Enter";
const ACTIONS: &str = "continue, force_continue, pause, fail";
const EXPIRE_ACTIONS: &str = "continue, force_continue, fail";

/// A valid map without times. Its identity is (id, priority) (K9).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ControlMap {
    id: String,
    priority: i8,
    rules: [Option<StateRule>; 3],
}

impl ControlMap {
    /// Reads a map; `None` is the JSON `null`, no map (K8). Members that are `null` count as not given, as in the
    /// official client.
    ///
    /// # Errors
    /// The first thing that is wrong (K1-K5, SA-75). One mistake refuses the whole map.
    pub fn parse(value: &Value) -> Result<Option<ControlMap>, MapError> {
        if matches!(value, Value::Null) {
            return Ok(None);
        }
        let [id, priority, states] =
            members(value, &[], TOP, "an object of id, priority, states", "id, priority, states")?;
        let mut map = ControlMap { id: uuid(id)?, priority: self::priority(priority)?, rules: [None; 3] };
        let Some((name, states)) = states else { return Ok(Some(map)) };
        let Value::Object(states) = states else {
            return Err(wrong(&[name], describe(states), "an object of control points"));
        };
        for (word, value) in states {
            let Some(point) = Point::from_word(word) else {
                return Err(wrong(&[name, word], "an unknown control point".into(), POINTS));
            };
            let rule = rule(value, &[name, word])?;
            map.rules[point as usize] = Some(rule).filter(|r| *r != StateRule::DEFAULT);
        }
        Ok(Some(map))
    }

    /// Its JSON form: [`ControlMap::parse`] reads it back.
    pub fn to_value(&self) -> Value {
        let text = |word: &str| Value::String(word.into());
        let states = self.rules().map(|(point, rule)| {
            let words = [rule.action.word(), rule.on_map_expire.word(), rule.on_action_executed.word()];
            let rule: Object = RULE.into_iter().map(String::from).zip(words.map(text)).collect();
            (point.word().to_owned(), Value::Object(rule))
        });
        let values = [
            text(&self.id),
            Value::Number(Number::I64(self.priority.into())),
            Value::Object(states.collect()),
        ];
        Value::Object(TOP.into_iter().map(String::from).zip(values).collect())
    }

    /// Its ID: for a map of the server that of the deployment (K13), else any UUID (K25). Compared to the letter.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// -10 to 10; the higher is asked first (K3).
    pub fn priority(&self) -> i8 {
        self.priority
    }

    /// What it says at a point; `None`: nothing.
    pub fn rule(&self, point: Point) -> Option<StateRule> {
        self.rules[point as usize]
    }

    /// All that it says, in the order of an update.
    pub fn rules(&self) -> impl Iterator<Item = (Point, StateRule)> + '_ {
        Point::ALL.into_iter().filter_map(|point| Some((point, self.rule(point)?)))
    }

    /// It says nothing: set locally it deletes the map of that identity (K10).
    pub fn is_empty(&self) -> bool {
        self.rules == [None; 3]
    }

    /// Another map of the same identity (K9).
    pub fn same_as(&self, other: &ControlMap) -> bool {
        self.id == other.id && self.priority == other.priority
    }

    /// A decision was taken at that point (K24).
    pub(super) fn executed(&mut self, point: Point) {
        if let Some(rule) = &mut self.rules[point as usize] {
            rule.action = rule.on_action_executed;
        }
    }
}

/// A member that is given, with its name as it is spelled.
type Member<'a> = Option<(&'a str, &'a Value)>;

/// The members of an object by their names, which match in any case; anything else in it is an error (K1).
fn members<'a, const N: usize>(
    value: &'a Value,
    path: &[&str],
    names: [&str; N],
    kind: &'static str,
    allowed: &'static str,
) -> Result<[Member<'a>; N], MapError> {
    let Value::Object(object) = value else { return Err(wrong(path, describe(value), kind)) };
    let mut found: [Member; N] = [None; N];
    let mut given = [false; N];
    for (key, value) in object {
        let inner: Vec<&str> = path.iter().copied().chain([key.as_str()]).collect();
        let Some(n) = names.iter().position(|name| name.eq_ignore_ascii_case(key)) else {
            return Err(wrong(&inner, "an unknown member".into(), allowed));
        };
        if given[n] {
            // Which of them came last is no longer known: refuse, never guess.
            return Err(wrong(&inner, "given twice, in different spellings".into(), allowed));
        }
        given[n] = true;
        found[n] = (!matches!(value, Value::Null)).then_some((key.as_str(), value));
    }
    Ok(found)
}

fn rule(value: &Value, path: &[&str]) -> Result<StateRule, MapError> {
    if matches!(value, Value::Null) {
        return Ok(StateRule::DEFAULT);
    }
    let listed = "action, on_map_expire, on_action_executed";
    let [action, expire, executed] =
        members(value, path, RULE, "an object of action, on_map_expire, on_action_executed", listed)?;
    Ok(StateRule::new(
        word(action, path, Action::from_word, ACTIONS)?,
        word(expire, path, ExpireAction::from_word, EXPIRE_ACTIONS)?,
        word(executed, path, Action::from_word, ACTIONS)?,
    ))
}

fn word<T>(
    member: Member<'_>,
    path: &[&str],
    from: impl Fn(&str) -> Option<T>,
    allowed: &'static str,
) -> Result<Option<T>, MapError> {
    let Some((name, value)) = member else { return Ok(None) };
    let wrong = || {
        let inner: Vec<&str> = path.iter().copied().chain([name]).collect();
        wrong(&inner, describe(value), allowed)
    };
    match value {
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => from(text).map(Some).ok_or_else(wrong),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Err(wrong()),
    }
}

fn uuid(member: Member<'_>) -> Result<String, MapError> {
    let Some((name, value)) = member else { return Err(wrong(&["id"], "missing".into(), UUID)) };
    let well_formed = |text: &str| {
        text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            })
    };
    match value {
        Value::String(text) if well_formed(text) => Ok(text.clone()),
        Value::String(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Array(_)
        | Value::Object(_) => Err(wrong(&[name], describe(value), UUID)),
    }
}

fn priority(member: Member<'_>) -> Result<i8, MapError> {
    let Some((name, value)) = member else { return Ok(0) };
    let number = match value {
        Value::Number(Number::I64(n)) => i8::try_from(*n).ok(),
        Value::Number(Number::U64(n)) => i8::try_from(*n).ok(),
        Value::Number(Number::F64(_))
        | Value::Null
        | Value::Bool(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => None,
    };
    let allowed = "a whole number from -10 to 10";
    number.filter(|n| (-10..=10).contains(n)).ok_or_else(|| wrong(&[name], describe(value), allowed))
}

pub(super) fn wrong(path: &[&str], found: String, allowed: &'static str) -> MapError {
    MapError { path: path.iter().map(|member| (*member).to_owned()).collect(), found, allowed }
}

/// A value in words for an error message, of bounded length.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(text) => format!("\"{}\"", shortened(text)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}

/// At most 60 characters, those that do not print escaped.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}
