use std::fmt;

/// How many bytes are kept without an allocation: three UUIDs and a usual path. Each call copies them once, and keeps them
/// while it runs.
const INLINE: usize = 128;

/// Some texts of a request, copied one after the other into one piece of memory: a fast call does not allocate, and a slow
/// one does not keep the read buffer of its connection alive while its task runs.
#[derive(Clone)]
pub(super) struct Texts<const N: usize> {
    /// Beside `heap` and not in an enum with it, so that `fill` writes to its final place.
    inline: [u8; INLINE],
    /// All of them, if they do not fit in `inline`.
    heap: Option<Box<[u8]>>,
    ends: [usize; N],
}

impl<const N: usize> Texts<N> {
    pub(super) const EMPTY: Self = Self { inline: [0; INLINE], heap: None, ends: [0; N] };

    /// Copies `texts`. They are checked to be UTF-8 only when they are read.
    // Inlined, because a call would pass all texts by memory. Not a constructor, so that they are copied to where they stay.
    #[inline(always)]
    pub(super) fn fill(&mut self, texts: [&[u8]; N]) {
        let mut len = 0;
        let mut free = &mut self.inline[..];
        for (text, end) in texts.iter().zip(&mut self.ends) {
            // A call of `memcpy` costs more than this check.
            if !text.is_empty() {
                len += text.len();
                // What does not fit is copied below, with all before it.
                if let Some((to, rest)) = free.split_at_mut_checked(text.len()) {
                    to.copy_from_slice(text);
                    free = rest;
                } else {
                    free = &mut [];
                }
            }
            *end = len;
        }
        if len > INLINE {
            self.heap = Some(texts.concat().into());
        }
    }

    /// The texts from the one to the other, both included, as one; empty if that is not UTF-8.
    pub(super) fn get(&self, first: usize, last: usize) -> &str {
        let bytes = self.heap.as_deref().unwrap_or(&self.inline);
        let start = first.checked_sub(1).map_or(0, |before| self.ends[before]);
        let text = bytes.get(start..self.ends[last]).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Debug for Texts<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..N).map(|index| self.get(index, index))).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lengths on both sides of what is kept inline.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof![Just(String::new()), "\\PC{0,12}", "[a-z]{40,50}", "[a-z]{124,132}"]
    }

    fn filled<const N: usize>(texts: [&[u8]; N]) -> Texts<N> {
        let mut kept = Texts::EMPTY;
        kept.fill(texts);
        kept
    }

    fn is_inline<const N: usize>(texts: &Texts<N>) -> bool {
        texts.heap.is_none()
    }

    proptest! {
        #[test]
        fn texts_come_back_as_they_were_put_in(texts in [text(), text(), text(), text()]) {
            let kept = filled(texts.each_ref().map(|text| text.as_bytes()));
            prop_assert_eq!(is_inline(&kept), texts.concat().len() <= INLINE);
            for first in 0..4 {
                for last in first..4 {
                    prop_assert_eq!(kept.get(first, last), texts[first..=last].concat());
                }
            }
            prop_assert_eq!(format!("{:?}", kept.clone()), format!("{texts:?}"));
        }
    }

    #[test]
    fn only_what_does_not_fit_is_allocated() {
        let text = "a".repeat(INLINE);
        for (rest, fits) in [("", true), ("b", false)] {
            let kept = filled([text.as_bytes(), b"", rest.as_bytes()]);
            assert_eq!(is_inline(&kept), fits);
            assert_eq!([kept.get(0, 0), kept.get(1, 1), kept.get(2, 2)], [&*text, "", rest]);
        }
    }

    #[test]
    fn what_is_not_utf8_reads_as_empty() {
        let kept = filled([b"a", b"\xff", b"b"]);
        assert_eq!([kept.get(0, 0), kept.get(1, 1), kept.get(2, 2)], ["a", "", "b"]);
    }
}
