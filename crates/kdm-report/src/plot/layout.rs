//! From a plot to shapes on a page: where frames, ticks, labels and the legend go.
//!
//! The legend stands above the frame, where no data is. A page is as large as what is on it.

use super::scale::Tick;
use super::scene::{Anchor, Ink, Label, Place, Scene, Shape};
use super::{Axis, Mark, Panel, Plot, Series};

/// Sizes in points. A column of a paper is about 240 wide.
const FRAME_WIDTH: f64 = 190.0;
const CURVE_HEIGHT: f64 = 125.0;
const MARGIN: f64 = 5.0;
const GAP: f64 = 12.0;
const TEXT: f64 = 8.0;
const LINE: f64 = 10.5;
const TICK: f64 = 3.0;
const MINOR: f64 = 1.6;
/// Of the line or mark of a legend's entry, and between entries.
const SAMPLE: f64 = 16.0;
const BETWEEN: f64 = 10.0;

/// Dashes of lines, by turns.
const DASHES: [&[f64]; 4] = [&[], &[5.0, 2.0], &[1.5, 1.5], &[6.0, 2.0, 1.5, 2.0]];

/// The shapes of a plot whose panels are below each other, as wide as a column of a paper.
pub(super) fn column(plot: &Plot) -> Scene {
    let mut scene = Scene::default();
    let insets: Vec<f64> = plot.panels.iter().map(inset).collect();
    // Frames lie below each other.
    let widest = insets.iter().copied().fold(0.0, f64::max);
    let (mut width, mut bottom): (f64, f64) = (0.0, 0.0);
    for (panel, inset) in plot.panels.iter().zip(&insets) {
        let left = widest - inset;
        let (across, down) = self::panel(&mut scene, panel, left, bottom + head_height(panel));
        width = width.max(left + across);
        bottom = down;
    }
    scene.size = (width, bottom);
    scene
}

/// The shapes of a plot whose panels are side by side.
pub(super) fn row(plot: &Plot) -> Scene {
    let mut scene = Scene::default();
    let heads: Vec<f64> = plot.panels.iter().map(head_height).collect();
    let head = heads.into_iter().fold(0.0, f64::max);
    let mut left = 0.0;
    let mut bottom: f64 = 0.0;
    for (i, panel) in plot.panels.iter().enumerate() {
        left += if i > 0 { GAP } else { 0.0 };
        let (width, height) = self::panel(&mut scene, panel, left, head);
        left += width;
        bottom = bottom.max(height);
    }
    scene.size = (left, bottom);
    scene
}

/// An axis with its range and its ticks.
struct Ruler<'a> {
    axis: &'a Axis,
    ends: (f64, f64),
    ticks: Vec<Tick>,
}

impl<'a> Ruler<'a> {
    fn new(axis: &'a Axis, values: impl Iterator<Item = f64> + Clone) -> Self {
        let ends = axis.range.unwrap_or_else(|| {
            let values = values.filter(|value| axis.holds(*value));
            let first = values.clone().fold(f64::INFINITY, f64::min);
            let last = values.fold(f64::NEG_INFINITY, f64::max);
            let (first, last) = if first <= last { (first, last) } else { (1.0, 2.0) };
            axis.scale.roomy(first, last)
        });
        Self { axis, ends, ticks: axis.scale.ticks(ends.0, ends.1) }
    }

    /// The share of the axis before a value.
    fn share(&self, value: f64) -> f64 {
        let place = |value| self.axis.scale.place(value);
        let (first, last) = (place(self.ends.0), place(self.ends.1));
        (place(value) - first) / (last - first)
    }

    fn widest_label(&self) -> f64 {
        let labels = self.ticks.iter().filter_map(|tick| tick.label.as_ref());
        labels.map(|label| label.width(TEXT)).fold(0.0, f64::max)
    }
}

/// The legend's entries by rows.
fn legend_rows(panel: &Panel) -> Vec<Vec<&Series>> {
    let mut rows: Vec<Vec<&Series>> = Vec::new();
    let mut used = f64::INFINITY;
    for series in panel.series.iter().filter(|series| series.name.is_some()) {
        let width = entry_width(series) + BETWEEN;
        if used + width > FRAME_WIDTH + BETWEEN {
            rows.push(Vec::new());
            used = 0.0;
        }
        used += width;
        rows.last_mut().expect("a row was begun").push(series);
    }
    rows
}

fn entry_width(series: &Series) -> f64 {
    SAMPLE + 3.0 + Label::plain(series.name.clone().unwrap_or_default()).width(TEXT)
}

/// The height of what stands above a panel's frame.
fn head_height(panel: &Panel) -> f64 {
    let title = if panel.title.is_empty() { 0.0 } else { LINE };
    let rows = legend_rows(panel).len() as f64 * LINE;
    // Half of the topmost tick's label stands out above the frame.
    MARGIN + title + rows + if title + rows > 0.0 { 4.0 } else { TEXT / 2.0 }
}

/// How far a panel's frame lies to the right of its left edge.
fn inset(panel: &Panel) -> f64 {
    let y = Ruler::new(&panel.y, panel.series.iter().flat_map(|s| &s.points).map(|p| p.1));
    let label = if panel.y.label.is_empty() { 0.0 } else { LINE };
    MARGIN + label + y.widest_label() + TICK + 3.0
}

/// Draws a panel whose left edge is at `left` and whose frame begins at `top`; gives its width and
/// the bottom of what is drawn.
fn panel(scene: &mut Scene, panel: &Panel, left: f64, top: f64) -> Place {
    let values = |pick: fn(&Place) -> f64| panel.series.iter().flat_map(|s| &s.points).map(pick);
    let x = Ruler::new(&panel.x, values(|p| p.0));
    let y = Ruler::new(&panel.y, values(|p| p.1));
    let label = |axis: &Axis| if axis.label.is_empty() { 0.0 } else { LINE };
    let frame_left = left + inset(panel);
    let height = if panel.square { FRAME_WIDTH } else { CURVE_HEIGHT };
    let frame = Frame { left: frame_left, top, width: FRAME_WIDTH, height };

    frame.axes(scene, &x, &y);
    let mut dashes = DASHES.iter().cycle();
    for series in &panel.series {
        let dash = if series.mark == Mark::Line && series.name.is_some() {
            dashes.next().expect("a cycle has no end")
        } else {
            DASHES[0]
        };
        frame.series(scene, series, dash, &x, &y);
    }
    let mut baseline = top - head_height(panel) + MARGIN + TEXT;
    if !panel.title.is_empty() {
        let at = (frame.left + frame.width / 2.0, baseline);
        scene.text(at, Label::plain(&panel.title), TEXT, Anchor::Middle);
        baseline += LINE;
    }
    legend(scene, panel, frame.left, baseline);
    let below = TICK + 2.0 + LINE + label(&panel.x) + MARGIN;
    // Names that are longer than the frame, and the last tick's label, stand out to the right.
    let right = (frame.left + frame.width + x.last_overhang()).max(legend_right(panel, frame.left));
    (right + MARGIN - left, top + height + below)
}

impl Ruler<'_> {
    /// How far the last label stands out beyond the end of a horizontal axis.
    fn last_overhang(&self) -> f64 {
        let out = |tick: &Tick| {
            let half = tick.label.as_ref()?.width(TEXT) / 2.0;
            Some(half - (1.0 - self.share(tick.value)) * FRAME_WIDTH)
        };
        self.ticks.iter().filter_map(out).fold(0.0, f64::max)
    }
}

fn legend_right(panel: &Panel, left: f64) -> f64 {
    let width = |row: &Vec<&Series>| {
        row.iter().map(|series| entry_width(series) + BETWEEN).sum::<f64>() - BETWEEN
    };
    left + legend_rows(panel).iter().map(width).fold(0.0, f64::max)
}

fn legend(scene: &mut Scene, panel: &Panel, left: f64, mut baseline: f64) {
    let mut dashes = DASHES.iter().cycle();
    for row in legend_rows(panel) {
        let mut at = left;
        for series in row {
            let middle = baseline - 0.35 * TEXT;
            let ink = ink(series);
            match series.mark {
                Mark::Dots => scene.shapes.push(Shape::Dots {
                    points: vec![(at + SAMPLE / 2.0, middle)],
                    radius: 2.2,
                    ink,
                    opacity: 1.0,
                }),
                Mark::Crosses => cross(scene, (at + SAMPLE / 2.0, middle), ink),
                Mark::Line => scene.shapes.push(Shape::Line {
                    points: vec![(at, middle), (at + SAMPLE, middle)],
                    ink,
                    width: 1.2,
                    dash: dashes.next().expect("a cycle has no end"),
                }),
                Mark::Arrow => arrow(scene, &[(at, middle), (at + SAMPLE, middle)], ink),
            }
            let name = series.name.clone().unwrap_or_default();
            let text = (at + SAMPLE + 3.0, baseline);
            scene.text(text, Label::plain(name), TEXT, Anchor::Start);
            at += entry_width(series) + BETWEEN;
        }
        baseline += LINE;
    }
}

fn ink(series: &Series) -> Ink {
    series.colour.map_or(Ink::Text, Ink::Palette)
}

fn cross(scene: &mut Scene, (x, y): Place, ink: Ink) {
    const HALF: f64 = 1.7;
    scene.line(&[(x - HALF, y - HALF), (x + HALF, y + HALF)], ink, 0.7);
    scene.line(&[(x - HALF, y + HALF), (x + HALF, y - HALF)], ink, 0.7);
}

/// A line with an arrow's head at its end, as long as the line or [`HEAD`].
fn arrow(scene: &mut Scene, points: &[Place], ink: Ink) {
    const HEAD: f64 = 4.5;
    let Some(end) = points.last() else { return };
    let far = |p: &&Place| (p.0 - end.0).hypot(p.1 - end.1) >= 0.8 * HEAD;
    // A direction over a piece that can be seen; a way shorter than that is a dot.
    let Some(from) = points.iter().rev().find(far) else {
        scene.shapes.push(Shape::Dots { points: vec![*end], radius: 1.2, ink, opacity: 1.0 });
        return;
    };
    let length = (end.0 - from.0).hypot(end.1 - from.1);
    let (dx, dy) = ((end.0 - from.0) / length, (end.1 - from.1) / length);
    let foot = (end.0 - HEAD * dx, end.1 - HEAD * dy);
    let side = |s: f64| (foot.0 - s * 0.38 * HEAD * dy, foot.1 + s * 0.38 * HEAD * dx);
    let short = (end.0 - 0.6 * HEAD * dx, end.1 - 0.6 * HEAD * dy);
    let shaft: Vec<Place> = points[..points.len() - 1].iter().copied().chain([short]).collect();
    scene.line(&shaft, ink, 0.9);
    scene.shapes.push(Shape::Polygon { points: vec![*end, side(1.0), side(-1.0)], ink });
}

/// Where values are drawn.
struct Frame {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Frame {
    fn place(&self, x: &Ruler, y: &Ruler, point: &(f64, f64)) -> Place {
        let (across, up) = (x.share(point.0), y.share(point.1));
        (self.left + across * self.width, self.top + (1.0 - up) * self.height)
    }

    fn axes(&self, scene: &mut Scene, x: &Ruler, y: &Ruler) {
        let Self { left, top, width, height } = *self;
        let (right, bottom) = (left + width, top + height);
        scene.line(
            &[(left, top), (right, top), (right, bottom), (left, bottom), (left, top)],
            Ink::Soft,
            0.6,
        );
        for tick in &x.ticks {
            let at = left + x.share(tick.value) * width;
            let long = if tick.label.is_some() { TICK } else { MINOR };
            scene.line(&[(at, bottom), (at, bottom + long)], Ink::Soft, 0.6);
        }
        // Labels that would touch the one before are left out.
        let mut free = f64::NEG_INFINITY;
        for (tick, label) in x.ticks.iter().filter_map(|t| Some((t, t.label.clone()?))) {
            let (at, half) = (left + x.share(tick.value) * width, label.width(TEXT) / 2.0);
            if at - half >= free {
                free = at + half + 3.0;
                scene.text((at, bottom + TICK + 2.0 + 0.8 * TEXT), label, TEXT, Anchor::Middle);
            }
        }
        for tick in &y.ticks {
            let at = bottom - y.share(tick.value) * height;
            let long = if tick.label.is_some() { TICK } else { MINOR };
            scene.line(&[(left - long, at), (left, at)], Ink::Soft, 0.6);
            if let Some(label) = tick.label.clone() {
                let place = (left - TICK - 2.0, at + 0.35 * TEXT);
                scene.text(place, label, TEXT, Anchor::End);
            }
        }
        if !x.axis.label.is_empty() {
            let at = (left + width / 2.0, bottom + TICK + 2.0 + LINE + 0.8 * TEXT);
            scene.text(at, Label::plain(&x.axis.label), TEXT, Anchor::Middle);
        }
        if !y.axis.label.is_empty() {
            scene.shapes.push(Shape::Text {
                at: (left - TICK - 2.0 - y.widest_label() - 4.0, top + height / 2.0),
                label: Label::plain(&y.axis.label),
                size: TEXT,
                anchor: Anchor::Middle,
                turned: true,
            });
        }
    }

    fn series(
        &self,
        scene: &mut Scene,
        series: &Series,
        dash: &'static [f64],
        x: &Ruler,
        y: &Ruler,
    ) {
        let inside = |p: &&(f64, f64)| x.axis.holds(p.0) && y.axis.holds(p.1);
        let points: Vec<Place> =
            series.points.iter().filter(inside).map(|p| self.place(x, y, p)).collect();
        if points.is_empty() {
            return;
        }
        let ink = ink(series);
        match series.mark {
            Mark::Dots => {
                // Few dots can be larger, and many are seen through each other.
                let few = points.len() <= 200;
                let (radius, opacity) = if few { (1.6, 1.0) } else { (0.75, 0.75) };
                scene.shapes.push(Shape::Dots { points, radius, ink, opacity });
            }
            Mark::Crosses => points.into_iter().for_each(|p| cross(scene, p, ink)),
            Mark::Line if points.len() == 1 => {
                scene.shapes.push(Shape::Dots { points, radius: 1.6, ink, opacity: 1.0 });
            }
            Mark::Line => scene.shapes.push(Shape::Line { points, ink, width: 1.1, dash }),
            Mark::Arrow => arrow(scene, &points, ink),
        }
    }
}
