//! The instruments.

pub(crate) mod child;
pub(crate) mod process;
pub(crate) mod runtime;
pub(crate) mod syscalls;
pub(crate) mod valgrind;
