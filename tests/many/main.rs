//! Many processes that are one service: the real programs on one `redis-server`, over real sockets, stopped and killed
//! for real.

#[path = "../support/client.rs"]
mod client;
#[path = "../support/patience.rs"]
mod patience;
#[path = "../examples/program.rs"]
mod program;
#[path = "../support/redis_server.rs"]
mod redis_server;
mod service;

mod arguments;
mod crash;
mod delivery;
mod outage;
mod pause;
mod rolling;
mod stop;
mod two_processes;
mod view;
