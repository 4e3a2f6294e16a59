//! Where a student is from: who made it, from what.

use std::path::Path;

use kdm_data::pairs::TeacherStamp;
use kdm_train::Extension;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::low_rank::RankBy;
use crate::warm_start::WarmStart;

/// Where a student is from.
///
/// ```
/// use kdm_koopman::Origin;
///
/// // A file of an older version of this program.
/// let origin: Origin = serde_json::from_str(
///     r#"{"imported_from": "kdm.pkl", "found": "a state dict of an official KDM checkpoint"}"#,
/// )?;
/// assert_eq!(origin, Origin::imported("kdm.pkl", "a state dict of an official KDM checkpoint"));
/// assert!(origin.teacher().is_none());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Origin {
    /// What it was made from.
    pub source: Source,
    /// How its operator was cut to a lower rank afterwards; none where it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compressed: Option<Compression>,
}

/// What a student was made from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Source {
    /// Trained from stored pairs.
    Distilled(Box<Distillation>),
    /// Brought in from another program's file.
    Imported(Import),
    /// Its file doesn't say.
    #[default]
    Unknown,
}

/// A training from stored pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distillation {
    /// The experiment's name.
    pub experiment: String,
    /// The experiment's seed, from which all others are derived.
    pub seed: u64,
    /// The training.
    pub train: Training,
    /// The pairs.
    pub pairs: PairsStamp,
    /// The weights that it began with; none for fresh ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_from: Option<WarmStart>,
    /// Where it was made longer than planned, as far as that makes a difference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extended: Vec<Extension>,
}

/// The numbers of a training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Iterations in all.
    pub iterations: u64,
    /// Pairs an iteration.
    pub batch: usize,
    /// The other settings, as the experiment writes them.
    #[serde(flatten)]
    pub settings: Map<String, Value>,
}

/// Which pairs a student was trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairsStamp {
    /// The teacher that drew them; none for imported pairs.
    pub teacher: Option<TeacherStamp>,
    /// How the teacher was run (process, solver, steps), as the pair store's manifest says.
    pub sampling: Value,
    /// Pairs in the store.
    pub count: usize,
    /// The hash of the store's plan, [`kdm_data::pairs::Manifest::plan_hash`].
    pub plan: String,
}

/// A file of another program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// Its name, without its folder.
    pub file: String,
    /// What it was found to be.
    pub found: String,
}

/// How an operator was cut to a lower rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compression {
    /// What was kept.
    pub by: RankBy,
    /// Coordinates kept.
    pub rank: usize,
    /// The dimension of the operator before.
    pub from: usize,
    /// Latents that it was chosen on.
    pub samples: usize,
}

impl Origin {
    /// Of a training from stored pairs.
    pub fn distilled(distillation: Distillation) -> Self {
        Self { source: Source::Distilled(Box::new(distillation)), compressed: None }
    }

    /// Of another program's file, whose name is kept without its folder.
    pub fn imported(path: impl AsRef<Path>, found: impl Into<String>) -> Self {
        let file = path.as_ref().file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { source: Source::Imported(Import { file, found: found.into() }), compressed: None }
    }

    /// The training; none for a student that was not distilled by this program.
    pub fn distillation(&self) -> Option<&Distillation> {
        match &self.source {
            Source::Distilled(distillation) => Some(distillation),
            Source::Imported(_) | Source::Unknown => None,
        }
    }

    /// The teacher that drew the pairs.
    pub fn teacher(&self) -> Option<&TeacherStamp> {
        self.distillation()?.pairs.teacher.as_ref()
    }

    /// The name of the data that the teacher learned, such as `checkerboard`.
    pub fn data(&self) -> Option<&str> {
        self.teacher().map(|teacher| teacher.data.as_str())
    }

    /// How the teacher was run.
    pub fn sampling(&self) -> Option<&Value> {
        self.distillation().map(|distillation| &distillation.pairs.sampling)
    }

    /// The process (noise levels) that the pairs were drawn by, as the teacher's crate writes it.
    pub fn process(&self) -> Option<&Value> {
        self.sampling()?.get("process").filter(|process| !process.is_null())
    }

    /// From the loose JSON that versions up to 0.1.0 wrote. What is not recognised is unknown.
    fn from_loose(mut value: Value) -> Self {
        let compressed = value.as_object_mut().and_then(|object| object.remove("compressed"));
        let compressed = compressed.and_then(|value| serde_json::from_value(value).ok());
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let source = match (text("imported_from"), text("found")) {
            (Some(file), Some(found)) => Self::imported(file, found).source,
            _ => serde_json::from_value(value).map_or(Source::Unknown, Source::Distilled),
        };
        Self { source, compressed }
    }
}

/// As [`Origin`], strictly.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    source: Source,
    #[serde(default)]
    compressed: Option<Compression>,
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if value.get("source").is_none() {
            return Ok(Self::from_loose(value));
        }
        let Written { source, compressed } =
            serde_json::from_value(value).map_err(serde::de::Error::custom)?;
        Ok(Self { source, compressed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What commit 8696b89 wrote for a distilled student.
    fn loose() -> Value {
        json!({
            "experiment": "checkerboard",
            "seed": 18_000_000_000_000_000_000u64,
            "train": {
                "batch": 32, "best_by": "rmse", "beta1": 0.9, "beta2": 0.999,
                "checkpoint_every": 100, "ema_decay": 0.999, "ema_rampup": 0.05, "epsilon": 1e-8,
                "held_out": 128, "iterations": 4000, "log_every": 20, "lr": 0.001,
                "non_finite": "stop", "schedule": "cosine", "validate_every": 500, "warmup": 50,
            },
            "pairs": {
                "count": 16384,
                "plan": "6f67",
                "sampling": {
                    "evaluations": 35,
                    "process": {
                        "kind": "diffusion", "rho": 7.0, "sigma_max": 80.0, "sigma_min": 0.002,
                    },
                    "solver": "heun",
                    "steps": 18,
                },
                "teacher": {"data": "checkerboard", "name": "exact", "sha256": "1fc3"},
            },
        })
    }

    fn read(value: Value) -> Origin {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_distilled_student_of_an_older_file_is_understood() {
        let origin = read(loose());
        let told = origin.distillation().unwrap();
        assert_eq!(
            (told.experiment.as_str(), told.seed),
            ("checkerboard", 18_000_000_000_000_000_000)
        );
        assert_eq!((told.train.iterations, told.train.batch), (4000, 32));
        assert_eq!(told.train.settings["schedule"], "cosine");
        assert_eq!((told.pairs.count, told.pairs.plan.as_str()), (16384, "6f67"));
        assert_eq!(origin.teacher().unwrap().sha256, "1fc3");
        assert_eq!(origin.data(), Some("checkerboard"));
        assert_eq!(origin.sampling().unwrap()["solver"], "heun");
        assert_eq!(origin.process().unwrap()["sigma_max"], 80.0);
        // Imported pairs have no teacher.
        let mut value = loose();
        value["pairs"]["teacher"] = Value::Null;
        value["pairs"]["sampling"] = json!({"imported": "edm"});
        let origin = read(value);
        assert!(origin.distillation().is_some() && origin.teacher().is_none());
        assert!(origin.data().is_none() && origin.process().is_none());
    }

    #[test]
    fn a_compressed_student_of_an_older_file_is_understood() {
        let how = json!({"by": "principal", "rank": 12, "from": 64, "samples": 1000});
        let expected = Compression { by: RankBy::Principal, rank: 12, from: 64, samples: 1000 };
        let mut value = loose();
        value["compressed"] = how.clone();
        let origin = read(value);
        assert_eq!(origin.compressed, Some(expected.clone()));
        assert_eq!(origin.data(), Some("checkerboard"));
        // An imported student may be compressed too.
        let origin = read(json!({"imported_from": "a.pkl", "found": "b", "compressed": how}));
        assert_eq!(origin.compressed, Some(expected));
        assert_eq!(origin.source, Origin::imported("a.pkl", "b").source);
    }

    #[test]
    fn what_is_written_comes_back() {
        let mut origin = read(loose());
        origin.compressed = Some(Compression { by: RankBy::Modes, rank: 3, from: 9, samples: 10 });
        for origin in [origin, Origin::imported("/home/me/kdm.pkl", "b"), Origin::default()] {
            let written = serde_json::to_value(&origin).unwrap();
            assert!(!written.to_string().contains("/home"), "{written}");
            assert_eq!(read(written), origin);
        }
        let written = serde_json::to_value(read(loose())).unwrap();
        assert_eq!(written["source"]["kind"], "distilled");
        // The training and the pairs stand there as before.
        assert_eq!(written["source"]["train"], loose()["train"]);
        assert_eq!(written["source"]["pairs"], loose()["pairs"]);
    }

    /// A warm start and extensions are recorded, and where there are none nothing is.
    #[test]
    fn how_a_training_began_and_grew_is_told() {
        let mut value = serde_json::to_value(read(loose())).unwrap();
        let source = &mut value["source"];
        assert!(source.get("init_from").is_none() && source.get("extended").is_none());
        source["init_from"] = json!({"sha256": "aa", "taken": 3, "of": 5});
        source["extended"] = json!([{"at": 2000, "planned": 2000}]);
        let origin = read(value.clone());
        let told = origin.distillation().unwrap();
        let expected = WarmStart { sha256: "aa".into(), taken: 3, of: 5 };
        assert_eq!(told.init_from, Some(expected));
        assert_eq!(told.extended, [Extension { at: 2000, planned: 2000 }]);
        assert_eq!(serde_json::to_value(&origin).unwrap(), value);
    }

    #[test]
    fn what_says_nothing_is_unknown_and_what_is_new_is_strict() {
        for value in [Value::Null, json!({}), json!("by hand"), json!({"experiment": "a"})] {
            assert_eq!(read(value), Origin::default());
        }
        let strict =
            |value: Value| serde_json::from_value::<Origin>(value).unwrap_err().to_string();
        let unknown = json!({"source": {"kind": "unknown"}, "more": 1});
        assert!(strict(unknown).contains("more"));
        let import = json!({"source": {"kind": "imported", "file": "a", "found": "b", "x": 1}});
        assert!(strict(import).contains('x'));
        assert!(strict(json!({"source": {"kind": "found"}})).contains("found"));
    }
}
