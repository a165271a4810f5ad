//! Hooks for [`http::Request`] and [`http::Response`].

mod call;
mod caller;
mod classify;
mod describe;
mod head;
mod prefer;
mod respond;

pub use self::call::HttpCall;
pub use self::caller::Caller;
pub use self::classify::ClassifyStatus;
pub use self::describe::DescribeRequest;
pub use self::head::RequestHead;
pub use self::prefer::prefer_wait;
pub use self::respond::{IntoBody, MakeBody, RespondAccepted};
