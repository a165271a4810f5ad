//! The other processes that share the tasks: what this one writes for them, and what it reads of them.

pub(super) mod keeper;
pub(super) mod lost;
mod view;

pub(super) use self::view::View;
