//! A module's weights by name, out and in again. A load checks every name and shape before it
//! changes anything and reports all that is wrong at once.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Gradients, Tensor, TensorData};

/// Tensors by dotted name, such as `clean_encoder.layers.0.weight`.
pub type StateDict = BTreeMap<String, TensorData>;

/// Why weights don't fit a module.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error(
    "the weights don't fit the configured network: {0}; check that the file's `config` is the one \
     it was trained with"
)]
pub struct StateError(pub String);

/// The dotted name of the parameter being visited.
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

/// All float parameters of `module`, as f32 on the host.
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

/// The gradients of a module's parameters, as f32 on the host; parameters that took no part have
/// none.
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

/// `module` with its float parameters replaced by those of `state`.
///
/// # Errors
/// When a parameter is missing, left over, or of another shape; the message lists all of them.
pub fn load_state<M: Module>(module: M, state: &StateDict) -> Result<M, StateError> {
    let expected = state_dict(&module);
    let mut problems = Vec::new();
    for (name, data) in &expected {
        match state.get(name) {
            None => problems.push(format!("`{name}` {} is missing", shape_text(data))),
            Some(found) if found.shape() != data.shape() => problems.push(format!(
                "`{name}` is {} and should be {}",
                shape_text(found),
                shape_text(data)
            )),
            Some(_) => {}
        }
    }
    let surplus = state.keys().filter(|name| !expected.contains_key(*name));
    problems.extend(surplus.map(|name| format!("`{name}` belongs nowhere")));
    if !problems.is_empty() {
        return Err(StateError(problems.join(", ")));
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

fn shape_text(data: &TensorData) -> String {
    let sizes: Vec<String> = data.shape().iter().map(ToString::to_string).collect();
    format!("[{}]", sizes.join(", "))
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
            assert!(error.0.contains(part), "{error}");
        }
    }
}
