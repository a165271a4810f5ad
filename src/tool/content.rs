use serde::{Deserialize, Serialize};

/// A part of a tool's output.
///
/// Its JSON is AgentScope's `TextBlock` or `DataBlock` without id and times. The hint adds those. Reading skips unknown
/// fields.
///
/// ```
/// use tower_offload::tool::ContentBlock;
///
/// let block = ContentBlock::text("done");
/// assert_eq!(serde_json::to_string(&block)?, r#"{"type":"text","text":"done"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ContentBlock {
    /// Text for the model.
    Text {
        /// The text.
        text: String,
    },
    /// An image, a sound, a document.
    Data {
        /// Where the data is.
        source: DataSource,
        /// A name for people.
        #[serde(default)]
        name: Option<String>,
    },
}

impl ContentBlock {
    /// A block of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }

    /// A block that contains its data. `data` is base64 text.
    pub fn base64(media_type: impl Into<String>, data: impl Into<String>) -> Self {
        let source = DataSource::Base64 { data: data.into(), media_type: media_type.into() };
        Self::Data { source, name: None }
    }

    /// A block of data at a URL. The URL should be absolute: a hint shows a URL that AgentScope may refuse as text.
    pub fn url(media_type: impl Into<String>, url: impl Into<String>) -> Self {
        let source = DataSource::Url { url: url.into(), media_type: media_type.into() };
        Self::Data { source, name: None }
    }

    /// The text, if it is a block of text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text { text } => Some(text),
            Self::Data { .. } => None,
        }
    }
}

impl From<String> for ContentBlock {
    fn from(text: String) -> Self {
        Self::Text { text }
    }
}

impl From<&str> for ContentBlock {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

/// The place of the data of a [`ContentBlock::Data`]: AgentScope's `Base64Source` or `URLSource`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum DataSource {
    /// In the block.
    Base64 {
        /// The data in base64.
        data: String,
        /// The media type, such as `image/png`.
        media_type: String,
    },
    /// At a URL.
    Url {
        /// An absolute URL.
        url: String,
        /// The media type, such as `image/png`.
        media_type: String,
    },
}
