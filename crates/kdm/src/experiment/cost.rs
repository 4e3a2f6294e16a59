//! What an experiment takes: sizes, operations, memory, disk.

use kdm_data::pairs::ImageType;
use kdm_koopman::config::StatePasses;
use kdm_koopman::{Method, OperatorKind};
use kdm_nn::{Demand, UNetConfig};

use super::schema::{Experiment, TeacherKind};
use crate::runtime::Machine;
use crate::{Failure, Outcome};

/// What a stage of an experiment takes.
#[derive(Clone, Debug, PartialEq)]
pub struct StageCost {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub what: String,
    /// Floating-point operations in all; none where the configuration doesn't tell.
    pub operations: Option<f64>,
    /// Bytes of memory that it needs beside the program itself: weights, and for a training their
    /// gradients, moments and average, and what a step keeps.
    pub memory: f64,
    /// Bytes on disk.
    pub disk: f64,
    /// The key that makes the memory smaller.
    pub key: &'static str,
}

/// Bytes of a number.
const FLOAT: f64 = 4.0;
/// Copies of the weights during a training: weights, gradients, two moments, average.
const COPIES: f64 = 5.0;

/// Bytes that a training of a network takes, whose batch is computed leaf by leaf: beside the
/// copies, a sum of gradients for each level of the tree over the leaves.
fn training_memory(demand: Demand, batch: usize, leaves: usize) -> f64 {
    let copies = COPIES + (leaves as f64).log2();
    FLOAT * (copies * demand.parameters + (batch / leaves) as f64 * demand.activations)
}

impl Experiment {
    /// Floating-point operations of an iteration of the distillation.
    pub(crate) fn training_flops(&self) -> f64 {
        self.student_demand(true).operations * self.train.batch as f64
    }

    /// What the student takes a sample, or a pair of its training.
    pub fn student_demand(&self, training: bool) -> Demand {
        let (shape, label_dim) = self.sample().expect("checked when loaded");
        let student = self.student_config(shape, label_dim, self.pairs.process.noise_std());
        let demand = student.demand(training, self.loss.push_weight > 0.0);
        if !(training && self.trains_on_states()) {
            return demand;
        }
        let loss = &self.loss;
        let (push, state) = (loss.state_push_weight > 0.0, loss.state_weight > 0.0);
        demand + student.state_demand(StatePasses { push, state })
    }

    /// Whether the student is a generator that learns from states between noise and image.
    pub(super) fn trains_on_states(&self) -> bool {
        let student = &self.student;
        let generator = student.operator.kind == OperatorKind::Generator;
        let states = self.pairs.states > 0 && self.loss.config().has_states();
        student.method == Method::Koopman && generator && states
    }

    /// What a pass of the teacher takes; none where the configuration doesn't tell.
    fn teacher_demand(&self) -> Option<Demand> {
        match self.teacher.kind {
            TeacherKind::Exact => Some(Demand::default()),
            TeacherKind::File => None,
            TeacherKind::FlowMlp => {
                let data = self.distribution().expect("a flow-matching teacher learns one");
                Some(self.flow_mlp().network(&data).demand())
            }
            TeacherKind::Network => self.teacher.network.as_ref().map(UNetConfig::demand),
        }
    }

    /// What each stage takes, in order. A training costs three times the operations of its passes.
    pub fn stage_costs(&self) -> Vec<StageCost> {
        let mut stages = Vec::new();
        let teacher = self.teacher_demand();
        if matches!(self.teacher.kind, TeacherKind::FlowMlp | TeacherKind::Network) {
            let t = &self.teacher.train;
            let seen = t.iterations as f64 * t.batch as f64;
            let demand = teacher.unwrap_or_default();
            stages.push(StageCost {
                name: "teacher",
                what: format!(
                    "{} parameters, {} iterations of {} samples",
                    count(demand.parameters),
                    t.iterations,
                    t.batch
                ),
                operations: teacher.map(|demand| 3.0 * seen * demand.operations),
                memory: training_memory(demand, t.batch, t.leaves),
                disk: FLOAT * COPIES * demand.parameters,
                key: "teacher.train.batch",
            });
        }
        let p = &self.pairs;
        let passes = p.solver.evaluations(p.steps);
        let guided = p.guidance != 1.0 && self.sample().is_ok_and(|(_, classes)| classes > 0);
        let passes = if guided { 2 * passes } else { passes };
        let pairs = p.count as f64 + p.test as f64;
        let student = self.student_demand(true);
        let (shape, _) = self.sample().expect("checked when loaded");
        let dim: f64 = shape.iter().map(|n| *n as f64).product();
        let bytes = match p.dtype {
            ImageType::F32 => 4.0,
            ImageType::F16 => 2.0,
            ImageType::U8 => 1.0,
        };
        // States are kept as f16; until a shard is written they are f32.
        let states = p.states as f64;
        let at_a_time = p.batch.min(p.shard_size) as f64;
        stages.push(StageCost {
            name: "pairs",
            what: format!(
                "{} and {} to test, of {passes} teacher passes each{}",
                p.count,
                p.test,
                if p.states > 0 { format!(", with {} states", p.states) } else { String::new() }
            ),
            operations: teacher.map(|demand| pairs * passes as f64 * demand.operations),
            memory: teacher.unwrap_or_default().parameters * FLOAT
                + at_a_time * dim * (32.0 + FLOAT * states)
                + p.shard_size as f64 * dim * FLOAT * states,
            disk: pairs * (dim * (bytes + 2.0 * states) + 8.0),
            key: "pairs.batch",
        });
        let t = &self.train;
        stages.push(StageCost {
            name: "student",
            what: format!(
                "{} parameters, {} iterations of {} pairs",
                count(student.parameters),
                t.iterations,
                t.batch
            ),
            operations: Some(self.training_flops() * t.iterations as f64),
            memory: training_memory(student, t.batch, t.leaves) + dim * FLOAT * t.held_out as f64,
            disk: FLOAT * COPIES * student.parameters,
            key: "train.batch",
        });
        let one = self.student_demand(false);
        stages.push(StageCost {
            name: "samples",
            what: format!("{} a sample", operations(one.operations)),
            operations: Some(one.operations * (p.test as f64 + self.evaluate.clusters as f64)),
            memory: FLOAT * (one.parameters + dim * (2.0 * p.test as f64)),
            disk: 0.0,
            key: "pairs.test",
        });
        stages
    }

    /// Whether a machine can do the stages named, or all if none is.
    ///
    /// # Errors
    /// When they need more memory or disk: a usage failure that names the key to change.
    pub fn check_fits(&self, machine: Machine, stages: &[&str]) -> Outcome<()> {
        let wanted = |name: &str| stages.is_empty() || stages.contains(&name);
        let stages: Vec<StageCost> =
            self.stage_costs().into_iter().filter(|stage| wanted(stage.name)).collect();
        for StageCost { name, key, what, memory: needed, .. } in &stages {
            if let Some(memory) = machine.memory.filter(|memory| needed > memory) {
                return Err(Failure::Usage(format!(
                    "`{key}`: the stage `{name}` ({what}) needs about {} of memory, and this \
                     machine has {}; give a smaller {key} or smaller networks",
                    size(*needed),
                    size(memory)
                )));
            }
        }
        let needed: f64 = stages.iter().map(|stage| stage.disk).sum();
        let Some(disk) = machine.disk.filter(|disk| needed > *disk) else { return Ok(()) };
        let largest = stages.iter().max_by(|a, b| a.disk.total_cmp(&b.disk));
        let Some(StageCost { name, what, .. }) = largest else { return Ok(()) };
        let (key, smaller) = match *name {
            "pairs" => ("pairs.count", "a smaller pairs.count"),
            "teacher" => ("teacher.network", "a smaller network"),
            _ => ("student.network", "a smaller network"),
        };
        Err(Failure::Usage(format!(
            "`{key}`: the files need about {} of disk, most of them for the stage `{name}` \
             ({what}), and there is room for {}; give {smaller}, free some space, or choose a \
             folder on another disk with --out",
            size(needed),
            size(disk)
        )))
    }
}

/// A number of things for a person.
fn count(n: f64) -> String {
    match n {
        n if n < 1e4 => format!("{n:.0}"),
        n if n < 1e6 => format!("{:.1} thousand", n / 1e3),
        n if n < 1e9 => format!("{:.2} million", n / 1e6),
        n => format!("{:.3e}", n),
    }
}

/// Bytes for a person.
pub fn size(bytes: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB")];
    match UNITS.into_iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.3} {unit}", bytes / size),
        None => format!("{:.0} kB", (bytes / 1e3).ceil()),
    }
}

/// Floating-point operations for a person.
pub fn operations(flops: f64) -> String {
    const UNITS: [(f64, &str); 4] =
        [(1e18, "EFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP")];
    let (size, unit) = UNITS.into_iter().find(|(size, _)| flops >= *size).unwrap_or((1e3, "kFLOP"));
    format!("{:.3} {unit}", flops / size)
}
