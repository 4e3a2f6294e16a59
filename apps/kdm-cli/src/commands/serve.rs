//! `kdm serve`: students over HTTP, and a page to explore them.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kdm::{Context, Failure, Outcome};
use kdm_server::{Limits, Settings, serve};

use super::numbers::{SAMPLES, within};
use super::output::print;
use crate::terminal;

/// Flags of `kdm serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A student's file, the folder of a run, or fashion-mnist; may be repeated to serve several,
    /// each under its file's or its run's name
    #[arg(long, value_name = "M", required = true)]
    model: Vec<PathBuf>,
    /// The teacher of the first student, to be drawn with beside it [default: the one that lies
    /// beside the student or ships with the program, where it is its own]
    #[arg(long, value_name = "FILE|NAME")]
    teacher: Option<PathBuf>,
    /// Where to listen, such as 127.0.0.1:8000, localhost:8000, or a port of this machine alone;
    /// beyond this machine only with --token-file or --insecure
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8000")]
    #[arg(value_parser = address)]
    listen: SocketAddr,
    /// A file with the token that requests must bear (`Authorization: Bearer TOKEN`)
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Listen beyond this machine without a token
    #[arg(long, conflicts_with = "token_file")]
    insecure: bool,
    /// Samples of one answer at most
    #[arg(long, value_name = "N", default_value_t = 1024)]
    #[arg(value_parser = within(1, SAMPLES))]
    max_samples: usize,
    /// Samples that may wait to be drawn; requests beyond them are answered 429
    #[arg(long, value_name = "N", default_value_t = 8192)]
    #[arg(value_parser = within(1, SAMPLES))]
    queue: usize,
    /// Connections at a time; others wait
    #[arg(long, value_name = "N", default_value_t = 4096)]
    #[arg(value_parser = within(1, 1_000_000))]
    connections: usize,
    /// The longest that a request is worked on, such as 30s or 5m
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    timeout: Duration,
}

/// Bytes of a request's body at most: noise or images as text.
const MOST_BYTES: usize = 16 << 20;
/// Files that a server needs beside its connections.
const FILES: u64 = 64;

/// An address with a port, or a port of the loopback.
fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    let found = text.to_socket_addrs().ok().and_then(|mut found| found.next());
    found.ok_or_else(|| "write ADDRESS:PORT, such as 127.0.0.1:8000, or a port".into())
}

/// A time from a millisecond to a day.
fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let allowed = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
    if allowed.contains(&time) { Ok(time) } else { Err("give 1ms to 24h".into()) }
}

/// The token of a file: its first line.
fn token(path: &Path) -> Outcome<String> {
    let problem =
        |problem: String| Failure::Usage(format!("--token-file {}: {problem}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
    let token = text.lines().next().unwrap_or_default().trim();
    if token.len() < 8 {
        return Err(problem("the token is too short; write 8 characters or more into it".into()));
    }
    Ok(token.to_string())
}

impl Args {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        let settings = Settings {
            models: self.model,
            teacher: self.teacher,
            listen: self.listen,
            token: self.token_file.as_deref().map(token).transpose()?,
            insecure: self.insecure,
            queue: self.queue,
            connections: self.connections,
            timeout: self.timeout,
            limits: Limits { samples: self.max_samples, ..Limits::default() },
            most_bytes: MOST_BYTES,
            log: terminal::says_all(),
        };
        // Where that many files can't be had, connections beyond them wait.
        let _ = rlimit::increase_nofile_limit(settings.connections as u64 + FILES);
        serve(settings, context, |address| {
            let _ = print(&format!("http://{address}/\n"));
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(token(&path).unwrap_err().to_string().contains("--token-file"));
        fs::write(&path, "short\n").unwrap();
        assert!(token(&path).unwrap_err().to_string().contains("8 characters"));
        fs::write(&path, "  long enough\nnot this\n").unwrap();
        assert_eq!(token(&path).unwrap(), "long enough");
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let found = |text: &str| address(text).map(|address| address.to_string());
        assert_eq!(found("8011").as_deref(), Ok("127.0.0.1:8011"));
        assert_eq!(found("0.0.0.0:80").as_deref(), Ok("0.0.0.0:80"));
        assert!(address("localhost:8011").unwrap().ip().is_loopback());
        assert!(found("127.0.0.1").is_err() && found("x y").is_err());
    }

    #[test]
    fn times_are_bounded() {
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert!(time("0s").is_err() && time("2d").is_err() && time("x").is_err());
    }
}
