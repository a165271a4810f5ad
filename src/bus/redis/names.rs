use std::borrow::Cow;

/// What the names of [`keys`](crate::bus::keys) begin with.
const COMMON: &str = "agentscope";

/// How the names of the crate are written on the server: those that begin with `agentscope:` with another prefix, and
/// all others as they are.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: Box<str>,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Result<Self, String> {
        if prefix.is_empty() {
            return Err("a key prefix must not be empty".to_owned());
        }
        if prefix.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(format!("the key prefix {prefix:?} has a space or a control character in it"));
        }
        if prefix.ends_with(':') {
            return Err(format!("the key prefix {prefix:?} ends with a colon, which is added anyway"));
        }
        Ok(Self { prefix: prefix.into() })
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name on the server.
    pub(super) fn on_server<'a>(&self, name: &'a str) -> Cow<'a, str> {
        let rest = name.strip_prefix(COMMON).filter(|rest| rest.starts_with(':'));
        match rest {
            Some(rest) if *self.prefix != *COMMON => Cow::Owned(format!("{}{rest}", self.prefix)),
            _ => Cow::Borrowed(name),
        }
    }
}

impl Default for Names {
    fn default() -> Self {
        Self { prefix: COMMON.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_common_prefix_is_replaced() {
        let names = Names::new("{mine}").unwrap();
        for (name, on_server) in [
            ("agentscope:inbox:s", "{mine}:inbox:s"),
            ("agentscope:", "{mine}:"),
            ("agentscope", "agentscope"),
            ("agentscopes:x", "agentscopes:x"),
            ("x:agentscope:y", "x:agentscope:y"),
            ("", ""),
        ] {
            assert_eq!(names.on_server(name), on_server);
            assert_eq!(Names::default().on_server(name), name);
        }
    }

    #[test]
    fn a_bad_prefix_is_refused() {
        for prefix in ["", " ", "a b", "a\n", "a\0", "a:"] {
            assert!(Names::new(prefix).is_err(), "{prefix:?}");
        }
    }
}
