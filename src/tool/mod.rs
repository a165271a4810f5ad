//! Hooks for the tool calls of an agent.
