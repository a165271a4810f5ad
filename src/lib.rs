//! A tower `Layer` with a timeout that hands a slow call to the background instead of throwing its work away.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "api")]
#[cfg_attr(docsrs, doc(cfg(feature = "api")))]
pub mod api;
pub mod bus;
#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub mod http;
pub mod manager;
pub mod offload;
pub mod task;
#[cfg(feature = "tool")]
#[cfg_attr(docsrs, doc(cfg(feature = "tool")))]
pub mod tool;

#[doc(inline)]
pub use self::bus::{MemoryBus, MessageBus};
#[doc(inline)]
pub use self::manager::{CancelDispatcher, TaskManager, cancellation_token};
#[doc(inline)]
pub use self::offload::{Offload, OffloadLayer, ResponseFuture};
#[doc(inline)]
pub use self::task::{TaskId, TaskMeta, TaskRecord, TaskStatus, summarize};
