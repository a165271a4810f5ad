//! Any order of beginning, leaving, ending and waiting: each call is handed over exactly at its own deadline.

use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance};

use crate::deadlines::{Calls, LATE};
use crate::support::run_ready;

#[derive(Clone, Debug)]
enum Step {
    /// With the layer's timeout.
    Begin,
    BeginWith(u64),
    Leave(usize),
    End(usize),
    Advance(u64),
}

const USUAL: u64 = 40;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Begin),
        4 => (1..30_u64).prop_map(Step::BeginWith),
        2 => any::<usize>().prop_map(Step::Leave),
        2 => any::<usize>().prop_map(Step::End),
        3 => (1..25_u64).prop_map(Step::Advance),
    ]
}

struct Waiting {
    deadline: Instant,
    task: JoinHandle<(Result<&'static str, std::convert::Infallible>, Instant)>,
    end: Option<oneshot::Sender<()>>,
}

async fn run(steps: Vec<Step>) {
    let calls = Calls::new(Duration::from_millis(USUAL));
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let mut waiting = Vec::<Waiting>::new();
    // The work of those that were handed over goes on.
    let mut late = Vec::new();
    for step in steps {
        match step {
            Step::Begin | Step::BeginWith(_) => {
                let (timeout, end, call) = match step {
                    Step::BeginWith(millis) => {
                        let timeout = Duration::from_millis(millis);
                        (timeout, None, calls.call(timeout))
                    }
                    _ => {
                        let (end, call) = calls.call_that_ends();
                        (Duration::from_millis(USUAL), Some(end), call)
                    }
                };
                let task = tokio::spawn(async { (call.await, Instant::now()) });
                waiting.push(Waiting { deadline: Instant::now() + timeout, task, end });
            }
            Step::Leave(n) if !waiting.is_empty() => {
                let left = waiting.swap_remove(n % waiting.len());
                left.task.abort();
                assert!(left.task.await.unwrap_err().is_cancelled());
            }
            Step::End(n) if !waiting.is_empty() => {
                let n = n % waiting.len();
                if let Some(end) = waiting[n].end.take() {
                    end.send(()).unwrap();
                    let ended = waiting.swap_remove(n).task.await.unwrap();
                    assert_eq!(ended, (Ok("done"), Instant::now()));
                }
            }
            // The clock stops at each deadline.
            Step::Advance(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
            Step::Leave(_) | Step::End(_) => {}
        }
        run_ready().await;
        let (over, still): (Vec<_>, _) = waiting.into_iter().partition(|call| call.task.is_finished());
        waiting = still;
        assert!(waiting.iter().all(|call| call.deadline > Instant::now()), "somebody was forgotten");
        for call in over {
            assert_eq!(call.task.await.unwrap(), (Ok(LATE), call.deadline));
            late.push(call.end);
        }
    }
    for call in waiting {
        call.task.abort();
    }
    advance(Duration::from_millis(USUAL)).await;
    run_ready().await;
    // And, of the manager, what waits for the next record to be forgotten.
    let left = tokio::runtime::Handle::current().metrics().num_alive_tasks() - before;
    let late = late.len();
    assert!((late..=late + 1).contains(&left), "{left} tasks are left of {late} late calls");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn each_call_is_handed_over_at_its_deadline(steps in proptest::collection::vec(step(), 1..120)) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap().block_on(run(steps));
    }
}
