//! What every bus promises. [`conformance!`] makes one test of each case for one bus.
//!
//! A case knows its bus as `dyn MessageBus` alone. It uses keys of its own, but the names that AgentScope fixed
//! (the wakeups and their signal) are everybody's: a harness gives each case a bus on which nobody else is active.

pub(crate) mod deliver;
pub(crate) mod directory;
pub(crate) mod lock;
pub(crate) mod log;
pub(crate) mod pubsub;
pub(crate) mod queue;
pub(crate) mod registry;
pub(crate) mod texts;

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use tower_offload::bus::{Entry, Message, SharedBus, Subscription, SubscriptionEvent};
use uuid::Uuid;

use crate::patience::PATIENCE;

/// A bus under test, and its clock.
#[async_trait]
pub(crate) trait Harness: Send + Sync {
    fn bus(&self) -> SharedBus;

    /// Lets time pass, for the bus and for tokio's timers: real time where the bus needs a server.
    async fn pass(&self, time: Duration);

    /// Lets time pass for what the bus stores, and takes no real time.
    async fn age(&self, by: Duration);
}

/// A time to live that no operation here takes on a busy machine.
const TTL: Duration = Duration::from_secs(60);
/// More than half of it, and so much less that the rest is long too.
const MOST_OF_TTL: Duration = Duration::from_secs(36);

/// Makes a module of tests: `conformance!(name, harness, parallel = attribute, timed = attribute)`.
///
/// `harness` is an expression that makes a [`Harness`] and may await. The cases called parallel want real threads;
/// the timed ones wait for the end of times to live, with real or paused time as the bus needs it.
macro_rules! conformance {
    ($name:ident, $harness:expr, parallel = $parallel:meta, timed = $timed:meta) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $crate::conformance::cases! { $harness, $parallel;
                registry {
                    a_field_is_read_back
                    namespaces_are_apart
                    remove_says_whether_the_field_was_there
                    clear_removes_all_fields_of_one_namespace
                    take_reads_and_removes
                    set_if_writes_only_over_what_is_expected
                    set_if_lets_one_of_fifty_through
                    set_if_counts_without_losing_any
                    take_gives_a_field_to_one_of_fifty
                }
                queue {
                    entries_come_in_order_and_once
                    drain_takes_no_more_than_asked
                    what_is_peeked_stays_until_it_is_removed
                    what_is_not_there_is_empty
                    delete_removes_all
                    queues_are_apart
                    ids_grow
                    competing_drainers_get_each_entry_once_and_in_order
                }
                pubsub {
                    a_subscription_is_live_when_it_is_returned
                    all_subscribers_hear_everything_in_order
                    one_subscription_to_many_channels
                    a_channel_named_twice_is_heard_once
                    others_are_not_heard
                    what_was_published_before_is_not_heard
                    a_subscriber_that_leaves_disturbs_nobody
                    a_dropped_recv_loses_nothing
                    a_waker_may_call_the_bus
                    a_waker_may_call_the_bus_when_it_is_dropped
                    a_waker_that_panics_costs_nobody_a_message
                }
                lock {
                    a_lock_excludes_until_it_is_released
                    nobody_else_can_release_or_renew
                    a_released_lock_cannot_be_renewed
                    one_of_fifty_gets_the_lock
                    a_lease_excludes_others
                    a_waiter_gets_the_lock_when_it_is_released
                    a_dropped_lease_is_released
                    a_dropped_waiter_leaves_no_lock
                }
                log {
                    a_reader_goes_on_from_where_it_was
                    readers_do_not_disturb_each_other
                    max_len_keeps_the_newest
                    trim_keeps_what_is_not_older
                    trim_without_a_place_removes_all
                }
                deliver {
                    a_result_reaches_the_inbox_and_wakes_once
                    the_wakeup_is_there_when_the_signal_comes
                    a_consumer_is_not_woken
                    a_repeated_delivery_changes_nothing
                    the_same_key_for_another_session_is_another_delivery
                    fifty_results_at_once_all_arrive
                    fifty_attempts_at_one_delivery_deliver_once
                    an_empty_inbox_is_finished_and_the_next_result_wakes
                    an_inbox_with_something_in_it_is_not_finished
                    finishing_touches_one_session_and_one_field
                    a_result_that_comes_as_the_inbox_is_finished_is_not_stranded
                }
                directory {
                    a_task_is_read_back_as_it_was_written
                    tasks_are_listed_in_the_order_of_their_first_write
                    a_task_is_its_users_alone
                    a_repeated_write_is_answered_as_before
                    what_is_late_changes_nothing
                    a_lost_task_is_ended_once_and_for_good
                    a_repair_adds_no_task_that_was_dropped
                    the_owners_end_and_a_repair_do_not_both_count
                    the_oldest_end_goes_first_and_what_runs_stays
                    a_stop_request_stays_with_the_task
                    an_owner_finds_out_what_became_of_its_tasks
                    a_task_that_is_written_again_gets_its_place_back
                    fifty_writers_get_fifty_places
                    who_leaves_is_gone_at_once
                    any_name_will_do
                }
                texts {
                    any_key_works_in_every_mode
                    any_text_is_kept_as_it_is
                    a_megabyte_is_kept_as_it_is
                }
            }

            $crate::conformance::cases! { $harness, $timed;
                registry {
                    a_namespace_expires_as_a_whole
                    a_ttl_slides_with_each_set_that_has_one
                    a_set_without_ttl_leaves_it_as_it_was
                    a_namespace_that_was_emptied_has_no_ttl_left
                    set_if_sets_the_ttl_only_when_it_writes
                    a_ttl_of_zero_ends_at_once_and_a_huge_one_never
                }
                queue {
                    a_queue_expires_as_a_whole
                    a_queues_ttl_slides_with_each_push_that_has_one
                }
                lock {
                    a_lease_ends_and_its_token_is_worth_nothing
                    renewing_counts_from_now
                    waiting_for_a_lock_has_an_end
                    a_lease_is_renewed_while_it_is_held
                }
                log {
                    a_log_expires_as_a_whole
                    a_logs_ttl_slides_with_each_append_that_has_one
                }
                directory {
                    a_lease_ends_unless_it_is_renewed
                }
                deliver {
                    a_consumer_that_has_expired_is_woken
                }
            }
        }
    };
}

macro_rules! cases {
    ($harness:expr, $attribute:meta; $($mode:ident { $($case:ident)+ })+) => {
        $($(
            #[$attribute]
            async fn $case() {
                $crate::conformance::to_its_end($crate::conformance::$mode::$case($harness)).await;
            }
        )+)+
    };
}

pub(crate) use {cases, conformance};

/// A case that waits for something that never comes fails, and does not hang.
pub(crate) async fn to_its_end(case: impl Future<Output = ()>) {
    tokio::time::timeout(PATIENCE, case).await.expect("the case ends");
}

/// A name that no other case uses.
fn unique(name: &str) -> String {
    format!("test:{name}:{}", Uuid::new_v4())
}

fn payloads(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.payload.as_str()).collect()
}

/// The next message; anything else is a failure.
async fn next(subscription: &mut Subscription) -> Message {
    match subscription.recv().await {
        Some(SubscriptionEvent::Message(message)) => message,
        other => panic!("a message was expected and not {other:?}"),
    }
}

async fn next_payload(subscription: &mut Subscription) -> String {
    next(subscription).await.payload.to_string()
}

/// Runs fifty at once and collects what they return.
async fn fifty<F>(mut attempt: impl FnMut(usize) -> F) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(50));
    let tasks: Vec<_> = (0..50)
        .map(|number| {
            let (attempt, barrier) = (attempt(number), std::sync::Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                attempt.await
            })
        })
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("no attempt panics"));
    }
    results
}
