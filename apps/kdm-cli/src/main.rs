//! The program `kdm`: parses, calls the library, prints.

mod commands;
mod terminal;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use commands::Cli;

/// Tensors of a training step come and go by the megabyte; the system's allocator gives such memory
/// back each time and takes it anew, page by page. This one is told to keep it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    kdm::kernels::keep_freed_memory();
    let cli = Cli::parse();
    terminal::stop_on_signals();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
