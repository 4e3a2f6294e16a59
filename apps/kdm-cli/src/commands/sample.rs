//! `kdm sample`: one-step samples.

use std::path::PathBuf;

use clap::{ArgGroup, ValueEnum};
use kdm::data::{Labels, Samples};
use kdm::sample_files::{self, read_labels, read_rows, write_named_samples};
use kdm::sample_picture::{Arrangement, check_picture};
use kdm::stages::sample::{in_each_class, labels_for_noise, sample};
use kdm::{Context, Failure, LoadedStudent, Outcome};

use super::output::{NOTHING_KEPT, Replace, maybe, or_stopped, told};

/// Flags of `kdm sample`.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("source").required(true).multiple(true)
    .args(["n", "seeds", "noise"]))]
pub struct Args {
    /// The student's file, or fashion-mnist
    #[arg(long, value_name = "M")]
    model: PathBuf,
    /// Draw with the seeds 0 to N-1, or with the first N of --seeds
    #[arg(short, long, value_name = "N", conflicts_with = "noise")]
    n: Option<u64>,
    /// Draw with these seeds, such as 0-63 or 1,5,9-12; a sample depends on its seed alone
    #[arg(long, value_name = "LIST", conflicts_with = "noise")]
    seeds: Option<String>,
    /// Draw from this noise, one a row: x_T with its full standard deviation, unless --noise-scale
    /// says otherwise
    #[arg(long, value_name = "X.npy")]
    noise: Option<PathBuf>,
    /// How the noise of --noise is scaled
    #[arg(long, value_enum, default_value = "sigma-max", requires = "noise")]
    noise_scale: NoiseScale,
    /// The class of all samples, by its name or number
    #[arg(long, value_name = "CLASS", conflicts_with = "labels")]
    class: Option<String>,
    /// Draw every seed in every class: a picture has a row for each seed and a column for each
    /// class
    #[arg(long, conflicts_with_all = ["class", "labels", "noise"])]
    each_class: bool,
    /// The class of each sample: class numbers, or one-hot rows (zeros for no class)
    #[arg(long, value_name = "L.npy")]
    labels: Option<PathBuf>,
    /// Where samples go: a .npy, .npz or .png file (a grid of images), or a folder (a .png an
    /// image, named by its seed)
    #[arg(long, value_name = "FILE|DIR")]
    out: PathBuf,
    #[command(flatten)]
    replace: Replace,
}

/// Samples one command draws at most: more than any use, less than memory.
const MOST: u64 = 100_000_000;

/// Numbers from a list of numbers and ranges, for this flag.
pub fn parse_seeds(flag: &str, list: &str) -> Outcome<Vec<u64>> {
    let bad = |part: &str| {
        Failure::Usage(format!(
            "{flag} {list}: `{part}` is no number and no range; write such as 0-63 or 1,5,9-12"
        ))
    };
    let mut seeds = Vec::new();
    for part in list.split(',') {
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| bad(part));
        match part.split_once('-') {
            None => seeds.push(number(part)?),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if last < first {
                    return Err(Failure::Usage(format!(
                        "{flag} {list}: `{part}` runs backwards; write {last}-{first}"
                    )));
                }
                if last - first >= MOST {
                    return Err(Failure::Usage(format!(
                        "{flag} {list}: `{part}` are more than {MOST}; give fewer"
                    )));
                }
                seeds.extend(first..=last);
            }
        }
    }
    Ok(seeds)
}

/// The levels of a latent that --levels names; none for all.
pub fn parse_levels(list: Option<&str>) -> Outcome<Vec<usize>> {
    let levels = list.map(|list| parse_seeds("--levels", list)).transpose()?.unwrap_or_default();
    Ok(levels.into_iter().map(|level| usize::try_from(level).unwrap_or(usize::MAX)).collect())
}

/// The seeds that --n and --seeds choose.
pub fn chosen_seeds(n: Option<u64>, seeds: Option<&str>) -> Outcome<Vec<u64>> {
    let Some(list) = seeds else {
        return match n.unwrap_or(0) {
            n if n == 0 || n > MOST => Err(Failure::Usage(format!("--n {n}: give 1 to {MOST}"))),
            n => Ok((0..n).collect()),
        };
    };
    let mut seeds = parse_seeds("--seeds", list)?;
    let n = n.unwrap_or(seeds.len() as u64);
    if n == 0 || n > seeds.len() as u64 {
        let given = seeds.len();
        return Err(Failure::Usage(format!("--n {n}: --seeds lists {given}; give 1 to {given}")));
    }
    seeds.truncate(n as usize);
    Ok(seeds)
}

/// How noise in a file is scaled.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum NoiseScale {
    /// Standard deviation 1
    Unit,
    /// The standard deviation of x_T, which is sigma_max of a diffusion
    SigmaMax,
}

impl From<NoiseScale> for sample_files::NoiseScale {
    fn from(scale: NoiseScale) -> Self {
        match scale {
            NoiseScale::Unit => Self::Unit,
            NoiseScale::SigmaMax => Self::SigmaMax,
        }
    }
}

impl Args {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        let inputs = [Some(self.model.as_path()), maybe(&self.noise), maybe(&self.labels)];
        self.replace.samples(&self.out, &inputs)?;
        let student = LoadedStudent::open(&self.model, context.device())?;
        check_picture(&self.out, &student.config().shape)?;
        let classes = student.config().label_dim;
        let mut noise = match &self.noise {
            Some(path) => self.given_noise(&student, path, context)?,
            None => student.draw_noise(&chosen_seeds(self.n, self.seeds.as_deref())?),
        };
        let mut arrangement = Arrangement::Square;
        if self.each_class {
            if noise.len() as u64 > MOST / classes.max(1) as u64 {
                let seeds = noise.len();
                let problem = format!("{seeds} seeds in {classes} classes are too many");
                return Err(Failure::Usage(format!("--each-class: {problem}; give fewer")));
            }
            noise = in_each_class(&student, &noise)?;
            arrangement = Arrangement::Columns(classes);
        } else if let Some(labels) = self.given_labels(&student, noise.len())? {
            noise.labels = labels;
        }
        let samples = sample(&student, noise, context.observer);
        let samples = or_stopped(samples, || NOTHING_KEPT.into())?;
        let (names, observer) = (student.class_names(), context.observer);
        let out = &self.out;
        let written = write_named_samples(out, &samples, classes, arrangement, &names, observer);
        or_stopped(written, || "stopped; the images so far are written".into())?;
        told(out, &samples)
    }

    /// The noise of --noise with its labels.
    fn given_noise(
        &self,
        student: &LoadedStudent,
        path: &std::path::Path,
        context: Context,
    ) -> Outcome<Samples> {
        let config = student.config();
        let noise = read_rows(path, config.dim(), "the student")?;
        let rows = noise.rows();
        let labels = labels_for_noise(student, self.given_labels(student, rows)?, rows)?;
        let given = sample_files::NoiseScale::from(self.noise_scale);
        given.doubt(&noise.data, config.noise_std, context.observer);
        let noise = given.x_t(noise.data, config.noise_std);
        Ok(Samples { shape: config.shape.clone(), noise, labels, ..Samples::default() })
    }

    /// The labels of --class or --labels.
    fn given_labels(&self, student: &LoadedStudent, rows: usize) -> Outcome<Option<Labels>> {
        if let Some(class) = &self.class {
            let class = student.class("--class", class)?;
            return Ok(Some(Labels::all(class, rows)));
        }
        let read = |path| read_labels(path, student.config().label_dim, rows);
        self.labels.as_deref().map(read).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_lists_and_ranges() {
        assert_eq!(parse_seeds("--seeds", "0-3").unwrap(), [0, 1, 2, 3]);
        assert_eq!(parse_seeds("--seeds", "7, 1-2").unwrap(), [7, 1, 2]);
        for bad in ["", "3-1", "a", "1-", "0-18446744073709551615"] {
            assert!(parse_seeds("--seeds", bad).is_err(), "{bad}");
        }
        let message = parse_seeds("--seeds", "9,5-1").unwrap_err().to_string();
        assert!(message.contains("`5-1` runs backwards; write 1-5"), "{message}");
    }
}
