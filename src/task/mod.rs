//! The data of a task, without I/O and without a runtime.
//!
//! A [`TaskRecord`] is a snapshot of one call that moved to the background: its [`TaskId`], its [`TaskMeta`] (what was
//! called and by whom), its [`TaskStatus`] and its times. [`BackgroundTaskInfo`] is a record in a REST body.
//! [`summarize`] makes one line about a call for people, and [`redact`] removes secrets from texts.

mod clock;
mod id;
mod info;
mod line;
mod meta;
mod outcome;
mod reason;
mod record;
mod redact;
mod result;
mod scope;
mod status;
mod summary;
mod texts;

pub(crate) use self::clock::now;
pub use self::id::{ParseTaskIdError, TaskId};
#[cfg(feature = "api")]
pub(crate) use self::info::rfc3339;
pub use self::info::{BackgroundTaskInfo, ListBackgroundTasksResponse};
pub(crate) use self::line::{logged, rendered};
#[cfg(any(feature = "http", feature = "tool", feature = "redis"))]
pub(crate) use self::meta::Parts;
pub use self::meta::TaskMeta;
pub use self::outcome::{IntoOutcome, Outcome};
pub use self::reason::{FailureReason, OtherReason};
pub use self::record::TaskRecord;
pub(crate) use self::redact::MARK;
pub use self::redact::redact;
pub use self::result::{Settlement, TaskResult};
pub use self::scope::Scope;
pub use self::status::TaskStatus;
pub use self::summary::{summarize, summarize_with};
