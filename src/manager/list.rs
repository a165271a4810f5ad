//! Reading all tasks of a scope.

use super::TaskManager;
use super::directory::View;
use super::table::Entry;
use crate::bus;
use crate::task::{Scope, TaskRecord};

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
            ids.push(manager.register(TaskMeta::new("a", "t"), std::future::pending::<()>()).unwrap().id);
        }
    }
}
