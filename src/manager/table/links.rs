//! Doubly linked lists through the values of an [`Arena`]: appending, unlinking and walking cost what they touch.

use super::arena::Arena;

const NONE: u32 = u32::MAX;

/// The lists that an entry is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// All tasks of a user, in order of registration.
    User,
    /// All tasks of a session, in order of registration.
    Session,
    /// Those of a user that run, in order of registration; or that have ended, in order of their end.
    UserPhase,
    /// Those of all users that have ended, in order of their end.
    Done,
    /// The finished tasks of a user that have a result, in order of their end.
    Results,
}

/// The neighbours on one list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    prev: u32,
    next: u32,
}

/// The neighbours on each list.
pub(super) type Links = [Link; 5];

pub(super) const UNLINKED: Links = [Link { prev: NONE, next: NONE }; 5];

pub(super) trait Linked {
    fn links(&self) -> &Links;
    fn links_mut(&mut self) -> &mut Links;
}

/// One list.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
    len: u32,
}

impl List {
    pub(super) const fn new() -> Self {
        Self { head: NONE, tail: NONE, len: 0 }
    }

    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn first(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    pub(super) fn push_back<T: Linked>(&mut self, arena: &mut Arena<T>, kind: Kind, index: u32) {
        arena[index].links_mut()[kind as usize] = Link { prev: self.tail, next: NONE };
        match self.tail {
            NONE => self.head = index,
            tail => arena[tail].links_mut()[kind as usize].next = index,
        }
        self.tail = index;
        self.len += 1;
    }

    pub(super) fn unlink<T: Linked>(&mut self, arena: &mut Arena<T>, kind: Kind, index: u32) {
        let Link { prev, next } = arena[index].links()[kind as usize];
        match prev {
            NONE => self.head = next,
            prev => arena[prev].links_mut()[kind as usize].next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => arena[next].links_mut()[kind as usize].prev = prev,
        }
        self.len -= 1;
    }

    pub(super) fn iter<'a, T: Linked>(
        &self,
        arena: &'a Arena<T>,
        kind: Kind,
    ) -> impl Iterator<Item = (u32, &'a T)> + use<'a, T> {
        let mut next = self.head;
        std::iter::from_fn(move || {
            let index = (next != NONE).then_some(next)?;
            let value = &arena[index];
            next = value.links()[kind as usize].next;
            Some((index, value))
        })
    }
}
