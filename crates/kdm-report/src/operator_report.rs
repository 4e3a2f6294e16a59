//! The operator: its spectrum and modes, what samples lose without some of them, the path from
//! noise to image, and what distances between latents mean.

use kdm_analysis::semantics::{DistanceCorrelations, OutputDistance, Semantics};
use kdm_analysis::trajectory::Trajectory;
use kdm_analysis::truncation::Truncation;
use kdm_analysis::{ModeAnalysis, Note, OperatorAnalysis, Spectrum};

use crate::format::{correlation, percent, significant};
use crate::level_report::{level_figure, level_table};
use crate::plot::{Axis, Plot, Series};
use crate::state_report::{rate_figure, rate_table, state_figure, state_table};
use crate::{Figure, Section, Table, grid};

/// Modes in the table.
const MODES: usize = 12;

/// The section on a student's operator. `notes`: what the analysis left out, which is said before
/// the figures.
pub fn operator_section(found: &OperatorAnalysis, notes: &[Note]) -> Section {
    let mut section = Section::new("Operator");
    let about = notes.iter().filter(|note| note.is_warning());
    section.text = about.map(|note| format!("Note: {note}. ")).collect();
    section.figures.push(spectrum_figure(&found.spectrum));
    section.tables.push(spectrum_table(&found.spectrum));
    if let Some(rates) = &found.rates {
        section.figures.push(rate_figure(rates));
        section.tables.push(rate_table(rates));
    }
    if let Some(path) = &found.state_path {
        section.figures.extend(state_figure(path, &found.shape));
        section.tables.push(state_table(path));
    }
    if let Some(modes) = &found.modes {
        section.figures.extend(truncation_figures(&modes.truncation, &found.shape));
        let generator = found.rates.is_some();
        section.figures.extend(trajectory_figure(modes, &found.shape, generator));
        section.tables.push(mode_table(modes));
        section.tables.push(conditioning_table(modes));
        section.tables.push(truncation_table(&modes.truncation));
    }
    if let Some(levels) = &found.levels {
        section.figures.extend(level_figure(levels, &found.shape));
        section.tables.push(level_table(levels));
    }
    section.tables.push(correlation_table(&found.semantics));
    section.tables.push(stretch_table(&found.semantics));
    section
}

/// The eigenvalues in the complex plane.
pub fn spectrum_figure(spectrum: &Spectrum) -> Figure {
    let caption = format!(
        "Eigenvalues of the Koopman operator with the unit circle{}. The largest has modulus \
         {:.4}; {} of {} reach a hundredth of that. Directions with small eigenvalues are lost \
         between noise and image.",
        if spectrum.complete { "" } else { ", the largest alone" },
        spectrum.spectral_radius,
        spectrum.leading,
        spectrum.eigenvalues.len()
    );
    Figure::new("Spectrum", Plot::spectrum(&spectrum.eigenvalues), caption)
}

fn spectrum_table(spectrum: &Spectrum) -> Table {
    let rows = vec![
        [
            "spectral_radius".into(),
            format!("{:.4}", spectrum.spectral_radius),
            "largest modulus of an eigenvalue".into(),
        ],
        [
            "leading".into(),
            format!("{} of {}", spectrum.leading, spectrum.eigenvalues.len()),
            "eigenvalues of at least a hundredth of it, of those that were found".into(),
        ],
    ];
    Table::of("Spectrum", rows)
}

/// The modes that carry most.
fn mode_table(found: &ModeAnalysis) -> Table {
    let total: f64 = found.modes.iter().map(|mode| mode.amplitude.powi(2)).sum();
    let rows = found.modes.iter().take(MODES).enumerate().map(|(place, mode)| {
        let (re, im) = mode.eigenvalue;
        let share = if total > 0.0 { mode.amplitude.powi(2) / total } else { 0.0 };
        vec![
            (place + 1).to_string(),
            if im == 0.0 { format!("{re:.4}") } else { format!("{re:.4} ± {im:.4}i") },
            format!("{:.4}", re.hypot(im)),
            format!("{:.3}", mode.amplitude),
            percent(share),
        ]
    });
    let columns = ["", "eigenvalue", "modulus", "amplitude on real latents", "share of squares"];
    Table::with_columns("Modes that carry most", &columns, rows.collect())
}

/// How the operator stretches, and how its directions disturb each other.
fn conditioning_table(found: &ModeAnalysis) -> Table {
    let conditioning = found.conditioning;
    let (median, largest) = conditioning.eigenvalue_condition;
    let rows = [
        (
            "norm",
            conditioning.norm,
            "the most by which the operator stretches a latent (its Lipschitz constant)",
        ),
        (
            "condition",
            conditioning.condition,
            "largest over smallest stretch; noise is recovered from a latent only where it is \
             small",
        ),
        (
            "departure",
            conditioning.departure,
            "from a normal matrix, 0 to 1: at 0 modes are orthogonal and don't disturb each other",
        ),
        (
            "eigenvalue_condition",
            median,
            "median by which an eigenvalue moves when the operator is disturbed by 1",
        ),
        ("worst_eigenvalue_condition", largest, "the same for the most sensitive eigenvalue"),
        (
            "without_logarithm",
            found.without_logarithm as f64,
            "negative real eigenvalues: without a principal logarithm, powers of them between 0 \
             and 1 are cut to their real part",
        ),
    ];
    let rows = rows.map(|(name, value, note)| [name.into(), significant(value), note.into()]);
    Table::of("Operator", rows.to_vec())
}

/// The field's name of Fréchet distances.
fn frechet_name(found: &Truncation) -> &'static str {
    if found.inception { "FID" } else { "feature FID" }
}

fn truncation_table(found: &Truncation) -> Table {
    let heading = frechet_name(found);
    let of_principal = format!("{heading} by principal directions");
    let measured = found.rows.iter().any(|row| row.by_modes.frechet.is_some());
    let mut columns = vec![
        "modes kept",
        "rank",
        "coordinate rmse to all modes' samples",
        "of their standard deviation",
    ];
    columns.extend(measured.then_some(heading));
    columns.push("coordinate rmse by as many principal directions");
    columns.extend(measured.then_some(of_principal.as_str()));
    let rows = found.rows.iter().map(|row| {
        let (modes, principal) = (row.by_modes, row.by_principal);
        let mut cells = vec![
            row.modes.to_string(),
            row.rank.to_string(),
            format!("{:.4}", modes.coordinate_rmse),
            percent(modes.coordinate_rmse / found.deviation),
        ];
        cells.extend(modes.frechet.map(|fid| format!("{fid:.3}")));
        cells.push(format!("{:.4}", principal.coordinate_rmse));
        cells.extend(principal.frechet.map(|fid| format!("{fid:.3}")));
        cells
    });
    Table::with_columns("Truncation to the modes that carry most", &columns, rows.collect())
}

fn truncation_figures(found: &Truncation, shape: &[usize]) -> Vec<Figure> {
    let heading = frechet_name(found);
    let curve = |name: String, pick: &dyn Fn(usize) -> Option<f64>| {
        let at = |i: usize| Some((found.rows[i].rank as f64, pick(i)?));
        Series::line(name, (0..found.rows.len()).filter_map(at).collect())
    };
    let rows = &found.rows;
    let curves = vec![
        curve("coordinate rmse, modes".into(), &|i| Some(rows[i].by_modes.coordinate_rmse)),
        curve(format!("{heading}, modes"), &|i| rows[i].by_modes.frechet),
        curve("coordinate rmse, principal directions".into(), &|i| {
            Some(rows[i].by_principal.coordinate_rmse)
        }),
        curve(format!("{heading}, principal directions"), &|i| rows[i].by_principal.frechet),
    ];
    let caption = "How samples change when the operator keeps only the modes that carry most on \
                   real latents, and when it keeps as many of the directions in which its latents \
                   vary most, the best that rank allows. Where a curve is flat, the rest can be \
                   left out.";
    let axis = Axis::log2("rank kept");
    let frechet = rows.iter().any(|row| row.by_modes.frechet.is_some());
    let values = if frechet { format!("rmse or {heading}") } else { "coordinate rmse".into() };
    let mut figures: Vec<Figure> = Plot::curves(axis, Axis::log10(values), curves)
        .map(|plot| Figure::new("Truncation", plot, caption))
        .into_iter()
        .collect();
    if let Some(last) = rows.last().filter(|_| grid::shows(shape)) {
        let images: Vec<f32> = rows.iter().flat_map(|row| &row.images).copied().collect();
        let columns = last.images.len() / shape.iter().product::<usize>();
        let caption = format!(
            "The same noise by row of modes kept: none, 1, 2, 4, ... and all {} in the last row.",
            last.modes
        );
        let png = grid::png(&images, shape, columns);
        figures.push(Figure::of_pixels("Samples by modes kept", png, caption));
    }
    figures
}

/// Decoded powers of the operator, a sample a row, with the teacher's states and its denoised
/// estimates below.
fn trajectory_figure(found: &ModeAnalysis, shape: &[usize], generator: bool) -> Option<Figure> {
    let Trajectory { images, teacher, .. } =
        found.trajectory.as_ref().filter(|_| grid::shows(shape))?;
    let dim: usize = shape.iter().product();
    let count = images.first()?.len() / dim;
    let mut rows: Vec<f32> = Vec::new();
    for i in 0..count {
        let mut add = |row: &[Vec<f32>]| {
            row.iter().for_each(|values| rows.extend(&values[i * dim..(i + 1) * dim]));
        };
        add(images);
        if let Some(path) = teacher {
            add(&path.states);
            add(&path.denoised);
        }
    }
    let below = if teacher.is_some() {
        " Below it the teacher's state x_t at its solver's times, scaled to standard deviation 1, \
         and its denoised estimate."
    } else {
        ""
    };
    let note = match found.without_logarithm {
        0 => String::new(),
        n => format!(
            " {n} modes have a negative real eigenvalue and no principal logarithm: of their \
             powers the real part is taken."
        ),
    };
    let way = if generator {
        "The student's operator is a generator: C^t is C(0 to t), decoded at its time, to a state \
         over its scale."
    } else {
        "The student was trained at t = 1 alone, so latents between the ends need not decode to \
         recognizable images."
    };
    let caption = format!(
        "The decoder's picture of latents C^t E_T(x_T) for t from 0 (left) to 1 (right), for \
         {count} samples.{below} {way}{note}"
    );
    let png = grid::png(&rows, shape, images.len());
    Some(Figure::of_pixels("From noise to image", png, caption))
}

/// What outputs are compared by, in words.
fn output_name(row: &DistanceCorrelations) -> String {
    let name = match row.output {
        OutputDistance::Pixels => "pixels".to_string(),
        OutputDistance::Features => "features".into(),
        OutputDistance::Factors => "all factors of the shapes".into(),
        OutputDistance::Factor(name) => format!("{name} of the shapes"),
        OutputDistance::Labels => "labels (0 same, 1 other)".into(),
    };
    if row.within_class { format!("{name}, pairs of one class") } else { name }
}

fn correlation_table(found: &Semantics) -> Table {
    let rows = found.correlations.iter().map(|row| {
        let [noise, latent, pushed] = [row.noise, row.latent, row.pushed].map(correlation);
        vec![output_name(row), noise, latent, pushed]
    });
    let columns =
        ["distance of outputs by", "to that of noise x_T", "of latents z_T", "of latents C z_T"];
    Table::with_columns("Correlation of distances", &columns, rows.collect())
}

fn stretch_table(found: &Semantics) -> Table {
    let stretch = found.stretch;
    let rows = [
        (
            "operator",
            stretch.operator,
            "distance of two samples' latents after the operator over that before",
        ),
        ("decoder", stretch.decoder, "distance of two samples over that of their latents C z_T"),
        (
            "decoder, small steps",
            stretch.decoder_small_steps,
            "the same for a small step in a random direction: random directions matter less",
        ),
    ];
    let row = |(name, found, note): (&str, Option<kdm_analysis::semantics::Stretch>, &str)| {
        let stretch = found?;
        Some([
            name.to_string(),
            format!("{:.3}, at most {:.3}", stretch.median, stretch.largest),
            format!(
                "{note}; the median, and the largest seen, a lower bound of the Lipschitz \
                     constant"
            ),
        ])
    };
    Table::of("Stretch", rows.into_iter().filter_map(row).collect())
}
