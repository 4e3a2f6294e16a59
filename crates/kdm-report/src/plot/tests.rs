//! Properties of all figures, whatever they show.

use super::scene::{Anchor, Ink, Scene, Shape, extent};
use super::*;

/// A plot of every kind, with long names, many series, odd ranges and few points.
fn plots() -> Vec<Plot> {
    let wave = |i: usize| -> Vec<(f64, f64)> {
        (0..50).map(|x| (f64::from(x) * 400.0, 10f64.powi(-(i as i32)) + f64::from(x))).collect()
    };
    let named = |count: usize| -> Vec<Series> {
        (0..count)
            .map(|i| Series::line(format!("a rather long name of series {i}"), wave(i)))
            .collect()
    };
    let eigenvalues: Vec<(f64, f64)> = (0..99)
        .map(|i| (f64::from(i) / 99.0, f64::from(i)))
        .map(|(r, a)| (r * a.cos(), r * a.sin()))
        .collect();
    let ways = (0..9).map(|i| Series {
        name: Some(format!("seed {i}")),
        mark: Mark::Arrow,
        ..Series::dots(vec![(0.0, 0.0), (f64::from(i) / 3.0 - 1.3, 0.9)], i as usize)
    });
    let crosses = Series {
        name: Some("outliers".into()),
        mark: Mark::Crosses,
        ..Series::dots(vec![(0.1, 0.2), (-4.0, 0.0)], 2)
    };
    let curves = |x: Axis, y: Axis, series| Plot::curves(x, y, series).unwrap();
    vec![
        curves(Axis::linear("iteration"), Axis::log10("loss"), named(1)),
        curves(Axis::linear("iteration"), Axis::log10("loss, or rmse"), named(9)),
        curves(Axis::linear("time (s)"), Axis::linear("images per second"), named(3)),
        curves(
            Axis::log2("rank kept"),
            Axis::log10("coordinate rmse"),
            vec![Series::line("one point", vec![(4.0, 0.3)])],
        ),
        Plot::spectrum(&eigenvalues),
        Plot::spectrum(&[]),
        Plot::scatter("first coordinate", "second coordinate", ways.collect(), 1.4),
        Plot::scatter("x", "", vec![Series::of_rows(&[0.5; 20], 0), crosses], 2e-6),
    ]
}

/// Left, top, right and bottom of a text.
fn bounds(shape: &Shape) -> Option<[f64; 4]> {
    let Shape::Text { at, label, size, anchor, turned } = shape else { return None };
    let (first, last) = extent(label.width(*size), *anchor);
    Some(match turned {
        false => [at.0 + first, at.1 - 0.8 * size, at.0 + last, at.1 + 0.22 * size],
        true => [at.0 - 0.8 * size, at.1 - last, at.0 + 0.22 * size, at.1 - first],
    })
}

/// A plot as on a page and as in a file.
fn scenes() -> Vec<Scene> {
    plots().iter().flat_map(|plot| [plot.row(), plot.column()]).collect()
}

fn texts(scene: &Scene) -> Vec<[f64; 4]> {
    scene.shapes.iter().filter_map(bounds).collect()
}

#[test]
fn nothing_stands_out_of_the_page() {
    for (i, scene) in scenes().iter().enumerate() {
        let (width, height) = scene.size;
        for [left, top, right, bottom] in texts(scene) {
            assert!(left >= 0.0 && top >= 0.0, "{i}: {left} {top}");
            assert!(
                right <= width && bottom <= height,
                "{i}: {right} {bottom} of {width} {height}"
            );
        }
        for shape in &scene.shapes {
            let (Shape::Line { points, .. }
            | Shape::Dots { points, .. }
            | Shape::Polygon { points, .. }) = shape
            else {
                continue;
            };
            let inside =
                |p: &(f64, f64)| (0.0..=width).contains(&p.0) && (0.0..=height).contains(&p.1);
            assert!(points.iter().all(inside), "{i}: {points:?}");
        }
    }
}

#[test]
fn texts_do_not_touch() {
    for (i, scene) in scenes().iter().enumerate() {
        let all = texts(scene);
        for (k, a) in all.iter().enumerate() {
            for b in &all[..k] {
                let apart = a[0] >= b[2] || b[0] >= a[2] || a[1] >= b[3] || b[1] >= a[3];
                assert!(apart, "{i}: {a:?} and {b:?}");
            }
        }
    }
}

/// The legend is above the frame, and data within it.
#[test]
fn no_data_lies_under_the_legend() {
    for plot in plots() {
        let scene = plot.row();
        // The frame is the first line that returns to its beginning with five points.
        let frame = scene.shapes.iter().find_map(|shape| match shape {
            Shape::Line { points, .. } if points.len() == 5 => Some(points[0].1),
            _ => None,
        });
        let top = frame.unwrap();
        let starts = |shape: &&Shape| matches!(shape, Shape::Text { anchor: Anchor::Start, .. });
        let legend = scene.shapes.iter().filter(starts).filter_map(bounds);
        assert!(legend.into_iter().all(|[.., bottom]| bottom <= top));
    }
}

/// At the width of a column (240 points) a file's text is readable, at 6.7 points or more, and its
/// frames lie below each other.
#[test]
fn files_fit_a_column() {
    for plot in plots() {
        let scene = plot.column();
        let (width, _) = scene.size;
        // Names longer than the frame make a figure wider, and are not counted here.
        assert!(width <= 285.0, "{width}");
        assert!(8.0 * (240.0 / width).min(1.0) >= 6.7, "{width}");
        let lefts: Vec<f64> = scene
            .shapes
            .iter()
            .filter_map(|shape| match shape {
                Shape::Line { points, ink: Ink::Soft, .. } if points.len() == 5 => {
                    Some(points[0].0)
                }
                _ => None,
            })
            .collect();
        assert_eq!(lefts.len(), plot.panels.len());
        assert!(lefts.iter().all(|left| *left == lefts[0]), "{lefts:?}");
    }
}

#[test]
fn svg_is_well_formed_and_names_are_escaped() {
    for plot in plots() {
        let text = plot.svg();
        roxmltree::Document::parse(&text).unwrap();
        roxmltree::Document::parse(&plot.inline_svg("a \"label\" <b>")).unwrap();
        assert!(!text.contains("NaN") && !text.contains("inf"));
    }
    let series = vec![Series::line("a < b & \"c\"", vec![(0.0, 1.0), (1.0, 2.0)])];
    let plot = Plot::curves(Axis::linear("<x>"), Axis::log10("y"), series).unwrap();
    let text = plot.svg();
    let document = roxmltree::Document::parse(&text).unwrap();
    let words: Vec<&str> = document.descendants().filter_map(|node| node.text()).collect();
    assert!(words.contains(&"a < b & \"c\"") && words.contains(&"<x>"));
    // Powers of ten are raised: 10 to the 0.
    assert!(text.contains(">10<tspan"));
}

/// Three forms of one drawing: pixels at 300 an inch, and a PDF page of its size.
#[test]
fn forms_agree_in_size() {
    for plot in plots() {
        let (width, height) = plot.column().size;
        let picture = image::load_from_memory(&plot.png()).unwrap().to_rgb8();
        let pixels = |points: f64| (points as f32 * 300.0 / 72.0).ceil() as u32;
        assert_eq!(picture.dimensions(), (pixels(width), pixels(height)));
        let pdf = plot.pdf();
        let text = String::from_utf8_lossy(&pdf);
        assert!(text.contains("/MediaBox") && text.trim_end().ends_with("%%EOF"));
    }
}

/// Ink of a palette colour must be where points are and nowhere else.
#[test]
fn a_scatter_shows_its_points() {
    let series = Series::of_rows(&[0.5, 0.5, 0.52, 0.5, 9.0, 9.0], 0);
    let plot = Plot::scatter("x", "y", vec![series], 1.0);
    let picture = image::load_from_memory(&plot.png()).unwrap().to_rgb8();
    let (width, height) = picture.dimensions();
    let blue = |p: &image::Rgb<u8>| p.0[2] > p.0[0].saturating_add(60);
    let places: Vec<(u32, u32)> =
        picture.enumerate_pixels().filter(|(.., p)| blue(p)).map(|(x, y, _)| (x, y)).collect();
    assert!((50..1000).contains(&places.len()), "{}", places.len());
    assert!(places.iter().all(|(x, y)| *x > width / 2 && *y < height / 2), "{places:?}");
}

#[test]
fn curves_need_something_to_draw() {
    let curves = |points: Vec<(f64, f64)>| {
        let series = vec![Series::line("loss", points)];
        Plot::curves(Axis::linear("iteration"), Axis::log10("loss"), series)
    };
    assert!(curves(vec![(1.0, 0.0), (2.0, f64::NAN)]).is_none());
    assert!(curves(vec![(1.0, 0.1), (2.0, 0.01)]).is_some());
}
