//! What an experiment says to the other crates: configurations of teacher, student and trainings.

use std::path::Path;

use kdm_koopman::StudentConfig;
use kdm_teacher::distributions::{Distribution, DistributionConfig};
use kdm_teacher::{FlowMlpConfig, NetworkTeacherConfig, Preconditioning};
use kdm_train::{LoopConfig, OptimizerConfig};
use serde_json::{Value, json};

use super::schema::{Experiment, TeacherKind};

impl Experiment {
    /// The distribution that an exact teacher is of, or that a flow-matching one learns.
    pub(super) fn data(&self) -> DistributionConfig {
        self.teacher.data.clone().unwrap_or(DistributionConfig::Checkerboard { conditional: false })
    }

    /// The distribution of the teacher's data, where there is one.
    pub fn distribution(&self) -> Option<Distribution> {
        match self.teacher.kind {
            TeacherKind::Exact | TeacherKind::FlowMlp => {
                Some(self.data().build().expect("checked when loaded"))
            }
            TeacherKind::Network | TeacherKind::File => None,
        }
    }

    /// The configuration of an exact teacher.
    pub fn exact(&self) -> DistributionConfig {
        self.data()
    }

    /// The trained image teacher.
    pub fn network_teacher(&self) -> Option<NetworkTeacherConfig> {
        let dataset = self.teacher.dataset.as_deref().unwrap_or_default();
        let data =
            Path::new(dataset).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let network = self.teacher.network.clone()?;
        let (preconditioning, class_names) = (Preconditioning::EDM, Vec::new());
        Some(NetworkTeacherConfig { data, class_names, preconditioning, network })
    }

    /// The trained teacher's network.
    pub fn flow_mlp(&self) -> FlowMlpConfig {
        FlowMlpConfig {
            data: self.data(),
            hidden: self.teacher.hidden,
            layers: self.teacher.layers,
        }
    }

    /// The student, for pairs of this shape.
    pub fn student_config(
        &self,
        shape: Vec<usize>,
        label_dim: usize,
        noise_std: f64,
    ) -> StudentConfig {
        let config = StudentConfig {
            method: self.student.method,
            shape,
            label_dim,
            noise_std,
            latent: self.student.latent,
            levels: Vec::new(),
            network: self.student.network.clone(),
            operator: self.student.operator.clone(),
        };
        config.with_levels(self.student.levels.clone())
    }

    /// The loop of the student's training.
    pub fn student_loop(&self) -> LoopConfig {
        let t = &self.train;
        LoopConfig {
            iterations: t.iterations,
            leaves: t.leaves,
            lr: t.lr,
            schedule: t.schedule,
            warmup: t.warmup,
            optimizer: OptimizerConfig {
                beta1: t.beta1,
                beta2: t.beta2,
                epsilon: t.epsilon,
                ema_decay: t.ema_decay,
                ema_rampup: (t.ema_rampup > 0.0).then_some(t.ema_rampup),
                non_finite: t.non_finite,
            },
            log_every: t.log_every,
            validate_every: t.validate_every,
            checkpoint_every: t.checkpoint_every,
            best_by: t.best_by.clone(),
            length_key: Some("/experiment/train/iterations"),
        }
    }

    /// The loop of the teacher's training.
    pub fn teacher_loop(&self) -> LoopConfig {
        let t = &self.teacher.train;
        LoopConfig {
            iterations: t.iterations,
            leaves: t.leaves,
            lr: t.lr,
            schedule: t.schedule,
            warmup: t.warmup,
            optimizer: OptimizerConfig {
                ema_decay: t.ema_decay,
                ema_rampup: (t.ema_rampup > 0.0).then_some(t.ema_rampup),
                ..OptimizerConfig::default()
            },
            log_every: self.train.log_every,
            validate_every: self.train.validate_every,
            checkpoint_every: self.train.checkpoint_every,
            best_by: "loss".into(),
            length_key: Some("/teacher/train/iterations"),
        }
    }

    /// What the teacher's training depends on: kept in its checkpoints, and compared when it is
    /// gone on with.
    pub fn teacher_inputs(&self) -> Value {
        json!({ "teacher": self.teacher, "seed": self.seed })
    }

    /// What the student's training on pairs of this plan depends on; see [`Self::teacher_inputs`].
    pub fn student_inputs(&self, plan_hash: &str) -> Value {
        json!({ "experiment": self, "pairs": plan_hash })
    }
}
