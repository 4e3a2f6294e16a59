//! Adam and the exponential moving average of the weights, in one pass over memory.
//!
//! Adam: Kingma & Ba, arXiv:1412.6980, algorithm 1, with PyTorch's placement of epsilon (after the
//! bias-corrected root). The moving average follows the updated weight: ema <- decay ema + (1 -
//! decay) param.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch};
use burn::tensor::Tensor;

use super::KernelOps;

/// The numbers of one step, bias corrections already worked out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamEmaStep {
    /// Learning rate divided by the first moment's bias correction, 1 - beta1^t.
    pub step_size: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// 1 / sqrt(1 - beta2^t), the second moment's correction.
    pub second_correction: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decay of the moving average, per step.
    pub ema_decay: f32,
}

impl AdamEmaStep {
    /// The numbers of step `t` (counted from 1) at learning rate `lr`, with decays at least 0 and
    /// below 1 (`ema_decay` 0: the average is the parameter itself).
    pub fn new(t: u64, lr: f64, beta1: f64, beta2: f64, epsilon: f64, ema_decay: f64) -> Self {
        Self {
            step_size: (lr / (1.0 - beta1.powf(t as f64))) as f32,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            second_correction: (1.0 / (1.0 - beta2.powf(t as f64)).sqrt()) as f32,
            epsilon: epsilon as f32,
            ema_decay: ema_decay as f32,
        }
    }
}

/// What Adam and the average carry from step to step for one parameter; all of the parameter's
/// shape.
#[derive(Clone, Debug)]
pub struct AdamState<const D: usize> {
    /// First moment of the gradient.
    pub m: Tensor<D>,
    /// Second moment of the gradient.
    pub v: Tensor<D>,
    /// Moving average of the weights.
    pub ema: Tensor<D>,
}

/// One step for one parameter: gives the new parameter and the new state. `param` and `grad` are
/// plain tensors, outside autodiff. Buffers that nobody else holds are updated in place.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kdm_kernels::{AdamEmaStep, AdamState, adam_ema};
///
/// let tensor = |x: f32| Tensor::<1>::from_data([x], &Device::flex());
/// let state = AdamState { m: tensor(0.0), v: tensor(0.0), ema: tensor(1.0) };
/// let step = AdamEmaStep::new(1, 0.1, 0.9, 0.999, 1e-8, 0.5);
/// let (param, state) = adam_ema(tensor(1.0), tensor(3.0), state, step);
/// // The first step is the learning rate, whatever the gradient's size.
/// assert!((param.into_scalar::<f32>() - 0.9).abs() < 1e-6);
/// assert!((state.ema.into_scalar::<f32>() - 0.95).abs() < 1e-6);
/// ```
pub fn adam_ema<const D: usize>(
    param: Tensor<D>,
    grad: Tensor<D>,
    state: AdamState<D>,
    step: AdamEmaStep,
) -> (Tensor<D>, AdamState<D>) {
    let (param, m, v, ema) = <Dispatch as KernelOps>::adam_ema(
        param.into_dispatch(),
        grad.into_dispatch(),
        state.m.into_dispatch(),
        state.v.into_dispatch(),
        state.ema.into_dispatch(),
        step,
    );
    let [m, v, ema] = [m, v, ema].map(Tensor::from_dispatch);
    (Tensor::from_dispatch(param), AdamState { m, v, ema })
}

/// Parameter, first moment, second moment, average.
pub(crate) type Four<T> = (T, T, T, T);

pub(crate) fn adam_ema_plain<B: Backend>(
    param: FloatTensor<B>,
    grad: FloatTensor<B>,
    m: FloatTensor<B>,
    v: FloatTensor<B>,
    ema: FloatTensor<B>,
    s: AdamEmaStep,
) -> Four<FloatTensor<B>> {
    let mix = |old: FloatTensor<B>, new: FloatTensor<B>, decay: f32| {
        B::float_add(
            B::float_mul_scalar(old, decay.into()),
            B::float_mul_scalar(new, (1.0 - decay).into()),
        )
    };
    let m = mix(m, grad.clone(), s.beta1);
    let v = mix(v, B::float_mul(grad.clone(), grad), s.beta2);
    let root = B::float_mul_scalar(B::float_sqrt(v.clone()), s.second_correction.into());
    let update = B::float_div(m.clone(), B::float_add_scalar(root, s.epsilon.into()));
    let param = B::float_sub(param, B::float_mul_scalar(update, s.step_size.into()));
    let ema = mix(ema, param.clone(), s.ema_decay);
    (param, m, v, ema)
}

/// The sum of all squares, `[1]`.
pub fn sum_of_squares(x: Tensor<1>) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as KernelOps>::sum_of_squares(x.into_dispatch()))
}

pub(crate) fn sum_of_squares_plain<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_sum(B::float_mul(x.clone(), x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::adam as cpu;
    use burn::backend::Flex;
    use burn::tensor::{Device, TensorData};
    use burn_flex::FlexTensor;
    use kdm_random::normal_vec;

    /// Twenty steps against the textbook recursion in f64.
    #[test]
    fn follows_the_textbook_recursion() {
        let n = 40_000;
        let start = normal_vec(1, n);
        let tensor =
            |x: &[f32]| Tensor::<1>::from_data(TensorData::new(x.to_vec(), [n]), &Device::flex());
        let mut param = tensor(&start);
        let zeros = tensor(&vec![0.0; n]);
        let mut state = AdamState { m: zeros.clone(), v: zeros, ema: param.clone() };
        let (lr, b1, b2, eps, decay) = (1e-2, 0.9, 0.999, 1e-8, 0.9);
        let (mut p, mut m, mut v) = (f64::from(start[7]), 0.0, 0.0);
        let mut e = p;
        for t in 1..=20 {
            let grads = normal_vec(100 + t, n);
            let g = f64::from(grads[7]);
            m = b1 * m + (1.0 - b1) * g;
            v = b2 * v + (1.0 - b2) * g * g;
            let (mh, vh) = (m / (1.0 - b1.powi(t as i32)), v / (1.0 - b2.powi(t as i32)));
            p -= lr * mh / (vh.sqrt() + eps);
            e = decay * e + (1.0 - decay) * p;
            let step = AdamEmaStep::new(t, lr, b1, b2, eps, decay);
            (param, state) = adam_ema(param, tensor(&grads), state, step);
        }
        let at = |t: &Tensor<1>| f64::from(t.to_data().as_slice::<f32>().unwrap()[7]);
        assert!((at(&param) - p).abs() < 1e-5, "{} {p}", at(&param));
        assert!((at(&state.ema) - e).abs() < 1e-5);
    }

    #[test]
    fn squares_are_summed() {
        for n in [1, 17, 70_001] {
            let x = normal_vec(3, n);
            let exact: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
            let tensor = || FlexTensor::from_data(TensorData::new(x.clone(), [n]));
            for sum in [cpu::sum_of_squares(tensor()), sum_of_squares_plain::<Flex>(tensor())] {
                // f32 sums of up to a thousand terms a lane.
                assert!((f64::from(sum.storage::<f32>()[0]) / exact - 1.0).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn fused_pass_equals_plain_ops() {
        for n in [1, 15, 70_001] {
            let flex = |seed| FlexTensor::from_data(TensorData::new(normal_vec(seed, n), [n]));
            let positive = |seed| {
                let squares: Vec<f32> = normal_vec(seed, n).iter().map(|x| x * x).collect();
                FlexTensor::from_data(TensorData::new(squares, [n]))
            };
            let step = AdamEmaStep::new(3, 1e-3, 0.9, 0.999, 1e-8, 0.999);
            let a = cpu::adam_ema(flex(1), flex(2), flex(3), positive(4), flex(5), step);
            let b = adam_ema_plain::<Flex>(flex(1), flex(2), flex(3), positive(4), flex(5), step);
            for (a, b) in [(a.0, b.0), (a.1, b.1), (a.2, b.2), (a.3, b.3)] {
                for (x, y) in a.storage::<f32>().iter().zip(b.storage::<f32>()) {
                    // The two multiply in another order: a few units in the last place of numbers
                    // of size 1.
                    assert!((x - y).abs() < 2e-6, "{x} {y}");
                }
            }
        }
    }
}
