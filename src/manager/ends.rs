//! The transitions out of `running`. Subscribers and waiters are notified when the lock is released.

use std::sync::atomic::Ordering;

use super::mirror::VerdictReceiver;
use super::news::News;
use super::shared::Shared;
use super::table::{Audience, Ending, Place, SettleOutcome, Table};
use crate::panics;
use crate::task::{Settlement, TaskId, TaskRecord, now};

impl Shared {
    /// Ends a task. `None`: it had ended already.
    ///
    /// On one process the end counts at once. Where other processes share the view it counts when they can see it:
    /// [`publish`](Self::publish) does the rest then, and until then the task reads `running`.
    pub(super) fn settle(
        &self,
        place: Place,
        settlement: Settlement,
        to_deliver: bool,
    ) -> Option<(TaskRecord, Option<VerdictReceiver>)> {
        let clock = self.clock();
        let audience = Audience { is_shared: self.mirror.is_some(), to_deliver };
        let (unpublished, news) = {
            let mut table = self.table();
            table.expire(&self.limits, clock);
            let times = (now(), clock);
            match table.settle(&self.limits, place, settlement, audience, times)? {
                SettleOutcome::Ended(ending) => (None, self.note_end(&mut table, ending)),
                SettleOutcome::Unpublished(record) => {
                    let verdict = self.mirror.as_ref().map(|mirror| mirror.end(&record));
                    (Some((record, verdict)), News::of_change(true))
                }
            }
        };
        self.tell(&news);
        unpublished.or_else(|| news.ending.map(|ending| (ending.record, None)))
    }

    /// Other processes can see the end of a task: it counts here too, and subscribers and waiters are notified.
    pub(super) fn publish(&self, id: TaskId) {
        let clock = self.clock();
        let news = {
            let mut table = self.table();
            let Some(ending) = table.publish(&self.limits, id, clock) else { return };
            self.note_end(&mut table, ending)
        };
        self.tell(&news);
    }

    /// Another process has taken this one for dead and has ended a task that runs here, or was about to end. That end
    /// counts here too.
    pub(super) fn adopt(&self, found: &TaskRecord) {
        let clock = self.clock();
        // A record that still runs, elsewhere, is no end.
        let ended = (!found.status.is_terminal()).then(|| found.lost(now()));
        let (news, alarm) = {
            let mut table = self.table();
            let Some((ending, alarm)) = table.adopt(&self.limits, ended.as_ref().unwrap_or(found), clock)
            else {
                return;
            };
            let news = self.note_end(&mut table, ending);
            self.stops.fetch_add(1, Ordering::Release);
            (news, alarm)
        };
        drop(alarm);
        self.tell(&news);
        panics::quietly(|| {
            tracing::warn!(task_id = %found.id, "background task was taken for lost by another process");
        });
    }

    /// Notes what there is to tell of an end.
    fn note_end(&self, table: &mut Table, ending: Ending) -> News {
        self.announce(table, &ending.record);
        let start_janitor = self.limits.retain_for.is_some() && table.retained() > 0;
        News { start_janitor, is_over: table.is_over(), ending: Some(ending), to_write: false }
    }

    /// A delivery is over, well or not; or the work of a task that others have ended is gone.
    pub(super) fn delivered(&self, place: Place, well: bool) {
        let news = {
            let mut table = self.table();
            table.delivered(place, well);
            News { is_over: table.is_over(), ..News::default() }
        };
        self.tell(&news);
    }

    /// Takes a task out that never ran.
    pub(super) fn roll_back(&self, place: Place) {
        let (never_ran, news) = {
            let mut table = self.table();
            let never_ran = table.roll_back(place);
            (never_ran, News { is_over: table.is_over(), ..News::default() })
        };
        // Without the lock: dropping it wakes the callers of `wait`.
        drop(never_ran);
        self.tell(&news);
    }
}
