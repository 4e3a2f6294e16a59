//! `kdm sample`: one-step samples.

use std::path::PathBuf;

use kdm_data::Array;
use kdm_koopman::sampler::one_hot;

use super::output::{read_labels, read_rows, write_samples};
use kdm::pipeline::LoadedStudent;
use kdm::{Failure, Outcome};

/// Flags of `kdm sample`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true).multiple(true).args(["n", "seeds", "noise"]))]
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
    pub fn run(self) -> Outcome<()> {
        let student = LoadedStudent::open(&self.model)?;
        let config = &student.file.student;
        let dim = config.dim();
        let (noise, drawn, seeds) = match (&self.noise, &self.seeds, self.n) {
            (Some(path), ..) => {
                let noise = read_rows(path, dim, "the student")?;
                let shape = [&[noise.rows()], config.shape.as_slice()].concat();
                (Array::new(shape, noise.data), Vec::new(), Vec::new())
            }
            (None, list, n) => {
                let seeds = match (list, n) {
                    (Some(list), n) => {
                        let mut seeds = parse_seeds("--seeds", list)?;
                        let n = n.unwrap_or(seeds.len() as u64);
                        if n == 0 || n > seeds.len() as u64 {
                            let given = seeds.len();
                            return Err(Failure::Usage(format!(
                                "--n {n}: --seeds lists {given}; give 1 to {given}"
                            )));
                        }
                        seeds.truncate(n as usize);
                        seeds
                    }
                    (None, n) => match n.unwrap_or(0) {
                        n if n == 0 || n > MOST => {
                            return Err(Failure::Usage(format!("--n {n}: give 1 to {MOST}")));
                        }
                        n => (0..n).collect(),
                    },
                };
                let (data, drawn) = student.draw(&seeds);
                let shape = [&[seeds.len()], config.shape.as_slice()].concat();
                (Array::new(shape, data), drawn, seeds)
            }
        };
        if self.each_class {
            return self.draw_each_class(&student, &noise, &seeds);
        }
        let labels =
            read_labels(self.labels.as_deref(), self.class, config.label_dim, noise.rows())?;
        // Without labels a seed draws its class too, as it does for pairs.
        let labels = labels.unwrap_or(drawn);
        if config.label_dim > 0 && labels.is_empty() {
            return Err(Failure::Usage(
                "this student is conditional: give --labels or --class beside --noise".into(),
            ));
        }
        let samples = Array::new(noise.shape.clone(), student.sampler.sample(&noise.data, &labels));
        let labels = Array::new([noise.rows(), config.label_dim], labels);
        let mut others = vec![("noise", &noise)];
        if config.label_dim > 0 {
            others.push(("labels", &labels));
        }
        write_samples(&self.out, &samples, &others, &seeds, None)
    }
}

impl Args {
    fn draw_each_class(
        &self,
        student: &LoadedStudent,
        noise: &Array,
        seeds: &[u64],
    ) -> Outcome<()> {
        let config = &student.file.student;
        let k = config.label_dim;
        if k == 0 {
            return Err(Failure::Usage("--each-class: this model is unconditional".into()));
        }
        if seeds.len() as u64 > MOST / k as u64 {
            return Err(Failure::Usage(format!(
                "--each-class: {} seeds in {k} classes are too many",
                seeds.len()
            )));
        }
        let repeated: Vec<f32> =
            noise.data.chunks(config.dim()).flat_map(|row| row.repeat(k)).collect();
        let classes: Vec<u32> = (0..seeds.len()).flat_map(|_| 0..k as u32).collect();
        let labels = one_hot(&classes, k);
        let shape = [&[classes.len()], config.shape.as_slice()].concat();
        let samples = Array::new(shape.clone(), student.sampler.sample(&repeated, &labels));
        let (noise, labels) = (Array::new(shape, repeated), Array::new([classes.len(), k], labels));
        write_samples(&self.out, &samples, &[("noise", &noise), ("labels", &labels)], &[], Some(k))
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
