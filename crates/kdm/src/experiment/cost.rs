//! What an experiment takes: sizes, operations, disk.

use burn::tensor::Device;
use kdm_data::pairs::ImageType;

use super::schema::Experiment;

impl Experiment {
    /// Floating-point operations of an iteration of the distillation.
    pub(crate) fn training_flops(&self) -> f64 {
        let (shape, label_dim) = self.sample().expect("checked when loaded");
        let student = self.student_config(shape, label_dim, self.pairs.process.noise_std());
        student.flops(true, self.loss.push_weight > 0.0) * self.train.batch as f64
    }

    /// What the experiment costs, a line each, for a person. The student is made on `device` to
    /// count its parameters.
    pub fn costs(&self, device: &Device) -> Vec<String> {
        let Ok((shape, label_dim)) = self.sample() else { return Vec::new() };
        let student = self.student_config(shape, label_dim, self.pairs.process.noise_std());
        let push = self.loss.push_weight > 0.0;
        let bytes = match self.pairs.dtype {
            ImageType::F32 => 4,
            ImageType::F16 => 2,
            ImageType::U8 => 1,
        };
        let (flops, step) = (student.flops(false, push), student.flops(true, push));
        vec![
            format!(
                "student: {} parameters; latent dimension {}",
                student.parameters(device),
                student.operator_dim()
            ),
            format!("one-step sample: {} a sample", operations(flops)),
            format!(
                "training: {} a pair, {} in all ({} iterations of {} pairs)",
                operations(step),
                operations(step * self.train.batch as f64 * self.train.iterations as f64),
                self.train.iterations,
                self.train.batch
            ),
            format!(
                "pairs: {} of {} teacher passes each; {:.2} GB on disk",
                self.pairs.count,
                self.pairs.solver.evaluations(self.pairs.steps),
                (self.pairs.count * (student.dim() * bytes + 8)) as f64 / 1e9
            ),
        ]
    }
}

/// Floating-point operations for a person.
fn operations(flops: f64) -> String {
    const UNITS: [(f64, &str); 4] =
        [(1e18, "EFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP")];
    let (size, unit) = UNITS.into_iter().find(|(size, _)| flops >= *size).unwrap_or((1e3, "kFLOP"));
    format!("{:.3} {unit}", flops / size)
}
