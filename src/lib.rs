//! A tower `Layer` with a timeout that hands a slow call to the background instead of throwing its work away.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod bus;
pub mod task;

#[doc(inline)]
pub use self::bus::{MemoryBus, MessageBus};
#[doc(inline)]
pub use self::task::{TaskId, TaskMeta, TaskRecord, TaskStatus, summarize};
