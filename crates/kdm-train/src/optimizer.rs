//! Adam with an exponential moving average of the weights, over all parameters of a module, by
//! name.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Gradients, Shape, Tensor, TensorData};
use kdm_kernels::{AdamEmaStep, AdamState, adam_ema, sum_of_squares};
use kdm_nn::StateDict;
use kdm_nn::state::NamePath;
use serde::{Deserialize, Serialize};

/// What to do about a gradient that is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NonFinite {
    /// Stop the training with an error; nothing of that iteration is kept.
    Stop,
    /// Put 0 for NaN and +-1e5 for infinities, as the paper does, and count it.
    Replace,
}

/// The settings of Adam and of the moving average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decay of the moving average of the weights, per iteration.
    pub ema_decay: f64,
    /// The average's half-life is at most this share of the iterations so far, so that the first
    /// weights are forgotten; none for the plain decay.
    pub ema_rampup: Option<f64>,
    /// What to do about gradients that are not finite.
    pub non_finite: NonFinite,
}

impl Default for OptimizerConfig {
    /// The paper's values; stops at gradients that are not finite.
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            ema_decay: 0.9999,
            ema_rampup: None,
            non_finite: NonFinite::Stop,
        }
    }
}

impl OptimizerConfig {
    /// The average's decay in step `step` (from 1).
    fn decay(&self, step: u64) -> f64 {
        match self.ema_rampup {
            Some(share) => self.ema_decay.min(0.5f64.powf(1.0 / (share * step as f64))),
            None => self.ema_decay,
        }
    }
}

/// Adam's memory and the averaged weights.
#[derive(Clone, Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    steps: u64,
    states: BTreeMap<String, AdamState<1>>,
}

/// What a step saw.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Euclidean norm of the whole gradient; infinite or NaN when some value was.
    pub gradient_norm: f64,
    /// Parameters whose gradient was not finite.
    pub non_finite: Vec<String>,
}

impl StepReport {
    /// What a step along these gradients sees.
    fn of(gradients: &[(String, Tensor<1>)]) -> Self {
        let (mut squares, mut non_finite) = (0.0, Vec::new());
        for (name, gradient) in gradients {
            let part = f64::from(sum_of_squares(gradient.clone()).into_scalar::<f32>());
            // The sum of squares overflows before the gradient does.
            if !part.is_finite() && !gradient.clone().is_finite().all().into_scalar::<bool>() {
                non_finite.push(name.clone());
            }
            squares += part;
        }
        Self { gradient_norm: f64::sqrt(squares), non_finite }
    }
}

impl Optimizer {
    /// Before the first step; the average starts at the module's weights. The optimizer owns the
    /// parameters whose names begin with `prefix`, and leaves the others alone.
    pub fn new(config: OptimizerConfig, module: &impl Module, prefix: &str) -> Self {
        let device = module.devices().first().cloned().unwrap_or_default().inner();
        let states = kdm_nn::state::state_dict(module)
            .into_iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(name, data)| {
                let ema = flat(data, &device);
                let zeros = || Tensor::zeros_like(&ema);
                (name, AdamState { m: zeros(), v: zeros(), ema })
            })
            .collect();
        Self { config, steps: 0, states }
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One step at learning rate `lr`. Gradients of parameters that took no part in the loss count
    /// as absent: such a parameter stays as it is.
    ///
    /// When a gradient is not finite and the configuration says stop, the module comes back
    /// unchanged.
    pub fn step<M: Module>(&mut self, module: M, mut grads: Gradients, lr: f64) -> (M, StepReport) {
        let gradients = self.collect(&module, &mut grads);
        self.apply(module, gradients, lr)
    }

    /// The gradients of this optimizer's parameters, by name in the module's order, each as one
    /// row.
    pub(crate) fn collect(
        &self,
        module: &impl Module,
        grads: &mut Gradients,
    ) -> Vec<(String, Tensor<1>)> {
        let (path, states) = (NamePath::default(), &self.states);
        let mut collect = Collect { path, grads, states, found: Vec::new() };
        module.visit(&mut collect);
        collect.found
    }

    /// [`Self::step`] along gradients that were collected.
    pub(crate) fn apply<M: Module>(
        &mut self,
        module: M,
        mut gradients: Vec<(String, Tensor<1>)>,
        lr: f64,
    ) -> (M, StepReport) {
        let report = StepReport::of(&gradients);
        if !report.non_finite.is_empty() {
            match self.config.non_finite {
                NonFinite::Stop => return (module, report),
                NonFinite::Replace => {
                    for (name, gradient) in &mut gradients {
                        if report.non_finite.contains(name) {
                            *gradient = replace_non_finite(gradient.clone());
                        }
                    }
                }
            }
        }
        self.steps += 1;
        let c = self.config;
        let step =
            AdamEmaStep::new(self.steps, lr, c.beta1, c.beta2, c.epsilon, c.decay(self.steps));
        let found = gradients.into_iter().collect();
        let mut apply = Apply { path: NamePath::default(), found, states: &mut self.states, step };
        (module.map(&mut apply), report)
    }

    /// The averaged weights.
    pub fn ema(&self, shapes: &StateDict) -> StateDict {
        self.part(shapes, |state| &state.ema)
    }

    /// First moments.
    pub(crate) fn first_moments(&self, shapes: &StateDict) -> StateDict {
        self.part(shapes, |state| &state.m)
    }

    /// Second moments.
    pub(crate) fn second_moments(&self, shapes: &StateDict) -> StateDict {
        self.part(shapes, |state| &state.v)
    }

    fn part(&self, shapes: &StateDict, pick: impl Fn(&AdamState<1>) -> &Tensor<1>) -> StateDict {
        self.states
            .iter()
            .map(|(name, state)| {
                let data = pick(state).to_data_dtype(DType::F32);
                (name.clone(), reshaped(data, shapes[name].shape().clone()))
            })
            .collect()
    }

    /// Puts back what a checkpoint kept; the three dictionaries hold every parameter's name.
    pub(crate) fn restore(&mut self, steps: u64, m: &StateDict, v: &StateDict, ema: &StateDict) {
        self.steps = steps;
        for (name, state) in &mut self.states {
            let device = state.m.device();
            let part = |from: &StateDict| flat(from[name].clone(), &device);
            *state = AdamState { m: part(m), v: part(v), ema: part(ema) };
        }
    }
}

/// The values as one row.
fn flat(data: TensorData, device: &Device) -> Tensor<1> {
    let n = data.shape().num_elements();
    Tensor::from_data(reshaped(data, Shape::new([n])), device)
}

fn reshaped(data: TensorData, shape: Shape) -> TensorData {
    TensorData::from_bytes(data.into_bytes(), shape, DType::F32)
}

/// 0 for NaN, +-1e5 for infinities; finite values stay.
fn replace_non_finite(grad: Tensor<1>) -> Tensor<1> {
    let (nan, infinite) = (grad.clone().is_nan(), grad.clone().is_inf());
    let bounded = grad.clone().clamp(-1e5, 1e5);
    grad.mask_where(infinite, bounded).mask_fill(nan, 0.0)
}

/// Takes the gradients out by name.
struct Collect<'a> {
    path: NamePath,
    grads: &'a mut Gradients,
    states: &'a BTreeMap<String, AdamState<1>>,
    found: Vec<(String, Tensor<1>)>,
}

impl ModuleVisitor for Collect<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }
    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.join();
        if !self.states.contains_key(&name) {
            return;
        }
        if let Some(grad) = param.val().grad_remove(self.grads) {
            let n = grad.shape().num_elements();
            self.found.push((name, grad.reshape([n])));
        }
    }
}

/// Puts the updated parameters in.
struct Apply<'a> {
    path: NamePath,
    found: BTreeMap<String, Tensor<1>>,
    states: &'a mut BTreeMap<String, AdamState<1>>,
    step: AdamEmaStep,
}

impl ModuleMapper for Apply<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }
    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.join();
        let Some(grad) = self.found.remove(&name) else { return param };
        let state = self.states.remove(&name).expect("every parameter has a state");
        let (id, tensor, mapper) = param.consume();
        let (shape, n) = (tensor.dims(), tensor.shape().num_elements());
        let (updated, state) = adam_ema(tensor.inner().reshape([n]), grad, state, self.step);
        self.states.insert(name, state);
        let updated = Tensor::from_inner(updated.reshape(shape)).require_grad();
        Param::from_mapped_value(id, updated, mapper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_nn::{InitSeed, Linear, LinearConfig};

    fn gradients(module: &Linear, factor: f32) -> Gradients {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_floats([[factor, 1.0]], &device);
        module.forward(x).sum().backward()
    }

    #[test]
    fn the_averages_half_life_grows_with_the_training() {
        let config =
            OptimizerConfig { ema_decay: 0.999, ema_rampup: Some(0.05), ..Default::default() };
        // After 1000 iterations the half-life is 50 of them; after 100 000 the decay itself is
        // shorter.
        assert!((config.decay(1000).powi(50) - 0.5).abs() < 1e-12);
        assert_eq!(config.decay(100_000), 0.999);
        assert_eq!(OptimizerConfig::default().decay(1), 0.9999);
    }

    #[test]
    fn infinities_are_replaced_and_finite_values_stay() {
        let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e7, -2.0];
        let replaced = replace_non_finite(Tensor::from_floats(values, &Device::flex()));
        assert_eq!(replaced.to_data().as_slice::<f32>().unwrap(), [0.0, 1e5, -1e5, 3e7, -2.0]);
    }

    /// Stopping leaves weights and average as they were; replacing goes on. A gradient whose square
    /// overflows is finite.
    #[test]
    fn non_finite_gradients_stop_or_are_replaced() {
        let device = Device::flex().autodiff();
        for (factor, bad, stops) in [(f32::INFINITY, true, true), (1e30, false, false)] {
            for non_finite in [NonFinite::Stop, NonFinite::Replace] {
                let module =
                    LinearConfig { inputs: 2, outputs: 1 }.init(&mut InitSeed::new(1), &device);
                let before = kdm_nn::state::state_dict(&module);
                let mut optimizer = Optimizer::new(
                    OptimizerConfig { non_finite, ..Default::default() },
                    &module,
                    "",
                );
                let grads = gradients(&module, factor);
                let (module, report) = optimizer.step(module, grads, 1e-3);
                assert_eq!(report.non_finite == ["weight"], bad, "{factor}");
                let stopped = stops && non_finite == NonFinite::Stop;
                assert_eq!(
                    kdm_nn::state::state_dict(&module) == before,
                    stopped,
                    "{factor} {non_finite:?}"
                );
                assert_eq!(optimizer.steps(), u64::from(!stopped));
                assert!(
                    optimizer.ema(&before).values().all(|t| t
                        .as_slice::<f32>()
                        .unwrap()
                        .iter()
                        .all(|x| x.is_finite()))
                );
            }
        }
    }
}
