use std::mem;
use std::task::Waker;
use std::time::Duration;

use tokio::runtime;
use tokio::time::Instant;

/// Room for so many stays when nobody waits.
const KEPT_PLACES: usize = 64;
/// No place.
const NONE: u32 = u32::MAX;

/// Who waits in one lane. The clock is the runtime's: it may be paused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) runtime: runtime::Id,
    pub(super) timeout: Duration,
}

/// All that wait, in one arena: a lane for each timeout, linked in order of deadline.
pub(super) struct Lanes {
    /// By number, so that a gap may be left.
    lanes: Vec<Option<Lane>>,
    places: Vec<Place>,
    /// The first place that is free. They are linked by `next`.
    free: u32,
    /// How many calls have a place.
    used: u32,
}

#[derive(Clone, Copy)]
struct Lane {
    key: Key,
    end: End,
}

/// Both ends of a lane: a place that nobody has, before the first and after the last.
#[derive(Clone, Copy)]
pub(super) struct End(u32);

pub(super) struct Place {
    pub(super) deadline: Instant,
    /// There as long as it waits.
    pub(super) waker: Option<Waker>,
    previous: u32,
    next: u32,
    pub(super) state: State,
}

/// A place is freed by the call that has it, and by nobody else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Waits,
    Due,
    /// Its lane has gone before it was due.
    Stranded,
}

impl Lanes {
    pub(super) const fn new() -> Self {
        Self { lanes: Vec::new(), places: Vec::new(), free: NONE, used: 0 }
    }

    #[inline]
    pub(super) fn find(&self, key: Key) -> Option<End> {
        self.lanes.iter().flatten().find(|lane| lane.key == key).map(|lane| lane.end)
    }

    /// How many have another timeout than this.
    pub(super) fn count_besides(&self, usual: Duration) -> usize {
        self.lanes.iter().flatten().filter(|lane| lane.key.timeout != usual).count()
    }

    /// Makes an empty one, and tells its number.
    pub(super) fn open(&mut self, key: Key, now: Instant) -> (u32, End) {
        let number = self.lanes.iter().position(Option::is_none).unwrap_or_else(|| {
            self.lanes.push(None);
            self.lanes.len() - 1
        });
        let end = self.end(now);
        self.lanes[number] = Some(Lane { key, end });
        (number as u32, end)
    }

    /// Forgets an empty one.
    pub(super) fn close(&mut self, lane: u32) {
        if let Some(lane) = self.lanes[lane as usize].take() {
            self.free(lane.end.0);
        }
    }

    pub(super) fn first(&self, lane: u32) -> Option<(u32, Instant)> {
        let End(end) = self.lanes[lane as usize].as_ref()?.end;
        let first = self.places[end as usize].next;
        (first != end).then(|| (first, self.places[first as usize].deadline))
    }

    #[inline]
    pub(super) fn place(&mut self, place: u32) -> &mut Place {
        &mut self.places[place as usize]
    }

    /// Puts somebody into a lane.
    #[inline(always)]
    pub(super) fn push(&mut self, End(end): End, deadline: Instant, waker: Waker) -> u32 {
        let mut next = end;
        let mut previous = self.place(end).previous;
        // Nearly always the last one. But who looked at the clock first may come to the lock second.
        while previous != end && self.place(previous).deadline > deadline {
            next = previous;
            previous = self.place(previous).previous;
        }
        self.used += 1;
        let place = self.store(Place { deadline, waker: Some(waker), previous, next, state: State::Waits });
        self.place(previous).next = place;
        self.place(next).previous = place;
        place
    }

    /// Takes one who waits out of its lane. It stays in its place.
    #[inline]
    pub(super) fn unlink(&mut self, place: u32) -> Option<Waker> {
        let left = self.place(place);
        let (waker, previous, next) = (left.waker.take(), left.previous, left.next);
        self.place(previous).next = next;
        self.place(next).previous = previous;
        waker
    }

    /// Frees a place.
    #[inline]
    pub(super) fn remove(&mut self, place: u32) -> Option<Waker> {
        let waits = self.place(place).state == State::Waits;
        let waker = if waits { self.unlink(place) } else { None };
        self.used -= 1;
        self.free(place);
        waker
    }

    /// A crowd has left.
    #[inline]
    pub(super) const fn is_too_large(&self) -> bool {
        self.used == 0 && self.places.capacity() > KEPT_PLACES
    }

    /// Gives back the room of those who have left, when all have.
    #[cold]
    pub(super) fn make_small(&mut self) -> Vec<Place> {
        let room = mem::take(&mut self.places);
        self.free = NONE;
        for number in 0..self.lanes.len() {
            if let Some(Lane { key, end: End(end) }) = self.lanes[number] {
                let end = self.end(room[end as usize].deadline);
                self.lanes[number] = Some(Lane { key, end });
            }
        }
        room
    }

    fn end(&mut self, deadline: Instant) -> End {
        let end =
            self.store(Place { deadline, waker: None, previous: NONE, next: NONE, state: State::Waits });
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

    /// Who looks at the clock first may come to the lock second: the order is that of the deadlines.
    #[tokio::test]
    async fn a_lane_is_in_order_of_deadline_whoever_comes_first() {
        let now = Instant::now();
        let key = Key { runtime: runtime::Handle::current().id(), timeout: Duration::from_secs(1) };
        let mut lanes = Lanes::new();
        let (lane, end) = lanes.open(key, now);
        for millis in [20, 10, 40, 30, 20] {
            lanes.push(end, now + Duration::from_millis(millis), Waker::noop().clone());
        }
        let mut order = Vec::new();
        while let Some((first, deadline)) = lanes.first(lane) {
            order.push((deadline - now).as_millis());
            lanes.remove(first);
        }
        assert_eq!(order, [10, 20, 20, 30, 40]);
    }
}
