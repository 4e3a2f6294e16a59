//! Tensors to the host; a module's weights by name, out and in again. A load checks every name and
//! shape before it changes anything and reports all that is wrong at once.
//!
//! ```
//! use burn::tensor::Device;
//! use kdm_nn::state::{load_state, state_dict};
//! use kdm_nn::{InitSeed, LinearConfig};
//!
//! let device = Device::flex();
//! let config = LinearConfig { inputs: 3, outputs: 2 };
//! let mut state = state_dict(&config.init(&mut InitSeed::new(1), &device));
//! assert!(state.keys().eq(["bias", "weight"]));
//!
//! let other = config.init(&mut InitSeed::new(2), &device);
//! assert_eq!(state_dict(&load_state(other.clone(), &state)?), state);
//!
//! state.remove("bias");
//! assert_eq!(load_state(other, &state).unwrap_err().missing[0].shape, [2]);
//! # Ok::<(), kdm_nn::StateError>(())
//! ```

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Gradients, Tensor, TensorData};

/// Tensors on the host by dotted name, such as `clean_encoder.layers.0.weight`.
pub type StateDict = BTreeMap<String, TensorData>;

/// Why weights don't fit a module: all that is wrong with them.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error(
    "the weights don't fit the configured network: {}; check that the file's `config` is the one \
     it was trained with",
    self.listed()
)]
pub struct StateError {
    /// Tensors of the module that the weights lack.
    pub missing: Vec<MissingTensor>,
    /// Tensors of another shape than the module's.
    pub wrong_shape: Vec<WrongShape>,
    /// Names of tensors that the module doesn't have.
    pub unexpected: Vec<String>,
}

/// A tensor that a module has and its weights lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingTensor {
    /// Its dotted name.
    pub name: String,
    /// Its shape in the module.
    pub shape: Vec<usize>,
}

/// A tensor whose shape is not the module's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongShape {
    /// Its dotted name.
    pub name: String,
    /// Its shape in the module.
    pub expected: Vec<usize>,
    /// Its shape in the weights.
    pub found: Vec<usize>,
}

/// Tensors that a message names: a network of another size has hundreds that don't fit.
const SHOWN: usize = 10;

impl StateError {
    /// What is wrong with the module's tensors in the order of their names, then what is
    /// unexpected.
    fn listed(&self) -> String {
        let missing = self.missing.iter().map(|m| (&m.name, format!("{:?} is missing", m.shape)));
        let wrong = self.wrong_shape.iter();
        let wrong =
            wrong.map(|w| (&w.name, format!("is {:?} and should be {:?}", w.found, w.expected)));
        let mut listed: Vec<(&String, String)> = missing.chain(wrong).collect();
        listed.sort();
        listed.extend(self.unexpected.iter().map(|name| (name, "belongs nowhere".to_string())));
        let more = listed.len().saturating_sub(SHOWN);
        let shown = listed.into_iter().take(SHOWN);
        let mut shown: Vec<String> =
            shown.map(|(name, problem)| format!("`{name}` {problem}")).collect();
        shown.extend((more > 0).then(|| format!("and {more} more")));
        shown.join(", ")
    }
}

/// The values of `tensor` on the host, in row-major order, as f32 whatever float type it has. Waits
/// until its device has computed them.
///
/// # Panics
/// When the device fails.
pub fn to_host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().expect("the device gives its values")
}

/// The dotted name of the parameter being visited, for visitors and mappers of modules.
#[derive(Default, Debug)]
pub struct NamePath(Vec<String>);

impl NamePath {
    /// Enters a child. Enum variants name no level of their own, nor do fields called `flat`, whose
    /// children have their whole names.
    pub fn enter(&mut self, name: &str, container_type: &str) {
        let silent = container_type.starts_with("Enum") || name == "flat";
        self.0.push(if silent { String::new() } else { name.to_string() });
    }

    /// Leaves the child entered last.
    pub fn exit(&mut self) {
        self.0.pop();
    }

    /// The name, dots between levels.
    pub fn join(&self) -> String {
        let levels: Vec<&str> =
            self.0.iter().filter(|s| !s.is_empty()).map(String::as_str).collect();
        levels.join(".")
    }
}

/// All float parameters of `module`, as f32 on the host; their shapes are the module's.
pub fn state_dict(module: &impl Module) -> StateDict {
    struct Collect {
        path: NamePath,
        state: StateDict,
    }
    impl ModuleVisitor for Collect {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let data = param.val().to_data_dtype(DType::F32);
            self.state.insert(self.path.join(), data);
        }
    }
    let mut collect = Collect { path: NamePath::default(), state: StateDict::new() };
    module.visit(&mut collect);
    collect.state
}

/// The gradients of a module's parameters by the parameters' names, as f32 on the host; parameters
/// that took no part in the backward pass that made `grads` have none.
pub fn gradients(module: &impl Module, grads: &Gradients) -> StateDict {
    struct Collect<'a> {
        path: NamePath,
        grads: &'a Gradients,
        found: StateDict,
    }
    impl ModuleVisitor for Collect<'_> {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = param.val().grad(self.grads) {
                self.found.insert(self.path.join(), grad.to_data_dtype(DType::F32));
            }
        }
    }
    let mut collect = Collect { path: NamePath::default(), grads, found: StateDict::new() };
    module.visit(&mut collect);
    collect.found
}

/// `module` with its float parameters replaced by those of `state`, on the device where each was.
///
/// # Errors
/// When a parameter is missing, unexpected, or of another shape; the error lists all of them.
pub fn load_state<M: Module>(module: M, state: &StateDict) -> Result<M, StateError> {
    let expected = state_dict(&module);
    let mut error = StateError::default();
    for (name, data) in &expected {
        let (name, shape) = (name.clone(), data.shape().to_vec());
        match state.get(&name).map(|found| found.shape().to_vec()) {
            None => error.missing.push(MissingTensor { name, shape }),
            Some(found) if found != shape => {
                error.wrong_shape.push(WrongShape { name, expected: shape, found });
            }
            Some(_) => {}
        }
    }
    error.unexpected = state.keys().filter(|name| !expected.contains_key(*name)).cloned().collect();
    if error != StateError::default() {
        return Err(error);
    }

    struct Replace<'a> {
        path: NamePath,
        state: &'a StateDict,
    }
    impl ModuleMapper for Replace<'_> {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let data = self.state[&self.path.join()].clone();
            let (id, old, mapper) = param.consume();
            let (device, tracked) = (old.device(), old.is_require_grad());
            let new = Tensor::from_data(data, &device).set_require_grad(tracked);
            Param::from_mapped_value(id, new, mapper)
        }
    }
    Ok(module.map(&mut Replace { path: NamePath::default(), state }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InitSeed, MlpConfig};
    use burn::tensor::Device;

    fn config(hidden: usize) -> MlpConfig {
        MlpConfig {
            input_dim: 2,
            output_dim: 2,
            hidden,
            layers: 2,
            label_dim: 0,
            activate_output: false,
        }
    }

    #[test]
    fn weights_go_out_and_in_again() {
        let device = Device::flex();
        let source = config(8).init(&mut InitSeed::new(1), &device);
        let state = state_dict(&source);
        let names: Vec<&str> = state.keys().map(String::as_str).collect();
        assert_eq!(names, ["layers.0.bias", "layers.0.weight", "layers.1.bias", "layers.1.weight"]);
        let target = config(8).init(&mut InitSeed::new(2), &device);
        assert_ne!(state_dict(&target), state);
        assert_eq!(state_dict(&load_state(target, &state).unwrap()), state);
    }

    #[test]
    fn a_misfit_lists_everything_at_once() {
        let device = Device::flex();
        let mut state = state_dict(&config(8).init(&mut InitSeed::new(1), &device));
        let bias = state.remove("layers.1.bias").unwrap();
        state.insert("extra".into(), bias);
        let error = load_state(config(9).init(&mut InitSeed::new(2), &device), &state).unwrap_err();
        for part in [
            "`layers.1.bias` [2] is missing",
            "`layers.0.weight` is [8, 3] and should be [9, 3]",
            "`extra`",
        ] {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(error.missing, [MissingTensor { name: "layers.1.bias".into(), shape: vec![2] }]);
        let names: Vec<&str> = error.wrong_shape.iter().map(|w| w.name.as_str()).collect();
        assert_eq!(names, ["layers.0.bias", "layers.0.weight", "layers.1.weight"]);
        assert_eq!(error.unexpected, ["extra"]);
    }
}
