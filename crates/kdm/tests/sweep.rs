//! Every key of every preset with absurd values: an experiment is refused with a message or can be
//! asked what it costs, at once; nothing panics, allocates what it is told, or goes on for ever.

use std::sync::mpsc;
use std::time::Duration;

use kdm::Experiment;
use kdm::experiment::PRESETS;
use kdm::runtime::Machine;
use rayon::prelude::*;
use toml::{Table, Value};

/// What no key takes, or only some do.
const ABSURD: [&str; 17] = [
    "0",
    "1",
    "-1",
    "0.0",
    "-0.5",
    "1e-320",
    "1e30",
    "1e308",
    "nan",
    "inf",
    "100000",
    "4294967296",
    "9223372036854775807",
    "''",
    "[]",
    "[9223372036854775807, 9223372036854775807, 3]",
    "{}",
];

/// The dotted keys of all values in a table.
fn keys(table: &Table, before: &str, all: &mut Vec<String>) {
    for (key, value) in table {
        let key = format!("{before}{key}");
        match value {
            Value::Table(inner) => keys(inner, &format!("{key}."), all),
            _ => all.push(key),
        }
    }
}

/// What is wrong with how a setting ends, if anything. A trial that goes on for too long is left.
fn told_in_time(preset: &'static str, setting: &str) -> Option<String> {
    let (sender, receiver) = mpsc::channel();
    let shown: String = setting.chars().take(80).collect();
    let setting = setting.to_string();
    std::thread::spawn(move || {
        let outcome = std::panic::catch_unwind(|| {
            // What a dry run asks, on a machine of 24 GB with 1 TB of disk.
            let machine = Machine { memory: Some(24e9), disk: Some(1e12) };
            let loaded = Experiment::load(preset, std::slice::from_ref(&setting));
            let fits = loaded.and_then(|experiment| experiment.check_fits(machine, &[]));
            fits.err().map(|failure| (failure.exit_code(), failure.to_string()))
        });
        let _ = sender.send(outcome);
    });
    match receiver.recv_timeout(Duration::from_secs(5)) {
        Err(_) => {
            eprintln!("{preset} {shown}: goes on for more than 5 s");
            Some("goes on for more than 5 s".into())
        }
        Ok(Err(_)) => Some("panics".into()),
        Ok(Ok(None)) => None,
        Ok(Ok(Some((2, message)))) if !message.is_empty() && message.len() < 2000 => None,
        Ok(Ok(Some((code, message)))) => Some(format!("{code}: {} bytes", message.len())),
    }
}

#[test]
fn absurd_values_are_refused_or_counted_at_once() {
    let mut trials: Vec<(&str, String)> = Vec::new();
    for (preset, _) in PRESETS {
        let table = Experiment::load(preset, &[]).unwrap().to_toml().parse::<Table>().unwrap();
        let mut all = Vec::new();
        keys(&table, "", &mut all);
        // Keys that are left out where they say nothing.
        let more = ["student.operator.projection", "teacher.shape", "teacher.network", "compare"];
        let more = more.iter().map(ToString::to_string);
        for key in all.into_iter().chain(more) {
            trials.extend(ABSURD.iter().map(|value| (preset, format!("{key}={value}"))));
        }
        let long = "x".repeat(100_000);
        for key in ["name", "teacher.path", "loss.features", "train.best_by", "pairs.solver"] {
            trials.push((preset, format!("{key}={long}")));
        }
    }
    assert!(trials.len() > 1500, "{} trials", trials.len());
    let failures: Vec<String> = trials
        .par_iter()
        .filter_map(|(preset, setting)| {
            let told = told_in_time(preset, setting)?;
            Some(format!("{preset} {}: {told}", setting.chars().take(80).collect::<String>()))
        })
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        trials.len(),
        failures.join("\n")
    );
}
