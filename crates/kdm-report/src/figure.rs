//! Pictures with captions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A picture with a sentence on how to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Heading.
    pub title: String,
    /// The picture, a PNG file's bytes.
    pub png: Vec<u8>,
    /// How to read it.
    pub caption: String,
    /// Whether it is of small images, whose pixels should be seen.
    pub pixelated: bool,
}

impl Figure {
    /// A picture of these parts.
    pub fn new(title: impl Into<String>, png: Vec<u8>, caption: impl Into<String>) -> Self {
        Self { title: title.into(), png, caption: caption.into(), pixelated: false }
    }

    /// A picture of small images, whose pixels should be seen.
    pub fn of_pixels(title: impl Into<String>, png: Vec<u8>, caption: impl Into<String>) -> Self {
        Self { pixelated: true, ..Self::new(title, png, caption) }
    }

    /// The name of a file for it: the title in lower case, with dashes for all but letters and
    /// digits, and `.png`.
    pub fn file_name(&self) -> String {
        slug(&self.title) + ".png"
    }

    pub(crate) fn html(&self) -> String {
        format!(
            "<figure><button type=\"button\" aria-label=\"Enlarge: {0}\"><img alt=\"{0}\"{3} \
             src=\"data:image/png;base64,{1}\"></button>\
             <figcaption><b>{0}.</b> {2}</figcaption></figure>\n",
            escape(&self.title),
            STANDARD.encode(&self.png),
            escape(&self.caption),
            if self.pixelated { " class=\"pixels\"" } else { "" },
        )
    }
}

/// Text in lower case with dashes for all but ASCII letters and digits.
pub(crate) fn slug(text: &str) -> String {
    let dashed = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    text.to_lowercase().chars().map(dashed).collect()
}

/// Text as it stands in HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
