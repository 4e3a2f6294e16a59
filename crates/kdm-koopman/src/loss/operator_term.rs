//! The loss on an operator itself.

use burn::tensor::{Tensor, TensorData};

use crate::host::{narrow, wide};
use crate::operator::eigen::eigenvalue_loss;
use crate::operator::{Complex, Operator};

/// L_eig of an operator: mean |lambda_i - t_i| over its eigenvalues and their targets, and for a
/// factorized one its inverse consistency (paper, eigenvalue losses). None when there is neither.
/// One number, tracked for gradients.
///
/// A dense matrix without a basis of eigenvectors, where the term has no gradient, adds nothing in
/// that iteration.
pub fn operator_loss(operator: &Operator, targets: Option<&[Complex]>) -> Option<Tensor<1>> {
    match operator {
        Operator::Factorized(op) => {
            let consistency = op.consistency();
            let Some(targets) = targets else { return Some(consistency) };
            let (re, im) = op.lambda_tensors();
            Some(distances(re, im, targets).mean() + consistency)
        }
        Operator::Generator(op) => {
            // One of each conjugate pair, to every second target.
            let targets: Vec<Complex> = targets?.iter().step_by(2).copied().collect();
            let device = op.rate_log.val().device();
            let (re, im) = op.exponential(Tensor::ones([1, 1], &device));
            Some(distances(re.squeeze_dim::<1>(0), im.squeeze_dim::<1>(0), &targets).mean())
        }
        Operator::Dense(op) => {
            let affine = op.matrix();
            let loss = eigenvalue_loss(&affine.matrix, affine.n, targets?).ok()?;
            Some(with_gradient(op.linear.weight.val(), &loss.gradient, loss.value))
        }
        Operator::Levels(op) => {
            let mut targets = targets?.iter().cycle().copied();
            let mut total: Option<Tensor<1>> = None;
            for level in &op.levels {
                let (c, weight) = (level.level().channels, level.weight.val());
                let (blocks, matrices) = (weight.dims()[0], wide(weight.clone()));
                let (mut value, mut gradient) = (0.0, Vec::with_capacity(matrices.len()));
                for block in matrices.chunks_exact(c * c) {
                    let own: Vec<Complex> = targets.by_ref().take(c).collect();
                    let loss = eigenvalue_loss(block, c, &own).ok()?;
                    value += loss.value / blocks as f64;
                    gradient.extend(loss.gradient.iter().map(|g| g / blocks as f64));
                }
                // By its share of the latent's dimensions.
                let share = level.level().dim() as f64 / op.dim() as f64;
                let term = with_gradient(weight, &gradient, value) * share;
                total = Some(total.map_or_else(|| term.clone(), |total| total + term.clone()));
            }
            total
        }
    }
}

/// A linear function of the weight with this gradient, moved to this value.
fn with_gradient<const D: usize>(weight: Tensor<D>, gradient: &[f64], value: f64) -> Tensor<1> {
    let gradient = TensorData::new(narrow(gradient), weight.dims());
    let gradient = Tensor::<D>::from_data(gradient, &weight.device());
    let linear = (weight * gradient).sum();
    linear.clone() - linear.detach() + value
}

/// |lambda_i - t_i| of eigenvalues in two parts.
fn distances(re: Tensor<1>, im: Tensor<1>, targets: &[Complex]) -> Tensor<1> {
    let device = re.device();
    let part = |pick: fn(&Complex) -> f64| {
        let values: Vec<f32> = targets.iter().map(|t| pick(t) as f32).collect();
        Tensor::<1>::from_data(TensorData::new(values, [targets.len()]), &device)
    };
    let squares = (re - part(|t| t.0)).square() + (im - part(|t| t.1)).square();
    // The root's slope at zero is infinite; a hair under it keeps the gradient finite.
    (squares + 1e-12).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EigenvalueTarget, OperatorKind};
    use burn::tensor::Device;
    use kdm_nn::InitSeed;

    /// The whole operator loss, through autodiff, against differences in the parameters: all
    /// forms.
    #[test]
    fn operator_loss_gradients_equal_finite_differences() {
        let n = 6;
        let device = Device::flex().autodiff();
        let targets = EigenvalueTarget::Uniform.targets(n, 4).unwrap();
        for kind in [
            OperatorKind::Dense,
            OperatorKind::Factorized,
            OperatorKind::Generator,
            OperatorKind::Channels,
        ] {
            let op = Operator::init(kind, n, &mut InitSeed::new(5), &device);
            let value = |op: &Operator| {
                f64::from(operator_loss(op, Some(&targets)).unwrap().into_scalar::<f32>())
            };
            let grads = operator_loss(&op, Some(&targets)).unwrap().backward();
            let state = kdm_nn::state::state_dict(&op);
            struct Pick<'a>(Vec<Vec<f32>>, &'a burn::tensor::Gradients);
            impl burn::module::ModuleVisitor for Pick<'_> {
                fn visit_float<const D: usize>(&mut self, p: &burn::module::Param<Tensor<D>>) {
                    let zeros = || Tensor::zeros_like(&p.val().inner());
                    let grad = p.val().grad(self.1).unwrap_or_else(zeros);
                    self.0.push(grad.to_data().as_slice::<f32>().unwrap().to_vec());
                }
            }
            use burn::module::Module;
            let mut pick = Pick(Vec::new(), &grads);
            op.visit(&mut pick);
            struct Names(Vec<String>, kdm_nn::state::NamePath);
            impl burn::module::ModuleVisitor for Names {
                fn enter_module(&mut self, name: &str, kind: &str) {
                    self.1.enter(name, kind);
                }
                fn exit_module(&mut self, _: &str, _: &str) {
                    self.1.exit();
                }
                fn visit_float<const D: usize>(&mut self, _: &burn::module::Param<Tensor<D>>) {
                    self.0.push(self.1.join());
                }
            }
            let mut names = Names(Vec::new(), kdm_nn::state::NamePath::default());
            op.visit(&mut names);
            for (name, grad) in names.0.iter().zip(&pick.0) {
                for k in [0, grad.len() / 2, grad.len() - 1] {
                    let h = 2e-3f32;
                    let moved = |delta: f32| {
                        let mut state = state.clone();
                        let data = state.get_mut(name).unwrap();
                        let mut values = data.as_slice::<f32>().unwrap().to_vec();
                        values[k] += delta;
                        *data = TensorData::new(values, data.shape().clone());
                        value(&kdm_nn::state::load_state(op.clone(), &state).unwrap())
                    };
                    let difference = (moved(h) - moved(-h)) / (2.0 * f64::from(h));
                    // f32: rounding of a loss of size 1 by 1e-7 over 4e-3, and curvature times h^2.
                    let tolerance = 2e-3 * (1.0 + difference.abs());
                    assert!(
                        (difference - f64::from(grad[k])).abs() < tolerance,
                        "{kind:?} {name} {k}: {difference} {}",
                        grad[k]
                    );
                }
            }
        }
    }
}
