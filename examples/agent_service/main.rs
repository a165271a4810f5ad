//! An agent's tools behind HTTP: a tool call that takes too long moves to the background, its owner watches it, and
//! the agent gets the result in its inbox.
//!
//! Run with: `cargo run --features full --example agent_service`
//!
//! Any number of them are one service when they share a Redis: add `-- --redis redis://127.0.0.1:6379`.

mod bash;
mod document;
mod error;
mod hosts;
mod place;
mod problem;
mod routes;
mod serve;
mod sessions;
mod signals;
mod supervisor;
mod tools;
mod users;

use std::io::Write;
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

fn main() -> ExitCode {
    supervisor::run_if_asked().unwrap_or_else(run)
}

#[tokio::main]
async fn run() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    // Its terminal may be closed: that must not be an error of its own.
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).log_internal_errors(false);
    log.with_env_filter(filter).init();
    match serve::serve(Arguments::parse().options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
