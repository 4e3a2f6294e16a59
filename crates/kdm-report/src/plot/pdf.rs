//! Scenes as PDF of one page, with Helvetica, which every reader has.

use pdf_writer::types::LineCapStyle;
use pdf_writer::{Content, Finish, Name, Pdf, Rect, Ref, Str};

use super::scene::{Anchor, Ink, Label, PALETTE, Place, RAISED, RISE, SOFT, Scene, Shape, extent};

/// The document.
pub(super) fn file(scene: &Scene) -> Vec<u8> {
    let [catalog, pages, page, font, content] = [1, 2, 3, 4, 5].map(Ref::new);
    let (width, height) = scene.size;
    let mut pdf = Pdf::new();
    pdf.catalog(catalog).pages(pages);
    pdf.pages(pages).kids([page]).count(1);
    let mut leaf = pdf.page(page);
    leaf.media_box(Rect::new(0.0, 0.0, width as f32, height as f32));
    leaf.parent(pages).contents(content);
    let mut resources = leaf.resources();
    resources.fonts().pair(FONT, font);
    // Opacity is a parameter of the state of drawing.
    let mut states = resources.ext_g_states();
    states.insert(OPAQUE).start::<pdf_writer::writers::ExtGraphicsState>().stroking_alpha(1.0);
    states.insert(WEAK).start::<pdf_writer::writers::ExtGraphicsState>().stroking_alpha(0.75);
    states.finish();
    resources.finish();
    leaf.finish();
    let mut face = pdf.type1_font(font);
    face.base_font(Name(b"Helvetica")).encoding_predefined(Name(b"WinAnsiEncoding"));
    face.finish();
    let drawn = draw(scene).finish();
    pdf.stream(content, &drawn);
    pdf.finish()
}

const FONT: Name = Name(b"F");
const OPAQUE: Name = Name(b"O");
const WEAK: Name = Name(b"W");

fn draw(scene: &Scene) -> Content {
    let mut content = Content::new();
    let up = |p: &Place| (p.0 as f32, (scene.size.1 - p.1) as f32);
    content.set_line_join(pdf_writer::types::LineJoinStyle::RoundJoin);
    for shape in &scene.shapes {
        match shape {
            Shape::Line { points, ink, width, dash } => {
                let [r, g, b] = colour(*ink);
                content.set_stroke_rgb(r, g, b).set_line_width(*width as f32);
                content.set_dash_pattern(dash.iter().map(|length| *length as f32), 0.0);
                trace(&mut content, points, up);
                content.stroke();
            }
            // A line of no length with round ends is a dot.
            Shape::Dots { points, radius, ink, opacity } => {
                let [r, g, b] = colour(*ink);
                content.set_stroke_rgb(r, g, b).set_line_width(2.0 * *radius as f32);
                content.set_dash_pattern([], 0.0).set_line_cap(LineCapStyle::RoundCap);
                content.set_parameters(if *opacity < 1.0 { WEAK } else { OPAQUE });
                for point in points {
                    let (x, y) = up(point);
                    content.move_to(x, y).line_to(x, y);
                }
                content.stroke();
                content.set_line_cap(LineCapStyle::ButtCap).set_parameters(OPAQUE);
            }
            Shape::Polygon { points, ink } => {
                let [r, g, b] = colour(*ink);
                content.set_fill_rgb(r, g, b);
                trace(&mut content, points, up);
                content.close_path().fill_nonzero();
            }
            Shape::Text { at, label, size, anchor, turned } => {
                words(&mut content, up(at), label, *size, *anchor, *turned);
            }
        }
    }
    content
}

fn trace(content: &mut Content, points: &[Place], up: impl Fn(&Place) -> (f32, f32)) {
    for (i, point) in points.iter().enumerate() {
        let (x, y) = up(point);
        if i == 0 {
            content.move_to(x, y)
        } else {
            content.line_to(x, y)
        };
    }
}

fn words(
    content: &mut Content,
    (x, y): (f32, f32),
    label: &Label,
    size: f64,
    anchor: Anchor,
    turned: bool,
) {
    let start = extent(label.width(size), anchor).0 as f32;
    let (x, y) = if turned { (x, y + start) } else { (x + start, y) };
    let matrix = if turned { [0.0, 1.0, -1.0, 0.0, x, y] } else { [1.0, 0.0, 0.0, 1.0, x, y] };
    content.set_fill_rgb(0.0, 0.0, 0.0);
    content.begin_text().set_font(FONT, size as f32).set_text_matrix(matrix);
    content.show(Str(&encoded(&label.text)));
    if !label.power.is_empty() {
        content.set_font(FONT, (RAISED * size) as f32).set_rise((RISE * size) as f32);
        content.show(Str(&encoded(&label.power))).set_rise(0.0);
    }
    content.end_text();
}

/// A text in WinAnsiEncoding: Latin-1, and a dash in place of the minus sign.
fn encoded(text: &str) -> Vec<u8> {
    let byte = |c: char| match c {
        '\u{2212}' | '\u{2013}' => 0x96,
        ' '..='~' | '\u{a1}'..='\u{ff}' => c as u32 as u8,
        _ => b'?',
    };
    text.chars().map(byte).collect()
}

fn colour(ink: Ink) -> [f32; 3] {
    match ink {
        Ink::Text => [0.0; 3],
        Ink::Soft => [1.0 - SOFT as f32; 3],
        Ink::Palette(i) => PALETTE[i % PALETTE.len()].map(|c| f32::from(c) / 255.0),
    }
}
