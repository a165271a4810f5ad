//! What is wrong with a tool call before it begins.

use std::fmt;

/// The call never began.
#[derive(Debug)]
pub(crate) enum CallError {
    UnknownTool,
    BadInput(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTool => f.write_str("there is no such tool"),
            Self::BadInput(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for CallError {}
