use std::fmt;

use super::texts::Texts;
use crate::offload::OffloadCall;
use crate::task::{Parts as MetaParts, TaskMeta, redact};

/// What is kept of an HTTP call while it runs: its texts, copied.
///
/// Custom responders and deliverers find it in [`Offloaded`](crate::offload::Offloaded) and
/// [`Delivery`](crate::offload::Delivery).
#[derive(Clone)]
pub struct HttpCall {
    /// User, session, agent, call id, and what tool name and summary are made of.
    texts: Texts<8>,
    /// The first of the texts of the summary. The usual one begins with the tool name, which is kept once.
    summary_from: u8,
}

const USER: usize = 0;
const SESSION: usize = 1;
const AGENT: usize = 2;
const CALL_ID: usize = 3;
const TOOL_NAME: usize = 4;
const LAST: usize = 7;

/// What a call is made of, borrowed from its request. Empty: none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    /// UTF-8. The next three count as none where they are not.
    pub(super) user_id: &'a [u8],
    pub(super) session_id: &'a [u8],
    pub(super) agent_id: &'a [u8],
    pub(super) call_id: &'a [u8],
    pub(super) method: &'a str,
    pub(super) path: &'a str,
}

impl HttpCall {
    /// A call without texts, which are filled in where it stays: a copy of a call costs as much as a header.
    #[inline(always)]
    pub(super) const fn empty() -> Self {
        Self { texts: Texts::EMPTY, summary_from: TOOL_NAME as u8 }
    }

    /// Named by method and path.
    #[inline(always)]
    pub(super) fn fill(&mut self, parts: Parts<'_>) {
        let Parts { method, path, .. } = parts;
        self.fill_texts(parts, [method, " ", path, ""]);
    }

    /// With a tool name in place of the method, or a summary in place of method and path.
    #[inline(never)]
    pub(super) fn fill_named(&mut self, parts: Parts<'_>, tool_name: Option<&str>, summary: Option<&str>) {
        let Parts { method, path, .. } = parts;
        let tool_name = tool_name.unwrap_or(method);
        let names = match summary {
            Some(summary) => [tool_name, summary, "", ""],
            None => [tool_name, method, " ", path],
        };
        self.summary_from = TOOL_NAME as u8 + 1;
        self.fill_texts(parts, names);
    }

    #[inline(always)]
    fn fill_texts(&mut self, parts: Parts<'_>, names: [&str; 4]) {
        let Parts { user_id, session_id, agent_id, call_id, .. } = parts;
        let [a, b, c, d] = names.map(str::as_bytes);
        self.texts.fill([user_id, session_id, agent_id, call_id, a, b, c, d]);
    }

    fn text(&self, index: usize) -> &str {
        self.texts.get(index, index)
    }

    /// Who owns the task that the call may become. Never empty.
    #[must_use]
    pub fn user_id(&self) -> &str {
        self.text(USER)
    }

    /// The session that the call belongs to; empty if there is none.
    #[must_use]
    pub fn session_id(&self) -> &str {
        self.text(SESSION)
    }

    /// The agent that made the call; empty if there is none.
    #[must_use]
    pub fn agent_id(&self) -> &str {
        self.text(AGENT)
    }

    /// The caller's own id for the call.
    #[must_use]
    pub fn call_id(&self) -> Option<&str> {
        Some(self.text(CALL_ID)).filter(|id| !id.is_empty())
    }

    /// The name of what was called: the method, unless a closure has named it.
    #[must_use]
    pub fn tool_name(&self) -> &str {
        self.text(TOOL_NAME)
    }

    /// One line about the call: method and path, unless a closure has made another. In the record of the task it has no
    /// [secrets](crate::redact).
    #[must_use]
    pub fn summary(&self) -> &str {
        self.texts.get(self.summary_from.into(), LAST)
    }
}

/// By what they say, however that is kept.
impl PartialEq for HttpCall {
    fn eq(&self, other: &Self) -> bool {
        (USER..=TOOL_NAME).all(|index| self.text(index) == other.text(index))
            && self.summary() == other.summary()
    }
}

impl Eq for HttpCall {}

impl OffloadCall for HttpCall {
    fn meta(&self) -> TaskMeta {
        TaskMeta::from_parts(MetaParts {
            user_id: self.user_id(),
            session_id: self.session_id(),
            agent_id: self.agent_id(),
            tool_name: self.tool_name(),
            summary: &TaskMeta::clip_summary(&redact(self.summary())),
            call_id: self.call_id(),
        })
    }
}

impl fmt::Debug for HttpCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCall")
            .field("user_id", &self.user_id())
            .field("session_id", &self.session_id())
            .field("agent_id", &self.agent_id())
            .field("call_id", &self.call_id())
            .field("tool_name", &self.tool_name())
            .field("summary", &self.summary())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: Parts<'_> = Parts {
        user_id: "Ünal".as_bytes(),
        session_id: b"",
        agent_id: b"a",
        call_id: b"",
        method: "POST",
        path: "/é",
    };

    fn call(parts: Parts<'_>) -> HttpCall {
        let mut call = HttpCall::empty();
        call.fill(parts);
        call
    }

    fn named(tool_name: Option<&str>, summary: Option<&str>) -> HttpCall {
        let mut call = HttpCall::empty();
        call.fill_named(PARTS, tool_name, summary);
        call
    }

    #[test]
    fn texts_come_back_as_they_were_put_in() {
        let call = call(PARTS);
        assert_eq!(call.user_id(), "Ünal");
        assert_eq!(call.session_id(), "");
        assert_eq!(call.agent_id(), "a");
        assert_eq!(call.call_id(), None);
        assert_eq!(call.tool_name(), "POST");
        assert_eq!(call.summary(), "POST /é");
        assert_eq!(call.meta(), TaskMeta::new("Ünal", "POST").with_agent("a").with_summary("POST /é"));
    }

    #[test]
    fn tool_name_and_summary_are_named_each_on_its_own() {
        for (tool_name, summary, expected) in [
            (None, None, ["POST", "POST /é"]),
            (Some("report"), None, ["report", "POST /é"]),
            (None, Some("a report"), ["POST", "a report"]),
            (Some("report"), Some("a report"), ["report", "a report"]),
            (Some(""), Some(""), ["", ""]),
        ] {
            let call = named(tool_name, summary);
            assert_eq!([call.tool_name(), call.summary()], expected);
        }
    }

    #[test]
    fn calls_are_equal_that_tell_the_same() {
        assert_eq!(call(PARTS), named(None, None));
        assert_eq!(call(PARTS), named(Some("POST"), Some("POST /é")));
        let others = [
            named(Some("report"), None),
            named(None, Some("a report")),
            call(Parts { user_id: b"Eve", ..PARTS }),
            call(Parts { session_id: b"a", agent_id: b"", ..PARTS }),
            call(Parts { call_id: b"a", ..PARTS }),
        ];
        for other in others {
            assert_ne!(call(PARTS), other);
        }
    }
}
