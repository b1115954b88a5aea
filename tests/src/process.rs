//! Processes, as /proc shows them.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub const KILL: i32 = libc::SIGKILL;
/// What a cancel sends.
pub const INTERRUPT: i32 = libc::SIGINT;

/// Sends a signal to one process.
pub fn signal(pid: i32, signal: i32) {
    assert!(pid > 1, "{pid} is no single process");
    // SAFETY: plain system call; a process that is gone already gives an error, which is ignored.
    unsafe { libc::kill(pid, signal) };
}

/// Whether the process is there and no zombie.
pub fn exists(pid: i32) -> bool {
    state(pid).is_some_and(|(_, state)| state != 'Z')
}

/// Waits until the process is gone; whether it is.
pub fn await_end(pid: i32, longest: Duration) -> bool {
    await_true(longest, || !exists(pid))
}

/// Asks every 20 ms until the answer is true; whether it became true in time.
pub fn await_true(longest: Duration, mut ask: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if ask() {
            return true;
        }
        if started.elapsed() > longest {
            return false;
        }
        sleep(Duration::from_millis(20));
    }
}

/// The trainer that this backend started, once it runs its own program.
pub fn trainer_of(backend: i32) -> Option<i32> {
    children(backend).into_iter().find(|pid| name(*pid).as_deref() == Some("riskft-trainer"))
}

/// Waits for the backend's trainer to appear.
pub fn await_trainer(backend: i32, longest: Duration) -> Option<i32> {
    let mut found = None;
    await_true(longest, || {
        found = trainer_of(backend);
        found.is_some()
    });
    found
}

/// The trainers below this process, at any depth.
pub fn trainers_below(ancestor: i32) -> Vec<i32> {
    let mut found = Vec::new();
    for child in children(ancestor) {
        if name(child).as_deref() == Some("riskft-trainer") {
            found.push(child);
        }
        found.extend(trainers_below(child));
    }
    found
}

pub fn children(parent: i32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| state(*pid).is_some_and(|(of, _)| of == parent))
        .collect()
}

/// Peak resident memory, bytes.
pub fn peak_memory(pid: i32) -> Option<u64> {
    status_bytes(pid, "VmHWM:")
}

/// Private memory in RAM, bytes.
pub fn private_memory(pid: i32) -> Option<u64> {
    status_bytes(pid, "RssAnon:")
}

/// Threads of the process.
pub fn threads(pid: i32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/task")).ok()?.count())
}

/// Whether any file whose path contains `part` is mapped into the process.
pub fn maps(pid: i32, part: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|text| text.contains(part))
}

pub(crate) fn runs_with(pid: i32, argument: &Path) -> bool {
    let wanted = argument.to_string_lossy();
    fs::read_to_string(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.split('\0').any(|word| word == wanted))
}

fn name(pid: i32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

/// Parent and state letter, from `pid (name) state parent ...`; the name may hold blanks.
fn state(pid: i32) -> Option<(i32, char)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}

fn status_bytes(pid: i32, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}
