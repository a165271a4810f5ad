//! How long the tests wait for something that should happen.

use std::time::Duration;

/// The limit of every wait. It only makes a failure of a wait that would not end: a machine under heavy load needs a
/// fraction of it, and no test asks how much.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
