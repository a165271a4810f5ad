//! Counts for the `metrics` feature. Without it all of this is empty.
//!
//! A recorder is user code: nothing in here is called with a lock held, nor before the state that it tells of is safe. A
//! panic in it goes no further.

#[cfg(not(feature = "metrics"))]
mod nothing;
#[cfg(feature = "metrics")]
mod recorder;

#[cfg(not(feature = "metrics"))]
pub(crate) use self::nothing::{HandOver, describe, foreground, offloaded, refused, settled};
#[cfg(feature = "metrics")]
pub(crate) use self::recorder::{HandOver, describe, foreground, offloaded, refused, settled};
