//! What a recorder may do, and when it may come.

use std::sync::mpsc::channel;

use ::metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use super::*;
use crate::patience::PATIENCE;
use crate::support::{alice, only, run_ready, secs};

/// Looks at the manager, and so takes its lock, at each event.
#[derive(Default)]
struct Curious {
    manager: Mutex<Option<TaskManager>>,
    /// The name, and the unit if it was described.
    asked: Mutex<BTreeMap<String, Option<Unit>>>,
    /// The names in their order.
    order: Mutex<Vec<String>>,
}

impl Curious {
    fn look(&self, name: &str) {
        if let Some(manager) = &*self.manager.lock().unwrap() {
            let _ = (manager.stats(), manager.health());
        }
        self.order.lock().unwrap().push(name.to_owned());
        self.asked.lock().unwrap().entry(name.to_owned()).or_default();
    }

    fn look_at(&self, manager: &TaskManager) {
        *self.manager.lock().unwrap() = Some(manager.clone());
        self.asked.lock().unwrap().clear();
    }

    fn describe(&self, name: &KeyName, unit: Option<Unit>, text: &SharedString) {
        assert!(!text.is_empty());
        self.asked.lock().unwrap().insert(name.as_str().to_owned(), unit);
    }
}

impl Recorder for Curious {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(&name, unit, &text);
    }
    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(&name, unit, &text);
    }
    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(&name, unit, &text);
    }
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.look(key.name());
        Counter::noop()
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.look(key.name());
        Gauge::noop()
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.look(key.name());
        Histogram::noop()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Everything that is counted, on a runtime of this thread.
fn everything(manager: &TaskManager) {
    runtime().block_on(async {
        call(manager, Does::Answer).await.unwrap();
        assert_eq!(call(manager, Does::Take(secs(5))).await, Ok("later"));
        let task = only(manager).await;
        assert_eq!(call(manager, Does::Take(secs(2))).await, Ok("done"), "refused");
        manager.wait(&alice(), task.id).await.unwrap().unwrap();
    });
}

const ALL: [&str; 6] = [
    names::FOREGROUND_TOTAL,
    names::HAND_OVER_SECONDS,
    names::OFFLOADED_TOTAL,
    names::REFUSED_TOTAL,
    names::RUNNING,
    names::SETTLED_TOTAL,
];

#[test]
fn it_may_ask_the_manager() {
    let (done, is_done) = channel();
    // A thread of its own, that may hang.
    std::thread::spawn(move || {
        let recorder = Curious::default();
        ::metrics::with_local_recorder(&recorder, || {
            let manager = TaskManager::builder().max_running(1).build();
            recorder.look_at(&manager);
            everything(&manager);
            let asked = recorder.asked.lock().unwrap().keys().cloned().collect::<Vec<_>>();
            // What others have ended is settled on a way of its own.
            runtime().block_on(async {
                let (bus, manager, other) = tasks::two();
                recorder.look_at(&manager);
                manager.spawn(meta(), std::future::pending::<()>()).unwrap();
                run_ready().await;
                bus.disconnect();
                tokio::time::sleep(secs(16)).await;
                other.list(&alice()).await.unwrap();
                bus.reconnect();
                tokio::time::sleep(secs(3)).await;
                assert_eq!(manager.stats().failed, 1);
            });
            let settled = recorder.asked.lock().unwrap().contains_key(names::SETTLED_TOTAL);
            done.send((asked, settled)).unwrap();
        });
    });
    let (asked, settled) = is_done.recv_timeout(PATIENCE).expect("no lock is held");
    assert_eq!((asked, settled), (ALL.map(str::to_owned).into(), true));
}

/// Panics at everything that is counted.
struct Panics;

impl Recorder for Panics {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        panic!("a recorder that panics at {key}");
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        panic!("a recorder that panics at {key}");
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        panic!("a recorder that panics at {key}");
    }
}

#[test]
fn one_that_panics_costs_no_answer() {
    ::metrics::with_local_recorder(&Panics, || {
        let manager = TaskManager::builder().max_running(1).build();
        everything(&manager);
        let stats = manager.stats();
        assert_eq!((stats.admitted, stats.refused, stats.completed), (1, 1, 1));
    });
}

#[test]
fn it_hears_of_a_task_before_it_hears_of_its_end() {
    let recorder = Curious::default();
    ::metrics::with_local_recorder(&recorder, || {
        let gone = runtime().handle().clone();
        // It is lost while it is given to its runtime.
        TaskManager::builder().runtime(gone).build().spawn(meta(), async {}).unwrap();
    });
    let order = recorder.order.into_inner().unwrap();
    assert_eq!(order, [names::OFFLOADED_TOTAL, names::RUNNING, names::RUNNING, names::SETTLED_TOTAL]);
}

#[test]
fn a_manager_describes_all_of_it() {
    let recorder = Curious::default();
    ::metrics::with_local_recorder(&recorder, TaskManager::new);
    let described = std::mem::take(&mut *recorder.asked.lock().unwrap());
    let unit = |name| if name == names::HAND_OVER_SECONDS { Unit::Seconds } else { Unit::Count };
    assert_eq!(described, ALL.map(|name| (name.to_owned(), Some(unit(name)))).into());
    ::metrics::with_local_recorder(&recorder, names::describe);
    assert_eq!(*recorder.asked.lock().unwrap(), described);
}

#[test]
fn it_may_come_later_and_none_is_needed() {
    let manager = TaskManager::builder().max_running(1).build();
    assert!(std::panic::catch_unwind(|| everything(&TaskManager::builder().max_running(1).build())).is_ok());
    let counts = Counts::new();
    everything(&manager);
    counts.assert(&[
        (FOREGROUND, 2),
        (OFFLOADED, 1),
        (TIMED, 1),
        ("refused_total reason=too_many_running", 1),
        (COMPLETED, 1),
    ]);
}
