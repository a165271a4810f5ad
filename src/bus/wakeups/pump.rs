use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::super::message::Wakeup;
use super::super::trouble::{Backoff, after, in_time};
use super::super::{Result, SharedBus, keys};
use super::back::Back;
use super::kept::Kept;
use crate::log_limit::LogLimit;
use crate::task::logged;

/// What a [`WakeupsBuilder`](super::WakeupsBuilder) sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) batch: usize,
    pub(super) max_kept: usize,
    pub(super) first_pause: Duration,
    pub(super) longest_pause: Duration,
    pub(super) poll: Duration,
}

/// How the pump and its [`Wakeups`](super::Wakeups) talk.
pub(super) struct Ends {
    /// The consumer wants one more.
    pub(super) asked: Arc<Notify>,
    /// The one it asked for.
    pub(super) out: mpsc::Sender<Wakeup>,
    /// Those that it could not use.
    pub(super) returned: mpsc::UnboundedReceiver<Wakeup>,
    pub(super) closing: CancellationToken,
    /// There may be something in the queue.
    pub(super) signal: Arc<Notify>,
}

/// Takes wakeups out of the queue, one batch when one is asked for, and hands out those whose session is free.
///
/// What is drained is nowhere but here. So no call is dropped while it is under way, not even to close: a drain that
/// was dropped may have taken entries that are then lost.
pub(super) struct Pump {
    bus: SharedBus,
    options: Options,
    ends: Ends,
    /// Drained, and not looked at yet.
    fresh: VecDeque<Wakeup>,
    kept: Kept,
    back: Back,
    /// The consumer has asked for one that it did not get yet.
    is_wanted: bool,
    /// Whether the queue may have entries.
    more: bool,
    /// When to look into the queue without a signal.
    poll_at: Instant,
    /// When to look into the queue though nothing more can be kept.
    rotate_at: Instant,
    trouble: Backoff,
}

/// What one step came to.
enum Step {
    HandOut(Wakeup),
    GoOn,
    Wait(Instant),
}

impl Pump {
    pub(super) fn new(bus: SharedBus, options: Options, ends: Ends) -> Self {
        let now = Instant::now();
        let kept = Kept::new(options.max_kept, options.first_pause, options.longest_pause);
        Self {
            bus,
            options,
            ends,
            fresh: VecDeque::new(),
            kept,
            back: Back::default(),
            is_wanted: false,
            more: true,
            poll_at: after(options.poll),
            rotate_at: now,
            trouble: Backoff::new(),
        }
    }

    /// Goes on until it is told to close, and then puts back what it has. Called again when it was dropped half-way.
    pub(super) async fn run(&mut self) -> Result<()> {
        while self.is_asked().await {
            let Some(wakeup) = self.next().await else { break };
            self.is_wanted = false;
            // There is room for the one that was asked for, unless the consumer has just gone.
            if let Err(unsent) = self.ends.out.try_send(wakeup) {
                self.kept.add_returned(unsent.into_inner());
            }
        }
        self.ends.returned.close();
        while let Some(wakeup) = self.ends.returned.recv().await {
            self.kept.add_returned(wakeup);
        }
        self.clear_out();
        self.back.push_patiently(&*self.bus).await
    }

    /// Waits until the consumer wants a wakeup; `false` when it never will.
    ///
    /// Wakeups that the consumer does not ask for go back to the queue after a while. Until then they stay, because most
    /// consumers ask again soon.
    async fn is_asked(&mut self) -> bool {
        if self.is_wanted {
            return true;
        }
        let mut hold_until = after(self.options.longest_pause);
        loop {
            let holds = !(self.kept.is_empty() && self.fresh.is_empty() && self.back.is_done());
            tokio::select! {
                biased;
                () = self.ends.closing.cancelled() => return false,
                Some(wakeup) = self.ends.returned.recv() => {
                    self.take_back(wakeup);
                    hold_until = after(self.options.longest_pause);
                }
                () = self.ends.asked.notified() => {
                    self.is_wanted = true;
                    return true;
                }
                () = sleep_until(hold_until), if holds => {
                    self.clear_out();
                    self.more = true;
                    if let Err(error) = self.back.push(&*self.bus).await {
                        tracing::warn!(%error, "wakeups that nobody asked for are not back in the queue yet");
                        hold_until = after(self.trouble.pause());
                    }
                }
            }
        }
    }

    /// The next wakeup whose session is free; `None` when it is time to close.
    async fn next(&mut self) -> Option<Wakeup> {
        loop {
            if self.ends.closing.is_cancelled() {
                return None;
            }
            while let Ok(wakeup) = self.ends.returned.try_recv() {
                self.take_back(wakeup);
            }
            let step = self.step().await;
            if step.is_ok() {
                self.trouble.reset();
            }
            match step {
                Ok(Step::HandOut(wakeup)) => return Some(wakeup),
                // A call to a bus in memory never waits, and the queue may be long: let other tasks run.
                Ok(Step::GoOn) => tokio::task::yield_now().await,
                Ok(Step::Wait(until)) => self.wait(until).await,
                Err(error) => {
                    let pause = self.trouble.pause();
                    tracing::warn!(error = &error as &dyn std::error::Error, retry_after = ?pause, "waiting for wakeups");
                    self.sit_out(after(pause)).await;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Step> {
        let now = Instant::now();
        if now >= self.poll_at {
            self.more = true;
            self.poll_at = after(self.options.poll);
        }
        if !self.back.is_done() {
            self.back.push(&*self.bus).await?;
            return Ok(Step::GoOn);
        }
        if let Some(session) = self.kept.due(now) {
            if self.is_busy(&session).await? {
                self.kept.postpone(&session);
                return Ok(Step::GoOn);
            }
            return Ok(self.kept.release(&session).map_or(Step::GoOn, Step::HandOut));
        }
        if !self.fresh.is_empty() {
            return self.look_at_first().await;
        }
        let has_room = self.kept.room() > 0;
        if self.more && (has_room || now >= self.rotate_at) {
            self.drain().await?;
            return Ok(Step::GoOn);
        }
        let rotate_at = (self.more && !has_room).then_some(self.rotate_at);
        let next = [self.kept.next_due(), rotate_at].into_iter().flatten().fold(self.poll_at, Instant::min);
        Ok(Step::Wait(next))
    }

    async fn is_busy(&self, session_id: &str) -> Result<bool> {
        let lock = keys::session_lock(session_id);
        in_time("look whether a session is busy", self.bus.is_locked(&lock)).await
    }

    /// The first of those that were drained. It stays there while the bus is asked: this may be dropped meanwhile.
    async fn look_at_first(&mut self) -> Result<Step> {
        let Some(first) = self.fresh.front() else { return Ok(Step::GoOn) };
        let is_news = !self.kept.has_same(first);
        let is_known = self.kept.knows(&first.session_id);
        let is_busy = is_news && !is_known && self.is_busy(&first.session_id).await?;

        let Some(wakeup) = self.fresh.pop_front() else { return Ok(Step::GoOn) };
        match () {
            () if !is_news => {}
            () if !is_known && !is_busy => {
                self.kept.handed_out(&wakeup.session_id);
                return Ok(Step::HandOut(wakeup));
            }
            () if self.kept.room() == 0 => self.spill(wakeup),
            () if is_known => self.kept.add(wakeup),
            () => self.kept.add_busy(wakeup),
        }
        Ok(Step::GoOn)
    }

    async fn drain(&mut self) -> Result<()> {
        // No more than can be kept, should all of their sessions be busy. When nothing can, a batch is still looked
        // through now and then: behind those that are busy there may be some that are not.
        let max = match self.kept.room() {
            0 => self.options.batch,
            room => self.options.batch.min(room),
        };
        self.rotate_at = after(self.options.longest_pause);
        let entries = in_time("drain the wakeups", self.bus.drain(keys::WAKEUPS, max)).await?;
        self.more = !entries.is_empty();
        for entry in entries {
            match Wakeup::read(&entry.payload) {
                Ok(wakeup) => self.fresh.push_back(wakeup),
                // The error may quote the entry, which may carry what a user wrote.
                Err(error) => {
                    static LINES: LogLimit = LogLimit::new();
                    LINES.write(|left_out| {
                        tracing::warn!(error = logged(error), id = %entry.id, left_out, "malformed wakeup skipped");
                    });
                }
            }
        }
        Ok(())
    }

    /// One that the consumer had and could not use.
    fn take_back(&mut self, wakeup: Wakeup) {
        match self.kept.room() {
            0 => self.spill(wakeup),
            _ => self.kept.add_returned(wakeup),
        }
    }

    fn spill(&mut self, wakeup: Wakeup) {
        self.back.add(wakeup);
        self.rotate_at = after(self.options.longest_pause);
    }

    /// All that is here is on its way back. Those that were kept go first: they are older.
    fn clear_out(&mut self) {
        self.back.extend(self.kept.take_all());
        self.back.extend(std::mem::take(&mut self.fresh));
    }

    /// Until `until`, or something happens.
    async fn wait(&mut self, until: Instant) {
        tokio::select! {
            biased;
            () = self.ends.closing.cancelled() => {}
            Some(wakeup) = self.ends.returned.recv() => self.take_back(wakeup),
            () = self.ends.signal.notified() => self.more = true,
            () = sleep_until(until) => {}
        }
    }

    /// Until `until`, whatever happens: the bus is away.
    async fn sit_out(&self, until: Instant) {
        tokio::select! {
            () = self.ends.closing.cancelled() => {}
            () = sleep_until(until) => {}
        }
    }
}
