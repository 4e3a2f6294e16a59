//! Experiments on teachers in closed form, where the method has exact answers (paper, the claim
//! that a finite-dimensional Koopman operator carries noise to data).

use std::path::Path;

use kdm_analysis::edmd::{Dictionary, Edmd};
use kdm_data::atomic;
use kdm_data::pairs::PairStore;
use kdm_koopman::operator::eigen::eigenvalues;
use kdm_metrics::paired;
use kdm_report::plots::{self, Axis, Curve};
use kdm_report::{Figure, Report, Table};
use kdm_teacher::distributions::DistributionConfig;
use kdm_teacher::{Distribution, Process, Solver, solve};
use serde::Serialize;
use serde_json::json;

use crate::pipeline::{LoadedStudent, Prepared, distill, prepare, pretty};
use crate::{Experiment, Outcome};

/// The experiments of trained students: affine ones, and ones of latents of these sizes.
const GAUSSIAN: &str = "gaussian";
const MIXTURE: &str = "mixture";
const SIZES: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// Points that dictionaries are fitted on, and as many others that they are measured by.
const POINTS: usize = 200_000;
/// The largest degree of polynomials: beyond it, these points no longer hold down the tails.
const DEGREE: usize = 7;
/// Steps of the solver that gives the mixture's pairs.
const STEPS: usize = 256;
const FIT_SEED: u64 = 18;
const TEST_SEED: u64 = 19;

/// A trained affine student beside the exact flow of Gaussian data.
#[derive(Clone, Debug, Serialize)]
pub struct AffineStudent {
    /// Root mean square of a coordinate's distance to the exact flow, on noise of unseen seeds.
    pub flow_error: f64,
    /// Eigenvalues of the exact flow's linear part, on noise of deviation 1.
    pub exact: Vec<f64>,
    /// Those of the student's, as moduli.
    pub learned: Vec<f64>,
    /// The largest distance of the two.
    pub eigenvalue_error: f64,
}

/// What a dictionary of one degree predicts of a mixture's flow.
#[derive(Clone, Debug, Serialize)]
pub struct ByDegree {
    /// Degree of the polynomials.
    pub degree: usize,
    /// Functions in the dictionary.
    pub functions: usize,
    /// Root mean square of a coordinate's error on the points of the fit.
    pub fitted: f64,
    /// The same on others.
    pub tested: f64,
}

/// What a trained student with a latent of one size draws of it.
#[derive(Clone, Debug, Serialize)]
pub struct BySize {
    /// Numbers of the latent.
    pub latent: usize,
    /// Root mean square of a coordinate's error on noise of unseen seeds.
    pub tested: f64,
}

/// All experiments.
#[derive(Clone, Debug, Serialize)]
pub struct Theory {
    /// Gaussian data: the student.
    pub gaussian: AffineStudent,
    /// Gaussian data: polynomials of degree 2; the largest distance of the operator's eigenvalues
    /// from the products of the flow's.
    pub gaussian_products: f64,
    /// Mixture data, by degree.
    pub mixture: Vec<ByDegree>,
    /// Mixture data, by the latent's size.
    pub sizes: Vec<BySize>,
}

fn root_mean_square(a: &[f64], b: &[f64]) -> f64 {
    (a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / a.len() as f64).sqrt()
}

/// Moduli of the eigenvalues of a small matrix by rows, largest first.
fn moduli(matrix: &[f64], n: usize) -> Vec<f64> {
    let found = eigenvalues(matrix, n).expect("a small finite matrix");
    let mut moduli: Vec<f64> = found.into_iter().map(|l| l.0.hypot(l.1)).collect();
    moduli.sort_by(|a, b| b.total_cmp(a));
    moduli
}

/// The linear part of an affine map by rows, from its values at 0 and at the unit vectors.
fn linear_part(n: usize, map: impl Fn(Vec<f64>) -> Vec<f64>) -> Vec<f64> {
    let points =
        (0..=n).flat_map(|k| (0..n).map(move |i| f64::from(u8::from(k == i + 1)))).collect();
    let values = map(points);
    (0..n * n).map(|p| values[(p % n + 1) * n + p / n] - values[p / n]).collect()
}

/// Points and where the teacher's flow takes them: noise of deviation 1, f64.
fn flowed(data: &Distribution, seed: u64) -> (Vec<f64>, Vec<f64>) {
    let dim = kdm_teacher::Denoiser::dim(data);
    let noise: Vec<f64> =
        kdm_random::normal_vec(seed, POINTS * dim).into_iter().map(f64::from).collect();
    let images = match data {
        Distribution::Gaussian(gaussian) => gaussian.flow(&noise, Process::Flow.level(1.0)),
        _ => solve(data, &Process::Flow, Solver::Heun, STEPS, noise.clone(), &[]),
    };
    (noise, images)
}

/// A student of an experiment, trained in `folder/name` on the pairs in `folder`, and the pairs to
/// measure it by.
fn trained(
    experiment: &Experiment,
    folder: &Path,
    name: &str,
) -> Outcome<(LoadedStudent, PairStore)> {
    let Prepared { pairs, test, .. } = prepare(experiment, folder)?;
    let place = folder.join(name);
    atomic::create_folder(&place)?;
    Ok((LoadedStudent::open(&distill(experiment, &pairs, &place)?)?, test))
}

/// Runs all of them; the trained student's run is kept in `folder`, and goes on if it is there.
///
/// # Errors
/// When the folder can't be written.
pub fn theory(folder: &Path) -> Outcome<Theory> {
    let experiment = Experiment::load(GAUSSIAN, &[])?;
    let (student, test) = trained(&experiment, &folder.join(GAUSSIAN), "distill")?;
    let Some(Distribution::Gaussian(exact)) = experiment.distribution() else {
        unreachable!("the preset's data")
    };
    let dim = student.file.student.dim();
    let flow = |points: Vec<f64>| exact.flow(&points, Process::Flow.level(1.0));
    let draw = |points: &[f64]| -> Vec<f64> {
        let narrow: Vec<f32> = points.iter().map(|x| *x as f32).collect();
        student.sampler.sample(&narrow, &[]).into_iter().map(f64::from).collect()
    };
    let noise: Vec<f64> = test.range(0..test.len()).noise.into_iter().map(f64::from).collect();
    let exact_moduli = moduli(&linear_part(dim, flow), dim);
    let learned = moduli(&linear_part(dim, |points| draw(&points)), dim);
    let gaussian = AffineStudent {
        flow_error: root_mean_square(&draw(&noise), &flow(noise.clone())),
        eigenvalue_error: exact_moduli
            .iter()
            .zip(&learned)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max),
        exact: exact_moduli.clone(),
        learned,
    };

    let bad = |problem: String| {
        kdm_data::Error::invalid(
            "theory",
            "operator",
            problem,
            "report this: it is a fault of ours",
        )
    };
    let (from, to) = flowed(&Distribution::Gaussian(exact), FIT_SEED);
    let found =
        Edmd::fit(Dictionary::polynomials(dim, 2), &from, &to).eigenvalues().map_err(bad)?;
    let mut products = vec![1.0];
    products.extend(&exact_moduli);
    products.extend(
        (0..dim)
            .flat_map(|i| (0..=i).map(move |j| (i, j)))
            .map(|(i, j)| exact_moduli[i] * exact_moduli[j]),
    );
    products.sort_by(|a, b| b.total_cmp(a));
    let apart =
        found.iter().zip(&products).map(|(a, b)| (a.0.hypot(a.1) - b).abs()).fold(0.0, f64::max);

    let data = DistributionConfig::by_name("mixture")
        .and_then(|c| c.build().ok())
        .expect("a distribution of this name");
    let (from, to) = flowed(&data, FIT_SEED);
    let (other_from, other_to) = flowed(&data, TEST_SEED);
    let mut mixture = Vec::new();
    for degree in 1..=DEGREE {
        let dictionary = Dictionary::polynomials(dim, degree);
        let functions = dictionary.len();
        let edmd = Edmd::fit(dictionary, &from, &to);
        let (fitted, tested) = (
            root_mean_square(&edmd.predict(&from), &to),
            root_mean_square(&edmd.predict(&other_from), &other_to),
        );
        mixture.push(ByDegree { degree, functions, fitted, tested });
    }
    let place = folder.join(MIXTURE);
    let mut sizes = Vec::new();
    for latent in SIZES {
        let experiment = Experiment::load(MIXTURE, &[format!("student.latent={latent}")])?;
        let (student, test) = trained(&experiment, &place, &format!("latent-{latent}"))?;
        let test = test.range(0..test.len());
        let drawn = student.sampler.sample(&test.noise, &[]);
        sizes.push(BySize { latent, tested: paired(&drawn, &test.images, dim).coordinate_rmse });
    }
    Ok(Theory { gaussian, gaussian_products: apart, mixture, sizes })
}

/// The experiments as a page.
pub fn page(theory: &Theory) -> Report {
    let Theory { gaussian, gaussian_products, mixture, sizes } = theory;
    let values =
        |x: &[f64]| x.iter().map(|x| format!("{x:.5}")).collect::<Vec<String>>().join(", ");
    let table = Table::of(
        "Gaussian data",
        vec![
            [
                "flow_error".into(),
                format!("{:.2e}", gaussian.flow_error),
                "root mean square of a coordinate's distance between the trained affine student \
                 and the exact flow"
                    .into(),
            ],
            [
                "exact".into(),
                values(&gaussian.exact),
                "eigenvalues of the exact flow's linear part".into(),
            ],
            ["learned".into(), values(&gaussian.learned), "the student's".into()],
            [
                "products".into(),
                format!("{gaussian_products:.1e}"),
                "largest distance of the eigenvalues of the operator on polynomials of degree 2 \
                 from the products of the flow's"
                    .into(),
            ],
        ],
    );
    let degrees = Table {
        title: "A mixture of eight Gaussians: polynomials of a degree".into(),
        columns: ["degree", "functions", "rmse on the points of the fit", "on others"]
            .map(String::from)
            .to_vec(),
        rows: mixture
            .iter()
            .map(|row| {
                let of = |x: f64| format!("{x:.4}");
                vec![
                    row.degree.to_string(),
                    row.functions.to_string(),
                    of(row.fitted),
                    of(row.tested),
                ]
            })
            .collect(),
    };
    let ranks = Table {
        title: "The same: trained students with latents of a size".into(),
        columns: ["numbers of the latent", "rmse on unseen noise"].map(String::from).to_vec(),
        rows: sizes
            .iter()
            .map(|row| vec![row.latent.to_string(), format!("{:.4}", row.tested)])
            .collect(),
    };
    let curve = |name: &str, points: Vec<(f64, f64)>| Curve { name: name.into(), points };
    let by_functions = |pick: fn(&ByDegree) -> f64| {
        mixture.iter().map(|row| (row.functions as f64, pick(row))).collect()
    };
    let curves = [
        curve("dictionary, points of the fit", by_functions(|row| row.fitted)),
        curve("dictionary, others", by_functions(|row| row.tested)),
        curve(
            "student with a latent of that size",
            sizes.iter().map(|row| (row.latent as f64, row.tested)).collect(),
        ),
    ];
    let axis =
        Axis { name: "functions in the dictionary, or numbers of the latent", logarithmic: true };
    let figure = plots::curves("Error of a linear operator", axis, &curves).map(|png| Figure {
        title: "Error of a linear operator".into(),
        png,
        caption: "How well a linear operator carries noise to a mixture of eight Gaussians: on a dictionary of polynomials, \
                  and on a trained student's own functions. With polynomials the error falls \
                  slowly, since at the borders between \
                  two components the flow is nearly torn, and polynomials are smooth."
            .into(),
    });
    Report {
        title: "kdm: theory".into(),
        summary: "Teachers in closed form, where the method has exact answers. The flow of Gaussian data is affine: a student of \
                  affine maps must find it. On polynomials its operator has the products of the \
                  flow's eigenvalues. The flow of a \
                  mixture is not linear in any finite dictionary: the error must fall as the \
                  dictionary grows."
            .into(),
        figures: figure.into_iter().collect(),
        tables: vec![table, degrees, ranks],
        config: pretty(&json!(theory)),
    }
}
