use std::fmt;
use std::time::Duration;

use crate::offload::OffloadCall;
use crate::task::{Parts, TaskMeta};

/// What is kept of an HTTP call while it runs: its texts in one allocation.
///
/// Custom responders and deliverers find it in [`Offloaded`](crate::offload::Offloaded) and
/// [`Delivery`](crate::offload::Delivery).
#[derive(Clone, PartialEq, Eq)]
pub struct HttpCall {
    /// One after the other. Five short copies and one allocation cost less than five counted clones of header
    /// values, and do not keep the connection's read buffer alive for as long as the task runs.
    texts: Box<str>,
    ends: [u32; Field::COUNT],
    timeout: Option<Duration>,
}

/// The texts, in their order.
#[derive(Clone, Copy)]
enum Field {
    User,
    Session,
    Agent,
    CallId,
    ToolName,
    Summary,
}

impl Field {
    const COUNT: usize = Self::Summary as usize + 1;
}

/// The summary in parts, so that the usual one is put together where it is kept.
pub(super) type Summary<'a> = [&'a str; 3];

/// The texts of a call, borrowed from its request. Empty: none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Texts<'a> {
    pub(super) user_id: &'a str,
    pub(super) session_id: &'a str,
    pub(super) agent_id: &'a str,
    pub(super) call_id: &'a str,
    pub(super) tool_name: &'a str,
    pub(super) summary: Summary<'a>,
}

impl HttpCall {
    pub(super) fn new(texts: Texts<'_>, timeout: Option<Duration>) -> Self {
        let Texts { user_id, session_id, agent_id, call_id, tool_name, summary } = texts;
        let heads = [user_id, session_id, agent_id, call_id, tool_name];
        let bytes = heads.iter().chain(&summary).map(|text| text.len()).sum();
        let mut texts = String::with_capacity(bytes);
        let mut ends = [0; Field::COUNT];
        let mut end = ends.iter_mut();
        let mut put = |parts: &[&str]| {
            parts.iter().for_each(|part| texts.push_str(part));
            if let Some(end) = end.next() {
                *end = u32::try_from(texts.len()).unwrap_or(u32::MAX);
            }
        };
        heads.iter().for_each(|text| put(&[text]));
        put(&summary);
        Self { texts: texts.into_boxed_str(), ends, timeout }
    }

    fn text(&self, field: Field) -> &str {
        let index = field as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.texts.get(start as usize..self.ends[index] as usize).unwrap_or_default()
    }

    /// Who owns the task that the call may become. Never empty.
    #[must_use]
    pub fn user_id(&self) -> &str {
        self.text(Field::User)
    }

    /// The session that the call belongs to; empty if there is none.
    #[must_use]
    pub fn session_id(&self) -> &str {
        self.text(Field::Session)
    }

    /// The agent that made the call; empty if there is none.
    #[must_use]
    pub fn agent_id(&self) -> &str {
        self.text(Field::Agent)
    }

    /// The caller's own id for the call.
    #[must_use]
    pub fn call_id(&self) -> Option<&str> {
        Some(self.text(Field::CallId)).filter(|id| !id.is_empty())
    }

    /// The name of what was called: the method, unless a closure has named it.
    #[must_use]
    pub fn tool_name(&self) -> &str {
        self.text(Field::ToolName)
    }

    /// One line about the call: method and path, unless a closure has made another.
    #[must_use]
    pub fn summary(&self) -> &str {
        self.text(Field::Summary)
    }
}

impl OffloadCall for HttpCall {
    fn meta(&self) -> TaskMeta {
        TaskMeta::from_parts(Parts {
            user_id: self.user_id(),
            session_id: self.session_id(),
            agent_id: self.agent_id(),
            tool_name: self.tool_name(),
            summary: &TaskMeta::clip_summary(self.summary()),
            call_id: self.call_id(),
        })
    }

    fn timeout(&self) -> Option<Duration> {
        self.timeout
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
            .field("timeout", &self.timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_as_they_were_put_in() {
        let texts = Texts {
            user_id: "Ünal",
            session_id: "",
            agent_id: "a",
            call_id: "",
            tool_name: "POST",
            summary: ["POST", " ", "/é"],
        };
        let call = HttpCall::new(texts, Some(Duration::from_secs(3)));
        assert_eq!(call.user_id(), "Ünal");
        assert_eq!(call.session_id(), "");
        assert_eq!(call.agent_id(), "a");
        assert_eq!(call.call_id(), None);
        assert_eq!(call.tool_name(), "POST");
        assert_eq!(call.summary(), "POST /é");
        assert_eq!(call.timeout(), Some(Duration::from_secs(3)));
        assert_eq!(call.meta(), TaskMeta::new("Ünal", "POST").with_agent("a").with_summary("POST /é"),);
    }
}
