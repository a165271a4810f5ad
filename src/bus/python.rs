//! JSON as Python writes it, where a Python peer reads or compares it.

use std::io;

use serde::Serialize;
use serde::ser::Error as _;
use serde_json::ser::Formatter;

/// JSON in Python's default form: a space after `,` and `:`, and nothing escaped that need not be. The escapes of
/// `serde_json` are the same already.
pub(crate) fn to_json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut json = Vec::with_capacity(512);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, Spaced))?;
    String::from_utf8(json).map_err(serde_json::Error::custom)
}

struct Spaced;

impl Spaced {
    fn separate<W: ?Sized + io::Write>(writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
}

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        Self::separate(writer, first)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        Self::separate(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_spaced_and_escaped_as_python_does() {
        let json = to_json(&json!({"a": [1, "x", null], "b": {}})).unwrap();
        assert_eq!(json, r#"{"a": [1, "x", null], "b": {}}"#);
        assert_eq!(to_json(&json!([])).unwrap(), "[]");
        let odd = "\"\\/\n\r\t\u{8}\u{c}\0\u{1b}\u{1f}\u{7f}\u{2028}é😀";
        assert_eq!(
            to_json(&odd).unwrap(),
            "\"\\\"\\\\/\\n\\r\\t\\b\\f\\u0000\\u001b\\u001f\u{7f}\u{2028}é😀\""
        );
    }
}
