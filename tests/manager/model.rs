//! Any sequence of steps leaves the manager as a naive model says.

use proptest::prelude::*;
use tokio::sync::oneshot;
use tower_offload::manager::StopOutcome;
use tower_offload::task::Scope;
use tower_offload::{TaskId, TaskManager, TaskMeta, TaskStatus};

use crate::support::{list, run_ready};

#[derive(Clone, Debug)]
enum Step {
    Register { user: u8, session: u8 },
    Finish { task: usize, well: bool },
    Stop { task: usize, user: u8 },
    CancelSession { user: u8, session: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let (user, session) = (0..3_u8, 0..3_u8);
    prop_oneof![
        5 => (user.clone(), session.clone()).prop_map(|(user, session)| Step::Register { user, session }),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(task, well)| Step::Finish { task, well }),
        2 => (any::<usize>(), user.clone()).prop_map(|(task, user)| Step::Stop { task, user }),
        1 => (user, session).prop_map(|(user, session)| Step::CancelSession { user, session }),
    ]
}

/// One task of the model. `ended` counts the ends, so that they have an order.
struct Model {
    id: TaskId,
    user: String,
    session: String,
    status: TaskStatus,
    ended: usize,
    end: Option<oneshot::Sender<Result<(), &'static str>>>,
}

const PER_USER: usize = 3;
const TOGETHER: usize = 6;

#[derive(Default)]
struct Models {
    tasks: Vec<Model>,
    ends: usize,
    /// Stopped work must not see its other end go away first.
    ends_of_stopped: Vec<oneshot::Sender<Result<(), &'static str>>>,
}

impl Models {
    /// Ends a task, and forgets what is then too much.
    fn end(&mut self, index: usize, status: TaskStatus) {
        self.ends += 1;
        let task = &mut self.tasks[index];
        (task.status, task.ended) = (status, self.ends);
        self.ends_of_stopped.extend(task.end.take());
        let user = task.user.clone();
        self.forget(PER_USER, |task| task.user == user);
        self.forget(TOGETHER, |_| true);
    }

    fn forget(&mut self, keep: usize, which: impl Fn(&Model) -> bool) {
        let mut ended: Vec<usize> =
            self.tasks.iter().filter(|t| t.status.is_terminal() && which(t)).map(|t| t.ended).collect();
        ended.sort_unstable();
        if let Some(oldest) = ended.len().checked_sub(keep + 1).map(|_| ended[0]) {
            self.tasks.retain(|task| task.ended != oldest);
        }
    }
}

async fn run(steps: Vec<Step>) {
    let manager =
        TaskManager::builder().max_retained_per_user(PER_USER as u32).max_retained(TOGETHER as u32).build();
    let mut models = Models::default();
    for step in steps {
        match step {
            Step::Register { user, session } => {
                let (user, session) = (format!("u{user}"), format!("s{session}"));
                let (end, wait) = oneshot::channel();
                let meta = TaskMeta::new(&*user, "work").with_session(&*session);
                let work = async { wait.await.unwrap_or(Err("dropped")) };
                let id = manager.spawn(meta, work).unwrap().id;
                let status = TaskStatus::Running;
                models.tasks.push(Model { id, user, session, status, ended: 0, end: Some(end) });
            }
            Step::Finish { task, well } => {
                if models.tasks.is_empty() {
                    continue;
                }
                let index = task % models.tasks.len();
                let Some(end) = models.tasks[index].end.take() else { continue };
                end.send(if well { Ok(()) } else { Err("bad") }).unwrap();
                models.end(index, if well { TaskStatus::Completed } else { TaskStatus::Failed });
            }
            Step::Stop { task, user } => {
                if models.tasks.is_empty() {
                    continue;
                }
                let index = task % models.tasks.len();
                let model = &models.tasks[index];
                let scope = Scope::user(format!("u{user}"));
                let found = manager.stop(&scope, model.id).await.unwrap();
                match found {
                    StopOutcome::NotFound => assert_ne!(scope.user_id(), Some(&*model.user)),
                    StopOutcome::AlreadyFinished(task) => assert_eq!(task.status, model.status),
                    StopOutcome::Requested => {
                        assert_eq!(model.status, TaskStatus::Running);
                        models.end(index, TaskStatus::Cancelled);
                    }
                    other => panic!("{other:?}"),
                }
            }
            Step::CancelSession { user, session } => {
                let (user, session) = (format!("u{user}"), format!("s{session}"));
                let running = |task: &Model| {
                    task.status == TaskStatus::Running && task.user == user && task.session == session
                };
                let ids: Vec<_> = models.tasks.iter().filter(|t| running(t)).map(|t| t.id).collect();
                assert_eq!(
                    manager.stop_all(&Scope::user(&*user).in_session(&*session)).await.unwrap(),
                    ids.len()
                );
                for id in ids {
                    // They end in the order in which they were asked.
                    let index = models.tasks.iter().position(|task| task.id == id).unwrap();
                    models.end(index, TaskStatus::Cancelled);
                }
            }
        }
        run_ready().await;
        check(&manager, &models).await;
    }
}

async fn check(manager: &TaskManager, models: &Models) {
    type Seen = Vec<(TaskId, TaskStatus)>;
    let expected = |which: &dyn Fn(&Model) -> bool| -> Seen {
        models.tasks.iter().filter(|t| which(t)).map(|t| (t.id, t.status)).collect()
    };
    let seen = async |scope: &Scope| -> Seen {
        list(manager, scope).await.into_iter().map(|task| (task.id, task.status)).collect()
    };
    for user in ["u0", "u1", "u2"] {
        assert_eq!(seen(&Scope::user(user)).await, expected(&|task| task.user == user));
        for session in ["s0", "s1", "s2"] {
            let both = Scope::user(user).in_session(session);
            assert_eq!(seen(&both).await, expected(&|t| t.user == user && t.session == session));
        }
    }
    for session in ["s0", "s1", "s2"] {
        assert_eq!(seen(&Scope::session(session)).await, expected(&|task| task.session == session));
    }
    let stats = manager.stats();
    let running = models.tasks.iter().filter(|task| task.status == TaskStatus::Running).count();
    assert_eq!((stats.running, stats.retained), (running, models.tasks.len() - running));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn the_manager_does_what_the_model_does(steps in proptest::collection::vec(step(), 1..80)) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(steps));
    }
}
