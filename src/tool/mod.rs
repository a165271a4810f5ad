//! Tool calls of an agent and their responses.

mod call;
mod content;
mod response;

pub use self::call::ToolCall;
pub use self::content::{ContentBlock, DataSource};
pub use self::response::{ToolResponse, ToolState};
