//! A graph that grows node by node.

use half::f16;

use super::Precision;
use super::proto::{
    Attribute, Dimension, Graph, Length, Node, Tensor, TensorShape, TensorType, ValueInfo,
    ValueType,
};

/// ONNX's numbers of element types.
pub(super) const FLOAT: i32 = 1;
pub(super) const INT64: i32 = 7;
const HALF: i32 = 10;

/// The name of a value.
pub(super) type Value = String;

/// A parameter of a node.
#[derive(Clone, Debug)]
pub(super) enum Parameter<'a> {
    Int(i64),
    Ints(&'a [i64]),
    Float(f32),
}

/// Nodes and weights so far.
pub(super) struct Builder {
    graph: Graph,
    precision: Precision,
    values: usize,
}

impl Builder {
    pub fn new(name: &str, precision: Precision) -> Self {
        let graph = Graph { name: name.to_string(), ..Graph::default() };
        Self { graph, precision, values: 0 }
    }

    /// An input with a free number of rows.
    pub fn input(&mut self, name: &str, row: &[usize], text: &str) -> Value {
        self.graph.input.push(info(name, row, text));
        name.to_string()
    }

    /// Makes a value an output of this name.
    pub fn output(&mut self, value: Value, name: &str, row: &[usize], text: &str) {
        let node = Node {
            input: vec![value],
            output: vec![name.to_string()],
            name: name.to_string(),
            op_type: "Identity".into(),
            attribute: Vec::new(),
        };
        self.graph.node.push(node);
        self.graph.output.push(info(name, row, text));
    }

    /// Adds a node; gives its result.
    pub fn node(&mut self, kind: &str, inputs: &[&str], parameters: &[(&str, Parameter)]) -> Value {
        let result = format!("v{}_{}", self.fresh(), kind.to_lowercase());
        let attribute = |(name, value): &(&str, Parameter)| {
            let named = Attribute { name: (*name).to_string(), ..Attribute::default() };
            match value {
                Parameter::Float(f) => Attribute { f: *f, kind: 1, ..named },
                Parameter::Int(i) => Attribute { i: *i, kind: 2, ..named },
                Parameter::Ints(ints) => Attribute { ints: ints.to_vec(), kind: 7, ..named },
            }
        };
        self.graph.node.push(Node {
            input: inputs.iter().map(|input| (*input).to_string()).collect(),
            output: vec![result.clone()],
            name: result.clone(),
            op_type: kind.to_string(),
            attribute: parameters.iter().map(attribute).collect(),
        });
        result
    }

    /// A number that no value's name has.
    pub fn fresh(&mut self) -> usize {
        self.values += 1;
        self.values
    }

    /// A known tensor. In half precision it is stored so, and widened where it is used.
    pub fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Value {
        let store_half = self.precision == Precision::F16 && values.len() > 1;
        let (data_type, raw_data) = if store_half {
            (HALF, values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect())
        } else {
            (FLOAT, values.iter().flat_map(|x| x.to_le_bytes()).collect())
        };
        let name = self.known(name, shape, data_type, raw_data);
        if store_half {
            self.node("Cast", &[&name], &[("to", Parameter::Int(i64::from(FLOAT)))])
        } else {
            name
        }
    }

    /// [`Self::constant`] in full precision, whatever weights are stored in.
    pub fn exact(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Value {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.known(name, shape, FLOAT, bytes)
    }

    /// Known integers, such as a shape.
    pub fn integers(&mut self, values: &[i64]) -> Value {
        let name = format!("v{}_integers", self.fresh());
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.known(&name, &[values.len()], INT64, bytes)
    }

    fn known(&mut self, name: &str, shape: &[usize], data_type: i32, raw_data: Vec<u8>) -> Value {
        let dims = shape.iter().map(|n| *n as i64).collect();
        let name = name.to_string();
        self.graph.initializer.push(Tensor { dims, data_type, name: name.clone(), raw_data });
        name
    }

    /// The value in another shape, of which 0 stands for what it has there.
    pub fn reshape(&mut self, x: &str, shape: &[i64]) -> Value {
        let shape = self.integers(shape);
        self.node("Reshape", &[x, &shape], &[])
    }

    pub fn finish(self) -> Graph {
        self.graph
    }
}

/// The type of rows of floats.
fn info(name: &str, row: &[usize], text: &str) -> ValueInfo {
    let rows = Dimension { length: Some(Length::Name("batch".into())) };
    let fixed = row.iter().map(|n| Dimension { length: Some(Length::Value(*n as i64)) });
    let shape = TensorShape { dim: [rows].into_iter().chain(fixed).collect() };
    let tensor_type = Some(TensorType { elem_type: FLOAT, shape: Some(shape) });
    ValueInfo {
        name: name.to_string(),
        value_type: Some(ValueType { tensor_type }),
        doc_string: text.to_string(),
    }
}
