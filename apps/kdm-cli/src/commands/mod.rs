//! The command line: one file a command, its flags, documentation and work together.

mod analyze;
mod bench;
mod compare;
mod compress;
mod convert;
mod data;
mod distill;
mod edit;
mod evaluate;
mod export;
mod features;
mod import;
mod info;
mod interpolate;
mod invert;
mod merge;
mod numbers;
pub mod output;
mod pairs;
mod resuming;
mod run;
mod sample;
mod serve;
mod teacher;

use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;
use kdm::data::atomic;
use kdm::experiment::PRESETS;
use kdm::runtime::Runtime;
use kdm::workers::Together;
use kdm::{Context, Experiment, Failure, Outcome};

use crate::launch::{self, Part};
use crate::terminal::{self, OnStop, Terminal};
use numbers::within;
use resuming::Keeping;

/// Distill a diffusion model into a one-step generator, offline, from noise-image pairs.
#[derive(Debug, Parser)]
#[command(
    name = "kdm",
    version,
    after_help = "\
Start here:
  kdm run checkerboard            the whole way, teacher to report, in minutes
  kdm run fashion-mnist           the same for images, from a teacher that ships with the program

KDM_LOG=warn or KDM_LOG=error prints less. Ctrl-C stops at the next step and keeps what was
finished. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped. Results go to standard output,
progress and messages to standard error."
)]
pub struct Cli {
    /// Threads to compute with; all cores unless given
    #[arg(long, global = true, value_name = "N")]
    #[arg(value_parser = within(1, numbers::THREADS))]
    threads: Option<usize>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole way: teacher, pairs, distillation, samples, evaluation, report
    #[command(after_help = "\
Examples:
  kdm run checkerboard
  kdm run fashion-mnist --out runs/clothes
  kdm run fashion-mnist --out runs/clothes --resume --set train.iterations=8000  for longer
  kdm run my-images --data photos/ --budget 30m        from images of your own
  kdm run --teacher edm-cifar10.pkl --budget 8h        from a diffusion model of your own")]
    Run(run::Args),
    /// Bring in a model that another program wrote
    #[command(after_help = "\
Examples:
  kdm import edm-cifar10-32x32-uncond-vp.pkl --out teacher.safetensors
  kdm import vgg16.pth --heads vgg.pth --out lpips.safetensors")]
    Import(import::Args),
    /// Write a model for other programs: as a state dict for PyTorch with the names of its original
    /// implementation, or a student or an image teacher's denoiser as ONNX
    #[command(after_help = "\
Examples:
  kdm export --model student.safetensors --out weights.safetensors
  kdm export --model fashion-mnist-student --out weights.safetensors
  kdm export --model fashion-mnist --out student.onnx
  kdm export --model fashion-mnist-teacher --out denoiser.onnx
  kdm export --model fashion-mnist --parts --dtype f16 --out parts")]
    Export(export::Args),
    /// Train students of different kinds on the same pairs for the same compute, and print the
    /// table
    #[command(after_help = "\
Examples:
  kdm compare fashion-mnist-compare
  kdm compare mine.toml --out runs/mine --resume")]
    Compare(compare::Args),
    /// Write a student with an operator of lower rank, and measure what that costs and gains
    #[command(after_help = "\
Examples:
  kdm compress --model fashion-mnist --rank 32 --out small.safetensors
  kdm compress --model student.safetensors --rank 16 --by modes --out small.safetensors")]
    Compress(compress::Args),
    /// Write a model file with its weights in half precision
    #[command(after_help = "\
Examples:
  kdm convert --model student.safetensors --out half.safetensors")]
    Convert(convert::Args),
    /// Look at data sets, and write them in other forms
    #[command(subcommand)]
    Data(data::Command),
    /// Train a teacher, draw samples with it, or query its denoiser
    #[command(subcommand)]
    Teacher(teacher::Command),
    /// Make, check, change and copy stores of noise-image pairs
    #[command(subcommand)]
    Pairs(pairs::Command),
    /// Train a student on stored pairs
    #[command(after_help = "\
Examples:
  kdm distill --preset checkerboard --pairs pairs --out student
  kdm distill --preset checkerboard --pairs pairs --out student --resume
  kdm distill --preset fashion-mnist --pairs pairs --init-from fashion-mnist --out tuned")]
    Distill(distill::Args),
    /// Draw one-step samples with a student
    #[command(after_help = "\
Examples:
  kdm sample --model fashion-mnist -n 64 --out grid.png
  kdm sample --model fashion-mnist --seeds 0-7 --each-class --out images
  kdm sample --model student.safetensors --noise x.npy --out samples.npz")]
    Sample(sample::Args),
    /// Serve students over HTTP, with a page to explore them
    #[command(after_help = "\
Examples:
  kdm serve --model fashion-mnist                                  then open http://127.0.0.1:8000/
  kdm serve --model a.safetensors --model b.safetensors --listen 0.0.0.0:80 --token-file token")]
    Serve(serve::Args),
    /// Train feature networks, and compute the statistics that samples are compared with
    #[command(subcommand)]
    Features(features::Command),
    /// Draw interpolations between samples, along the noise or in the latent space
    #[command(after_help = "\
Examples:
  kdm interpolate --model fashion-mnist --seeds 0-3 --out way.png
  kdm interpolate --model fashion-mnist --seeds 7,2 --classes 0,9 --steps 12 --out way.png")]
    Interpolate(interpolate::Args),
    /// Move samples along a mode of the operator, or from class to class, and draw them
    #[command(after_help = "\
Examples:
  kdm edit --model fashion-mnist --seeds 0-3 --mode 1 --out mode.png
  kdm edit --model fashion-mnist --seeds 0-3 --from-class 0 --to-class 9 --out classes.png")]
    Edit(edit::Args),
    /// Recover latents and noise of given images, and report the reconstruction error
    #[command(after_help = "\
Examples:
  kdm invert --model fashion-mnist --pairs pairs --out back
  kdm invert --model student.safetensors --images x.npy --labels y.npy --out back")]
    Invert(invert::Args),
    /// Measure a student against stored pairs
    #[command(after_help = "\
Examples:
  kdm evaluate --model student.safetensors --pairs pairs-test
  kdm evaluate --model student.safetensors --pairs pairs-test --metrics paired --json")]
    Evaluate(evaluate::Args),
    /// Look into a student: spectrum, modes, truncation, semantics, clusters, outliers; or run
    /// `theory`
    #[command(after_help = "\
Examples:
  kdm analyze --model fashion-mnist --out look
  kdm analyze --model student.safetensors --pairs pairs-test --teacher fashion-mnist --out look
  kdm analyze theory --out theory")]
    Analyze(analyze::Args),
    /// Say what a file or folder is
    #[command(after_help = "\
Examples:
  kdm info fashion-mnist-student
  kdm info runs/00000-checkerboard --json")]
    Info(info::Args),
    /// Measure the speed of sampling or of a training step
    #[command(subcommand)]
    Bench(bench::Command),
    /// List the built-in presets, or print one
    #[command(after_help = "\
Examples:
  kdm presets
  kdm presets checkerboard")]
    Presets {
        /// The preset to print
        name: Option<String>,
    },
    /// Write man pages, one for each command
    #[command(after_help = "\
Examples:
  kdm man --out /usr/local/share/man/man1")]
    Man {
        /// The folder that they go to; pages of the same names there are replaced
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  kdm completions bash")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

impl Command {
    /// How often the command keeps what it has done; none for one that keeps nothing on its way.
    fn keeping(&self) -> Option<Keeping> {
        match self {
            Self::Run(args) => Some(args.run.keeping),
            Self::Compare(args) => Some(args.run.keeping),
            Self::Distill(args) => Some(args.training.keeping),
            Self::Teacher(teacher::Command::Train(args)) => Some(args.keeping),
            Self::Features(features::Command::Train(args)) => Some(args.keeping),
            Self::Pairs(pairs::Command::Generate(args)) => Some(args.keeping),
            Self::Analyze(args) => args.keeping(),
            _ => None,
        }
    }

    /// What several processes do that are given the command.
    fn part(&self) -> Part {
        match self {
            Self::Run(_)
            | Self::Distill(_)
            | Self::Teacher(teacher::Command::Train(_))
            | Self::Features(features::Command::Train(_)) => Part::Together,
            Self::Bench(bench::Command::Allreduce(_)) => Part::Together,
            Self::Pairs(pairs::Command::Generate(_)) => Part::Share,
            _ => Part::Alone,
        }
    }

    fn run(self, context: Context) -> Outcome<()> {
        match self {
            Command::Run(args) => args.run(context),
            Command::Import(args) => args.run(context),
            Command::Export(args) => args.run(context),
            Command::Compare(args) => args.run(context),
            Command::Compress(args) => args.run(context),
            Command::Convert(args) => args.run(context),
            Command::Data(command) => command.run(context),
            Command::Features(command) => command.run(context),
            Command::Teacher(command) => command.run(context),
            Command::Pairs(command) => command.run(context),
            Command::Distill(args) => args.run(context),
            Command::Sample(args) => args.run(context),
            Command::Serve(args) => args.run(context),
            Command::Interpolate(args) => args.run(context),
            Command::Edit(args) => args.run(context),
            Command::Invert(args) => args.run(context),
            Command::Evaluate(args) => args.run(context),
            Command::Analyze(args) => args.run(context),
            Command::Info(args) => args.run(context),
            Command::Bench(command) => command.run(context),
            Command::Presets { name } => presets(name.as_deref()),
            Command::Man { out } => man_pages(&out),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "kdm", &mut script);
                output::print(&String::from_utf8_lossy(&script))
            }
        }
    }
}

/// Writes a man page for each command, `kdm.1`, `kdm-run.1` and so on, to a folder.
fn man_pages(folder: &Path) -> Outcome<()> {
    let mut whole = Cli::command().disable_help_subcommand(true);
    whole.build();
    let mut commands = vec![whole];
    let mut next = 0;
    while let Some(command) = commands.get(next) {
        let below = command.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned();
        commands.extend(below.collect::<Vec<clap::Command>>());
        next += 1;
    }
    atomic::create_folder(folder)?;
    let count = commands.len();
    for command in commands {
        let (mut page, man) = (Vec::new(), Man::new(command));
        man.render(&mut page).expect("writing to memory");
        atomic::write(&folder.join(man.get_filename()), &page)?;
    }
    output::print(&format!("{count} pages in {}\n", folder.display()))
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// The command's failure.
    pub fn run(self) -> Outcome<()> {
        let launched = launch::launched();
        let together = launch::join(launched, self.command.part())?;
        let threads = launch::threads(self.threads, launched);
        // The main thread computes too: it would only wait for the others, and be woken thousands
        // of times a second.
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .use_current_thread()
            .build_global()
            .map_err(|e| Failure::Usage(format!("--threads {threads}: {e}; give fewer")))?;
        kdm::kernels::instruction_set().map_err(|e| Failure::Usage(e.to_string()))?;
        let keeping = self.command.keeping();
        terminal::stop_on_signals(match (&self.command, keeping) {
            _ if together.is_some() => OnStop::SayNothing,
            (Command::Serve(_), _) => OnStop::FinishRequests,
            (_, Some(_)) => OnStop::KeepWork,
            (_, None) => OnStop::EndSoon,
        });
        let (mut runtime, mut terminal) =
            (Runtime::cpu(), Terminal::new(keeping.map(Keeping::every)));
        if let Some(together) = &together {
            runtime = runtime.among(together.workers());
        }
        if launch::follows() {
            terminal = terminal.silent();
        }
        let context = Context { observer: &terminal, ..Context::silent(&runtime) };
        let same = together.as_ref().map_or(Ok(()), Together::check);
        launch::end(together, same.and_then(|()| self.command.run(context)))
    }
}

/// Words in lines of at most `width` letters, where no word is longer.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("never empty");
        if !last.is_empty() && last.len() + 1 + word.len() > width {
            lines.push(word.to_string());
        } else {
            last.push_str(if last.is_empty() { "" } else { " " });
            last.push_str(word);
        }
    }
    lines.join("\n")
}

fn presets(name: Option<&str>) -> Outcome<()> {
    let Some(name) = name else {
        let width = PRESETS.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let line = |(name, text): &(&str, &str)| {
            let comment = text.lines().map_while(|line| line.strip_prefix("# "));
            let about = wrapped(&comment.collect::<Vec<&str>>().join(" "), 98 - width);
            format!("{name:width$}  {}\n", about.replace('\n', &format!("\n{:width$}  ", "")))
        };
        return output::print(&PRESETS.iter().map(line).collect::<String>());
    };
    output::print(&Experiment::load(name, &[])?.to_toml())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// The help of every command that does something ends in examples, and each of them is
    /// understood.
    #[test]
    fn every_help_has_examples_that_are_understood() {
        fn check(command: &clap::Command, path: &str) {
            if command.has_subcommands() {
                command.get_subcommands().for_each(|sub| {
                    if sub.get_name() != "help" {
                        check(sub, &format!("{path} {}", sub.get_name()));
                    }
                });
                if command.is_subcommand_required_set() || path == "kdm" {
                    return;
                }
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            // What a launcher starts is an example as well.
            let started = |line: &str| {
                let launched = line.strip_prefix("mpirun -n ").and_then(|n| n.split_once(' '));
                launched.map_or(line.to_string(), |(_, command)| command.to_string())
            };
            let lines = help.lines().map(|line| started(line.trim()));
            let examples: Vec<String> = lines.filter(|line| line.starts_with("kdm ")).collect();
            assert!(!examples.is_empty(), "{path} has no example");
            for example in examples {
                let words = example.split("  ").next().unwrap_or_default();
                assert!(words.starts_with(path), "`{words}` is no `{path}`");
                if let Err(error) = Cli::try_parse_from(words.split_whitespace()) {
                    panic!("`{words}`: {error}");
                }
            }
        }
        check(&Cli::command(), "kdm");
    }

    #[test]
    fn texts_are_wrapped_at_words() {
        assert_eq!(wrapped("one two  three", 7), "one two\nthree");
        assert_eq!(wrapped("", 7), "");
    }
}
