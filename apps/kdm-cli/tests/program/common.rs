//! What whole-program tests share: running the program, temporary folders, small stores and
//! experiments.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use kdm::data::{Array, array};
use serde_json::Value;

/// The program with `arguments`, each of which may be several words with spaces between them, so
/// that a command reads as it is typed. No value in these tests has a space, paths neither (see
/// [`Folder::new`]). A scheduler's variables are not passed on.
pub fn kdm(arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("kdm"));
    command.args(arguments.iter().flat_map(|words| words.split_whitespace())).stdin(Stdio::null());
    for variable in [
        "SLURM_PROCID",
        "SLURM_STEP_NUM_TASKS",
        "JOB_COMPLETION_INDEX",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "PMI_SIZE",
    ] {
        command.env_remove(variable);
    }
    command
}

/// A program's output as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command that must succeed; gives its standard output.
pub fn done(arguments: &[&str]) -> String {
    let output = kdm(arguments).output().unwrap();
    assert!(output.status.success(), "kdm {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs a command that must fail with `code` and one message that has all `parts`.
pub fn fails(arguments: &[&str], code: i32, parts: &[&str]) -> String {
    check_failure(&kdm(arguments).output().unwrap(), arguments, code, parts)
}

/// Checks what [`fails`] promises of a program that has ended; `arguments` are for messages.
pub fn check_failure(output: &Output, arguments: &[&str], code: i32, parts: &[&str]) -> String {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "kdm {arguments:?}: {message}");
    assert!(!message.contains("panicked"), "kdm {arguments:?}: {message}");
    assert_eq!(message.matches("error: ").count(), 1, "one message: {message}");
    for part in parts {
        assert!(message.contains(part), "kdm {arguments:?}: `{part}` is not in: {message}");
    }
    message
}

/// Runs a command that must succeed and write one JSON object to standard output, nothing else.
pub fn json(arguments: &[&str]) -> Value {
    let output = done(arguments);
    serde_json::from_str(&output)
        .unwrap_or_else(|e| panic!("one JSON object and nothing else: {e}: {output}"))
}

/// Starts a command whose output nobody reads.
pub fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills a program, as a power cut or a scheduler would; it may have ended already.
pub fn kill(mut child: Child) {
    let _ = child.kill();
    child.wait().unwrap();
}

/// Sends Ctrl-C's signal to a program and gives what it said and how it ended. The program's output
/// is piped.
#[cfg(unix)]
pub fn interrupted(child: Child) -> Output {
    let sent = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status();
    assert!(sent.unwrap().success());
    child.wait_with_output().unwrap()
}

/// Waits until there is a file at `path`, for a minute at most.
pub fn wait_for(path: &Path) {
    for _ in 0..600 {
        if path.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{} was not written within a minute", path.display());
}

/// Checks that the `values` of `what` have a finite number at each of `keys`, words with spaces
/// between them.
pub fn check_finite(what: &str, values: &Value, keys: &str) {
    for key in keys.split_whitespace() {
        let finite = values[key].as_f64().is_some_and(f64::is_finite);
        assert!(finite, "{what}: {key} of {values}");
    }
}

/// A temporary folder that goes away with the test.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_string_lossy().into_owned();
        assert!(!path.contains(char::is_whitespace), "set TMPDIR to a path without spaces: {path}");
        Self(folder)
    }

    /// The path of something in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The same as text, for command lines.
    pub fn at(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }
}

/// Names and contents of a folder's files.
pub fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// The words of a command that draws pairs from the exact checkerboard in few steps.
pub fn generate<'a>(out: &'a str, count: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let base =
        ["pairs generate --teacher checkerboard --process flow --out", out, "--count", count];
    [&base[..], more].concat()
}

/// Draws a store of pairs as [`generate`] says, in 4 steps if `more` asks for no other number;
/// gives its path.
pub fn store(folder: &Folder, name: &str, count: &str, more: &[&str]) -> String {
    let out = folder.at(name);
    let steps: &[&str] =
        if more.iter().any(|words| words.starts_with("--steps")) { &[] } else { &["--steps 4"] };
    done(&generate(&out, count, &[steps, more].concat()));
    out
}

/// A store of 24 pairs of noise and unrelated images, 3 x 32 x 32; gives its path.
pub fn image_store(folder: &Folder) -> String {
    let (count, dim) = (24, 3 * 32 * 32);
    let draw = |seed, scale: f32| -> Vec<f32> {
        kdm::random::normal_vec(seed, count * dim).iter().map(|x| scale * x).collect()
    };
    let shape = [count, 3, 32, 32];
    let (noise, images) = (Array::new(shape, draw(1, 80.0)), Array::new(shape, draw(2, 0.5)));
    array::write_npz(&folder.path("pairs.npz"), &[("noise", &noise), ("image", &images)]).unwrap();
    let pairs = folder.at("pairs");
    done(&["pairs import", &folder.at("pairs.npz"), "--out", &pairs]);
    pairs
}

/// A small distillation's settings: seconds, with several checkpoints.
pub const SMALL: [&str; 4] = [
    "--set train.iterations=60 --set train.batch=64 --set train.held_out=200",
    "--set train.log_every=10 --set train.validate_every=20 --set train.checkpoint_every=10",
    "--set student.latent=32",
    "--set student.network={kind='mlp',hidden=32,layers=3}",
];

/// The words of a [`SMALL`] distillation of the checkerboard.
pub fn distill<'a>(pairs: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["distill --preset checkerboard --pairs", pairs, "--out", out], &SMALL[..], more].concat()
}

/// A file of the original implementations' values. They lie in `../shared/reference` beside the
/// checkout, which users don't have; without it a test says so and passes.
pub fn reference(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {name} of the original implementations is not beside the checkout");
    None
}

/// Writes `data` as rows of `width` values; gives the path.
pub fn write_rows(path: &Path, data: Vec<f32>, width: usize) -> String {
    array::write_npy(path, &Array::new([data.len() / width, width], data)).unwrap();
    path.to_string_lossy().into_owned()
}

/// The array `name` of an .npz file.
pub fn array_of(path: &Path, name: &str) -> Array {
    array::read_npz(path).unwrap().into_iter().find(|(n, _)| n == name).unwrap().1
}

/// Bars whose class is their direction, as a .zip in the layout of EDM's data sets.
pub fn image_zip(path: &Path, count: usize, side: u32, classes: usize) {
    let mut archive = zip::ZipWriter::new(fs::File::create(path).unwrap());
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut labels = Vec::new();
    for i in 0..count {
        let (class, place) = (i % 2, (i / 2) as u32 % side);
        let image = image::GrayImage::from_fn(side, side, |x, y| {
            let at = if class == 0 { x } else { y };
            image::Luma([if at == place { 255 } else { 20 }])
        });
        let mut png = std::io::Cursor::new(Vec::new());
        image.write_to(&mut png, image::ImageFormat::Png).unwrap();
        let name = format!("00000/img{i:08}.png");
        archive.start_file(name.clone(), stored).unwrap();
        archive.write_all(png.get_ref()).unwrap();
        labels.push(serde_json::json!([name, i % classes]));
    }
    archive.start_file("dataset.json", stored).unwrap();
    archive.write_all(serde_json::json!({"labels": labels}).to_string().as_bytes()).unwrap();
    archive.finish().unwrap();
}

/// Writes a whole experiment on 8x8 images that takes seconds; gives its path.
pub fn image_experiment(folder: &Folder) -> String {
    let zip = folder.path("bars.zip");
    image_zip(&zip, 32, 8, 2);
    let text = format!(
        r#"
name = "bars"
[teacher]
kind = "network"
dataset = "{}"
[teacher.network]
architecture = "song-unet"
resolution = 8
in_channels = 1
out_channels = 1
label_dim = 2
augment_dim = 9
label_dropout = 0.1
model_channels = 8
channel_mult = [1, 2]
num_blocks = 1
attn_resolutions = [4]
dropout = 0.1
[teacher.train]
iterations = 30
batch = 8
ema_rampup = 0.05
augment = 0.12
[pairs]
count = 48
test = 16
steps = 4
dtype = "f16"
batch = 16
shard_size = 20
guidance = 1.5
process = {{ kind = "diffusion", sigma_min = 0.002, sigma_max = 80.0, rho = 7.0 }}
[student]
latent = 64
operator = {{ kind = "factorized", control = true, projection = 16 }}
[student.network]
kind = "unet"
model_channels = 8
channel_mult = [1, 2]
num_blocks = 1
attn_resolutions = [4]
dropout = 0.1
[loss]
eigenvalues = "gradual"
reconstruction = "huber"
[train]
iterations = 12
batch = 8
held_out = 8
log_every = 4
validate_every = 6
checkpoint_every = 3
"#,
        zip.display()
    );
    let path = folder.path("bars.toml");
    fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}
