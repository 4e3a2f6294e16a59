//! The student's loss (paper, the distillation objective):
//!
//! L = w_lat |z_0 - z^_0|^2 + w_rec d(x_0, x_rec) + w_push d(x_0, x_push) + L_eig, means over all elements.

use burn::tensor::Tensor;

use crate::eigen::operator_loss;
use crate::operator::Complex;
use crate::{LossConfig, Reconstruction, Student};

/// c of the pseudo-Huber distance (paper).
pub const HUBER_C: f64 = 0.03;

/// The distance d, averaged over all elements: one number.
pub fn distance(kind: Reconstruction, a: Tensor<2>, b: Tensor<2>) -> Tensor<1> {
    let squares = (a - b).square();
    match kind {
        Reconstruction::L2 => squares.mean(),
        Reconstruction::Huber => ((squares + HUBER_C * HUBER_C).sqrt() - HUBER_C).mean(),
    }
}

/// A batch of pairs on the device.
#[derive(Clone, Debug)]
pub struct Batch {
    /// x_0, `[N, dim]`.
    pub images: Tensor<2>,
    /// x_T, `[N, dim]`, with its full standard deviation.
    pub noise: Tensor<2>,
    /// One-hot labels, `[N, label_dim]`; none when unconditional.
    pub labels: Option<Tensor<2>>,
}

/// Standard normal numbers for the two latents, `[N, n]` each.
#[derive(Clone, Debug)]
pub struct LatentNoise {
    /// e, for z_0.
    pub clean: Tensor<2>,
    /// e', for z_T.
    pub noise: Tensor<2>,
}

/// The loss's terms, unweighted, one number each; and the weighted sum.
#[derive(Clone, Debug)]
pub struct Terms {
    /// |z_0 - z^_0|^2.
    pub latent: Tensor<1>,
    /// d(x_0, x_rec).
    pub rec: Tensor<1>,
    /// d(x_0, x_push); none when it was left out.
    pub push: Option<Tensor<1>>,
    /// L_eig; none when there is none.
    pub eigen: Option<Tensor<1>>,
    /// The weighted sum.
    pub total: Tensor<1>,
}

/// All terms on a batch. `latent_noise` is scaled by the configured deviation; none leaves it out. The push term is
/// computed when its weight is not 0, or always with `all_terms`.
pub fn terms(
    student: &Student,
    batch: Batch,
    latent_noise: Option<LatentNoise>,
    config: &LossConfig,
    targets: Option<&[Complex]>,
    all_terms: bool,
) -> Terms {
    let Batch { images, noise, labels } = batch;
    let z0 = student.encode_clean(images.clone(), labels.clone());
    let zt = student.encode_noise(noise, labels.clone());
    let (z0_noisy, zt_noisy) = match latent_noise {
        Some(e) => (z0.clone() + e.clean * config.latent_noise, zt + e.noise * config.latent_noise),
        None => (z0.clone(), zt),
    };
    let pushed = student.push(zt_noisy, labels.clone());
    let latent = (z0 - pushed.clone()).square().mean();
    let rec = distance(config.reconstruction, student.decode(z0_noisy, labels.clone()), images.clone());
    let push = (all_terms || config.push_weight > 0.0)
        .then(|| distance(config.reconstruction, student.decode(pushed, labels), images));
    let eigen = operator_loss(&student.operator, targets);
    let mut total = latent.clone() * config.latent_weight + rec.clone() * config.rec_weight;
    if let Some(push) = push.clone().filter(|_| config.push_weight > 0.0) {
        total = total + push * config.push_weight;
    }
    if let Some(eigen) = eigen.clone() {
        total = total + eigen;
    }
    Terms { latent, rec, push, eigen, total }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EigenvalueTarget, NetworkConfig, OperatorConfig, OperatorKind, StudentConfig};
    use burn::module::{Module, ModuleVisitor, Param};
    use burn::tensor::{Device, Gradients, TensorData};
    use kdm_kernels::random::normal_vec;
    use kdm_nn::state::{NamePath, load_state, state_dict};
    use std::collections::BTreeMap;

    fn rows(seed: u64, n: usize, width: usize, device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(normal_vec(seed, n * width), [n, width]), device)
    }

    fn config(kind: OperatorKind, projection: Option<usize>, label_dim: usize) -> StudentConfig {
        StudentConfig {
            shape: vec![2],
            label_dim,
            noise_std: 3.0,
            latent: 8,
            network: NetworkConfig::Mlp { hidden: 10, layers: 2 },
            operator: OperatorConfig { kind, projection, control: label_dim > 0 },
        }
    }

    fn batch(label_dim: usize, device: &Device) -> Batch {
        let labels = (label_dim > 0).then(|| {
            let one_hot = (0..6 * label_dim).map(|k| f32::from(u8::from(k % label_dim == (k / label_dim) % label_dim)));
            Tensor::from_data(TensorData::new(one_hot.collect::<Vec<f32>>(), [6, label_dim]), device)
        });
        Batch { images: rows(1, 6, 2, device), noise: rows(2, 6, 2, device) * 3.0, labels }
    }

    #[test]
    fn distances_by_hand() {
        let device = Device::flex();
        let (a, b) = (rows(1, 1, 2, &device), rows(1, 1, 2, &device) + 0.04);
        let value = |kind| f64::from(distance(kind, a.clone(), b.clone()).into_scalar::<f32>());
        assert!((value(Reconstruction::L2) - 0.0016).abs() < 1e-7);
        assert!((value(Reconstruction::Huber) - 0.02).abs() < 1e-6);
    }

    fn gradients(student: &Student, grads: &Gradients) -> BTreeMap<String, Vec<f32>> {
        struct Pick<'a>(NamePath, BTreeMap<String, Vec<f32>>, &'a Gradients);
        impl ModuleVisitor for Pick<'_> {
            fn enter_module(&mut self, name: &str, kind: &str) {
                self.0.enter(name, kind);
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.0.exit();
            }
            fn visit_float<const D: usize>(&mut self, p: &Param<Tensor<D>>) {
                if let Some(grad) = p.val().grad(self.2) {
                    self.1.insert(self.0.join(), grad.to_data().as_slice::<f32>().unwrap().to_vec());
                }
            }
        }
        let mut pick = Pick(NamePath::default(), BTreeMap::new(), grads);
        student.visit(&mut pick);
        pick.1
    }

    /// Every parameter's gradient of the whole loss, with all its parts on, against central differences.
    #[test]
    fn gradients_equal_finite_differences() {
        let device = Device::flex().autodiff();
        for (kind, projection, labels) in
            [(OperatorKind::Dense, None, 0), (OperatorKind::Dense, Some(5), 3), (OperatorKind::Factorized, Some(5), 3)]
        {
            let config = config(kind, projection, labels);
            let loss = LossConfig { reconstruction: Reconstruction::Huber, ..LossConfig::default() };
            let targets = EigenvalueTarget::Gradual.targets(config.operator_dim(), 3).unwrap();
            let student = config.init(7, &device);
            let n = config.operator_dim();
            let total = |student: &Student| {
                let e = LatentNoise { clean: rows(8, 6, n, &device), noise: rows(9, 6, n, &device) };
                terms(student, batch(labels, &device), Some(e), &loss, Some(&targets), false).total
            };
            let state = state_dict(&student);
            let grads = gradients(&student, &total(&student).backward());
            assert_eq!(grads.len(), state.len(), "every parameter takes part");
            for (name, grad) in &grads {
                let k = grad.len() / 3;
                let moved = |delta: f32| {
                    let mut state = state.clone();
                    let data = state.get_mut(name).unwrap();
                    let mut values = data.as_slice::<f32>().unwrap().to_vec();
                    values[k] += delta;
                    *data = TensorData::new(values, data.shape().clone());
                    f64::from(total(&load_state(student.clone(), &state).unwrap()).into_scalar::<f32>())
                };
                let h = 4e-3f32;
                let difference = (moved(h) - moved(-h)) / (2.0 * f64::from(h));
                // f32: a loss of size 2 rounds by 2e-7, over 8e-3; curvature times h^2.
                let error = (difference - f64::from(grad[k])).abs();
                assert!(error < 1e-3 * (1.0 + difference.abs()), "{kind:?} {name}: {difference} {}", grad[k]);
            }
        }
    }

    #[test]
    fn total_is_the_weighted_sum() {
        let device = Device::flex();
        let student = config(OperatorKind::Dense, None, 0).init(7, &device);
        let loss = LossConfig { latent_weight: 2.0, rec_weight: 3.0, push_weight: 0.5, ..LossConfig::default() };
        let t = terms(&student, batch(0, &device), None, &loss, None, false);
        let value = |x: Tensor<1>| f64::from(x.into_scalar::<f32>());
        let sum = 2.0 * value(t.latent) + 3.0 * value(t.rec) + 0.5 * value(t.push.unwrap());
        assert!((value(t.total) - sum).abs() < 1e-5 * sum);
        let without = LossConfig { push_weight: 0.0, ..loss };
        assert!(terms(&student, batch(0, &device), None, &without, None, false).push.is_none());
        assert!(terms(&student, batch(0, &device), None, &without, None, true).push.is_some());
    }
}
