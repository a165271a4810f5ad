//! An agent's tools behind HTTP: a tool call that takes too long moves to the background, its owner watches it, and
//! the agent gets the result in its inbox.
//!
//! Run with: `cargo run --features full --example agent_service`

mod bash;
mod error;
mod routes;
mod tools;

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tower_offload::TaskManager;
use tower_offload::api::UserIdHeader;
use tracing_subscriber::EnvFilter;

/// An agent's tools behind HTTP. `Bash` runs what it is sent: leave it on the loopback address.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8000", value_name = "ADDRESS")]
    listen: SocketAddr,

    /// How many seconds a tool call may take before it moves to the background; fractions allowed
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = seconds)]
    timeout_secs: Duration,

    /// Who may use the service; without it everybody with a name may
    #[arg(long, value_delimiter = ',', value_name = "USER,USER", value_parser = user)]
    users: Vec<String>,

    /// How many finished tasks of each user are kept
    #[arg(long, default_value = "50", value_name = "TASKS")]
    max_retained: u32,

    /// How many seconds running tasks and calls may take to end at a shutdown; fractions allowed
    #[arg(long, default_value = "2", value_name = "SECONDS", value_parser = seconds)]
    shutdown_secs: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a number of seconds from 0 on".to_owned())
}

fn user(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("a user has a name".to_owned()),
        name if name.len() > UserIdHeader::MAX_BYTES => Err("the name is too long".to_owned()),
        name => Ok(name.to_owned()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match serve(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> std::io::Result<()> {
    let manager = TaskManager::builder().max_retained_per_user(args.max_retained).build();
    let stop = {
        // Before the first line is printed: whoever reads it may send a signal at once.
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
    };
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", args.listen)))?;
    say(&greeting(listener.local_addr()?));

    let app = routes::app(&manager, args.timeout_secs, args.users);
    let (closing, closed) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async {
        let _ = closed.await;
    });
    let mut server = tokio::spawn(server.into_future());
    stop.await;

    // No new connections; calls that are under way have the same time as the tasks, and then go.
    let _ = closing.send(());
    let calls = tokio::time::timeout(args.shutdown_secs, &mut server);
    let (report, calls) = tokio::join!(manager.shutdown(args.shutdown_secs), calls);
    if calls.is_err() {
        server.abort();
        let _ = server.await;
    }
    say(&format!("shut down: {report}\n"));
    Ok(())
}

fn greeting(address: SocketAddr) -> String {
    let url = format!("http://{address}");
    format!(
        "listening on {url}\n\
         Swagger UI: {url}/swagger-ui/\n\
         document:   {url}/api-docs/openapi.json\n\
         try:        curl -H 'X-User-ID: alice' --json '{{\"command\": \"sleep 30; echo done\"}}' \
         {url}/sessions/s1/tools/Bash\n\
         then:       curl -H 'X-User-ID: alice' {url}/background-tasks\n"
    )
}

/// Whoever started this may not be reading any more; that is no reason to stop.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
