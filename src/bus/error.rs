use std::error::Error;
use std::fmt;
use std::future::Future;

use crate::panics;
use crate::task::logged;

/// A bus could not do what it was asked.
///
/// What went wrong is in [`Error::source`]. Trying again may help: losing the bus never costs a task or its
/// result, so that callers in this crate log it and retry.
#[derive(Debug)]
pub struct BusError {
    operation: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

impl BusError {
    /// `operation` is a short phrase that completes "could not ...".
    pub fn new(operation: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { operation, source: source.into() }
    }
}

/// Awaits a call of a bus, which is user code. A panic becomes an error, so that the caller tries again as after any other
/// error.
pub(crate) async fn caught<T>(
    operation: &'static str,
    call: impl Future<Output = Result<T, BusError>>,
) -> Result<T, BusError> {
    panics::caught(call).await.unwrap_or_else(|message| {
        Err(BusError::new(operation, format!("the bus panicked: {}", logged(message))))
    })
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message bus: could not {}", self.operation)
    }
}

impl Error for BusError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_ref())
    }
}
