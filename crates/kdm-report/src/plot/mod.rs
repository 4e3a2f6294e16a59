//! Plots: plain data, laid out once and written as SVG, PDF or PNG.
//!
//! A [`Plot`] is one or more [`Panel`]s, side by side on a page and below each other in a file.
//! Sizes are in points (1/72 inch) and made for one column of a paper. Colours are Okabe and Ito's,
//! which all readers can tell apart (Okabe and Ito, "Color Universal Design", 2008), with dashes as
//! a second cue.
//!
//! ```
//! use kdm_report::plot::{Axis, Plot, Series};
//!
//! let loss = Series::line("loss", vec![(0.0, 1.0), (100.0, 0.1), (200.0, 0.01)]);
//! let plot = Plot::curves(Axis::linear("iteration"), Axis::log10("loss"), vec![loss]).unwrap();
//! assert!(plot.svg().starts_with("<svg") && plot.pdf().starts_with(b"%PDF"));
//! ```

mod font;
mod layout;
mod pdf;
mod raster;
mod scale;
mod scene;
mod svg;
#[cfg(test)]
mod tests;

use scene::Scene;

/// How the values of an axis are spread over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By their decimal logarithm; values are above 0. Ticks are powers of ten.
    Log10,
    /// By their binary logarithm from 1 on, and evenly from 0 to 1, as far as from 1 to 2: for
    /// counts, which may be 0. Ticks are 0 and powers of two.
    Log2,
}

/// An axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What it shows, with its unit in parentheses where it has one; may be empty.
    pub label: String,
    /// How values are spread.
    pub scale: Scale,
    /// First and last value; none for the range of what is drawn. Points beyond are left out.
    pub range: Option<(f64, f64)>,
}

impl Axis {
    /// A linear axis as long as what is drawn.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Linear, range: None }
    }

    /// A logarithmic axis as long as what is drawn, with powers of ten.
    pub fn log10(label: impl Into<String>) -> Self {
        Self { scale: Scale::Log10, ..Self::linear(label) }
    }

    /// A logarithmic axis of counts as long as what is drawn, with 0 and powers of two.
    pub fn log2(label: impl Into<String>) -> Self {
        Self { scale: Scale::Log2, ..Self::linear(label) }
    }

    /// The same from `-half` to `half`.
    fn around_zero(self, half: f64) -> Self {
        Self { range: Some((-half, half)), ..self }
    }

    /// Whether a value has a place on it.
    fn holds(&self, value: f64) -> bool {
        let within = self.range.is_none_or(|(first, last)| (first..=last).contains(&value));
        let drawn = match self.scale {
            Scale::Linear => true,
            Scale::Log10 => value > 0.0,
            Scale::Log2 => value >= 0.0,
        };
        value.is_finite() && within && drawn
    }
}

/// The form of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A dot at each point.
    Dots,
    /// A cross at each point, to stand out.
    Crosses,
    /// A line through the points.
    Line,
    /// A line through the points with an arrow at its end.
    Arrow,
}

/// Points that are drawn alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name in the legend; none for no entry.
    pub name: Option<String>,
    /// (x, y).
    pub points: Vec<(f64, f64)>,
    /// Which colour of the palette; none for that of the text.
    pub colour: Option<usize>,
    /// Its form.
    pub mark: Mark,
}

impl Series {
    /// A named line; [`Plot::curves`] gives it its colour.
    pub fn line(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: Some(name.into()), points, colour: None, mark: Mark::Line }
    }

    /// Dots in a colour of the palette, without a name.
    pub fn dots(points: Vec<(f64, f64)>, colour: usize) -> Self {
        Self { name: None, points, colour: Some(colour), mark: Mark::Dots }
    }

    /// Dots at rows of two values.
    pub fn of_rows(rows: &[f32], colour: usize) -> Self {
        Self::dots(rows.chunks_exact(2).map(|p| (p[0].into(), p[1].into())).collect(), colour)
    }
}

/// One pair of axes and what is drawn in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// A heading; empty for none.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// Whether the plot is a square; with equal ranges a unit is then as long on both axes.
    pub square: bool,
    /// What is drawn, the last on top.
    pub series: Vec<Series>,
}

/// Panels, side by side on a page and below each other in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// The panels, from left to right.
    pub panels: Vec<Panel>,
}

impl Plot {
    /// Samples of two coordinates; see [`Self::scatter`].
    pub fn points(series: Vec<Series>, half: f64) -> Self {
        Self::scatter("first coordinate", "second coordinate", series, half)
    }

    /// Points in the plane, a square of half edge `half` around the origin.
    pub fn scatter(x: &str, y: &str, series: Vec<Series>, half: f64) -> Self {
        let axis = |label: &str| Axis::linear(label).around_zero(half);
        let panel = Panel { title: String::new(), x: axis(x), y: axis(y), square: true, series };
        Self { panels: vec![panel] }
    }

    /// Lines in the colours of the palette. Points that have no place on an axis are left out;
    /// gives none when there is nothing to draw.
    pub fn curves(x: Axis, y: Axis, mut series: Vec<Series>) -> Option<Self> {
        for series in &mut series {
            series.points.retain(|(a, b)| x.holds(*a) && y.holds(*b));
        }
        series.retain(|series| !series.points.is_empty());
        for (i, series) in series.iter_mut().enumerate() {
            series.colour = Some(i);
        }
        let panel = Panel { title: String::new(), x, y, square: false, series };
        (!panel.series.is_empty()).then(|| Self { panels: vec![panel] })
    }

    /// Eigenvalues (real part, imaginary part) in the complex plane with the unit circle, and
    /// beside it a close-up, as nearly all are far smaller than the largest.
    pub fn spectrum(eigenvalues: &[(f64, f64)]) -> Self {
        let mut moduli: Vec<f64> = eigenvalues.iter().map(|l| l.0.hypot(l.1)).collect();
        moduli.sort_by(f64::total_cmp);
        let largest = moduli.last().copied().unwrap_or(1.0);
        let most = moduli.get(moduli.len() * 95 / 100).copied().unwrap_or(1.0);
        let panel = |title: &str, half: f64| {
            let circle = Series {
                name: Some("unit circle".into()),
                points: (0..=360)
                    .map(|degree| f64::from(degree).to_radians())
                    .map(|angle| (angle.cos(), angle.sin()))
                    .collect(),
                colour: None,
                mark: Mark::Line,
            };
            let mut dots = Series::dots(eigenvalues.to_vec(), 0);
            dots.name = Some("eigenvalues".into());
            let axis = |label: &str| Axis::linear(label).around_zero(half);
            Panel {
                title: title.into(),
                x: axis("real part"),
                y: axis("imaginary part"),
                square: true,
                series: if half > 1.0 { vec![circle, dots] } else { vec![dots] },
            }
        };
        let close = panel("the smaller 95%", 1.3 * most.max(1e-9));
        Self { panels: vec![panel("all", 1.1 * largest.max(1.0)), close] }
    }

    /// As an SVG element of black on white.
    pub fn svg(&self) -> String {
        svg::file(&self.column())
    }

    /// As an SVG element without a background, whose text and axes have the colour of the text
    /// around it.
    pub fn inline_svg(&self, label: &str) -> String {
        svg::inline(&self.row(), label)
    }

    /// As a PDF document of one page of the figure's size. Characters that Latin-1 lacks are
    /// written as `?`.
    pub fn pdf(&self) -> Vec<u8> {
        pdf::file(&self.column())
    }

    /// As a PNG picture of 300 pixels an inch.
    pub fn png(&self) -> Vec<u8> {
        raster::png(&self.column())
    }

    /// For a file: panels below each other, so that each is as wide as a column of a paper.
    fn column(&self) -> Scene {
        layout::column(self)
    }

    /// For a page: panels side by side.
    fn row(&self) -> Scene {
        layout::row(self)
    }
}

/// The half edge of a square that shows nearly all points: a little beyond the 99.5th percentile of
/// the absolute values of coordinates.
pub fn half_edge(points: &[f32]) -> f64 {
    let mut magnitudes: Vec<f32> = points.iter().map(|x| x.abs()).collect();
    magnitudes.sort_by(f32::total_cmp);
    let index = (magnitudes.len() * 995 / 1000).min(magnitudes.len().saturating_sub(1));
    f64::from(magnitudes.get(index).copied().unwrap_or(1.0)).max(1e-3) * 1.15
}
