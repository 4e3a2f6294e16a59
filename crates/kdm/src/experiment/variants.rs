//! The experiments of a comparison: students that differ in some keys and share teacher, pairs and
//! compute.

use toml::Value;

use super::presets::merge;
use super::schema::Experiment;
use super::validation::{NAMES, names_a_folder};
use crate::{Failure, Outcome};

impl Experiment {
    /// The experiments of a comparison. Each student gets as many iterations as cost the
    /// floating-point operations of this experiment's own, unless the variant says
    /// `train.iterations` itself.
    ///
    /// # Errors
    /// A usage failure that names the variant and the key.
    pub fn variants(&self) -> Outcome<Vec<Self>> {
        let own = self.training_flops();
        let mut all = Vec::new();
        for variant in &self.compare {
            let label = format!("compare `{}`", variant.name);
            if !names_a_folder(&variant.name) || all.iter().any(|e: &Self| e.name == variant.name) {
                let action = format!("name each variant once, with {NAMES}");
                return Err(Failure::Usage(format!("{label}: {action}")));
            }
            if let Some(key) =
                variant.set.keys().find(|key| !["student", "loss", "train"].contains(&key.as_str()))
            {
                let action = "variants differ in `student`, `loss` and `train`: they share teacher \
                            and pairs";
                return Err(Failure::Usage(format!("{label}: `{key}`: {action}")));
            }
            let Ok(Value::Table(mut table)) = Value::try_from(self) else {
                unreachable!("plain data")
            };
            table.remove("compare");
            table.insert("name".into(), Value::String(variant.name.clone()));
            merge(&mut table, variant.set.clone());
            let mut found = Self::from_table(&label, table)?;
            let told =
                variant.set.get("train").is_some_and(|train| train.get("iterations").is_some());
            if !told {
                let share = own / found.training_flops();
                found.train.iterations =
                    ((self.train.iterations as f64 * share).round() as u64).max(1);
            }
            all.push(found);
        }
        Ok(all)
    }
}
