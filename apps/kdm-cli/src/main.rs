//! The program `kdm`: parses, calls the library, prints.

mod commands;
mod terminal;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use commands::Cli;
use tracing_subscriber::EnvFilter;

/// Tensors of a training step come and go by the megabyte; the system's allocator gives such memory
/// back each time and takes it anew, page by page. This one is told to keep it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    kdm::kernels::keep_freed_memory();
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("KDM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        .init();
    terminal::stop_on_signals();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
