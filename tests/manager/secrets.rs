//! One rule for secrets in all texts that the manager stores: errors, panics and, with a rule of the host, summaries.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tower_offload::manager::TaskManagerBuilder;
use tower_offload::task::Outcome;
use tower_offload::{TaskManager, TaskMeta, TaskRecord, redact};

use crate::support::{alice, meta};

async fn ended<F>(builder: TaskManagerBuilder, meta: TaskMeta, work: F) -> TaskRecord
where
    F: Future<Output = Outcome> + Send + 'static,
{
    let manager = builder.build();
    let task = manager.spawn(meta, work).unwrap();
    manager.wait(&alice(), task.id).await.unwrap().unwrap()
}

async fn error_of(text: impl fmt::Display + Send + 'static) -> String {
    let task = ended(TaskManager::builder(), meta(), async move { Outcome::failed(text) }).await;
    task.error_summary.unwrap().to_string()
}

#[tokio::test]
async fn errors_and_panics_are_stored_without_secrets() {
    for (text, shown) in [
        ("cannot open postgres://app:hunter2@db/x", "cannot open postgres://[redacted]@db/x"),
        ("`curl -u alice:hunter2 h` exited with 7", "`curl -u [redacted] h` exited with 7"),
        ("mysql -u root -phunter2 exited with 1", "mysql -u root -p[redacted] exited with 1"),
        ("401 for ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8", "401 for [redacted]"),
        ("exit status 2", "exit status 2"),
    ] {
        assert_eq!(error_of(text).await, shown);
        let panics = async move { panic!("{text}") };
        let task = ended(TaskManager::builder(), meta(), panics).await;
        assert_eq!(task.error_summary.as_deref(), Some(shown));
    }
}

#[tokio::test]
async fn no_part_of_a_secret_is_left_where_a_text_is_cut() {
    let token = "ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8";
    for before in (460..520).chain(2000..2060) {
        let shown = error_of(format!("{}{token} and more", "é ".repeat(before / 2))).await;
        assert!(!shown.contains("a1B2"), "{before}: {shown}");
        assert!(shown.chars().count() <= 512);
    }
    // What is removed makes room for what comes after it, up to where the text was cut itself.
    let secrets = format!("password={} ", "x".repeat(100)).repeat(18);
    let shown = error_of(format!("{secrets}end {}", "ghp_a1B2c3D4e5F6g7H8i9J0".repeat(20))).await;
    assert!(shown.ends_with("[redacted] end") || !shown.contains("a1B2"), "{shown}");
    let shown = error_of(format!("https://alice:{}@h", "hunter2".repeat(1000))).await;
    assert!(!shown.contains("hunter2"), "{shown}");
}

/// An error that prints without an end, and counts the pieces.
struct Endless(Arc<AtomicUsize>);

impl fmt::Display for Endless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        loop {
            self.0.fetch_add(1, Ordering::Relaxed);
            f.write_str("token=a://b:c@")?;
        }
    }
}

#[tokio::test]
async fn a_huge_error_is_cut_before_it_is_searched() {
    let pieces = Arc::new(AtomicUsize::new(0));
    let error = Endless(Arc::clone(&pieces));
    let task = ended(TaskManager::builder(), meta(), async move { Outcome::failed(error) }).await;
    assert_eq!(task.error_summary.as_deref(), Some("token=[redacted]"));
    assert!(pieces.load(Ordering::Relaxed) < 1000);

    let seen = Arc::new(AtomicUsize::new(0));
    let rule = {
        let seen = Arc::clone(&seen);
        move |text: &str| {
            seen.fetch_max(text.len(), Ordering::Relaxed);
            text.to_owned()
        }
    };
    let panics = async { panic!("{}", "x".repeat(10 << 20)) };
    let task = ended(TaskManager::builder().redact(rule), meta(), panics).await;
    assert_eq!(task.error_summary.as_deref(), Some("x".repeat(512).as_str()));
    assert!(seen.load(Ordering::Relaxed) < 10_000);
}

#[tokio::test]
async fn a_host_can_replace_and_extend_the_rule() {
    let meta = || meta().with_summary("Mail(to=Alice, password=x)");
    let fails = || async { Outcome::failed("password=x of Alice") };
    let task = ended(TaskManager::builder().redact(str::to_owned), meta(), fails()).await;
    assert_eq!(task.error_summary.as_deref(), Some("password=x of Alice"));
    assert_eq!(task.meta.summary(), "Mail(to=Alice, password=x)");
    let more = |text: &str| redact(text).replace("Alice", "[name]");
    let task = ended(TaskManager::builder().redact(more), meta(), fails()).await;
    assert_eq!(task.error_summary.as_deref(), Some("password=[redacted] of [name]"));
    assert_eq!(task.meta.summary(), "Mail(to=[name], password=[redacted]");
    let long = |_: &str| "é".repeat(10_000);
    let task = ended(TaskManager::builder().redact(long), meta(), fails()).await;
    assert_eq!(task.error_summary.unwrap().chars().count(), 512);
    assert_eq!(task.meta.summary().chars().count(), TaskMeta::MAX_SUMMARY_CHARS);
}

#[tokio::test]
async fn a_rule_that_panics_costs_its_text() {
    let rule = |_: &str| -> String { std::panic::panic_any(3) };
    let task = ended(TaskManager::builder().redact(rule), meta(), async { Outcome::failed("secret") }).await;
    assert_eq!((task.error_summary.as_deref(), task.meta.summary()), (Some("[redacted]"), "[redacted]"));
}

/// A rule that asks the manager would wait for ever if a lock were held.
#[tokio::test]
async fn the_rule_runs_under_no_lock() {
    let slot = Arc::new(std::sync::OnceLock::<TaskManager>::new());
    let rule = {
        let slot = Arc::clone(&slot);
        move |text: &str| format!("{text} {}", slot.get().map_or(0, |manager| manager.stats().active))
    };
    let manager = TaskManager::builder().redact(rule).build();
    slot.set(manager.clone()).unwrap();
    let task = manager.spawn(meta(), async { Outcome::failed("active:") }).unwrap();
    let task = manager.wait(&alice(), task.id).await.unwrap().unwrap();
    assert_eq!((task.error_summary.as_deref(), task.meta.summary()), (Some("active: 1"), "work 0"));
}
