//! The storage of the texts of a [`TaskMeta`](super::TaskMeta).

use std::ops::Range;

/// Unused memory up to this size stays allocated, in bytes. It is not worth a call of the allocator.
const SLACK: usize = 64;

/// The bytes that are allocated in advance when a text exceeds the capacity, because more texts may follow.
const ROOM: usize = 64;

/// The longest total of all texts, in bytes, so that an end fits into 32 bits, and a length into any `isize`.
const MAX_BYTES: usize = i32::MAX as usize;

/// The texts one after the other, so that a description takes two allocations and a clone only counts a reference. Equal
/// texts always have the same representation.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Texts {
    all: String,
    /// The end of each text except the last one, which ends where `all` ends.
    ends: [u32; Part::Summary as usize],
    has_call_id: bool,
    /// Whether the summary is the tool's name, which is stored once then.
    summary_is_name: bool,
    /// Whether a text was cut because of [`MAX_BYTES`].
    cut: bool,
}

/// The parts, in the order in which they are usually set, so that each one is appended.
#[derive(Clone, Copy)]
pub(super) enum Part {
    User,
    Tool,
    Session,
    Agent,
    CallId,
    Summary,
}

impl Texts {
    pub(super) fn with_capacity<const N: usize>(lengths: [usize; N]) -> Self {
        let bytes = lengths.into_iter().fold(0, usize::saturating_add);
        Self { all: String::with_capacity(bytes.min(MAX_BYTES)), ..Self::default() }
    }

    fn range(&self, part: Part) -> Range<usize> {
        let index = part as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        start..self.ends.get(index).map_or(self.all.len(), |end| *end as usize)
    }

    #[cfg(feature = "api")]
    pub(super) fn all(&self) -> &str {
        &self.all
    }

    pub(super) fn text(&self, part: Part) -> &str {
        self.all.get(self.range(part)).unwrap_or_default()
    }

    /// Whether a part is `text`. Faster than comparing with [`text`](Self::text), which checks for character boundaries.
    pub(super) fn is(&self, part: Part, text: &str) -> bool {
        self.all.as_bytes().get(self.range(part)) == Some(text.as_bytes())
    }

    pub(super) fn summary(&self) -> &str {
        self.text(if self.summary_is_name { Part::Tool } else { Part::Summary })
    }

    pub(super) fn call_id(&self) -> Option<&str> {
        self.has_call_id.then(|| self.text(Part::CallId))
    }

    /// The bytes of all texts. A summary that is the name counts too.
    pub(super) fn bytes(&self) -> usize {
        let shared = if self.summary_is_name { self.text(Part::Tool).len() } else { 0 };
        self.all.len().saturating_add(shared)
    }

    /// Whether a text was cut because all together would have been too long.
    pub(super) const fn is_cut(&self) -> bool {
        self.cut
    }

    /// Frees memory that was allocated in advance.
    pub(super) fn fit(&mut self) {
        if self.all.capacity() - self.all.len() >= SLACK {
            self.all.shrink_to_fit();
        }
    }

    pub(super) fn set_call_id(&mut self, call_id: &str) {
        self.set(Part::CallId, call_id);
        self.has_call_id = true;
    }

    pub(super) fn set_summary(&mut self, summary: &str) {
        self.summary_is_name = summary == self.text(Part::Tool);
        self.set(Part::Summary, if self.summary_is_name { "" } else { summary });
    }

    pub(super) fn set(&mut self, part: Part, text: &str) {
        self.set_within(MAX_BYTES, part, text);
    }

    /// Sets a text, cut so that all together are not longer than `max_bytes`.
    fn set_within(&mut self, max_bytes: usize, part: Part, text: &str) {
        let range = self.range(part);
        let others = self.all.len() - range.len();
        let room = max_bytes.saturating_sub(others);
        let length = (0..=room.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        self.cut |= length < text.len();
        let text = &text[..length];
        if others + length > self.all.capacity() {
            self.all.reserve_exact(length + ROOM);
        }
        for end in self.ends.iter_mut().skip(part as usize) {
            // Fits: no end is beyond `max_bytes`.
            *end = (*end as usize - range.len() + length) as u32;
        }
        if range.end == self.all.len() {
            self.all.truncate(range.start);
            self.all.push_str(text);
        } else if range.is_empty() {
            self.all.insert_str(range.start, text);
        } else {
            self.all.replace_range(range, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[(Part, &str)]) -> Texts {
        let mut texts = Texts::default();
        parts.iter().for_each(|(part, text)| texts.set(*part, text));
        texts
    }

    #[test]
    fn the_usual_order_appends_within_the_capacity() {
        let mut texts = Texts::with_capacity([6]);
        texts.set(Part::User, "u");
        texts.set(Part::Tool, "t");
        texts.set_summary("t");
        texts.set(Part::Session, "s");
        texts.set(Part::Agent, "a");
        texts.set_call_id("c");
        assert_eq!((&*texts.all, texts.summary(), texts.bytes()), ("utsac", "t", 6));
        texts.set_summary("x");
        assert_eq!((&*texts.all, texts.all.capacity()), ("utsacx", 6));
    }

    #[test]
    fn one_line_of_the_cache_holds_it_with_its_counts() {
        #[cfg(target_pointer_width = "64")]
        assert_eq!(2 * size_of::<usize>() + size_of::<Texts>(), 64);
    }

    #[test]
    fn what_makes_all_too_long_is_cut_between_characters() {
        let mut texts = of(&[(Part::User, "ab"), (Part::Summary, "ef")]);
        assert!(!texts.is_cut());
        texts.set_within(7, Part::Agent, "éé");
        assert!(texts.is_cut());
        assert_eq!((texts.text(Part::Agent), texts.text(Part::Summary)), ("é", "ef"));
        texts.set_within(6, Part::Session, "x");
        assert_eq!((texts.text(Part::Session), texts.text(Part::Summary)), ("", "ef"));
        texts.set_within(3, Part::Tool, "x");
        assert_eq!(texts.all, "abéef");
    }

    #[test]
    fn a_little_slack_is_kept() {
        let mut texts = Texts::with_capacity([SLACK]);
        texts.set(Part::User, "u");
        texts.fit();
        assert_eq!(texts.all.capacity(), SLACK);
        texts.set(Part::User, "");
        texts.fit();
        assert_eq!(texts.all.capacity(), 0);
    }
}
