use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;
use std::task::Waker;

use tokio::runtime;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The room that stays allocated when no call waits, in places.
const KEPT_PLACES: usize = 64;
/// No place.
const NONE: u32 = u32::MAX;

/// All calls that wait, in one arena. Each runtime has two lanes at most: a linked one and a sorted one.
pub(super) struct Lanes {
    /// By number. A closed lane leaves a gap.
    lanes: Vec<Option<Lane>>,
    places: Vec<Place>,
    /// The first free place. Free places are linked by `next`.
    free: u32,
    /// How many calls have a place.
    used: u32,
}

struct Lane {
    runtime: runtime::Id,
    order: Order,
}

enum Order {
    /// Calls with the timeout of the layer. They are late in the order in which they began.
    Linked(End),
    /// Calls with any other timeouts.
    Sorted(Sorted),
}

/// Both ends of a linked lane: a place that no call has, before the first call and after the last one.
#[derive(Clone, Copy)]
pub(super) struct End(u32);

struct Sorted {
    calls: BTreeSet<(Instant, u32)>,
    /// When the timer of the janitor fires.
    wakes_at: Instant,
    /// Wakes the janitor for a call that is late earlier than that.
    janitor: Arc<Notify>,
}

pub(super) struct Place {
    pub(super) deadline: Instant,
    /// Present as long as the call waits.
    pub(super) waker: Option<Waker>,
    previous: u32,
    next: u32,
    pub(super) state: State,
}

/// Only the call that has a place frees it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The call waits in a linked lane.
    Linked,
    /// The call waits in the sorted lane of this number.
    Sorted(u32),
    Due,
    /// The lane was closed before the deadline.
    Stranded,
}

impl Lanes {
    pub(super) const fn new() -> Self {
        Self { lanes: Vec::new(), places: Vec::new(), free: NONE, used: 0 }
    }

    #[inline]
    pub(super) fn linked(&self, runtime: runtime::Id) -> Option<End> {
        self.lanes.iter().flatten().find_map(|lane| match lane.order {
            Order::Linked(end) if lane.runtime == runtime => Some(end),
            _ => None,
        })
    }

    /// The number of the sorted lane of a runtime.
    pub(super) fn sorted(&self, runtime: runtime::Id) -> Option<u32> {
        let is_it = |lane: &Lane| lane.runtime == runtime && matches!(lane.order, Order::Sorted(_));
        self.lanes.iter().position(|lane| lane.as_ref().is_some_and(is_it)).map(|number| number as u32)
    }

    /// Opens an empty linked lane, and returns its number too.
    pub(super) fn open_linked(&mut self, runtime: runtime::Id, now: Instant) -> (u32, End) {
        let end = self.end(now);
        (self.open(Lane { runtime, order: Order::Linked(end) }), end)
    }

    /// Opens an empty sorted lane, whose janitor wakes at `wakes_at` or when it is notified.
    pub(super) fn open_sorted(
        &mut self,
        runtime: runtime::Id,
        wakes_at: Instant,
        janitor: Arc<Notify>,
    ) -> u32 {
        let sorted = Sorted { calls: BTreeSet::new(), wakes_at, janitor };
        self.open(Lane { runtime, order: Order::Sorted(sorted) })
    }

    fn open(&mut self, lane: Lane) -> u32 {
        let number = self.lanes.iter().position(Option::is_none).unwrap_or_else(|| {
            self.lanes.push(None);
            self.lanes.len() - 1
        });
        self.lanes[number] = Some(lane);
        number as u32
    }

    /// Closes an empty lane.
    pub(super) fn close(&mut self, lane: u32) {
        if let Some(Lane { order: Order::Linked(End(end)), .. }) = self.lanes[lane as usize].take() {
            self.free(end);
        }
    }

    /// The call of a lane that is late first.
    pub(super) fn first(&self, lane: u32) -> Option<(u32, Instant)> {
        match &self.lanes[lane as usize].as_ref()?.order {
            Order::Linked(End(end)) => {
                let first = self.places[*end as usize].next;
                (first != *end).then(|| (first, self.places[first as usize].deadline))
            }
            Order::Sorted(sorted) => sorted.calls.first().map(|&(deadline, first)| (first, deadline)),
        }
    }

    /// Notes when the janitor of a lane wakes. A linked lane need not know: a call that joins it is the last one.
    pub(super) fn wakes_at(&mut self, lane: u32, deadline: Instant) {
        if let Some(Lane { order: Order::Sorted(sorted), .. }) = &mut self.lanes[lane as usize] {
            sorted.wakes_at = deadline;
        }
    }

    #[inline]
    pub(super) fn place(&mut self, place: u32) -> &mut Place {
        &mut self.places[place as usize]
    }

    /// Adds a call to a linked lane.
    #[inline(always)]
    pub(super) fn push(&mut self, End(end): End, deadline: Instant, waker: Waker) -> u32 {
        let mut next = end;
        let mut previous = self.place(end).previous;
        // Nearly always the last one. But the thread that reads the clock first may come to the lock second.
        while previous != end && self.place(previous).deadline > deadline {
            next = previous;
            previous = self.place(previous).previous;
        }
        self.used += 1;
        let place = self.store(Place { deadline, waker: Some(waker), previous, next, state: State::Linked });
        self.place(previous).next = place;
        self.place(next).previous = place;
        place
    }

    /// Adds a call to a sorted lane. Returns the janitor if it would wake too late for this call.
    pub(super) fn insert(
        &mut self,
        lane: u32,
        deadline: Instant,
        waker: Waker,
    ) -> (u32, Option<Arc<Notify>>) {
        self.used += 1;
        let state = State::Sorted(lane);
        let place = self.store(Place { deadline, waker: Some(waker), previous: NONE, next: NONE, state });
        let Some(Lane { order: Order::Sorted(sorted), .. }) = &mut self.lanes[lane as usize] else {
            return (place, None);
        };
        sorted.calls.insert((deadline, place));
        if deadline >= sorted.wakes_at {
            return (place, None);
        }
        sorted.wakes_at = deadline;
        (place, Some(Arc::clone(&sorted.janitor)))
    }

    /// Takes a call that waits out of its lane. It keeps its place.
    #[inline]
    pub(super) fn unlink(&mut self, place: u32) -> Option<Waker> {
        let left = self.place(place);
        let (waker, previous, next) = (left.waker.take(), left.previous, left.next);
        if let State::Sorted(lane) = left.state {
            let deadline = left.deadline;
            self.unsort(lane, deadline, place);
            return waker;
        }
        self.place(previous).next = next;
        self.place(next).previous = previous;
        waker
    }

    #[inline(never)]
    fn unsort(&mut self, lane: u32, deadline: Instant, place: u32) {
        if let Some(Lane { order: Order::Sorted(sorted), .. }) = &mut self.lanes[lane as usize] {
            sorted.calls.remove(&(deadline, place));
        }
    }

    /// Frees a place.
    #[inline]
    pub(super) fn remove(&mut self, place: u32) -> Option<Waker> {
        let waits = matches!(self.place(place).state, State::Linked | State::Sorted(_));
        let waker = if waits { self.unlink(place) } else { None };
        self.used -= 1;
        self.free(place);
        waker
    }

    /// Whether many calls have waited and none does now.
    #[inline]
    pub(super) const fn is_too_large(&self) -> bool {
        self.used == 0 && self.places.capacity() > KEPT_PLACES
    }

    /// Gives back the room of calls that have left, when all have.
    #[cold]
    pub(super) fn make_small(&mut self) -> Vec<Place> {
        let room = mem::take(&mut self.places);
        self.free = NONE;
        for number in 0..self.lanes.len() {
            if let Some(Lane { runtime, order: Order::Linked(End(end)) }) = self.lanes[number] {
                let end = self.end(room[end as usize].deadline);
                self.lanes[number] = Some(Lane { runtime, order: Order::Linked(end) });
            }
        }
        room
    }

    fn end(&mut self, deadline: Instant) -> End {
        let end =
            self.store(Place { deadline, waker: None, previous: NONE, next: NONE, state: State::Linked });
        let place = self.place(end);
        (place.previous, place.next) = (end, end);
        End(end)
    }

    #[inline]
    fn store(&mut self, place: Place) -> u32 {
        let number = self.free;
        if let Some(free) = self.places.get_mut(number as usize) {
            self.free = free.next;
            *free = place;
            return number;
        }
        self.places.push(place);
        self.places.len() as u32 - 1
    }

    #[inline]
    fn free(&mut self, place: u32) {
        self.place(place).next = mem::replace(&mut self.free, place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    /// The deadlines of a lane, which is empty then.
    fn order(lanes: &mut Lanes, lane: u32, now: Instant) -> Vec<u128> {
        let mut order = Vec::new();
        while let Some((first, deadline)) = lanes.first(lane) {
            order.push((deadline - now).as_millis());
            lanes.remove(first);
        }
        order
    }

    /// The thread that reads the clock first may come to the lock second: the order is that of the deadlines.
    #[tokio::test]
    async fn a_linked_lane_is_in_order_of_deadline_whichever_call_comes_first() {
        let (now, mut lanes) = (Instant::now(), Lanes::new());
        let (lane, end) = lanes.open_linked(runtime::Handle::current().id(), now);
        for millis in [20, 10, 40, 30, 20] {
            lanes.push(end, now + Duration::from_millis(millis), Waker::noop().clone());
        }
        assert_eq!(order(&mut lanes, lane, now), [10, 20, 20, 30, 40]);
    }

    #[tokio::test]
    async fn the_janitor_of_a_sorted_lane_hears_of_calls_that_are_late_earlier() {
        let (now, mut lanes) = (Instant::now(), Lanes::new());
        let at = |millis| now + Duration::from_millis(millis);
        let lane = lanes.open_sorted(runtime::Handle::current().id(), at(30), Arc::default());
        let heard = [30, 20, 40, 25, 20, 10].map(|millis| {
            let (_, janitor) = lanes.insert(lane, at(millis), Waker::noop().clone());
            janitor.is_some()
        });
        assert_eq!(heard, [false, true, false, false, false, true]);
        lanes.wakes_at(lane, at(50));
        assert!(lanes.insert(lane, at(45), Waker::noop().clone()).1.is_some());
        assert_eq!(order(&mut lanes, lane, now), [10, 20, 20, 25, 30, 40, 45]);
    }
}
