use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use tower_offload::bus::{
    Delivery, DirectoryWritten, OwnerLease, Retention, SharedBus, StoredTask, TaskCheck, TaskWrite,
    TaskWritten, keys,
};
use tower_offload::task::{FailureReason, TaskMeta, TaskRecord, TaskStatus};

use super::{Harness, TTL, fifty, unique};

const LEASE: Duration = Duration::from_secs(15);
const DAY: Duration = Duration::from_secs(86_400);

fn lease(owner: &str) -> OwnerLease {
    OwnerLease::new(unique(owner), LEASE)
}

fn keep(max_per_user: u32) -> Retention {
    Retention::new(max_per_user, DAY)
}

/// A time of this run: retention compares what is written here with the clocks of real servers. The directory keeps
/// microseconds, so that the base has no nanoseconds that a round trip would lose.
fn at(micros: u64) -> SystemTime {
    static BASE: LazyLock<Duration> = LazyLock::new(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Duration::from_micros(now.as_micros() as u64) - Duration::from_secs(60)
    });
    SystemTime::UNIX_EPOCH + *BASE + Duration::from_micros(micros)
}

/// A running task. Records are only made by a manager, so this one comes out of JSON.
fn running(user: &str) -> TaskRecord {
    let meta = TaskMeta::new(user, "slow — tool")
        .with_session(unique("session"))
        .with_agent("AG")
        .with_call_id("call \"1\"")
        .with_summary("slow(a=\u{1F980} \\ \u{2028})");
    let json = serde_json::json!({
        "id": uuid::Uuid::new_v4(),
        "meta": meta,
        "status": "running",
        "failure_reason": null,
        "error_summary": null,
        "started_at": at(0),
        "completed_at": null,
        "cancel_requested_at": null,
    });
    serde_json::from_value(json).unwrap()
}

fn ended(record: &TaskRecord, status: TaskStatus) -> TaskRecord {
    let mut record = record.clone();
    record.status = status;
    record.completed_at = Some(at(1_000_001));
    if status == TaskStatus::Failed {
        record.failure_reason = Some(FailureReason::WorkerLost);
        record.error_summary = Some("gone:\n\u{0} \"ü\"".into());
    }
    record
}

fn write(lease: &OwnerLease, record: &TaskRecord, version: u64) -> TaskWrite {
    TaskWrite::new(record.clone(), version, Arc::clone(&lease.owner))
}

async fn written(bus: &SharedBus, lease: &OwnerLease, write: TaskWrite) -> TaskWritten {
    bus.write(lease, &keep(50), &[write]).await.unwrap().tasks.pop().unwrap()
}

/// Writes, and answers the position.
async fn put(bus: &SharedBus, lease: &OwnerLease, record: &TaskRecord, version: u64) -> u64 {
    match written(bus, lease, write(lease, record, version)).await {
        TaskWritten::Written { position } => position,
        other => panic!("it should be written: {other:?}"),
    }
}

async fn refused(bus: &SharedBus, lease: &OwnerLease, write: TaskWrite) -> Option<Box<StoredTask>> {
    match written(bus, lease, write).await {
        TaskWritten::Refused { found } => found,
        other => panic!("it should be refused: {other:?}"),
    }
}

async fn tasks(bus: &SharedBus, user: &str) -> Vec<StoredTask> {
    bus.tasks(user, LEASE).await.unwrap()
}

async fn task(bus: &SharedBus, record: &TaskRecord) -> Option<StoredTask> {
    bus.task(record.meta.user_id(), record.id, LEASE).await.unwrap()
}

async fn is_listed(bus: &SharedBus, record: &TaskRecord) -> bool {
    let session = keys::background_tasks(record.meta.session_id());
    bus.contains(&session, &record.id.to_string()).await.unwrap()
}

pub(crate) async fn a_task_is_read_back_as_it_was_written(harness: impl Harness) {
    let (bus, user, owner) = (harness.bus(), unique("user"), lease("owner"));
    let record = running(&user);
    let position = put(&bus, &owner, &record, 1).await;
    let stored = task(&bus, &record).await.unwrap();
    assert_eq!((&stored.record, &stored.owner), (&record, &owner.owner));
    assert_eq!((stored.version, stored.position, stored.owner_alive), (1, position, true));
    assert!(stored.last_will.is_none());

    // AgentScope reads it from the hash of the session as if it were a task of its own.
    let session = keys::background_tasks(record.meta.session_id());
    let entry = bus.get(&session, &record.id.to_string()).await.unwrap().unwrap();
    let seconds = at(0).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let expected = format!(r#"{{"tool_name":"slow—tool","agent_id":"AG","started_at":{seconds}}}"#);
    assert_eq!(entry.replace(' ', ""), expected);

    for status in [TaskStatus::Completed, TaskStatus::Failed, TaskStatus::Cancelled] {
        let mut record = running(&user);
        put(&bus, &owner, &record, 1).await;
        record.cancel_requested_at = Some(at(7));
        put(&bus, &owner, &record, 2).await;
        assert_eq!(task(&bus, &record).await.unwrap().record, record);
        let record = ended(&record, status);
        put(&bus, &owner, &record, 3).await;
        assert_eq!(task(&bus, &record).await.unwrap().record, record);
        assert!(!is_listed(&bus, &record).await);
    }
    let list = tasks(&bus, &user).await;
    assert_eq!((list.len(), &list[0].record), (4, &record));
}

pub(crate) async fn tasks_are_listed_in_the_order_of_their_first_write(harness: impl Harness) {
    let (bus, user, owner) = (harness.bus(), unique("user"), lease("owner"));
    let records: Vec<_> = (0..40).map(|_| running(&user)).collect();
    let writes: Vec<_> = records.iter().map(|record| write(&owner, record, 1)).collect();
    let DirectoryWritten { tasks: outcomes, .. } = bus.write(&owner, &keep(50), &writes).await.unwrap();
    assert_eq!(outcomes.len(), 40);
    put(&bus, &owner, &ended(&records[0], TaskStatus::Completed), 2).await;
    put(&bus, &lease("other"), &running(&unique("other user")), 1).await;
    let list = tasks(&bus, &user).await;
    assert!(list.iter().map(|task| task.record.id).eq(records.iter().map(|record| record.id)));
    assert!(list.windows(2).all(|pair| pair[0].position < pair[1].position));
    assert!(tasks(&bus, &unique("nobody")).await.is_empty());
}

pub(crate) async fn a_task_is_its_users_alone(harness: impl Harness) {
    let (bus, owner) = (harness.bus(), lease("owner"));
    let (of_alice, of_bob) = (running(&unique("alice")), running(&unique("bob")));
    put(&bus, &owner, &of_alice, 1).await;
    put(&bus, &owner, &of_bob, 1).await;
    assert!(bus.task(of_bob.meta.user_id(), of_alice.id, LEASE).await.unwrap().is_none());
    bus.request_stop(of_bob.meta.user_id(), &[of_alice.id], at(0)).await.unwrap();
    assert_eq!(task(&bus, &of_alice).await.unwrap().record.cancel_requested_at, None);
    assert_eq!(tasks(&bus, of_bob.meta.user_id()).await.len(), 1);
}

pub(crate) async fn a_repeated_write_is_answered_as_before(harness: impl Harness) {
    let (bus, user, owner) = (harness.bus(), unique("user"), lease("owner"));
    let record = running(&user);
    let position = put(&bus, &owner, &record, 1).await;
    put(&bus, &owner, &running(&user), 1).await;
    assert_eq!(put(&bus, &owner, &record, 1).await, position);
    let record = ended(&record, TaskStatus::Completed);
    for _ in 0..3 {
        assert_eq!(put(&bus, &owner, &record, 2).await, position);
    }
    // Two who repair a task at once are at one version, and only one of them has written.
    let other = ended(&record, TaskStatus::Failed);
    let found = refused(&bus, &owner, write(&owner, &other, 2)).await.unwrap();
    assert_eq!((found.version, found.record), (2, record));
    assert_eq!(tasks(&bus, &user).await.len(), 2);
}

pub(crate) async fn what_is_late_changes_nothing(harness: impl Harness) {
    let (bus, user, owner) = (harness.bus(), unique("user"), lease("owner"));
    let mut record = running(&user);
    put(&bus, &owner, &record, 1).await;
    record.cancel_requested_at = Some(at(7));
    put(&bus, &owner, &record, 3).await;
    let found = refused(&bus, &owner, write(&owner, &running_again(&record), 2)).await.unwrap();
    assert_eq!((found.version, &found.record), (3, &record));

    let record = ended(&record, TaskStatus::Failed);
    put(&bus, &owner, &record, 4).await;
    for version in [3, 5] {
        let late = ended(&record, TaskStatus::Completed);
        let found = refused(&bus, &owner, write(&owner, &late, version)).await.unwrap();
        assert_eq!((found.version, found.record.status), (4, TaskStatus::Failed));
    }
    assert_eq!(task(&bus, &record).await.unwrap().record, record);
}

fn running_again(record: &TaskRecord) -> TaskRecord {
    let mut record = record.clone();
    record.cancel_requested_at = None;
    record
}

pub(crate) async fn a_lost_task_is_ended_once_and_for_good(harness: impl Harness) {
    let (bus, user) = (harness.bus(), unique("user"));
    let (dead, one, other) = (lease("dead"), lease("one"), lease("other"));
    let record = running(&user);
    let will = Delivery::new("key", &record.meta, "{\"will\": \"ü\"}".to_owned());
    let mut first = write(&dead, &record, 1);
    first.last_will = Some(Arc::new(will.clone()));
    assert!(matches!(written(&bus, &dead, first).await, TaskWritten::Written { .. }));
    // Kept, though it is given only once.
    put(&bus, &dead, &record, 2).await;
    assert_eq!(task(&bus, &record).await.unwrap().last_will.as_ref(), Some(&will));

    let lost = ended(&record, TaskStatus::Failed);
    let repair = |lease: &OwnerLease, version| {
        let mut write = write(lease, &lost, version);
        write.expected_owner = Arc::clone(&dead.owner);
        write
    };
    assert_eq!(
        refused(&bus, &one, repair(&one, 2)).await.unwrap().version,
        2,
        "it is not that version any more"
    );
    assert!(matches!(written(&bus, &one, repair(&one, 3)).await, TaskWritten::Written { .. }));
    assert_eq!(refused(&bus, &other, repair(&other, 3)).await.unwrap().owner, one.owner);
    let late = ended(&record, TaskStatus::Completed);
    let found = refused(&bus, &dead, write(&dead, &late, 3)).await.unwrap();
    assert_eq!((&found.record, &found.owner), (&lost, &one.owner));

    // It is there until it was delivered.
    assert_eq!(task(&bus, &record).await.unwrap().last_will.as_ref(), Some(&will));
    bus.forget_will(&record).await.unwrap();
    let stored = task(&bus, &record).await.unwrap();
    assert_eq!((&stored.record, stored.last_will.as_ref()), (&lost, None));
    assert!(!is_listed(&bus, &record).await);
    assert!(refused(&bus, &one, repair_of_nothing(&one, &dead)).await.is_none());
}

pub(crate) async fn a_repair_adds_no_task_that_was_dropped(harness: impl Harness) {
    let (bus, user, owner) = (harness.bus(), unique("user"), lease("owner"));
    let record = running(&user);
    put(&bus, &owner, &record, 1).await;
    // The owner ends it, and keeps no record. Its own view has read it before.
    let end = [write(&owner, &ended(&record, TaskStatus::Completed), 2)];
    bus.write(&owner, &keep(0), &end).await.unwrap();
    let mut repair = write(&owner, &ended(&record, TaskStatus::Failed), 1 << 32);
    repair.must_exist = true;
    assert!(refused(&bus, &owner, repair.clone()).await.is_none());
    assert!(task(&bus, &record).await.is_none());
    // It is one like any other where the task is.
    put(&bus, &owner, &record, 1).await;
    assert!(matches!(written(&bus, &owner, repair).await, TaskWritten::Written { .. }));
}

fn repair_of_nothing(lease: &OwnerLease, dead: &OwnerLease) -> TaskWrite {
    let mut write = write(lease, &ended(&running("nobody"), TaskStatus::Failed), 2);
    write.expected_owner = Arc::clone(&dead.owner);
    write
}

pub(crate) async fn the_owners_end_and_a_repair_do_not_both_count(harness: impl Harness) {
    let (bus, user) = (harness.bus(), unique("user"));
    for _ in 0..20 {
        let owner = lease("owner");
        let record = running(&user);
        put(&bus, &owner, &record, 1).await;
        let counted = fifty(|number| {
            let bus = Arc::clone(&bus);
            let repairer = lease("repairer");
            let own = number == 25;
            let status = if own { TaskStatus::Completed } else { TaskStatus::Failed };
            let mut write = write(&owner, &ended(&record, status), 2);
            write.expected_owner = Arc::clone(&owner.owner);
            let lease = if own { owner.clone() } else { repairer };
            async move { matches!(written(&bus, &lease, write).await, TaskWritten::Written { .. }) }
        })
        .await;
        assert_eq!(counted.into_iter().filter(|counted| *counted).count(), 1);
    }
}

pub(crate) async fn the_oldest_end_goes_first_and_what_runs_stays(harness: impl Harness) {
    let (bus, user, owner) = (harness.bus(), unique("user"), lease("owner"));
    let records: Vec<_> = (0..6).map(|_| running(&user)).collect();
    for record in &records {
        put(&bus, &owner, record, 1).await;
    }
    for index in [4, 1, 0, 3] {
        let end = [write(&owner, &ended(&records[index], TaskStatus::Completed), 2)];
        bus.write(&owner, &keep(2), &end).await.unwrap();
    }
    let left: Vec<_> = tasks(&bus, &user).await.into_iter().map(|task| task.record.id).collect();
    assert_eq!(left, [0, 2, 3, 5].map(|index: usize| records[index].id));

    // Others' ends count too, and with none to keep none is kept.
    let other = lease("other");
    let record = running(&user);
    put(&bus, &other, &record, 1).await;
    let end = [write(&other, &ended(&record, TaskStatus::Failed), 2)];
    bus.write(&other, &keep(0), &end).await.unwrap();
    let left: Vec<_> = tasks(&bus, &user).await.into_iter().map(|task| task.record.id).collect();
    assert_eq!(left, [2, 5].map(|index: usize| records[index].id));
}

pub(crate) async fn a_stop_request_stays_with_the_task(harness: impl Harness) {
    let (bus, user, owner) = (harness.bus(), unique("user"), lease("owner"));
    let records: Vec<_> = (0..3).map(|_| running(&user)).collect();
    for record in &records {
        put(&bus, &owner, record, 1).await;
    }
    let done = ended(&records[2], TaskStatus::Completed);
    put(&bus, &owner, &done, 2).await;
    let ids = [records[1].id, records[2].id, running(&user).id];
    for micros in [3, 9] {
        bus.request_stop(&user, &ids, at(micros)).await.unwrap();
    }
    let asked = |stored: Vec<StoredTask>| -> Vec<_> {
        stored.into_iter().map(|task| task.record.cancel_requested_at).collect()
    };
    assert_eq!(asked(tasks(&bus, &user).await), [None, Some(at(3)), None]);
    let running: Vec<_> = records[..2].iter().cloned().map(Arc::new).collect();
    let checks = bus.check(&owner.owner, &running).await.unwrap();
    assert!(matches!(checks[0], TaskCheck::Held), "{checks:?}");
    assert!(matches!(checks[1], TaskCheck::StopRequested(asked) if asked == at(3)), "{checks:?}");

    // It does not outlive the task.
    let end = ended(&records[1], TaskStatus::Cancelled);
    put(&bus, &owner, &end, 2).await;
    assert_eq!(asked(tasks(&bus, &user).await), [None, None, None]);
}

pub(crate) async fn an_owner_finds_out_what_became_of_its_tasks(harness: impl Harness) {
    let (bus, owner, other) = (harness.bus(), lease("owner"), lease("other"));
    let records: Vec<_> = (0..4).map(|number| running(&unique(&format!("user{number}")))).collect();
    for record in &records[..3] {
        put(&bus, &owner, record, 1).await;
    }
    let mut repair = write(&other, &ended(&records[1], TaskStatus::Failed), 2);
    repair.expected_owner = Arc::clone(&owner.owner);
    written(&bus, &other, repair).await;
    let records: Vec<_> = records.into_iter().map(Arc::new).collect();
    let checks = bus.check(&owner.owner, &records).await.unwrap();
    assert_eq!(checks.len(), 4);
    assert!(matches!(
        (&checks[0], &checks[2], &checks[3]),
        (TaskCheck::Held, TaskCheck::Held, TaskCheck::Missing)
    ));
    let TaskCheck::Lost(found) = &checks[1] else { panic!("it is lost: {checks:?}") };
    assert_eq!((found.record.status, &found.owner), (TaskStatus::Failed, &other.owner));
    assert!(bus.check(&owner.owner, &[]).await.unwrap().is_empty());
}

pub(crate) async fn a_task_that_is_written_again_gets_its_place_back(harness: impl Harness) {
    let (bus, user, owner) = (harness.bus(), unique("user"), lease("owner"));
    let (first, second) = (running(&user), running(&user));
    let mut again = write(&owner, &second, 4);
    again.position = Some(7);
    assert!(matches!(written(&bus, &owner, again).await, TaskWritten::Written { position: 7 }));
    assert!(put(&bus, &owner, &running(&user), 1).await > 7);
    let mut again = write(&owner, &first, 2);
    again.position = Some(3);
    written(&bus, &owner, again).await;
    let list: Vec<_> = tasks(&bus, &user).await.into_iter().map(|task| task.record.id).collect();
    assert_eq!(list[..2], [first.id, second.id]);
}

pub(crate) async fn fifty_writers_get_fifty_places(harness: impl Harness) {
    let (bus, user) = (harness.bus(), unique("user"));
    let mut positions = fifty(|_| {
        let (bus, record) = (Arc::clone(&bus), running(&user));
        async move { put(&bus, &lease("owner"), &record, 1).await }
    })
    .await;
    positions.sort_unstable();
    positions.dedup();
    assert_eq!(positions.len(), 50);
    assert_eq!(tasks(&bus, &user).await.len(), 50);
}

pub(crate) async fn who_leaves_is_gone_at_once(harness: impl Harness) {
    let (bus, user, owner, other) = (harness.bus(), unique("user"), lease("owner"), lease("other"));
    let record = running(&user);
    assert!(bus.write(&owner, &keep(50), &[]).await.unwrap().lease_had_ended, "it was never there");
    put(&bus, &owner, &record, 1).await;
    put(&bus, &other, &running(&user), 1).await;
    assert!(!bus.write(&owner, &keep(50), &[]).await.unwrap().lease_had_ended);
    bus.leave(&owner.owner).await.unwrap();
    bus.leave(&owner.owner).await.unwrap();
    // Whoever reads has not just come back from anywhere.
    let stored = bus.tasks(&user, Duration::ZERO).await.unwrap();
    let alive: Vec<_> = stored.into_iter().map(|task| task.owner_alive).collect();
    assert_eq!(alive, [false, true]);
}

pub(crate) async fn any_name_will_do(harness: impl Harness) {
    let bus = harness.bus();
    let tail = unique("");
    for name in ["", " ", "{a}", "#", "a:b", "\u{0}\n", "ü\u{1F980}", "s:1", "w:", "'\"\\"] {
        let (user, owner) = (format!("{name}{tail}"), lease(name));
        let record = running(&user);
        put(&bus, &owner, &record, 1).await;
        let stored = task(&bus, &record).await.unwrap();
        assert_eq!((stored.record, stored.owner, stored.owner_alive), (record, owner.owner, true));
    }
}

pub(crate) async fn a_lease_ends_unless_it_is_renewed(harness: impl Harness) {
    let (bus, user) = (harness.bus(), unique("user"));
    let of_ttl = |owner| OwnerLease::new(unique(owner), TTL);
    let (silent, busy) = (of_ttl("silent"), of_ttl("busy"));
    let (of_silent, of_busy) = (running(&user), running(&user));
    put(&bus, &silent, &of_silent, 1).await;
    put(&bus, &busy, &of_busy, 1).await;
    for _ in 0..3 {
        harness.age(TTL * 2 / 5).await;
        assert!(!bus.write(&busy, &keep(50), &[]).await.unwrap().lease_had_ended);
    }
    let alive = async || {
        // However short the time is since the server was started.
        let stored = bus.tasks(&user, Duration::ZERO).await.unwrap();
        stored.into_iter().map(|task| task.owner_alive).collect::<Vec<_>>()
    };
    assert_eq!(alive().await, [false, true]);
    assert!(bus.write(&silent, &keep(50), &[]).await.unwrap().lease_had_ended);
    assert_eq!(alive().await, [true, true], "no process has ended its task as lost");
}
