//! The server's log, and what must never be in it.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// A lost backend, a restart of the whole server, an internal error.
const FORBIDDEN: &[&str] =
    &["PANIC: ", "was terminated by signal", " XX000 ", "invalid memory alloc"];

pub struct ServerLog {
    path: PathBuf,
    allowed: Mutex<Vec<String>>,
}

impl ServerLog {
    pub(crate) fn new(path: PathBuf) -> Self {
        ServerLog { path, allowed: Mutex::new(Vec::new()) }
    }

    pub fn text(&self) -> String {
        fs::read(&self.path).map_or_else(
            |error| format!("(no log: {error})"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    pub fn tail(&self, lines: usize) -> String {
        let text = self.text();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Lines that contain `part` are what the test provokes.
    pub fn allow(&self, part: &str) {
        self.allowed.lock().unwrap_or_else(PoisonError::into_inner).push(part.to_owned());
    }

    /// The lines that must not be there.
    pub fn check(&self) -> Result<(), String> {
        let allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        let text = self.text();
        let bad: Vec<&str> = text
            .lines()
            .filter(|line| FORBIDDEN.iter().any(|part| line.contains(part)))
            .filter(|line| !allowed.iter().any(|part| line.contains(part.as_str())))
            .collect();
        if bad.is_empty() {
            return Ok(());
        }
        Err(format!("the server's log is not clean:\n{}\n", bad.join("\n")))
    }
}
