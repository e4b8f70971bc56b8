//! One error for the whole program: a stable code to search for and a text for the engineer at the console.

use std::fmt;

/// What failed. The code is stable (scripts and documentation name it); the text may improve.
///
/// The text says who was doing what, to which thing, why it failed and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Stable, upper case, words joined by `-`: `BOOT-ENV-READ`.
    pub code: &'static str,
    /// For people.
    pub text: String,
}

/// The result of everything that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A new error with its code.
    pub fn new(code: &'static str, text: impl Into<String>) -> Error {
        Error { code, text: text.into() }
    }

    /// The same code, with what was being done put in front of the text.
    pub fn during(self, what: impl fmt::Display) -> Error {
        Error { code: self.code, text: format!("{what}: {}", self.text) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

impl std::error::Error for Error {}

/// Turns an I/O error into ours, with the thing that it happened to.
pub trait Context<T> {
    /// `text` says what was being done, to which path.
    fn context(self, code: &'static str, text: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, code: &'static str, text: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::new(code, format!("{}: {e}", text())))
    }
}
