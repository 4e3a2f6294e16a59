//! `kdm sample`: one-step samples.

use std::path::PathBuf;

use clap::ArgGroup;
use kdm::data::{Labels, Samples};
use kdm::sample_files::{read_labels, read_rows, write_named_samples};
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
    /// Draw from this x_T, one a row, with its full standard deviation
    #[arg(long, value_name = "X.npy")]
    noise: Option<PathBuf>,
    /// The class of all samples
    #[arg(long, value_name = "K", conflicts_with = "labels")]
    class: Option<u32>,
    /// Draw every seed in every class: a picture has a row for each seed and a column for each
    /// class
    #[arg(long, conflicts_with_all = ["class", "labels", "noise"])]
    each_class: bool,
    /// One-hot label rows
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
                if last < first || last - first >= MOST {
                    return Err(bad(part));
                }
                seeds.extend(first..=last);
            }
        }
    }
    Ok(seeds)
}

impl Args {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        let inputs = [Some(self.model.as_path()), maybe(&self.noise), maybe(&self.labels)];
        self.replace.samples(&self.out, &inputs)?;
        let student = LoadedStudent::open(&self.model, context.device())?;
        let classes = student.config().label_dim;
        let mut noise = match &self.noise {
            Some(path) => self.given_noise(&student, path)?,
            None => student.draw_noise(&self.chosen_seeds()?),
        };
        let mut columns = None;
        if self.each_class {
            if noise.len() as u64 > MOST / classes.max(1) as u64 {
                let seeds = noise.len();
                let problem = format!("{seeds} seeds in {classes} classes are too many");
                return Err(Failure::Usage(format!("--each-class: {problem}; give fewer")));
            }
            noise = in_each_class(&student, &noise)?;
            columns = Some(classes);
        } else if let Some(labels) = self.given_labels(&student, noise.len())? {
            noise.labels = labels;
        }
        let samples = sample(&student, noise, context.observer);
        let samples = or_stopped(samples, || NOTHING_KEPT.into())?;
        let (names, observer) = (student.class_names(), context.observer);
        let out = &self.out;
        let written = write_named_samples(out, &samples, classes, columns, &names, observer);
        or_stopped(written, || "stopped; the images so far are written".into())?;
        told(out, &samples)
    }

    /// The seeds that --n and --seeds choose.
    fn chosen_seeds(&self) -> Outcome<Vec<u64>> {
        let Some(list) = &self.seeds else {
            return match self.n.unwrap_or(0) {
                n if n == 0 || n > MOST => {
                    Err(Failure::Usage(format!("--n {n}: give 1 to {MOST}")))
                }
                n => Ok((0..n).collect()),
            };
        };
        let mut seeds = parse_seeds("--seeds", list)?;
        let n = self.n.unwrap_or(seeds.len() as u64);
        if n == 0 || n > seeds.len() as u64 {
            let given = seeds.len();
            return Err(Failure::Usage(format!(
                "--n {n}: --seeds lists {given}; give 1 to {given}"
            )));
        }
        seeds.truncate(n as usize);
        Ok(seeds)
    }

    /// The noise of --noise with its labels.
    fn given_noise(&self, student: &LoadedStudent, path: &std::path::Path) -> Outcome<Samples> {
        let noise = read_rows(path, student.config().dim(), "the student")?;
        let rows = noise.rows();
        let labels = labels_for_noise(student, self.given_labels(student, rows)?, rows)?;
        let shape = student.config().shape.clone();
        Ok(Samples { shape, noise: noise.data, labels, ..Samples::default() })
    }

    /// The labels of --class or --labels.
    fn given_labels(&self, student: &LoadedStudent, rows: usize) -> Outcome<Option<Labels>> {
        if let Some(class) = self.class {
            student.check_class(class, "--class")?;
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
    }
}
