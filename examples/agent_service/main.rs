//! An agent's tools behind HTTP: a tool call that takes too long moves to the background, its owner watches it, and
//! the agent gets the result in its inbox.
//!
//! Run with: `cargo run --features full --example agent_service`
//!
//! Any number of them are one service when they share a Redis: add `-- --redis redis://127.0.0.1:6379`.

mod bash;
mod error;
mod routes;
mod serve;
mod sessions;
mod tools;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

/// An agent's tools behind HTTP. `Bash` runs what it is sent: leave it on the loopback address.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
struct Arguments {
    #[command(flatten)]
    options: serve::Options,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match serve::serve(Arguments::parse().options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
