//! A student in pictures and numbers: figures and tables for reports and the terminal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kdm_analysis::Spectrum;
use kdm_analysis::clusters::{ClusterConfig, cluster};
use kdm_data::atomic;
use kdm_koopman::interpolation::{End, Space, between};
use kdm_koopman::sampler::one_hot;
use kdm_report::plots::{self, Axis, Curve, Group};
use kdm_report::{Figure, Report, Table, grid};
use kdm_teacher::distributions::Distribution;
use kdm_train::{METRICS, read_metrics};

use crate::Outcome;
use crate::pipeline::LoadedStudent;

/// Metrics in the order they are shown, and how each is read.
const READINGS: [(&str, &str); 44] = [
    ("rmse", "root mean squared distance to the teacher's sample from the same noise"),
    ("median_error", "half of the samples are closer than this to the teacher's"),
    ("coordinate_rmse", "the same root mean square for a single coordinate"),
    ("sliced_wasserstein2", "distance between the two sets of samples, over random projections"),
    ("energy_distance", "distance between the two sets of samples; 0 for equal distributions"),
    ("off_board", "percent of the student's samples on no dark square"),
    ("teacher_off_board", "percent of the teacher's samples on no dark square"),
    ("off_board_excess", "percentage points the student is worse by"),
    ("speed_up", "times faster a sample than the teacher, on this machine in this run"),
    ("psnr", "peak signal-to-noise ratio to the teacher's image from the same noise, in dB"),
    ("ssim", "structural similarity to it; 1 for equal images"),
    ("lpips", "perceptual distance to it by VGG16 (LPIPS); 0 for equal images"),
    ("fid", "Fréchet distance of Inception's features to the data's"),
    ("fid_teacher", "the same for the teacher's images, as many"),
    ("fid_infinity", "fid extrapolated to infinitely many samples"),
    ("kid", "kernel distance of Inception's features to the data's"),
    ("kid_deviation", "its standard deviation over subsets"),
    ("inception_score", "how sure and how varied Inception's classes are"),
    (
        "precision",
        "share of images inside the data's neighbourhoods (5 neighbours, Inception's features)",
    ),
    ("recall", "share of the data inside the images' neighbourhoods"),
    ("density", "how many of the data's neighbourhoods an image is in, over 5"),
    ("coverage", "share of the data's neighbourhoods that hold an image"),
    (
        "feature_fid",
        "Fréchet distance of the data's own classifier's features; no FID in the usual sense",
    ),
    ("feature_fid_teacher", "the same for the teacher's images, as many"),
    ("feature_fid_infinity", "feature_fid extrapolated to infinitely many samples"),
    ("feature_kid", "kernel distance of these features"),
    ("feature_kid_deviation", "its standard deviation over subsets"),
    ("feature_inception_score", "how sure and how varied the classifier's classes are"),
    (
        "feature_precision",
        "share of images inside the data's neighbourhoods (5 neighbours, these features)",
    ),
    ("feature_recall", "share of the data inside the images' neighbourhoods"),
    ("feature_density", "how many of the data's neighbourhoods an image is in, over 5"),
    ("feature_coverage", "share of the data's neighbourhoods that hold an image"),
    (
        "class_agreement",
        "share of images whose class, as the classifier sees it, is the one asked for",
    ),
    ("class_agreement_teacher", "the same for the teacher's images"),
    (
        "class_same_as_teacher",
        "share of images of the class of the teacher's image from the same noise",
    ),
    (
        "neighbour_distance",
        "median distance of a sample to the nearest training image, in feature space",
    ),
    ("neighbour_distance_test", "the same of images of the test split"),
    (
        "copies",
        "share of samples nearer to a training image than all but 1% of the test split; 0.01 for \
         new images",
    ),
    ("latent", "mean squared distance of C z_T to z_0"),
    ("rec", "distance d of an image to its reconstruction D(z_0)"),
    ("push", "distance d of the teacher's image to the one-step image"),
    ("adversarial", "cross-entropy of the discriminator's answer to one-step images"),
    ("eigen", "eigenvalue loss and inverse consistency"),
    ("total", "the weighted sum of the loss's terms"),
];

/// A number with four significant digits.
pub fn shown(value: f64) -> String {
    if value == 0.0 || (1e-3..1e5).contains(&value.abs()) {
        let digits = (3.0 - value.abs().max(1e-3).log10().floor()).clamp(0.0, 6.0) as usize;
        format!("{value:.digits$}")
    } else {
        format!("{value:.3e}")
    }
}

/// A square's half edge that shows nearly all points: a little beyond the 99.5th percentile of the
/// coordinates.
pub fn view(points: &[f32]) -> f64 {
    let mut magnitudes: Vec<f32> = points.iter().map(|x| x.abs()).collect();
    magnitudes.sort_by(f32::total_cmp);
    let index = (magnitudes.len() * 995 / 1000).min(magnitudes.len().saturating_sub(1));
    f64::from(magnitudes.get(index).copied().unwrap_or(1.0)).max(1e-3) * 1.15
}

/// The colours of samples: their modes where the distribution is known, else density-based
/// clusters; and the outliers.
#[derive(Clone, Debug)]
pub struct Structure {
    /// Each sample's colour.
    pub colour: Vec<Option<usize>>,
    /// Whether it is an outlier.
    pub outlier: Vec<bool>,
    /// Sizes of the density-based clusters.
    pub cluster_sizes: Vec<usize>,
    /// Outliers among the samples.
    pub outliers: usize,
    /// How it was found.
    pub config: ClusterConfig,
}

/// Finds the structure of samples.
pub fn structure(
    samples: &[f32],
    dim: usize,
    config: ClusterConfig,
    data: Option<&Distribution>,
) -> Structure {
    let found = cluster(samples, dim, config);
    let colour = match data {
        None => found.cluster,
        Some(data) => {
            let mode =
                |row: &[f32]| data.mode_of(&row.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
            samples.chunks(dim).map(mode).collect()
        }
    };
    Structure {
        colour,
        outlier: found.outlier,
        cluster_sizes: found.sizes,
        outliers: found.outliers,
        config,
    }
}

impl Structure {
    /// Points (the samples themselves, or the noise they are from) as groups of one colour,
    /// outliers as black crosses.
    pub fn groups(&self, points: &[f32]) -> Vec<Group> {
        let mut groups: BTreeMap<Option<usize>, Vec<(f64, f64)>> = BTreeMap::new();
        let mut stray = Vec::new();
        for (i, p) in points.chunks(2).enumerate() {
            let p = (f64::from(p[0]), f64::from(p[1]));
            match (self.outlier[i], self.colour[i]) {
                (true, _) | (_, None) => stray.push(p),
                (false, colour) => groups.entry(colour).or_default().push(p),
            }
        }
        let coloured = groups.into_iter().map(|(colour, points)| Group {
            points,
            colour,
            name: None,
            crosses: false,
        });
        let stray =
            Group { points: stray, colour: None, name: Some("outliers".into()), crosses: true };
        coloured.chain([stray]).collect()
    }
}

/// Writes a page into `folder`, and each of its figures into `folder/figures`; gives the page's
/// path.
///
/// # Errors
/// When the folder can't be written.
pub fn write_report(folder: &Path, report: &Report) -> Outcome<PathBuf> {
    write_figures(folder, &report.figures)?;
    let path = folder.join("report.html");
    atomic::write(&path, report.html().as_bytes())?;
    Ok(path)
}

/// Writes each figure into `folder/figures`.
///
/// # Errors
/// When the folder can't be written.
fn write_figures(folder: &Path, figures: &[Figure]) -> Outcome<()> {
    let folder = folder.join("figures");
    atomic::create_folder(&folder)?;
    for figure in figures {
        let name: String = figure
            .title
            .to_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        atomic::write(&folder.join(format!("{name}.png")), &figure.png)?;
    }
    Ok(())
}

/// Points drawn in scatter figures.
const SHOWN: usize = 8000;

/// Images drawn in grids, and how many stand side by side.
const IMAGES_SHOWN: usize = 64;
const GRID_COLUMNS: usize = 16;
/// Noises drawn in each class; ways between two samples, and images of each.
const CLASS_ROWS: usize = 6;
const WAYS: usize = 6;
const WAY_STEPS: usize = 10;

/// A student in pictures and numbers.
#[derive(Clone, Debug)]
pub struct Portrait {
    /// Its samples beside the teacher's and the noise by cluster, for points in the plane; the
    /// spectrum.
    pub figures: Vec<Figure>,
    /// The structure of its samples, for points in the plane.
    pub structure: Option<Structure>,
    /// The operator's eigenvalues; none for a direct student.
    pub spectrum: Option<Spectrum>,
}

/// What a portrait is drawn from.
#[derive(Clone, Copy, Debug)]
pub struct Sitting<'a> {
    /// x_T, row by row.
    pub noise: &'a [f32],
    /// One-hot rows, or empty.
    pub labels: &'a [f32],
    /// The teacher's samples from that noise, if there are any.
    pub teacher: Option<&'a [f32]>,
    /// How samples are sorted into clusters.
    pub clusters: ClusterConfig,
    /// Samples sorted into clusters.
    pub clustered: usize,
    /// The distribution the samples should follow, if known.
    pub data: Option<&'a Distribution>,
}

/// Draws a student's portrait.
///
/// # Errors
/// When the operator has values that are not finite.
pub fn portrait(student: &LoadedStudent, sitting: Sitting) -> Outcome<Portrait> {
    let spectrum = student
        .student
        .koopman()
        .map(|s| Spectrum::of(&s.operator))
        .transpose()
        .map_err(|e| student.bad_operator(e))?;
    let mut figures = Vec::new();
    let mut found = None;
    if student.file.student.dim() == 2 {
        let Sitting { noise, labels, teacher, clusters, clustered, data } = sitting;
        let drawn = student.sampler.sample(noise, labels);
        let half = view(teacher.unwrap_or(&drawn));
        let some = |x: &[f32], n: usize| x[..x.len().min(2 * n)].to_vec();
        let mut add = |title: &str, groups: &[Group], half: f64, caption: &str| {
            figures.push(Figure {
                title: title.into(),
                png: plots::scatter(title, groups, half),
                caption: caption.into(),
            });
        };
        if let Some(teacher) = teacher {
            let caption = "Samples of the teacher, many network passes each.";
            add("Teacher", &[Group::of(&some(teacher, SHOWN), 0)], half, caption);
        }
        let caption = "One-step samples of the student, from the same noise. It should look like \
                       the teacher's.";
        add("Student", &[Group::of(&some(&drawn, SHOWN), 5)], half, caption);
        let (drawn, noise) = (some(&drawn, clustered), some(noise, clustered));
        let structure = structure(&drawn, 2, clusters, data);
        let caption = "The student's samples, a colour for each cluster. Crosses are outliers: in sparse places, far from \
                       their neighbours, or on no dark square of the board.";
        add("Outputs by cluster", &structure.groups(&drawn), half, caption);
        let caption = "The noise each of these samples came from, in its sample's colour. Clusters of outputs are regions \
                       of noise, and outliers come from the borders between them.";
        add("Noise by cluster", &structure.groups(&noise), view(&noise), caption);
        found = Some(structure);
    }
    if grid::shows(&student.file.student.shape) {
        let shape = &student.file.student.shape;
        let dim = student.file.student.dim();
        let some = |x: &[f32], width: usize| x[..x.len().min(IMAGES_SHOWN * width)].to_vec();
        let noise = some(sitting.noise, dim);
        let labels = some(sitting.labels, student.file.student.label_dim);
        let mut add = |title: &str, columns: usize, images: &[f32], caption: &str| {
            figures.push(Figure {
                title: title.into(),
                png: grid::png(images, shape, columns),
                caption: caption.into(),
            });
        };
        if let Some(teacher) = sitting.teacher {
            add(
                "Teacher",
                GRID_COLUMNS,
                &some(teacher, dim),
                "Images of the teacher, many network passes each.",
            );
        }
        let caption = "One-step images of the student, each from the same noise as the teacher's \
                       in its place.";
        add("Student", GRID_COLUMNS, &student.sampler.sample(&noise, &labels), caption);
        let classes = student.file.student.label_dim;
        if classes > 0 {
            let noise: Vec<f32> =
                noise.chunks(dim).take(CLASS_ROWS).flat_map(|row| row.repeat(classes)).collect();
            let all: Vec<u32> = (0..noise.len() / dim).map(|i| (i % classes) as u32).collect();
            let caption = "One noise a row, one class a column: what the class decides, and what \
                           the noise does.";
            add(
                "Classes",
                classes,
                &student.sampler.sample(&noise, &one_hot(&all, classes)),
                caption,
            );
        }
        if let Some(koopman) = student.student.koopman() {
            let config = &student.file.student;
            let end = |i: usize| End {
                noise: &noise[i * dim..(i + 1) * dim],
                label: &labels[i * classes..(i + 1) * classes],
            };
            let ways = (noise.len() / dim / 2).min(WAYS);
            let mut way = |title: &str, space, caption: &str| {
                let rows = (0..ways).flat_map(|i| {
                    between(koopman, config, space, end(2 * i), end(2 * i + 1), WAY_STEPS)
                });
                add(title, WAY_STEPS, &rows.collect::<Vec<f32>>(), caption);
            };
            let caption = "From one sample to another along the great circle between their \
                           noises, drawn in one mode each.";
            way("Between noises", Space::Noise, caption);
            let caption = "The same samples joined by a straight line between their latents, \
                           where the decoder begins.";
            way("Between latents", Space::Latent, caption);
        }
    }
    figures.extend(spectrum.as_ref().map(spectrum_figure));
    Ok(Portrait { figures, structure: found, spectrum })
}

/// The spectrum's figure.
pub fn spectrum_figure(spectrum: &Spectrum) -> Figure {
    Figure {
        title: "Spectrum".into(),
        png: plots::spectrum("Spectrum of the operator", &spectrum.eigenvalues),
        caption: format!(
            "Eigenvalues of the Koopman operator with the unit circle{}. The largest has modulus {:.4}; {} of {} reach a \
             hundredth of that. Directions with small eigenvalues are forgotten on the way from \
             noise to image.",
            if spectrum.complete { "" } else { ", the largest alone" },
            spectrum.spectral_radius,
            spectrum.leading,
            spectrum.eigenvalues.len()
        ),
    }
}

/// The curves of a training's log.
///
/// # Errors
/// When the log can't be read.
pub fn curve_figure(
    folder: &Path,
    title: &str,
    caption: &str,
    keys: &[(&str, &str)],
) -> Outcome<Option<Figure>> {
    if !folder.join(METRICS).exists() {
        return Ok(None);
    }
    let lines = read_metrics(folder)?;
    let curve = |(key, name): &(&str, &str)| Curve {
        name: (*name).to_string(),
        points: lines
            .iter()
            .filter_map(|line| Some((line["iteration"].as_f64()?, line[*key].as_f64()?)))
            .collect(),
    };
    let curves: Vec<Curve> = keys.iter().map(curve).collect();
    Ok(plots::curves(title, Axis::ITERATIONS, &curves).map(|png| Figure {
        title: title.to_string(),
        png,
        caption: caption.to_string(),
    }))
}

/// The operator's spectrum over its training, from the training's log; none where the log has none.
///
/// # Errors
/// When the log can't be read.
pub fn spectra_figure(folder: &Path) -> Outcome<Option<Figure>> {
    let places: Vec<usize> = (0..=5).map(|i| 1 << (2 * i)).collect();
    let named: Vec<(String, String)> =
        places.iter().map(|k| (format!("validation/modulus_{k}"), format!("{k}"))).collect();
    let keys: Vec<(&str, &str)> =
        named.iter().map(|(key, name)| (key.as_str(), name.as_str())).collect();
    let caption = "Moduli of the averaged operator's eigenvalues over the training: the largest, the 4th, 16th, 64th, ... by size. \
                   The further the curves spread, the fewer directions the operator keeps.";
    curve_figure(folder, "Spectrum through training", caption, &keys)
}

/// Metrics as a table.
pub fn metric_table(title: &str, values: &BTreeMap<String, f64>) -> Table {
    let row = |(name, note): &(&str, &str)| {
        let value = values.get(*name)?;
        Some([(*name).to_string(), shown(*value), (*note).to_string()])
    };
    Table::of(title, READINGS.iter().filter_map(row).collect())
}

/// A table's rows as text in columns.
pub fn columns(table: &Table) -> String {
    let line = |cells: &Vec<String>| match &cells[..] {
        [name, value, note] => format!("{name:24} {value:>10}  {note}\n"),
        cells => cells.join("  ") + "\n",
    };
    table.rows.iter().map(line).collect()
}

/// Numbers of the clusters and the spectrum as a table.
pub fn structure_table(portrait: &Portrait) -> Table {
    let mut rows: Vec<[String; 3]> = Vec::new();
    if let Some(spectrum) = &portrait.spectrum {
        rows.extend([
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
        ]);
    }
    if let Some(structure) = &portrait.structure {
        let ClusterConfig { eps, min_neighbours, z_score } = structure.config;
        rows.extend([
            [
                "clusters".into(),
                structure.cluster_sizes.len().to_string(),
                format!(
                    "density-based clusters of outputs (eps {eps}, {min_neighbours} neighbours); \
                     ones that touch join"
                ),
            ],
            [
                "outliers".into(),
                format!("{} of {}", structure.outliers, structure.outlier.len()),
                format!("outputs in no cluster, or of z-score above {z_score}"),
            ],
        ]);
    }
    Table::of("Structure", rows)
}
