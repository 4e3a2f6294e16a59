//! Pictures with captions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::format::escape;
use crate::plot::Plot;

/// What a figure shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Picture {
    /// Small images, whose pixels should be seen: a PNG file's bytes.
    Pixels(Vec<u8>),
    /// A plot.
    Plot(Plot),
}

impl Picture {
    /// As a PNG file's bytes.
    pub fn png(&self) -> Vec<u8> {
        match self {
            Self::Pixels(png) => png.clone(),
            Self::Plot(plot) => plot.png(),
        }
    }
}

/// The form in which plots are written to a folder. Images are PNG files in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlotFormat {
    /// Scalable Vector Graphics, for pages.
    Svg,
    /// Pixels, 300 an inch.
    #[default]
    Png,
    /// One page of the figure's size, for papers.
    Pdf,
}

impl PlotFormat {
    /// The ending of a file's name, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Svg => "svg",
            Self::Png => "png",
            Self::Pdf => "pdf",
        }
    }

    /// The form that a file's ending stands for; none for another ending.
    pub fn of_extension(extension: &str) -> Option<Self> {
        [Self::Svg, Self::Png, Self::Pdf].into_iter().find(|form| form.extension() == extension)
    }

    /// A plot in this form.
    pub fn file(self, plot: &Plot) -> Vec<u8> {
        match self {
            Self::Svg => plot.svg().into_bytes(),
            Self::Png => plot.png(),
            Self::Pdf => plot.pdf(),
        }
    }
}

/// A picture with a sentence on how to read it.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Heading.
    pub title: String,
    /// The picture.
    pub picture: Picture,
    /// How to read it.
    pub caption: String,
}

impl Figure {
    /// A plot.
    pub fn new(title: impl Into<String>, plot: Plot, caption: impl Into<String>) -> Self {
        Self { title: title.into(), picture: Picture::Plot(plot), caption: caption.into() }
    }

    /// A picture of small images, a PNG file's bytes.
    pub fn of_pixels(title: impl Into<String>, png: Vec<u8>, caption: impl Into<String>) -> Self {
        Self { title: title.into(), picture: Picture::Pixels(png), caption: caption.into() }
    }

    /// A file for it: its name (the title in lower case, with dashes for all but letters and
    /// digits, and its ending) and its bytes.
    pub fn file(&self, form: PlotFormat) -> (String, Vec<u8>) {
        let (extension, bytes) = match &self.picture {
            Picture::Pixels(png) => (PlotFormat::Png.extension(), png.clone()),
            Picture::Plot(plot) => (form.extension(), form.file(plot)),
        };
        (format!("{}.{extension}", slug(&self.title)), bytes)
    }

    pub(crate) fn html(&self) -> String {
        let title = escape(&self.title);
        let picture = match &self.picture {
            Picture::Pixels(png) => format!(
                "<img alt=\"{title}\" class=\"pixels\" src=\"data:image/png;base64,{}\">",
                STANDARD.encode(png)
            ),
            Picture::Plot(plot) => plot.inline_svg(&self.title),
        };
        // Panels side by side take two columns of the page.
        let wide = matches!(&self.picture, Picture::Plot(plot) if plot.panels.len() > 1);
        let class = if wide { " class=\"panels\"" } else { "" };
        format!(
            "<figure{class}><button type=\"button\" aria-label=\"Enlarge: {title}\">{picture}\
             </button><figcaption><b>{title}.</b> {}</figcaption></figure>\n",
            escape(&self.caption),
        )
    }
}

/// Text in lower case with dashes for all but ASCII letters and digits.
pub(crate) fn slug(text: &str) -> String {
    let dashed = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    text.to_lowercase().chars().map(dashed).collect()
}
