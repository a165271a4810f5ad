//! The service as a whole: from its arguments to its end.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tower_offload::bus::{MemoryBus, SharedBus, Wakeups};
use tower_offload::http::Caller;
use tower_offload::{CancelDispatcher, RedisBus, TaskManager};

use crate::bash::Commands;
use crate::hosts::{self, Host};
use crate::routes;
use crate::signals::Signals;

/// How long to try to give back wakeups at the end.
const PUT_BACK: Duration = Duration::from_secs(2);

/// What the service can be told.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8000", value_name = "ADDRESS")]
    listen: SocketAddr,

    /// How many seconds a tool call may take before it moves to the background; fractions allowed
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = seconds)]
    timeout_secs: Duration,

    /// Who may use the service; without it everybody with a name may
    #[arg(long, value_delimiter = ',', value_name = "USER,USER", value_parser = user)]
    users: Vec<String>,

    /// A host that requests may name besides localhost, loopback addresses and the address to listen on; can be
    /// repeated
    #[arg(long, value_name = "NAME", value_parser = hosts::allowed_host)]
    allow_host: Vec<Host>,

    /// How many finished tasks of each user are kept
    #[arg(long, default_value = "50", value_name = "TASKS")]
    max_retained: u32,

    /// How many seconds running tasks and calls may take to end at a shutdown; fractions allowed
    #[arg(long, default_value = "2", value_name = "SECONDS", value_parser = seconds)]
    shutdown_secs: Duration,

    /// How many seconds a command that is stopped has from SIGTERM to SIGKILL: 0 to 86400, fractions allowed
    #[arg(long, default_value = "2", value_name = "SECONDS", value_parser = grace)]
    grace_secs: Duration,

    /// The Redis that this process shares its tasks over, such as redis://127.0.0.1:6379; without it there is only this
    /// process
    #[arg(long, value_name = "URL")]
    redis: Option<String>,

    /// What the names of keys on the Redis begin with
    #[arg(long, default_value = "agentscope", value_name = "PREFIX")]
    redis_prefix: String,

    /// After how many seconds of silence the other processes take this one for dead: 0.1 to 300, fractions allowed
    #[arg(long, default_value = "15", value_name = "SECONDS", value_parser = lease)]
    lease_secs: Duration,

    /// Take the wakeups of sessions off the bus, and print each. Without it they wait for somebody who runs sessions
    #[arg(long)]
    consume_wakeups: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a number of seconds from 0 on".to_owned())
}

fn grace(text: &str) -> Result<Duration, String> {
    let grace = seconds(text)?;
    if grace <= Duration::from_secs(86_400) {
        Ok(grace)
    } else {
        Err("not a number of seconds from 0 to 86400".to_owned())
    }
}

fn lease(text: &str) -> Result<Duration, String> {
    let limits = Duration::from_millis(100)..=Duration::from_secs(300);
    let lease = seconds(text)?;
    if limits.contains(&lease) {
        Ok(lease)
    } else {
        Err("not a number of seconds from 0.1 to 300".to_owned())
    }
}

fn user(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("a user has a name".to_owned()),
        name if name.len() > Caller::MAX_BYTES => Err("the name is too long".to_owned()),
        name => Ok(name.to_owned()),
    }
}

impl Options {
    fn bus(&self) -> std::io::Result<SharedBus> {
        let Some(url) = &self.redis else { return Ok(Arc::new(MemoryBus::new())) };
        // A server that is down now will be there later.
        let bus = RedisBus::builder(url).prefix(&*self.redis_prefix).build();
        Ok(Arc::new(bus.map_err(|error| {
            let reason = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            std::io::Error::other(format!("{error}: {reason}"))
        })?))
    }
}

/// Serves until it is told to stop.
pub(crate) async fn serve(options: Options) -> std::io::Result<()> {
    let bus = options.bus()?;
    let commands = Commands::new(options.grace_secs);
    let manager = TaskManager::builder()
        .max_retained_per_user(options.max_retained)
        .lease(options.lease_secs)
        .cancel_grace(commands.stop_time())
        .bus(Arc::clone(&bus))
        .build();
    let _cancels = CancelDispatcher::builder(&manager).start_in_background();
    // Before the first line is printed: its reader may send a signal at once.
    let mut signals = Signals::listen()?;
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", options.listen)))?;
    let address = listener.local_addr()?;
    say(&greeting(address));
    let (enough, ended) = oneshot::channel::<()>();
    let wakeups = options.consume_wakeups.then(|| tokio::spawn(print(Wakeups::start(bus), ended)));

    let app = routes::app(&manager, commands.clone(), options.timeout_secs, options.users);
    let mut allowed = options.allow_host;
    // An address that stands for all addresses is no host that a request could name.
    allowed.extend((!address.ip().is_unspecified()).then(|| Host::Address(address.ip().to_canonical())));
    let app = hosts::only(allowed, app);
    let (closing, closed) = oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async {
        let _ = closed.await;
    });
    let mut server = tokio::spawn(server.into_future());
    signals.next().await;
    tokio::spawn(async move {
        // Who asks again does not want to wait. The supervisors end the commands.
        let signal = signals.next().await;
        std::process::exit(128 + signal as i32);
    });

    // No new connections; calls that are under way have the same time as the tasks, and then go.
    let _ = closing.send(());
    let calls = tokio::time::timeout(options.shutdown_secs, &mut server);
    let (report, calls) = tokio::join!(manager.shutdown(options.shutdown_secs), calls);
    if calls.is_err() {
        server.abort();
        let _ = server.await;
    }
    commands.stop_all().await;
    let _ = enough.send(());
    if let Some(wakeups) = wakeups {
        let _ = wakeups.await;
    }
    say(&format!("shut down: {report}\n"));
    Ok(())
}

/// Where a host would run the sessions, it prints them, until it is told to end or its sender is gone.
async fn print(mut wakeups: Wakeups, mut ended: oneshot::Receiver<()>) {
    loop {
        let wakeup = tokio::select! {
            _ = &mut ended => break,
            wakeup = wakeups.recv() => wakeup,
        };
        let Some(wakeup) = wakeup else { break };
        let wakeup = serde_json::to_string(&wakeup).unwrap_or_default();
        say(&format!("wakeup: {wakeup}\n"));
    }
    // What was taken and not printed is for those who are left.
    match tokio::time::timeout(PUT_BACK, wakeups.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "wakeups were not put back"),
        Err(_) => tracing::warn!("wakeups may not be put back"),
    }
}

fn greeting(address: SocketAddr) -> String {
    let reachable = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let url = format!("http://{}", SocketAddr::new(reachable, address.port()));
    format!(
        "listening on http://{address}\n\
         Swagger UI: {url}/swagger-ui/\n\
         document:   {url}/api-docs/openapi.json\n\
         try:        curl -H 'X-User-ID: alice' --json '{{\"command\": \"sleep 30; echo done\"}}' \
         {url}/sessions/s1/tools/Bash\n\
         then:       curl -H 'X-User-ID: alice' {url}/background-tasks\n"
    )
}

/// Prints, and goes on if standard output is closed.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
