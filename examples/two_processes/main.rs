//! Two processes, one view: what one of them runs, the other lists and stops, and tells of when the first one dies.
//!
//! Run with: `cargo run --features full --example two_processes`
//!
//! It starts a `redis-server` of its own, or uses the one of `-- --redis redis://127.0.0.1:6379`. The two processes are
//! two of `agent_service`.

#[path = "../agent_service/bash.rs"]
mod bash;
mod child;
#[path = "../agent_service/document.rs"]
mod document;
#[path = "../agent_service/error.rs"]
mod error;
#[path = "../agent_service/hosts.rs"]
mod hosts;
#[path = "../agent_service/place.rs"]
mod place;
#[path = "../agent_service/problem.rs"]
mod problem;
#[path = "../agent_service/routes.rs"]
mod routes;
#[path = "../agent_service/serve.rs"]
mod serve;
#[path = "../agent_service/sessions.rs"]
mod sessions;
#[path = "../agent_service/signals.rs"]
mod signals;
#[path = "../agent_service/supervisor.rs"]
mod supervisor;
#[path = "../agent_service/tools.rs"]
mod tools;
#[path = "../agent_service/users.rs"]
mod users;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use serde_json::{Value, json};

use self::child::{Server, Service};

/// For how long a process may be silent before the other one takes it for dead.
const LEASE_SECS: &str = "3";

/// Shows what two processes on one Redis are to each other.
#[derive(Debug, Parser)]
struct Arguments {
    /// The Redis to use; without it one is started
    #[arg(long, value_name = "URL")]
    redis: Option<String>,

    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Be one of the two processes
    #[command(hide = true)]
    Serve {
        #[command(flatten)]
        options: serve::Options,
    },
}

fn main() -> ExitCode {
    supervisor::run_if_asked().unwrap_or_else(run)
}

#[tokio::main]
async fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.role {
        Some(Role::Serve { options }) => serve::serve(options).await.map_err(Into::into),
        None => show(arguments.redis).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn show(redis: Option<String>) -> Result<(), Box<dyn Error>> {
    let (_server, url) = match redis {
        Some(url) => {
            // Not the URL: there may be a password in it.
            println!("server:  the one that was named");
            (None, url)
        }
        None => {
            let server = Server::start().await?;
            println!("server:  {} (started for this)", server.url());
            let url = server.url();
            (Some(server), url)
        }
    };
    let first = Service::start("first", &url, LEASE_SECS).await?;
    let second = Service::start("second", &url, LEASE_SECS).await?;

    println!("\n# A slow call on the first process moves to the background, and the second one shows it.");
    let task = first.call("Bash", &json!({"command": "sleep 60; echo never"})).await?;
    let seen = second.until(&task, |_| true).await?;
    println!("second:  {} is {}, {}", seen["task_id"], seen["status"], seen["summary"]);

    println!("\n# The second process stops it.");
    let answer = second.tool("ToolStop", &json!({ "task_id": task })).await?;
    println!("second:  {}", answer["content"][0]["text"]);
    let seen = second.until(&task, |task| task["status"] != "running").await?;
    println!("second:  {} is {}", seen["task_id"], seen["status"]);

    println!("\n# A result of the first process is in the inbox wherever it is looked for.");
    let task = first.call("Bash", &json!({"command": "sleep 1; echo done"})).await?;
    second.until(&task, |task| task["status"] != "running").await?;
    let hints = second.hints().await?;
    println!("second:  {}", words(&hints[0]));

    println!(
        "\n# The first process is killed. Within its lease of {LEASE_SECS} s the second one tells that its task is lost."
    );
    // Nothing that it has started outlives it, as a command would.
    let task = first.call("Sleep", &json!({"seconds": 60})).await?;
    second.until(&task, |_| true).await?;
    let killed = Instant::now();
    first.kill().await?;
    let seen = second.until(&task, |task| task["status"] != "running").await?;
    println!(
        "second:  after {:.1} s {} is {}, {}: {}",
        killed.elapsed().as_secs_f64(),
        seen["task_id"],
        seen["status"],
        seen["failure_reason"],
        seen["error_summary"]
    );
    let hints = second.hints().await?;
    println!("second:  {}", words(&hints[0]));

    println!("\n# All of it, in the order in which it moved to the background.");
    let list = second.get("/background-tasks").await?;
    for task in list["tasks"].as_array().into_iter().flatten() {
        let [id, status, summary] = ["task_id", "status", "summary"].map(|name| text(&task[name]));
        println!("second:  {id}  {status:<9}  {summary}");
    }
    second.end().await?;
    Ok(())
}

/// What a hint says: blocks, of which the first is text here, or one text.
fn words(hint: &Value) -> &Value {
    match &hint["hint"] {
        Value::Array(blocks) => &blocks[0]["text"],
        text => text,
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
