//! Scenes as SVG.

use std::fmt::Write;

use crate::format::escape;

use super::scene::{Anchor, Ink, Label, PALETTE, Place, RAISED, RISE, SOFT, Scene, Shape};

const FONT: &str = "Helvetica,Arial,'Liberation Sans',sans-serif";

/// A file of its own, black on white.
pub(super) fn file(scene: &Scene) -> String {
    let (width, height) = scene.size;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.1}pt\" height=\"{height:.1}pt\" \
         viewBox=\"0 0 {width:.1} {height:.1}\" color=\"#000\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{}</svg>\n",
        shapes(scene)
    )
}

/// A part of a page, in its colour of text. `label`: what it shows, for people who can't see it.
pub(super) fn inline(scene: &Scene, label: &str) -> String {
    let (width, height) = scene.size;
    format!(
        "<svg role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {width:.1} {height:.1}\">\n{}</svg>",
        escape(label),
        shapes(scene)
    )
}

fn shapes(scene: &Scene) -> String {
    let mut text =
        format!("<g font-family=\"{FONT}\" fill=\"currentColor\" stroke-linejoin=\"round\">\n");
    for shape in &scene.shapes {
        match shape {
            Shape::Line { points, ink, width, dash } => {
                let _ = write!(text, "<path d=\"{}\" fill=\"none\"", path(points));
                let _ = write!(text, " stroke=\"{}\" stroke-width=\"{width}\"", colour(*ink));
                if *ink == Ink::Soft {
                    let _ = write!(text, " stroke-opacity=\"{SOFT}\"");
                }
                if !dash.is_empty() {
                    let lengths: Vec<String> = dash.iter().map(f64::to_string).collect();
                    let _ = write!(text, " stroke-dasharray=\"{}\"", lengths.join(" "));
                }
                text += "/>\n";
            }
            // A line of no length with round ends is a dot: ten bytes each.
            Shape::Dots { points, radius, ink, opacity } => {
                let dots: String =
                    points.iter().map(|p| format!("M{} {}h0", short(p.0), short(p.1))).collect();
                let _ = writeln!(
                    text,
                    "<path d=\"{dots}\" stroke=\"{}\" stroke-width=\"{}\" \
                     stroke-opacity=\"{opacity}\" stroke-linecap=\"round\"/>",
                    colour(*ink),
                    2.0 * radius
                );
            }
            Shape::Polygon { points, ink } => {
                let _ = writeln!(text, "<path d=\"{}Z\" fill=\"{}\"/>", path(points), colour(*ink));
            }
            Shape::Text { at, label, size, anchor, turned } => {
                words(&mut text, *at, label, *size, *anchor, *turned);
            }
        }
    }
    text + "</g>\n"
}

fn words(text: &mut String, at: Place, label: &Label, size: f64, anchor: Anchor, turned: bool) {
    let anchor = match anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    };
    let (x, y) = (short(at.0), short(at.1));
    let turn = if turned { format!(" transform=\"rotate(-90 {x} {y})\"") } else { String::new() };
    let _ = write!(
        text,
        "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" text-anchor=\"{anchor}\"{turn}>{}",
        escape(&label.text)
    );
    if !label.power.is_empty() {
        let _ = write!(
            text,
            "<tspan dy=\"{:.2}\" font-size=\"{:.2}\">{}</tspan>",
            -RISE * size,
            RAISED * size,
            escape(&label.power)
        );
    }
    *text += "</text>\n";
}

fn path(points: &[Place]) -> String {
    let step = |(i, p): (usize, &Place)| {
        format!("{}{} {}", if i == 0 { "M" } else { "L" }, short(p.0), short(p.1))
    };
    points.iter().enumerate().map(step).collect()
}

/// A hundredth of a point is finer than any printer.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn colour(ink: Ink) -> String {
    match ink {
        Ink::Text | Ink::Soft => "currentColor".into(),
        Ink::Palette(i) => {
            let [r, g, b] = PALETTE[i % PALETTE.len()];
            format!("#{r:02x}{g:02x}{b:02x}")
        }
    }
}
