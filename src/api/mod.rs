//! The axum router of the two endpoints, and its OpenAPI document.
