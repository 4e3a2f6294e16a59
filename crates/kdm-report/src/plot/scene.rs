//! A drawing as shapes on a page, whatever file it becomes.

use super::font;

/// A place on the page, in points from its upper left corner.
pub(super) type Place = (f64, f64);

/// A colour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ink {
    /// That of text.
    Text,
    /// A weak one of text, for ticks and frames.
    Soft,
    /// One of the palette.
    Palette(usize),
}

/// Okabe and Ito's colours without yellow, which is too light for lines on white.
pub(super) const PALETTE: [[u8; 3]; 7] = [
    [0, 114, 178],
    [230, 159, 0],
    [0, 158, 115],
    [213, 94, 0],
    [204, 121, 167],
    [86, 180, 233],
    [110, 110, 110],
];

/// The share of [`Ink::Soft`] in what it covers.
pub(super) const SOFT: f64 = 0.45;

/// What of a text is at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A text, with another raised at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Label {
    pub text: String,
    /// The exponent; empty for none.
    pub power: String,
}

impl Label {
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), power: String::new() }
    }

    /// Its width in points, set in `size` points.
    pub fn width(&self, size: f64) -> f64 {
        size * (font::width(&self.text) + RAISED * font::width(&self.power))
    }
}

/// The size of an exponent beside the text's, and how far its foot is above the text's, in sizes of
/// the text.
pub(super) const RAISED: f64 = 0.72;
pub(super) const RISE: f64 = 0.38;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// A line through these places.
    Line { points: Vec<Place>, ink: Ink, width: f64, dash: &'static [f64] },
    /// A filled dot at each place.
    Dots { points: Vec<Place>, radius: f64, ink: Ink, opacity: f64 },
    /// A filled polygon.
    Polygon { points: Vec<Place>, ink: Ink },
    /// A text whose baseline is at a place; upwards when `turned`.
    Text { at: Place, label: Label, size: f64, anchor: Anchor, turned: bool },
}

/// Shapes on a page, the last on top.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scene {
    /// Width and height in points.
    pub size: Place,
    pub shapes: Vec<Shape>,
}

impl Scene {
    pub fn line(&mut self, points: &[Place], ink: Ink, width: f64) {
        let (points, dash) = (points.to_vec(), &[][..]);
        self.shapes.push(Shape::Line { points, ink, width, dash });
    }

    pub fn text(&mut self, at: Place, label: Label, size: f64, anchor: Anchor) {
        self.shapes.push(Shape::Text { at, label, size, anchor, turned: false });
    }
}

/// Left and right end of a text from its place.
pub(super) fn extent(width: f64, anchor: Anchor) -> (f64, f64) {
    match anchor {
        Anchor::Start => (0.0, width),
        Anchor::Middle => (-width / 2.0, width / 2.0),
        Anchor::End => (-width, 0.0),
    }
}
