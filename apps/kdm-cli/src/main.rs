//! The program `kdm`: parses, calls the library, prints.

/// Prints a line on standard error, in place of the standard library's macro, which panics where
/// nothing can be written there: what it would have told is lost, and the work goes on.
macro_rules! eprintln {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($part)*);
    }};
}

mod allocator;
mod commands;
mod launch;
mod terminal;

use std::process::ExitCode;

use clap::Parser;
use commands::{Cli, output};

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

fn main() -> ExitCode {
    kdm::kernels::keep_freed_memory();
    let done = match Cli::try_parse() {
        Ok(cli) => cli.run(),
        // A wrong command line, or an answer to --help or --version.
        Err(answer) if answer.use_stderr() => {
            let _ = answer.print();
            return ExitCode::from(WRONG_USAGE);
        }
        Err(answer) => output::written(answer.print()),
    };
    terminal::ended();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if launch::follows() => {
            launch::let_the_first_speak();
            ExitCode::from(failure.exit_code())
        }
        Err(failure) => ExitCode::from(terminal::tell(failure)),
    }
}

/// The exit code of a command line that is not understood.
const WRONG_USAGE: u8 = 2;
