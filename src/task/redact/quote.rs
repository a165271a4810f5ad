//! Quoted text, also inside of other quoted text.

pub(super) const QUOTES: [char; 3] = ['"', '\'', '`'];

/// Text that is quoted deeper than this is taken for quoted as deep as this.
const MAX_SLASHES: usize = 8;

/// A quotation mark and the number of backslashes before it, more than none inside of another quoted text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quote {
    mark: char,
    slashes: usize,
}

impl Quote {
    /// The quote that `text` ends with.
    pub(super) fn at_end_of(text: &str) -> Option<Self> {
        let mark = text.chars().next_back().filter(|c| QUOTES.contains(c))?;
        let slashes = text.chars().rev().skip(1).take(MAX_SLASHES).take_while(|&c| c == '\\').count();
        Some(Self { mark, slashes })
    }

    /// The quote that `text` begins with, and its length.
    pub(super) fn at_start_of(text: &str) -> Option<(Self, usize)> {
        let bare = text.trim_start_matches('\\');
        let mark = bare.chars().next().filter(|c| QUOTES.contains(c))?;
        let slashes = text.len() - bare.len();
        Some((Self { mark, slashes: slashes.min(MAX_SLASHES) }, slashes + mark.len_utf8()))
    }

    /// Where this quote is closed in the text behind it: the content ends at the first place, and the text goes on at
    /// the second.
    pub(super) fn close(self, text: &str) -> Option<(usize, usize)> {
        let mut slashes = 0;
        for (at, c) in text.char_indices() {
            if c == self.mark && slashes <= self.slashes {
                return Some((at - slashes, at + c.len_utf8()));
            }
            slashes = if c == '\\' { slashes + 1 } else { 0 };
        }
        None
    }
}

/// Quotes that are known not to be closed up to the end of the text, so that the text is not searched again for each.
#[derive(Debug, Default)]
pub(super) struct Unclosed([Option<usize>; QUOTES.len()]);

impl Unclosed {
    fn of(&mut self, quote: Quote) -> &mut Option<usize> {
        let index = QUOTES.iter().position(|mark| *mark == quote.mark).unwrap_or_default();
        &mut self.0[index]
    }

    /// Whether an earlier quote with as many backslashes was not closed; then a later one is not either.
    pub(super) fn contains(&mut self, quote: Quote) -> bool {
        self.of(quote).is_some_and(|slashes| quote.slashes <= slashes)
    }

    pub(super) fn add(&mut self, quote: Quote) {
        let slashes = self.of(quote);
        *slashes = Some(slashes.map_or(quote.slashes, |known| known.max(quote.slashes)));
    }
}
