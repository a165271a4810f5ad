//! Reading the tasks of a scope.

use super::TaskManager;
use super::peers::View;
use super::table::Entry;
use crate::bus;
use crate::panics;
use crate::task::{Scope, TaskId, TaskRecord, TaskResult};

/// Room for as many tasks at first: those of most users.
const ROOM: usize = 64;

impl TaskManager {
    /// The tasks of a scope in the order in which they moved to the background, those of all processes that share the
    /// bus.
    ///
    /// # Errors
    ///
    /// When the view that several processes share cannot be read, or the scope names no user: that view is by user.
    /// Never on one process.
    pub async fn list(&self, scope: &Scope) -> bus::Result<Vec<TaskRecord>> {
        match View::of(&self.shared) {
            Some(view) => view.list(scope).await,
            None => Ok(self.list_here(scope)),
        }
    }

    /// One task; `None` if the scope has no task of this id.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    pub async fn get(&self, scope: &Scope, id: TaskId) -> bus::Result<Option<TaskRecord>> {
        match View::of(&self.shared) {
            Some(view) => view.get(scope, id).await,
            None => Ok(self.shared.fresh_table().get(scope, id).map(Entry::record)),
        }
    }

    /// What a finished task has left to be read, if it left something and it was kept. It can be read again.
    ///
    /// Results stay in the process that ran the task; another one answers `None`.
    ///
    /// # Errors
    ///
    /// None so far: for buses that keep results too.
    #[expect(clippy::unused_async, reason = "a shared result is read over the network")]
    pub async fn result(&self, scope: &Scope, id: TaskId) -> bus::Result<Option<TaskResult>> {
        Ok(self.shared.fresh_table().result(scope, id).cloned())
    }

    /// Waits until a task has ended for all processes, and answers its last record. `None`: the scope has no such task, or
    /// has it no more.
    ///
    /// On a shared bus the end counts when the bus has it, so that this waits for a bus that is away. Dropping the returned
    /// future changes nothing.
    ///
    /// # Errors
    ///
    /// When the view that several processes share cannot be read; never on one process.
    pub async fn wait(&self, scope: &Scope, id: TaskId) -> bus::Result<Option<TaskRecord>> {
        // A helper may have to go on here.
        self.shared.runtimes().remember_current();
        let watched = self.shared.fresh_table().watch(scope, id);
        Ok(match (watched, View::of(&self.shared)) {
            (None, Some(view)) => view.wait(scope, id).await?,
            (None, None) => None,
            (Some(Ok(record)), _) => Some(record),
            (Some(Err(mut ended)), _) => {
                let ended = panics::with_quiet_waker(ended.wait_for(Option::is_some)).await;
                // An error says that it never ran: its admission was given back.
                ended.ok().and_then(|record| record.clone())
            }
        })
    }

    fn list_here(&self, scope: &Scope) -> Vec<TaskRecord> {
        let mut tasks = Vec::with_capacity(ROOM);
        loop {
            let table = self.shared.fresh_table();
            let most = table.len_of(scope);
            if most <= tasks.capacity() {
                tasks.extend(table.iter(scope).map(Entry::record));
                return tasks;
            }
            // Without the lock: getting room is nothing that others should wait for. Some to spare, since there may be
            // more meanwhile.
            drop(table);
            tasks = Vec::with_capacity(most + most / 8);
        }
    }

    /// Another number whenever [`list`](Self::list) may answer something else about the user of the scope. A list that is
    /// kept belongs to the number that was read before it; read afterwards, it could be that of a later list.
    ///
    /// `None`: there is nothing to go by. The user has no tasks, or other processes have a part in the list.
    #[cfg(feature = "api")]
    pub(crate) fn version(&self, scope: &Scope) -> Option<std::num::NonZeroU64> {
        match View::of(&self.shared) {
            Some(_) => None,
            // Time changes lists too: what it has ended is dropped before the version is read.
            None => self.shared.fresh_table().version(scope.user_id()?),
        }
    }
}

#[cfg(all(test, feature = "api"))]
mod versions {
    use std::collections::HashMap;
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::sync::oneshot;

    use super::*;
    use crate::manager::CallState;
    use crate::task::TaskMeta;

    const USERS: [&str; 3] = ["a", "b", "c"];

    #[derive(Clone, Debug)]
    enum Step {
        Start(usize),
        /// Admitted, and given back.
        Change(usize),
        Stop(usize),
        StopAll(usize),
        End(usize),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0..3_usize).prop_map(Step::Start),
            1 => (0..3_usize).prop_map(Step::Change),
            2 => any::<usize>().prop_map(Step::Stop),
            1 => (0..3_usize).prop_map(Step::StopAll),
            3 => any::<usize>().prop_map(Step::End),
            2 => (1..80_u64).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 0..40)
    }

    /// That a version never means two lists, whatever happens in between.
    async fn a_version_is_one_list(steps: Vec<Step>) {
        let manager = TaskManager::builder()
            .max_retained_per_user(3)
            .max_retained(5)
            .retain_for(Duration::from_secs(100))
            .cancel_grace(Duration::from_secs(1000))
            .build();
        let mut running: Vec<(TaskId, &str, oneshot::Sender<()>)> = Vec::new();
        let mut seen = HashMap::new();
        for step in steps {
            match step {
                Step::Start(user) => {
                    let (end, ended) = oneshot::channel::<()>();
                    let meta = TaskMeta::new(USERS[user], "t");
                    let task = manager.spawn(meta, async { drop(ended.await) }).unwrap();
                    running.push((task.id, USERS[user], end));
                }
                Step::Change(user) => {
                    let admission =
                        manager.admit(TaskMeta::new(USERS[user], "t"), &CallState::default()).unwrap();
                    check(&manager, &mut seen).await;
                    drop(admission);
                }
                Step::Stop(which) if !running.is_empty() => {
                    let (id, user, _) = &running[which % running.len()];
                    manager.stop(&Scope::user(*user), *id).await.unwrap();
                }
                Step::StopAll(user) => {
                    manager.stop_all(&Scope::user(USERS[user])).await.unwrap();
                }
                Step::End(which) if !running.is_empty() => {
                    let (id, user, end) = running.swap_remove(which % running.len());
                    end.send(()).unwrap();
                    manager.wait(&Scope::user(user), id).await.unwrap();
                }
                Step::Wait(seconds) => tokio::time::advance(Duration::from_secs(seconds)).await,
                Step::Stop(_) | Step::End(_) => {}
            }
            check(&manager, &mut seen).await;
        }
    }

    async fn check(manager: &TaskManager, seen: &mut HashMap<(&str, std::num::NonZeroU64), Vec<TaskRecord>>) {
        for user in USERS {
            let scope = Scope::user(user);
            let version = manager.version(&scope);
            let list = manager.list(&scope).await.unwrap();
            assert_eq!(version.is_some(), !list.is_empty());
            if let Some(version) = version {
                assert_eq!(seen.entry((user, version)).or_insert_with(|| list.clone()), &list);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

        #[test]
        fn a_version_never_means_two_lists(steps in steps()) {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().start_paused(true).build().unwrap();
            runtime.block_on(a_version_is_one_list(steps));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::TaskMeta;

    #[tokio::test]
    async fn a_list_that_outgrows_its_room_is_whole_and_in_order() {
        let manager = TaskManager::builder().max_running_per_user(1000).build();
        let scope = Scope::user("a");
        let mut ids = Vec::new();
        for count in 0..600 {
            if [0, 1, ROOM - 1, ROOM, ROOM + 1, 4 * ROOM, 4 * ROOM + 1, 599].contains(&count) {
                let listed = manager.list(&scope).await.unwrap();
                assert_eq!(listed.iter().map(|task| task.id).collect::<Vec<_>>(), ids);
            }
            ids.push(manager.spawn(TaskMeta::new("a", "t"), std::future::pending::<()>()).unwrap().id);
        }
    }
}
