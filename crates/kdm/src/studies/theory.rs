//! Experiments on teachers in closed form, where the method has exact answers: the trainings and
//! flows that `kdm_analysis::theory` takes its numbers from.

use std::path::Path;

use kdm_analysis::Theory;
use kdm_analysis::theory::{
    LatentRow, MappedPoints, affine_student, errors_by_degree, product_error,
};
use kdm_data::pairs::PairStore;
use kdm_data::{Labels, atomic};
use kdm_metrics::paired;
use kdm_teacher::distributions::DistributionConfig;
use kdm_teacher::{Denoiser, Distribution, Process, Solver, solve};

use crate::stages::distill::distill;
use crate::stages::run::{Prepared, prepare};
use crate::student::LoadedStudent;
use crate::{Context, Experiment, Outcome};

/// The experiments of trained students: affine ones, and ones of these latent dimensions.
const GAUSSIAN: &str = "gaussian";
const MIXTURE: &str = "mixture";
const LATENTS: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// Points that dictionaries are fitted on, and as many others that they are measured by.
const POINTS: usize = 200_000;
/// The largest degree of polynomials: beyond it, these points no longer constrain the tails.
const DEGREE: usize = 7;
/// Steps of the solver that gives the mixture's pairs.
const STEPS: usize = 256;
const FIT_SEED: u64 = 18;
const TEST_SEED: u64 = 19;

/// Points and where the teacher's flow takes them: noise of deviation 1.
fn flowed(data: &Distribution, seed: u64) -> (Vec<f64>, Vec<f64>) {
    let noise: Vec<f64> =
        kdm_random::normal_vec(seed, POINTS * data.dim()).into_iter().map(f64::from).collect();
    let images = match data {
        Distribution::Gaussian(gaussian) => gaussian.flow(&noise, Process::Flow.level(1.0)),
        _ => {
            let labels = Labels::none(POINTS);
            solve(data, &Process::Flow, Solver::Heun, STEPS, noise.clone(), &labels)
        }
    };
    (noise, images)
}

/// A student of an experiment, trained in `folder/name` on the pairs in `folder`, and the pairs to
/// measure it by.
fn trained(
    experiment: &Experiment,
    folder: &Path,
    name: &str,
    context: Context,
) -> Outcome<(LoadedStudent, PairStore)> {
    let Prepared { pairs, test, .. } = prepare(experiment, folder, context)?;
    let place = folder.join(name);
    atomic::create_folder(&place)?;
    let path = distill(experiment, pairs, &place, context)?;
    Ok((LoadedStudent::open(&path, context.device())?, test))
}

/// Runs all of them; the trained students' runs are kept in `folder`, and go on if they are there.
///
/// # Errors
/// When the folder can't be written, or a training is stopped.
pub fn theory(folder: &Path, context: Context) -> Outcome<Theory> {
    let experiment = Experiment::load(GAUSSIAN, &[])?;
    let (student, test) = trained(&experiment, &folder.join(GAUSSIAN), "distill", context)?;
    let Some(Distribution::Gaussian(exact)) = experiment.distribution() else {
        unreachable!("the preset's data")
    };
    let dim = student.config().dim();
    let flow = |points: &[f64]| exact.flow(points, Process::Flow.level(1.0));
    let draw = |points: &[f64]| -> Vec<f64> {
        let narrow: Vec<f32> = points.iter().map(|x| *x as f32).collect();
        let labels = Labels::none(narrow.len() / dim);
        student.sampler.sample(&narrow, &labels).into_iter().map(f64::from).collect()
    };
    let noise: Vec<f64> = test.range(0..test.len()).noise.into_iter().map(f64::from).collect();
    let gaussian = affine_student(dim, &flow, &draw, &noise)?;
    let (from, to) = flowed(&Distribution::Gaussian(exact.clone()), FIT_SEED);
    let points = MappedPoints { from: &from, to: &to };
    let gaussian_products = product_error(dim, points, &gaussian.exact)?;

    let data = DistributionConfig::by_name(MIXTURE)
        .and_then(|c| c.build().ok())
        .expect("a distribution of this name");
    let (from, to) = flowed(&data, FIT_SEED);
    let (test_from, test_to) = flowed(&data, TEST_SEED);
    let (fit, test) =
        (MappedPoints { from: &from, to: &to }, MappedPoints { from: &test_from, to: &test_to });
    let mixture = errors_by_degree(dim, DEGREE, fit, test);
    let place = folder.join(MIXTURE);
    let mut sizes = Vec::new();
    for latent in LATENTS {
        let experiment = Experiment::load(MIXTURE, &[format!("student.latent={latent}")])?;
        let (student, test) = trained(&experiment, &place, &format!("latent-{latent}"), context)?;
        let test = test.range(0..test.len());
        let drawn = student.sampler.sample(&test.noise, &test.labels);
        sizes.push(LatentRow { latent, tested: paired(&drawn, &test.images, dim).coordinate_rmse });
    }
    Ok(Theory { gaussian, gaussian_products, mixture, sizes })
}
