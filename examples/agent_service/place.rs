//! How far a client has read the inboxes of a session.

use std::fmt;
use std::str::FromStr;

use tower_offload::bus::EntryId;

const NOTHING: EntryId = EntryId { millis: 0, sequence: 0 };

/// The last entry of each inbox that was read: of the user's own, and of the session's. As text `ID` or `ID.ID`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place([Option<EntryId>; 2]);

impl Place {
    pub(crate) fn get(&self, inbox: usize) -> Option<EntryId> {
        self.0.get(inbox).copied().flatten()
    }

    pub(crate) fn set(&mut self, inbox: usize, id: EntryId) {
        if let Some(last) = self.0.get_mut(inbox) {
            *last = Some(id);
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.0;
        write!(f, "{}", first.unwrap_or(NOTHING))?;
        second.map_or(Ok(()), |second| write!(f, ".{second}"))
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let entry = |text: &str| {
            let (millis, sequence) = text.split_once('-')?;
            Some(EntryId { millis: millis.parse().ok()?, sequence: sequence.parse().ok()? })
        };
        let (first, second) =
            text.split_once('.').map_or((text, None), |(first, second)| (first, Some(second)));
        let wrong = || "ack is not the id of a hint".to_owned();
        let second = second.map(|second| entry(second).ok_or_else(wrong)).transpose()?;
        Ok(Self([Some(entry(first).ok_or_else(wrong)?), second]))
    }
}
