//! Teachers in closed form and trained ones.

use std::fs;
use std::path::Path;
use std::time::Duration;

use kdm::data::array;

use crate::common::{Folder, contents, done, fails, kdm, kill, start, write_rows};

/// For a Gaussian both commands have closed forms.
#[test]
fn teachers_denoise_and_sample_as_the_closed_form_says() {
    let folder = Folder::new();
    let teacher =
        kdm::teacher::Gaussian::new(vec![0.5, -0.5], vec![vec![1.0, 0.6], vec![0.6, 0.5]]).unwrap();
    let data = vec![0.3, -1.0, 2.0, 0.1, -0.7, 0.9];
    let eps = write_rows(&folder.path("eps.npy"), data.clone(), 2);
    let wide: Vec<f64> = data.iter().map(|e| f64::from(*e)).collect();
    let out = folder.at("out.npy");
    let close = |expected: &[f64], tolerance: f64| {
        let found = array::read_npy(Path::new(&out)).unwrap();
        for (a, b) in found.data.iter().zip(expected) {
            assert!((f64::from(*a) - b).abs() < tolerance, "{a} {b}");
        }
    };
    done(&["teacher denoise --model gaussian --input", &eps, "--sigma 0.7 --out", &out]);
    let level = kdm::teacher::Level { alpha: 1.0, sigma: 0.7 };
    let labels = kdm::data::Labels::none(3);
    close(&kdm::teacher::Denoiser::denoise(&teacher, &wide, level, &labels), 1e-6);
    done(&[
        "teacher sample --model gaussian --noise",
        &eps,
        "--solver heun --steps 200 --out",
        &out,
    ]);
    let start: Vec<f64> = wide.iter().map(|e| 80.0 * e).collect();
    // 200 Heun steps leave an error of second order, about 1e-4.
    close(&teacher.flow(&start, kdm::teacher::Level { alpha: 1.0, sigma: 80.0 }), 1e-3);
    fails(
        &["teacher denoise --model gaussian --input", &eps, "--sigma 0 --out", &out],
        2,
        &["--sigma 0"],
    );
    fails(
        &["teacher denoise --model gausian --input", &eps, "--sigma 1 --out", &out],
        2,
        &["gausian", "gaussian"],
    );
    fails(
        &["teacher sample --model gaussian --noise", &eps, "--sigma-min 90 --out", &out],
        2,
        &["--sigma-max"],
    );
}

/// A trained teacher: killed and resumed it ends in the same bits, and its pairs don't depend on
/// batch and threads.
#[test]
fn trained_teachers_resume_and_draw_the_same_pairs() {
    let folder = Folder::new();
    let settings = [
        "--set teacher.train.iterations=120 --set teacher.train.batch=128",
        "--set teacher.hidden=48 --set train.checkpoint_every=20",
        "--set train.validate_every=50 --set train.log_every=10",
    ];
    let (whole, killed) = (folder.at("whole"), folder.at("killed"));
    done(&[&["teacher train --preset checkerboard --out", &whole], &settings[..]].concat());
    for (part, milliseconds) in [150, 300].into_iter().enumerate() {
        let resume: &[&str] = if part == 0 { &[] } else { &["--resume"] };
        let arguments =
            [&["teacher train --preset checkerboard --out", &killed], &settings[..], resume]
                .concat();
        let child = start(&mut kdm(&arguments));
        std::thread::sleep(Duration::from_millis(milliseconds));
        kill(child);
    }
    done(
        &[&["teacher train --preset checkerboard --out", &killed, "--resume"], &settings[..]]
            .concat(),
    );
    let teacher = folder.at("whole/teacher.safetensors");
    assert!(
        fs::read(&teacher).unwrap() == fs::read(folder.path("killed/teacher.safetensors")).unwrap()
    );

    let generate = |name: &str, more: &[&str]| {
        let out = folder.at(name);
        done(
            &[
                &[
                    "pairs generate --teacher",
                    &teacher,
                    "--steps 3 --count 3000 --shard-size 1024 --out",
                    &out,
                ],
                more,
            ]
            .concat(),
        );
        contents(Path::new(&out))
    };
    let one = generate("one", &[]);
    assert!(one == generate("two", &["--batch 100 --threads 1"]), "batch and threads");
    assert!(one == generate("three", &["--batch 1000 --threads 3"]), "batch and threads");
}

/// Numbers that no memory or time suffices for are refused before any work.
#[test]
fn absurd_numbers_are_refused_at_once() {
    let folder = Folder::new();
    let out = folder.at("t.npy");
    for words in [
        "--n 4 --steps 18446744073709551615",
        "--n 4 --steps 0",
        "--n 4 --guidance nan",
        "--n 18446744073709551615",
    ] {
        let began = std::time::Instant::now();
        let command = ["teacher sample --model checkerboard", words, "--out", &out];
        fails(&command, 2, &["--"]);
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "{words}");
    }
}
