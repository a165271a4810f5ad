use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a task did not complete.
///
/// The set is open. A newer version may write reasons that this version does not know. This version reads such a reason as
/// [`Other`](Self::Other), which keeps the name. A program should treat a reason that it does not know as a plain failure.
/// In text, JSON and logs, a reason is its name. A number or a boolean in JSON is read as a name, and an array or an object
/// as `unknown`.
///
/// ```
/// use tower_offload::task::FailureReason;
///
/// assert_eq!(FailureReason::from("timed_out"), FailureReason::TimedOut);
/// let newer = FailureReason::from("quota_exceeded");
/// assert!(matches!(newer, FailureReason::Other(_)));
/// assert_eq!(newer.as_str(), "quota_exceeded");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureReason {
    /// The call returned an error, or an answer that counts as a failure.
    Error,
    /// The call panicked.
    Panic,
    /// The call ran in the background for longer than the run-time limit.
    TimedOut,
    /// The process or runtime that ran the call is gone.
    WorkerLost,
    /// The process shut down before the call ended; the status is `cancelled`.
    Shutdown,
    /// A reason that this version does not know.
    Other(OtherReason),
}

impl FailureReason {
    const KNOWN: [Self; 5] = [Self::Error, Self::Panic, Self::TimedOut, Self::WorkerLost, Self::Shutdown];

    /// The name that REST bodies and logs use.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Error => "error",
            Self::Panic => "panic",
            Self::TimedOut => "timed_out",
            Self::WorkerLost => "worker_lost",
            Self::Shutdown => "shutdown",
            Self::Other(other) => other.as_str(),
        }
    }
}

/// Converts a name into its reason. An unknown name becomes [`FailureReason::Other`], with the restrictions of
/// [`OtherReason`].
impl From<&str> for FailureReason {
    fn from(name: &str) -> Self {
        let known = Self::KNOWN.into_iter().find(|reason| reason.as_str() == name);
        known.unwrap_or_else(|| Self::Other(OtherReason::new(name)))
    }
}

impl FromStr for FailureReason {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(name.into())
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for FailureReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for FailureReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = FailureReason;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a failure reason")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<FailureReason, E> {
                Ok(name.into())
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<FailureReason, E> {
                Ok((*value.to_string()).into())
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<FailureReason, E> {
                Ok((*value.to_string()).into())
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<FailureReason, E> {
                Ok((*value.to_string()).into())
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<FailureReason, E> {
                Ok((*value.to_string()).into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<FailureReason, A::Error> {
                while parts.next_element::<IgnoredAny>()?.is_some() {}
                Ok(FailureReason::Other(OtherReason::new("")))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut parts: A) -> Result<FailureReason, A::Error> {
                while parts.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(FailureReason::Other(OtherReason::new("")))
            }
        }
        if deserializer.is_human_readable() {
            // A newer version may write a reason that is no text, and no task is lost for that.
            deserializer.deserialize_any(Name)
        } else {
            deserializer.deserialize_str(Name)
        }
    }
}

/// The name of a [`FailureReason`] that this version does not know.
///
/// The name comes from another process, and people, agents and log readers see it. So it has at most
/// [`MAX_LEN`](Self::MAX_LEN) bytes, of which the rest is cut off, and consists of ASCII letters and digits, `_`, `-`, `.`
/// and `:`. Any other character becomes `_`, and an empty name becomes `unknown`.
///
/// The bytes are stored inline, so that copying a reason does not allocate.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OtherReason {
    len: u8,
    /// ASCII, padded with zeros.
    name: [u8; Self::MAX_LEN],
}

impl OtherReason {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 46;

    fn new(name: &str) -> Self {
        let name = if name.is_empty() { "unknown" } else { name };
        let mut kept = Self { len: 0, name: [0; Self::MAX_LEN] };
        for (c, byte) in name.chars().zip(&mut kept.name) {
            let safe = c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
            *byte = if safe { c as u8 } else { b'_' };
            kept.len += 1;
        }
        kept
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.name.get(..self.len.into()).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
    }
}

impl fmt::Debug for OtherReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The schema is a plain string. With an `enum`, clients would refuse the reasons of newer versions.
#[cfg(feature = "api")]
mod schema {
    use std::borrow::Cow;

    use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
    use utoipa::openapi::{RefOr, schema};
    use utoipa::{PartialSchema, ToSchema};

    use super::FailureReason;

    impl ToSchema for FailureReason {
        fn name() -> Cow<'static, str> {
            "BackgroundTaskFailureReason".into()
        }
    }

    impl PartialSchema for FailureReason {
        fn schema() -> RefOr<Schema> {
            let object = ObjectBuilder::new()
                .schema_type(schema::SchemaType::Type(Type::String))
                .description(Some(
                    "Why a task did not complete: it answered with an `error`, it ended in a `panic`, it `timed_out` \
                     in the background, the process that ran it is gone (`worker_lost`), or that process was shut \
                     down (`shutdown`; the status is then `cancelled`). More kinds may be added: a client should show \
                     one that it does not know as a plain failure.",
                ))
                .examples(["error"]);
            object.build().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_reasons_have_the_names_of_their_json() {
        let names = ["error", "panic", "timed_out", "worker_lost", "shutdown"];
        for (reason, name) in FailureReason::KNOWN.into_iter().zip(names) {
            assert_eq!((reason.as_str(), FailureReason::from(name)), (name, reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), name);
            assert_eq!(format!("{reason:>12}"), format!("{name:>12}"));
        }
    }

    #[test]
    fn an_unknown_reason_is_kept_and_shown_as_it_came() {
        let reason: FailureReason = serde_json::from_str("\"quota:v2.exceeded-for_user\"").unwrap();
        assert_eq!(serde_json::to_value(reason).unwrap(), "quota:v2.exceeded-for_user");
        assert_eq!(format!("{reason:?}"), "Other(\"quota:v2.exceeded-for_user\")");
        // Escapes in JSON are no reason to refuse it.
        assert_eq!(serde_json::from_str::<FailureReason>("\"\\u0070anic\"").unwrap(), FailureReason::Panic);
    }

    #[test]
    fn a_reason_that_is_no_text_is_read_as_well_as_it_can_be() {
        for (json, shown) in [
            ("7", "7"),
            ("-1.5", "-1.5"),
            ("true", "true"),
            ("[\"quota\", {\"of\": [1]}]", "unknown"),
            ("{\"code\": \"quota\", \"detail\": {\"of\": [1]}}", "unknown"),
        ] {
            assert_eq!(serde_json::from_str::<FailureReason>(json).unwrap().as_str(), shown, "{json}");
        }
        assert!(serde_json::from_str::<FailureReason>("{").is_err());
        assert_eq!(serde_json::from_str::<Option<FailureReason>>("null").unwrap(), None);
    }

    #[test]
    fn a_hostile_reason_is_short_and_plain() {
        for (hostile, shown) in [
            ("", "unknown"),
            ("a b\n\u{0}\u{202e}é<", "a_b_____"),
            (&"x".repeat(1000), &"x".repeat(46)),
            ("Error", "Error"),
        ] {
            assert_eq!(FailureReason::from(hostile).as_str(), shown);
        }
        assert_ne!(FailureReason::from("Error"), FailureReason::Error);
    }

    proptest! {
        #[test]
        fn any_name_gives_a_reason_that_is_read_as_it_is_written(name in "\\PC{0,60}|[a-z_]{0,60}") {
            let reason = FailureReason::from(&*name);
            prop_assert!(!reason.as_str().is_empty() && reason.as_str().len() <= OtherReason::MAX_LEN);
            let json = serde_json::to_string(&reason).unwrap();
            prop_assert_eq!(serde_json::from_str::<FailureReason>(&json).unwrap(), reason);
            prop_assert_eq!(FailureReason::from(reason.as_str()), reason);
        }
    }
}
