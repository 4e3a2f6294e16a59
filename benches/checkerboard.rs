//! The checkerboard student's two costs: a training step and one-step sampling. `cargo bench -p
//! kdm`.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kdm::runtime::Runtime;
use kdm::{Experiment, benchmark};

fn checkerboard(criterion: &mut Criterion) {
    let runtime = Runtime::cpu();
    let experiment = Experiment::load("checkerboard", &[]).expect("a built-in preset");
    let config = experiment.student_config(vec![2], 0, 1.0);
    let mut group = criterion.benchmark_group("checkerboard");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4));
    for batch in [512, 4096] {
        group.throughput(Throughput::Elements(batch as u64));
        let mut step = benchmark::training_step(&experiment, &config, batch, &runtime)
            .expect("its loss takes no file");
        group.bench_function(BenchmarkId::new("training_step", batch), |b| b.iter(&mut step));
    }
    for batch in [1, 4096] {
        group.throughput(Throughput::Elements(batch as u64));
        let mut sample = benchmark::sampling(&config, batch, runtime.device());
        group.bench_function(BenchmarkId::new("one_step_sample", batch), |b| b.iter(&mut sample));
    }
    group.finish();
}

criterion_group!(benches, checkerboard);
criterion_main!(benches);
