//! Distills an exact teacher in a loop of one's own: pairs from a closed form, the student, its
//! loss, and Adam with a moving average, without the trainer and its files.
//!
//!     cargo run --release --example distill_in_a_loop

use kdm::data::{Labels, Samples};
use kdm::koopman::distill::{LeafBatch, Trainee, step, to_tensors};
use kdm::koopman::loss::{Distance, Objective};
use kdm::koopman::{
    LossConfig, Method, NetworkConfig, OperatorConfig, OperatorKind, Reconstruction, Sampler,
    StudentConfig,
};
use kdm::metrics::paired;
use kdm::random::normal_vec;
use kdm::runtime::Runtime;
use kdm::teacher::distributions::DistributionConfig;
use kdm::teacher::{Denoiser, Process, Solver, Teacher, solve};
use kdm::train::{Optimizer, OptimizerConfig, Stepper};

const BATCH: usize = 512;
const ITERATIONS: u64 = 300;

/// Pairs that the teacher draws from the noise of a seed.
fn pairs(teacher: &Teacher, seed: u64, count: usize) -> Samples {
    let noise = normal_vec(seed, count * teacher.dim());
    let labels = Labels::none(count);
    let x = noise.iter().map(|x| f64::from(*x)).collect();
    let images = solve(teacher, &Process::Flow, Solver::Heun, 12, x, &labels);
    let images = images.into_iter().map(|x| x as f32).collect();
    Samples { shape: teacher.shape(), noise, images, labels, ..Samples::default() }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = Runtime::cpu();
    let device = runtime.training();
    let mixture = DistributionConfig::by_name("mixture").expect("a name of one that is known");
    let teacher = Teacher::exact(mixture)?;

    let config = StudentConfig {
        method: Method::Koopman,
        shape: teacher.shape(),
        label_dim: 0,
        noise_std: 1.0,
        latent: 64,
        levels: Vec::new(),
        network: NetworkConfig::Mlp { hidden: 64, layers: 3 },
        operator: OperatorConfig { kind: OperatorKind::Dense, projection: None, control: false },
    };
    let objective = Objective {
        config: LossConfig { latent_noise: 0.0, ..LossConfig::default() },
        targets: None,
        distance: Distance::new(Reconstruction::L2, None, &config.shape),
    };
    let mut trainee = Trainee { student: config.init(0, &device), discriminator: None };
    let optimizer = OptimizerConfig { ema_decay: 0.99, ..OptimizerConfig::default() };
    let mut optimizers = [Optimizer::new(optimizer, &trainee, "student.")];

    let test = pairs(&teacher, 0, 2000);
    let error = |trainee: &Trainee| {
        use burn::module::Module;
        let student = trainee.student.clone().valid();
        let sampler = Sampler::new(student, &config, runtime.device());
        let drawn = sampler.sample(&test.noise, &test.labels);
        paired(&drawn, &test.images, 2).rmse
    };
    println!("untrained: rmse {:.3}", error(&trainee));
    for iteration in 1..=ITERATIONS {
        let batch = to_tensors(pairs(&teacher, iteration, BATCH), 0, &device);
        let batch = |_| LeafBatch::evaluated(batch.clone());
        let mut stepper = Stepper::new(&mut optimizers, 2e-3);
        (trainee, _) = step(&objective, trainee, batch, &mut stepper);
        if iteration % 100 == 0 {
            println!("iteration {iteration}: rmse {:.3}", error(&trainee));
        }
    }
    Ok(())
}
