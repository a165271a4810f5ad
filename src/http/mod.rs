//! Hooks for `http::Request` and `http::Response`.
