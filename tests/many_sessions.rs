//! Very many sessions pass through one process, and then a new one: whatever clients leave behind, memory is bounded and
//! the new session gets its result.
//!
//! A process of its own, because it counts the bytes that are allocated. With `SESSIONS=1000000` it runs a million sessions
//! on a bus with its default limits. Fewer sessions get a bus with a hundredth of the room.

use std::alloc::System;
use std::sync::Arc;
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tower::util::BoxCloneSyncService;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_offload::bus::{Queue, keys};
use tower_offload::task::Scope;
use tower_offload::tool::{ToolCall, ToolResponse};
use tower_offload::{MemoryBus, OffloadLayer, TaskManager};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SESSIONS: usize = 40_000;
const MILLION: usize = 1_000_000;
/// The calls of one batch run at a time.
const BATCHES: usize = 1_000;
const TIMEOUT: Duration = Duration::from_secs(1);

/// What is allocated now, in bytes.
fn live() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

fn bus_for(sessions: usize) -> MemoryBus {
    if sessions >= MILLION {
        return MemoryBus::new();
    }
    let share = |room: usize| room / 100;
    MemoryBus::builder()
        .max_queue_entries(share(65_536))
        .max_stored_bytes(share(64 << 20))
        .max_registry_bytes(share(16 << 20))
        .remembered_deliveries(share(65_536))
        .build()
}

fn call(user: &str, session: String, tool: &str) -> ToolCall {
    ToolCall::new(tool, r#"{"of": "a session that is never seen again"}"#)
        .with_user(user)
        .with_session(session)
        .with_agent("agent")
}

/// `fast` answers at once, `slow` after the timeout.
async fn work(call: ToolCall) -> Result<ToolResponse, &'static str> {
    if call.name() == "slow" {
        tokio::time::sleep(TIMEOUT * 2).await;
    }
    Ok(ToolResponse::text(call.id().to_owned(), "x".repeat(200)))
}

#[tokio::test(start_paused = true)]
async fn very_many_sessions_and_then_a_new_one() {
    let sessions = std::env::var("SESSIONS").map_or(SESSIONS, |text| text.parse().unwrap());
    let size = sessions / BATCHES;
    let bus = bus_for(sessions);
    let manager = TaskManager::builder().bus(Arc::new(bus.clone())).build();
    let tools: BoxCloneSyncService<ToolCall, ToolResponse, &str> = BoxCloneSyncService::new(
        ServiceBuilder::new()
            .layer(OffloadLayer::for_tools(manager.clone(), TIMEOUT))
            .service(service_fn(work)),
    );
    let read = async |session: &str| bus.drain(&keys::inbox(session), usize::MAX).await.unwrap();

    let (mut most_before, mut most_after) = (0, 0);
    for batch in 0..BATCHES {
        let batch_of = batch * size..(batch + 1) * size;
        let calls = batch_of.clone().map(|session| {
            // A call that never moves, one whose inbox is read, one whose inbox is never read.
            let tool = if session % 3 == 0 { "fast" } else { "slow" };
            // One client has most of the sessions, the others have a few.
            let user = if session % 5 > 0 { "mallory".to_owned() } else { format!("user {}", session % 17) };
            tools.clone().oneshot(call(&user, format!("session {session}"), tool))
        });
        for answer in futures_util::future::join_all(calls).await {
            answer.unwrap();
        }
        tokio::time::sleep(TIMEOUT * 2).await;
        for session in batch_of.filter(|session| session % 3 == 1) {
            assert_eq!(read(&format!("session {session}")).await.len(), 1);
        }
        // At the same point of each batch.
        let most = if batch < BATCHES / 2 { &mut most_before } else { &mut most_after };
        *most = live().max(*most);
    }
    let (stats, seen) = (bus.stats(), manager.stats());
    println!("{sessions} sessions: {most_before} and {most_after} bytes\n{stats:?}\n{seen:?}");
    // A hash table may double now and then. A leak of eight bytes for each session would show.
    assert!(most_after <= most_before + most_before / 10, "{most_before} bytes, and then {most_after}");
    assert_eq!(seen.admitted as usize, (0..BATCHES * size).filter(|session| session % 3 > 0).count());
    assert_eq!((seen.refused, seen.undelivered, seen.running), (0, 0, 0));
    assert!(stats.dropped_entries > 0, "the bus was never full");

    // A new session of a new user, and of the user that has filled the bus.
    for user in ["bob", "mallory"] {
        let session = format!("new of {user}");
        let answer = tools.clone().oneshot(call(user, session.clone(), "slow")).await.unwrap();
        assert!(answer.metadata.contains_key("task_id"), "it has moved");
        tokio::time::sleep(TIMEOUT * 2).await;
        let hints = read(&session).await;
        assert_eq!(hints.len(), 1);
        assert!(hints[0].payload.contains(&"x".repeat(200)));
        assert!(manager.list(&Scope::user(user).in_session(session)).await.unwrap().len() == 1);
    }
    assert!(manager.health().is_well());
    assert_eq!(bus.stats().registry_bytes, 0);
}
