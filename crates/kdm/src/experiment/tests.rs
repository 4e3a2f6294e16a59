//! Tests of experiments: presets, settings, and mistakes in them.

use serde_json::json;
use toml::Table;

use super::{Experiment, PRESETS};

#[test]
fn presets_load_and_survive_their_own_toml() {
    for (name, _) in PRESETS {
        let experiment = Experiment::load(name, &[]).unwrap();
        let table = experiment.to_toml().parse::<Table>().unwrap();
        assert_eq!(Experiment::from_table("again", table).unwrap(), experiment);
    }
    assert_eq!(Experiment::load("checkerboard-paper", &[]).unwrap().train.iterations, 20_001);
}

/// The paper's numbers: 47.5 M parameters, 11.0 GFLOP a sample, latents of 1024 (and 512 for
/// 64x64 images).
#[test]
fn image_presets_are_of_the_papers_sizes() {
    let student = |name: &str| {
        let e = Experiment::load(name, &[]).unwrap();
        let (shape, label_dim) = e.sample().unwrap();
        e.student_config(shape, label_dim, e.pairs.process.noise_std())
    };
    let uncond = student("cifar10-uncond");
    let millions = uncond.parameters() / 1e6;
    assert!((millions - 47.5).abs() < 0.05, "{millions} million parameters");
    let gflops = uncond.flops(false, true) / 1e9;
    assert!((gflops - 11.0).abs() < 0.2, "{gflops} GFLOP a sample");
    assert_eq!((uncond.operator_dim(), uncond.noise_std), (1024, 80.0));
    let cond = student("cifar10-cond");
    assert!(cond.operator.control && cond.label_dim == 10);
    assert_eq!(student("cifar10-factorized").operator.kind, kdm_koopman::OperatorKind::Factorized);
    for name in ["ffhq64", "afhqv2-64"] {
        let config = student(name);
        assert_eq!((config.shape.as_slice(), config.operator_dim()), (&[3, 64, 64][..], 512));
    }
}

#[test]
fn settings_reach_every_depth() {
    let set = [
        "train.lr=0.5",
        "student.operator.projection=8",
        "student.operator.kind=factorized",
        "name=x y",
    ];
    let settings: Vec<String> = set.iter().map(ToString::to_string).collect();
    let e = Experiment::load("checkerboard", &settings).unwrap();
    assert_eq!((e.train.lr, e.student.operator.projection, e.name.as_str()), (0.5, Some(8), "x y"));
    assert_eq!(e.student.operator.kind, kdm_koopman::OperatorKind::Factorized);
    let other =
        ["pairs.process={kind='diffusion',sigma_min=0.01,sigma_max=10.0,rho=7.0}".to_string()];
    assert_eq!(Experiment::load("checkerboard", &other).unwrap().pairs.process.noise_std(), 10.0);
}

/// An object says what a file would, over a base that it names.
#[test]
fn objects_are_experiments() {
    let object = json!({"base": "checkerboard", "train": {"iterations": 7, "lr": 0.5}});
    let of = |object: &serde_json::Value| Experiment::of_json("the experiment", object);
    let settings = ["train.iterations=7", "train.lr=0.5"].map(String::from);
    assert_eq!(of(&object).unwrap(), Experiment::load("checkerboard", &settings).unwrap());
    for (object, part) in [
        (json!({"base": "checkerbord"}), "did you mean `checkerboard`"),
        (json!({"train": {"iteration": 7}}), "the experiment: `train.iteration`"),
        (json!({"train": {"lr": null}}), "the experiment: "),
        (json!(3), "the experiment: "),
    ] {
        let failure = of(&object).unwrap_err();
        assert_eq!(failure.exit_code(), 2, "{failure}");
        assert!(failure.to_string().contains(part), "{failure}");
    }
}

#[test]
fn mistakes_are_named_with_their_fix() {
    let message = |setting: &str| {
        Experiment::load("checkerboard", &[setting.to_string()]).unwrap_err().to_string()
    };
    for (setting, parts) in [
        ("train.itrations=5", ["train.itrations", "did you mean `iterations`"]),
        ("train.lr=-1", ["`train.lr` is -1", "above 0"]),
        ("train.batch=\"many\"", ["train.batch", "invalid type"]),
        ("loss.reconstruction=l3", ["loss.reconstruction", "did you mean `l2`"]),
        ("train.held_out=50000", ["train.held_out", "none to train on"]),
        ("student.operator.control=true", ["student.operator.control", "no labels"]),
        ("train.best_by=fid", ["train.best_by", "one of"]),
    ] {
        let message = message(setting);
        assert!(parts.iter().all(|part| message.contains(part)), "{setting}: {message}");
    }
    // Several problems are told at once.
    let settings = ["train.lr=-1".to_string(), "pairs.count=0".to_string()];
    let both = Experiment::load("checkerboard", &settings).unwrap_err().to_string();
    assert!(both.contains("train.lr") && both.contains("pairs.count"), "{both}");
    let close = Experiment::load("chekerboard", &[]).unwrap_err();
    assert!(close.to_string().contains("did you mean `checkerboard`") && close.exit_code() == 2);
}

#[test]
fn keys_that_nothing_reads_are_refused_in_flows_and_comparisons() {
    for (setting, told) in [
        ("pairs.process.sigma_min=0.1", "unknown field `sigma_min`"),
        ("pairs.process.foo=1", "unknown field `foo`"),
        ("pairs.steps=9223372036854775807", "`pairs.steps`"),
        ("compare=[{name=\"a\", set={x={y=1}}}]", "`x`"),
        ("compare=[{name=\"a\", set={\"x.y\"=1}}]", "`x.y`"),
        ("compare=[{name=\"a\", set={train={foo=1}}}]", "unknown field `foo`"),
    ] {
        let failure = Experiment::load("checkerboard", &[setting.to_string()]).unwrap_err();
        assert_eq!(failure.exit_code(), 2, "{setting}");
        assert!(failure.to_string().contains(told), "{setting}: {failure}");
    }
}

/// States cost two bytes a value on disk, and there are as many as the solver has between.
#[test]
fn states_are_told_and_bounded() {
    let disk = |states: usize| {
        let settings = [format!("pairs.states={states}"), "pairs.steps=10".into()];
        let experiment = Experiment::load("checkerboard", &settings)?;
        let stages = experiment.stage_costs();
        Ok::<_, crate::Failure>(stages.into_iter().find(|s| s.name == "pairs").unwrap())
    };
    let (none, three) = (disk(0).unwrap(), disk(3).unwrap());
    let pairs = f64::from(60_000);
    assert!((three.disk - none.disk - pairs * 3.0 * 2.0 * 2.0).abs() < 1.0);
    assert!(three.what.contains("3 states") && !none.what.contains("states"));
    assert!(disk(9).is_ok());
    assert!(disk(10).unwrap_err().to_string().contains("have 9 states"));
}

/// A batch is split into a power of two of equal parts, which take less memory.
#[test]
fn leaves_are_bounded_and_take_less_memory() {
    let load = |settings: &[&str]| {
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        Experiment::load("cifar10-uncond", &settings)
    };
    let memory = |leaves: &str| {
        let experiment = load(&["train.batch=64", leaves]).unwrap();
        let stages = experiment.stage_costs();
        stages.iter().find(|stage| stage.name == "student").unwrap().memory
    };
    assert!(memory("train.leaves=8") < 0.5 * memory("train.leaves=1"));
    for (setting, part) in [("train.leaves=3", "a power of two"), ("train.leaves=256", "divide")] {
        let message = load(&[setting]).unwrap_err().to_string();
        assert!(message.contains("`train.leaves`") && message.contains(part), "{message}");
    }
    // What there is already stays as it was written.
    let plain = load(&["train.leaves=1", "teacher.train.leaves=1"]).unwrap().to_toml();
    assert!(!plain.contains("leaves"), "{plain}");
}
