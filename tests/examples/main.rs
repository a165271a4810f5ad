//! The examples, run as a newcomer runs them: the real programs, over real sockets.
#![allow(dead_code, reason = "the modules of the example have parts that only its main function uses")]
#![cfg(all(feature = "http", feature = "tool", feature = "swagger-ui"))]

#[path = "../support/client.rs"]
mod client;
#[path = "../support/patience.rs"]
mod patience;

// The service of the example without its process, for tests that count.
#[path = "../../examples/agent_service/bash.rs"]
mod bash;
#[path = "../../examples/agent_service/document.rs"]
mod document;
#[path = "../../examples/agent_service/error.rs"]
mod error;
#[path = "../../examples/agent_service/place.rs"]
mod place;
#[path = "../../examples/agent_service/problem.rs"]
mod problem;
#[path = "../../examples/agent_service/routes.rs"]
mod routes;
#[path = "../../examples/agent_service/sessions.rs"]
mod sessions;
#[path = "../../examples/agent_service/signals.rs"]
mod signals;
#[path = "../../examples/agent_service/supervisor.rs"]
mod supervisor;
#[path = "../../examples/agent_service/tools.rs"]
mod tools;
#[path = "../../examples/agent_service/users.rs"]
mod users;

mod agent_service;
mod bad_input;
mod hosts;
mod inbox;
mod many_sessions;
mod openapi;
mod orphans;
mod others;
mod program;
mod shutdown;
