//! Plots, as bytes of PNG files. Colours are Okabe and Ito's, which all readers can tell apart.

use std::ops::Range;
use std::sync::Once;

use image::{ImageEncoder, RgbImage, codecs::png::PngEncoder};
use plotters::prelude::*;
use plotters::style::register_font;

/// Edge of a square figure, in pixels.
const SIZE: u32 = 900;

const PALETTE: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(240, 228, 66),
    RGBColor(110, 110, 110),
];

/// Points of one colour.
#[derive(Clone, Debug)]
pub struct Group {
    /// (x, y).
    pub points: Vec<(f64, f64)>,
    /// Which colour of the palette; none for black.
    pub colour: Option<usize>,
    /// Its name in the legend; none for no entry.
    pub name: Option<String>,
    /// Drawn as crosses, to stand out.
    pub crosses: bool,
}

impl Group {
    /// All rows of two values, in one colour.
    pub fn of(points: &[f32], colour: usize) -> Self {
        let points = points.chunks(2).map(|p| (f64::from(p[0]), f64::from(p[1]))).collect();
        Self { points, colour: Some(colour), name: None, crosses: false }
    }
}

/// A line of a curve figure.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// (x, y); only points with y above 0 are drawn, as the axis is logarithmic.
    pub points: Vec<(f64, f64)>,
}

/// The horizontal axis of a curve figure.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// What it counts.
    pub name: &'static str,
    /// Whether it is logarithmic; its values are above 0 then.
    pub logarithmic: bool,
}

impl Axis {
    /// Iterations of a training.
    pub const ITERATIONS: Self = Self { name: "iteration", logarithmic: false };
}

fn font() -> &'static str {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let _ = register_font("sans", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
    "sans"
}

type Canvas<'a> = DrawingArea<BitMapBackend<'a>, plotters::coord::Shift>;
type PlotResult = Result<(), Box<dyn std::error::Error>>;

/// Draws on a white canvas and encodes it. Drawing to memory has no way to fail but a fault of
/// ours.
fn png(width: u32, height: u32, draw: impl FnOnce(&Canvas) -> PlotResult) -> Vec<u8> {
    let mut pixels = vec![255; (width * height * 3) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        area.fill(&WHITE).expect("drawing to memory");
        draw(&area).expect("drawing to memory");
        area.present().expect("drawing to memory");
    }
    encode(&RgbImage::from_raw(width, height, pixels).expect("the canvas's size"))
}

fn encode(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(image, image.width(), image.height(), image::ExtendedColorType::Rgb8)
        .expect("encoding to memory");
    bytes
}

/// The half edge of a square that shows nearly all points: a little beyond the 99.5th percentile of
/// the absolute values of coordinates.
pub fn half_edge(points: &[f32]) -> f64 {
    let mut magnitudes: Vec<f32> = points.iter().map(|x| x.abs()).collect();
    magnitudes.sort_by(f32::total_cmp);
    let index = (magnitudes.len() * 995 / 1000).min(magnitudes.len().saturating_sub(1));
    f64::from(magnitudes.get(index).copied().unwrap_or(1.0)).max(1e-3) * 1.15
}

/// Points in a square plot with equal axes. `half`: half the edge of the shown square around the
/// origin.
pub fn scatter(title: &str, groups: &[Group], half: f64) -> Vec<u8> {
    png(SIZE, SIZE, |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(title, (font(), 30))
            .margin(16)
            .x_label_area_size(36)
            .y_label_area_size(44)
            .build_cartesian_2d(-half..half, -half..half)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_label_formatter(&number)
            .y_label_formatter(&number)
            .label_style((font(), 18))
            .draw()?;
        for group in groups {
            let colour = group.colour.map_or(BLACK, |c| PALETTE[c % PALETTE.len()]);
            let style = colour.mix(if group.crosses { 1.0 } else { 0.65 }).filled();
            let inside = group.points.iter().filter(|(x, y)| x.abs() <= half && y.abs() <= half);
            if group.crosses {
                chart.draw_series(inside.map(|p| Cross::new(*p, 5, style.stroke_width(2))))?;
            } else {
                chart.draw_series(inside.map(|p| Circle::new(*p, 2, style)))?;
            }
            if let Some(name) = &group.name {
                let entry =
                    chart.draw_series(std::iter::empty::<Circle<(f64, f64), i32>>())?.label(name);
                if group.crosses {
                    entry.legend(move |(x, y)| Cross::new((x + 8, y), 5, colour.stroke_width(2)));
                } else {
                    entry.legend(move |(x, y)| Circle::new((x + 8, y), 5, colour.filled()));
                }
            }
        }
        if groups.iter().any(|g| g.name.is_some()) {
            legend(&mut chart)?;
        }
        Ok(())
    })
}

fn legend<'a, DB: DrawingBackend + 'a, X: Ranged, Y: Ranged>(
    chart: &mut ChartContext<'a, DB, Cartesian2d<X, Y>>,
) -> PlotResult
where
    DB::ErrorType: 'static,
{
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font((font(), 18))
        .draw()?;
    Ok(())
}

/// Eigenvalues in the complex plane with the unit circle, and a close-up of them.
pub fn spectrum(title: &str, eigenvalues: &[(f64, f64)]) -> Vec<u8> {
    let reach = eigenvalues.iter().map(|l| l.0.hypot(l.1)).fold(0.0, f64::max);
    png(2 * SIZE, SIZE, |area| {
        let (left, right) = area.split_horizontally(SIZE);
        plane(&left, title, eigenvalues, 1.1 * reach.max(1.0))?;
        // Nearly all eigenvalues are far smaller than the largest.
        let mut moduli: Vec<f64> = eigenvalues.iter().map(|l| l.0.hypot(l.1)).collect();
        moduli.sort_by(f64::total_cmp);
        let most = moduli.get(moduli.len() * 95 / 100).copied().unwrap_or(1.0);
        plane(&right, "close-up of the smaller 95%", eigenvalues, 1.3 * most.max(1e-9))
    })
}

/// Eigenvalues within `half` of the origin, and as much of the unit circle.
fn plane(area: &Canvas, title: &str, eigenvalues: &[(f64, f64)], half: f64) -> PlotResult {
    let mut chart = ChartBuilder::on(area)
        .caption(title, (font(), 30))
        .margin(16)
        .x_label_area_size(52)
        .y_label_area_size(72)
        .build_cartesian_2d(-half..half, -half..half)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("real part")
        .y_desc("imaginary part")
        .x_label_formatter(&number)
        .y_label_formatter(&number)
        .label_style((font(), 18))
        .draw()?;
    let inside = |p: &(f64, f64)| p.0.abs() <= half && p.1.abs() <= half;
    if half > 1.0 {
        let circle = (0..=360).map(|d| {
            let a = f64::from(d).to_radians();
            (a.cos(), a.sin())
        });
        chart.draw_series(LineSeries::new(circle, BLACK.mix(0.6).stroke_width(2)))?;
    }
    let style = PALETTE[0].mix(0.7).filled();
    chart
        .draw_series(eigenvalues.iter().filter(|p| inside(p)).map(|l| Circle::new(*l, 4, style)))?;
    Ok(())
}

/// An axis label: three digits, and no minus before zero.
fn number(value: &f64) -> String {
    let rounded = format!("{:.3}", if value.abs() < 5e-4 { 0.0 } else { *value });
    rounded.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// Curves with a logarithmic axis of values. Gives none when there is nothing to draw.
pub fn curves(title: &str, axis: Axis, curves: &[Curve]) -> Option<Vec<u8>> {
    let place = |x: f64| if axis.logarithmic { x.log2() } else { x };
    let positive = |c: &Curve| -> Vec<(f64, f64)> {
        c.points
            .iter()
            .filter(|(_, y)| *y > 0.0 && y.is_finite())
            .map(|(x, y)| (place(*x), *y))
            .collect()
    };
    let drawn: Vec<(&str, Vec<(f64, f64)>)> = curves
        .iter()
        .map(|c| (c.name.as_str(), positive(c)))
        .filter(|(_, p)| !p.is_empty())
        .collect();
    let all = || drawn.iter().flat_map(|(_, p)| p.iter());
    let range = |pick: fn(&(f64, f64)) -> f64| -> Range<f64> {
        let values = || all().map(pick);
        values().fold(f64::INFINITY, f64::min)..values().fold(f64::NEG_INFINITY, f64::max)
    };
    if drawn.is_empty() {
        return None;
    }
    let (x, y) = (range(|p| p.0), range(|p| p.1));
    let (x, y) = (x.start..x.end.max(x.start + 1.0), y.start * 0.8..y.end * 1.25);
    Some(png(SIZE, SIZE * 2 / 3, |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(title, (font(), 30))
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(x, y.log_scale())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc(axis.name)
            .x_label_formatter(&|v| {
                if axis.logarithmic { number(&v.exp2()) } else { format!("{v:.0}") }
            })
            .y_label_formatter(&|v| format!("{v:.1e}"))
            .label_style((font(), 18))
            .draw()?;
        for (i, (name, points)) in drawn.iter().enumerate() {
            let style = PALETTE[i % PALETTE.len()].stroke_width(2);
            chart
                .draw_series(LineSeries::new(points.iter().copied(), style))?
                .label(*name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], style));
        }
        legend(&mut chart)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ink of a palette colour must be where points are and nowhere else.
    #[test]
    fn a_scatter_shows_its_points() {
        let group = Group::of(&[0.5, 0.5, 0.52, 0.5, 9.0, 9.0], 0);
        let picture = image::load_from_memory(&scatter("title", &[group], 1.0)).unwrap().to_rgb8();
        assert_eq!(picture.dimensions(), (SIZE, SIZE));
        let blue = |x: u32, y: u32| {
            let p = picture.get_pixel(x, y).0;
            p[2] > p[0].saturating_add(40)
        };
        let mut places = Vec::new();
        for y in 0..SIZE {
            places.extend((0..SIZE).filter(|x| blue(*x, y)).map(|x| (x, y)));
        }
        assert!((10..200).contains(&places.len()), "{}", places.len());
        assert!(places.iter().all(|(x, y)| *x > SIZE / 2 && *y < SIZE / 2), "{places:?}");
    }

    #[test]
    fn curves_need_something_to_draw() {
        let curve = |points: Vec<(f64, f64)>| Curve { name: "loss".into(), points };
        assert!(
            curves("t", Axis::ITERATIONS, &[curve(vec![(1.0, 0.0), (2.0, f64::NAN)])]).is_none()
        );
        assert!(curves("t", Axis::ITERATIONS, &[curve(vec![(1.0, 0.1), (2.0, 0.01)])]).is_some());
    }
}
