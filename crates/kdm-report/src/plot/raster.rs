//! Scenes as pictures.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, OutlineCurve, Point};
use image::{ImageEncoder, codecs::png::PngEncoder};
use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Stroke, StrokeDash,
    Transform,
};

use super::scene::{Anchor, Ink, Label, PALETTE, Place, RAISED, RISE, SOFT, Scene, Shape, extent};

/// Pixels a point: 300 an inch.
const SCALE: f32 = 300.0 / 72.0;

static FACE: LazyLock<FontRef<'static>> = LazyLock::new(|| {
    FontRef::try_from_slice(epaint_default_fonts::UBUNTU_LIGHT).expect("a font that is built in")
});

/// A PNG file of black on white.
pub(super) fn png(scene: &Scene) -> Vec<u8> {
    let pixels = |points: f64| ((points as f32 * SCALE).ceil() as u32).clamp(1, 20_000);
    let (width, height) = (pixels(scene.size.0), pixels(scene.size.1));
    let mut canvas = Pixmap::new(width, height).expect("a size above 0 and bounded");
    canvas.fill(Color::WHITE);
    for shape in &scene.shapes {
        draw(&mut canvas, shape);
    }
    // The canvas is opaque, so that its colours are those of the picture.
    let rgb: Vec<u8> = canvas.data().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(&rgb, width, height, image::ExtendedColorType::Rgb8)
        .expect("encoding to memory");
    bytes
}

fn draw(canvas: &mut Pixmap, shape: &Shape) {
    let scale = Transform::from_scale(SCALE, SCALE);
    match shape {
        Shape::Line { points, ink, width, dash } => {
            let stroke = Stroke {
                width: *width as f32,
                line_join: LineJoin::Round,
                dash: StrokeDash::new(dash.iter().map(|d| *d as f32).collect(), 0.0),
                ..Stroke::default()
            };
            if let Some(path) = trace(points, false) {
                canvas.stroke_path(&path, &paint(*ink, 1.0), &stroke, scale, None);
            }
        }
        Shape::Dots { points, radius, ink, opacity } => {
            let stroke = Stroke {
                width: 2.0 * *radius as f32,
                line_cap: LineCap::Round,
                ..Stroke::default()
            };
            // One path each: where dots lie on each other, they are darker.
            for point in points {
                if let Some(path) = trace(&[*point, *point], false) {
                    canvas.stroke_path(&path, &paint(*ink, *opacity), &stroke, scale, None);
                }
            }
        }
        Shape::Polygon { points, ink } => {
            if let Some(path) = trace(points, true) {
                canvas.fill_path(&path, &paint(*ink, 1.0), FillRule::Winding, scale, None);
            }
        }
        Shape::Text { at, label, size, anchor, turned } => {
            let turn = Transform::from_rotate_at(-90.0, at.0 as f32, at.1 as f32);
            let turn = if *turned { turn } else { Transform::identity() };
            if let Some(path) = words(*at, label, *size, *anchor) {
                let place = turn.post_concat(scale);
                canvas.fill_path(&path, &paint(Ink::Text, 1.0), FillRule::Winding, place, None);
            }
        }
    }
}

fn paint(ink: Ink, opacity: f64) -> Paint<'static> {
    let ([r, g, b], share) = match ink {
        Ink::Text => ([0; 3], 1.0),
        Ink::Soft => ([0; 3], SOFT),
        Ink::Palette(i) => (PALETTE[i % PALETTE.len()], 1.0),
    };
    let mut paint = Paint::default();
    paint.set_color_rgba8(r, g, b, (255.0 * share * opacity).round() as u8);
    paint
}

fn trace(points: &[Place], closed: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (i, (x, y)) in points.iter().map(|p| (p.0 as f32, p.1 as f32)).enumerate() {
        if i == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
    }
    if closed {
        path.close();
    }
    path.finish()
}

/// The outlines of a text's characters.
fn words(at: Place, label: &Label, size: f64, anchor: Anchor) -> Option<Path> {
    let width = advance(&label.text, size) + advance(&label.power, RAISED * size);
    let mut x = at.0 + extent(width, anchor).0;
    let mut path = PathBuilder::new();
    x = outline(&mut path, &label.text, (x, at.1), size);
    outline(&mut path, &label.power, (x, at.1 - RISE * size), RAISED * size);
    path.finish()
}

fn advance(text: &str, size: f64) -> f64 {
    let face = &*FACE;
    let of = |c| face.h_advance_unscaled(face.glyph_id(c));
    f64::from(text.chars().map(of).sum::<f32>()) * unit(size)
}

/// Points a unit of the font.
fn unit(size: f64) -> f64 {
    size / f64::from(FACE.units_per_em().unwrap_or(1000.0))
}

/// Adds a text that starts at a place; gives where it ends.
fn outline(path: &mut PathBuilder, text: &str, (mut x, y): Place, size: f64) -> f64 {
    let unit = unit(size);
    for id in text.chars().map(|c| FACE.glyph_id(c)) {
        let to =
            |p: Point| ((x + f64::from(p.x) * unit) as f32, (y - f64::from(p.y) * unit) as f32);
        let mut last = None;
        for curve in FACE.outline(id).map(|outline| outline.curves).unwrap_or_default() {
            let (start, end) = match curve {
                OutlineCurve::Line(a, b) => (a, b),
                OutlineCurve::Quad(a, _, b) | OutlineCurve::Cubic(a, _, _, b) => (a, b),
            };
            if last != Some(start) {
                let (x, y) = to(start);
                path.move_to(x, y);
            }
            let (ex, ey) = to(end);
            match curve {
                OutlineCurve::Line(..) => path.line_to(ex, ey),
                OutlineCurve::Quad(_, c, _) => {
                    let (cx, cy) = to(c);
                    path.quad_to(cx, cy, ex, ey);
                }
                OutlineCurve::Cubic(_, c, d, _) => {
                    let ((cx, cy), (dx, dy)) = (to(c), to(d));
                    path.cubic_to(cx, cy, dx, dy, ex, ey);
                }
            }
            last = Some(end);
        }
        x += f64::from(FACE.h_advance_unscaled(id)) * unit;
    }
    x
}
