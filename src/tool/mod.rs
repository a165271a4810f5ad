//! Tool calls of an agent, their responses, and the tool that stops them.

mod call;
mod content;
mod response;
mod stop;

pub use self::call::ToolCall;
pub use self::content::{ContentBlock, DataSource};
pub use self::response::{ToolResponse, ToolState};
pub use self::stop::{ToolStop, ToolStopFuture};
