//! Whether the fields of a manifest can be those of a store. A checksum says that a manifest is as
//! somebody wrote it, not that it makes sense: sizes are bounded here before work trusts them.

use serde_json::Value;

use super::manifest::{MAX_NOISE_STD, MIN_NOISE_STD, Manifest, NoiseSource, Sampling};
use super::states::times_fault;
use crate::labels::MOST_CLASSES;

/// Values that a sample may have.
const MOST_VALUES: usize = 1 << 28;
/// Pairs that a store may have: those of 10 000 of the largest stores there are.
const MOST_PAIRS: usize = 10_000_000_000;
/// Files that a folder may have.
const MOST_SHARDS: usize = 1_000_000;
/// Steps of a solver and evaluations of a network, for one pair.
const MOST_STEPS: usize = 1_000_000;

/// A field that can't be: its name and what is wrong with it.
pub type Fault = (&'static str, String);

/// The first field of the manifest that can't be.
pub fn fault(manifest: &Manifest) -> Option<Fault> {
    let Manifest { shape, count, shard_size, noise_std, label_dim, .. } = manifest;
    let values = shape.iter().try_fold(1usize, |n, size| n.checked_mul(*size));
    if !(1..=4).contains(&shape.len()) || !values.is_some_and(|n| (1..=MOST_VALUES).contains(&n)) {
        let most = "a sample has 1 to 4 axes, of 1 to 268435456 values together";
        return Some(("shape", format!("is {shape:?}, and {most}")));
    }
    for (field, size) in [("count", count), ("shard_size", shard_size)] {
        if !(1..=MOST_PAIRS).contains(size) {
            return Some((field, format!("is {size}, and must be from 1 to {MOST_PAIRS}")));
        }
    }
    let shards = count.div_ceil(*shard_size);
    if shards > MOST_SHARDS {
        let problem = format!("is {shard_size}, which makes {shards} files of {count} pairs");
        return Some(("shard_size", format!("{problem}; {MOST_SHARDS} are the most")));
    }
    if !(MIN_NOISE_STD..=MAX_NOISE_STD).contains(noise_std) {
        let range = format!("{MIN_NOISE_STD:e} to {MAX_NOISE_STD:e}");
        return Some(("noise_std", format!("is {noise_std:e}, and must be from {range}")));
    }
    if *label_dim > MOST_CLASSES {
        let problem = format!("is {label_dim}, and there are {MOST_CLASSES} classes at most");
        return Some(("label_dim", problem));
    }
    if let Some(fault) = times_fault(&manifest.states) {
        return Some(fault);
    }
    let sampling = manifest.sampling.as_ref().and_then(|s| sampling_fault(s, *noise_std));
    sampling.or_else(|| records_fault(manifest))
}

/// What can't be of how a teacher was run.
fn sampling_fault(sampling: &Sampling, noise_std: f64) -> Option<Fault> {
    let Sampling { evaluations, guidance, process, solver, steps } = sampling;
    for (field, number) in [("sampling.steps", steps), ("sampling.evaluations", evaluations)] {
        if !(1..=MOST_STEPS).contains(number) {
            return Some((field, format!("is {number}, and must be from 1 to {MOST_STEPS}")));
        }
    }
    if let Some(weight) = guidance.filter(|weight| !(0.0..=1e6).contains(weight)) {
        return Some(("sampling.guidance", format!("is {weight:e}, and must be from 0 to 1e6")));
    }
    if !solver.is_string() {
        return Some(("sampling.solver", format!("is {solver}, and must be a solver's name")));
    }
    let of = |key: &str| process.get(key);
    let positive = |value: &Value| value.as_f64().is_some_and(|x| x > 0.0 && x <= MAX_NOISE_STD);
    let numbers = process
        .as_object()
        .is_some_and(|fields| fields.iter().all(|(key, value)| key == "kind" || positive(value)));
    if !numbers || !of("kind").is_some_and(Value::is_string) {
        let problem = format!("is {process}, and must be a kind with numbers above 0");
        return Some(("sampling.process", problem));
    }
    let started_at = of("sigma_max").and_then(Value::as_f64);
    started_at.filter(|sigma| *sigma != noise_std).map(|sigma| {
        ("noise_std", format!("is {noise_std}, and pairs were drawn from sigma_max {sigma}"))
    })
}

/// What can't be of the list of shards, which is empty or whole.
fn records_fault(manifest: &Manifest) -> Option<Fault> {
    let Manifest { shards, noise, .. } = manifest;
    if shards.is_empty() {
        return None;
    }
    let count = manifest.shard_count();
    if shards.len() != count {
        return Some((
            "shards",
            format!("are {}, and there must be {count} or none", shards.len()),
        ));
    }
    let wrong = shards.iter().enumerate().find_map(|(k, record)| {
        let name = manifest.shard_path("".as_ref(), k);
        let right = name.as_os_str() == record.file.as_str()
            && record.count == manifest.shard_range(k).len()
            && record.sha256.len() == 64;
        (!right).then_some(k)
    });
    if let Some(k) = wrong {
        return Some(("shards", format!("number {k} has another file, count or hash than it can")));
    }
    match noise {
        NoiseSource::Seeded { first_seed: Some(first), .. }
            if first.checked_add(manifest.count as u64 - 1).is_none() =>
        {
            Some(("noise.first_seed", format!("is {first}, and seeds count up beyond 2^64")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::StateTime;
    use serde_json::json;

    #[test]
    fn fields_that_cannot_be_are_named() {
        let process =
            json!({"kind": "diffusion", "rho": 7.0, "sigma_max": 80.0, "sigma_min": 0.002});
        let sampling =
            Sampling { evaluations: 35, guidance: None, process, solver: json!("heun"), steps: 18 };
        let good = Manifest {
            sampling: Some(sampling.clone()),
            ..Manifest::seeded(0, 80.0, &[3, 8, 8], 9)
        };
        assert_eq!(fault(&good), None);
        let with = |sampling: Sampling| Manifest { sampling: Some(sampling), ..good.clone() };
        let g = || good.clone();
        let s = || sampling.clone();
        let states = |taus: &[f64]| {
            let states = taus.iter().map(|tau| StateTime::straight(*tau, 80.0)).collect();
            Manifest { states, ..good.clone() }
        };
        assert_eq!(fault(&states(&[0.2, 0.7])), None);
        for (manifest, field) in [
            (Manifest { shape: vec![], ..g() }, "shape"),
            (Manifest { shape: vec![0], ..g() }, "shape"),
            (Manifest { shape: vec![1 << 40, 1 << 40], ..g() }, "shape"),
            (Manifest { count: 1_000_000_000_000, ..g() }, "count"),
            (Manifest { count: 0, ..g() }, "count"),
            (Manifest { shard_size: 0, ..g() }, "shard_size"),
            (Manifest { shard_size: usize::MAX, ..g() }, "shard_size"),
            (Manifest { count: 10_000_000, shard_size: 1, ..g() }, "shard_size"),
            (Manifest { noise_std: 1e308, ..g() }, "noise_std"),
            (Manifest { noise_std: f64::NAN, ..g() }, "noise_std"),
            (Manifest { noise_std: 0.0, ..g() }, "noise_std"),
            (Manifest { noise_std: 1.0, ..g() }, "noise_std"),
            (Manifest { label_dim: usize::MAX, ..g() }, "label_dim"),
            (states(&[0.0]), "states"),
            (states(&[0.5, 0.5]), "states"),
            (states(&[0.5, f64::NAN]), "states"),
            (with(Sampling { steps: 0, ..s() }), "sampling.steps"),
            (with(Sampling { evaluations: usize::MAX, ..s() }), "sampling.evaluations"),
            (with(Sampling { guidance: Some(-1.0), ..s() }), "sampling.guidance"),
            (with(Sampling { solver: json!({"a": 1}), ..s() }), "sampling.solver"),
            (with(Sampling { process: json!([]), ..s() }), "sampling.process"),
            (
                with(Sampling { process: json!({"kind": "x", "rho": -1}), ..s() }),
                "sampling.process",
            ),
        ] {
            let found = fault(&manifest).map(|(field, _)| field);
            assert_eq!(found, Some(field), "{manifest:?}");
        }
    }
}
