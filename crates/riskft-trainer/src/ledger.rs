//! What the run used: seconds and bytes, from the kernel's own counts.

use std::time::Instant;

use riskft_core::protocol::Ledger;

/// Measures phases while they pass.
pub struct Meter {
    start: Instant,
    phase: Option<(&'static str, Instant)>,
    phases: Vec<(String, f64)>,
    /// [`Ledger::score_cpu_seconds`]
    pub score_cpu_seconds: Option<f64>,
}

/// Phases during which the device works.
const DEVICE_PHASES: [&str; 10] = [
    "encode", "network", "trees", "grams", "text", "tune", "backtest", "solve", "select", "reduce",
];

impl Default for Meter {
    fn default() -> Self {
        Meter { start: Instant::now(), phase: None, phases: Vec::new(), score_cpu_seconds: None }
    }
}

impl Meter {
    /// Ends the phase in progress and begins another.
    pub fn phase(&mut self, name: &'static str) {
        self.end_phase();
        self.phase = Some((name, Instant::now()));
    }

    fn end_phase(&mut self) {
        let Some((name, start)) = self.phase.take() else { return };
        let seconds = start.elapsed().as_secs_f64();
        match self.phases.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += seconds,
            None => self.phases.push((name.to_owned(), seconds)),
        }
    }

    /// Writes seconds and bytes into the ledger.
    pub fn close(&mut self, ledger: &mut Ledger) {
        self.end_phase();
        let usage = usage();
        ledger.wall_seconds = self.start.elapsed().as_secs_f64();
        ledger.cpu_seconds = usage.cpu_seconds;
        ledger.peak_memory_bytes = usage.peak_memory_bytes;
        ledger.device_seconds = self
            .phases
            .iter()
            .filter(|(name, _)| DEVICE_PHASES.contains(&name.as_str()))
            .map(|(_, seconds)| seconds)
            .sum();
        ledger.phases = self.phases.clone();
        ledger.score_cpu_seconds = self.score_cpu_seconds;
    }
}

/// What `work` returns, and the CPU seconds of all threads meanwhile.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let before = usage().cpu_seconds;
    let done = work();
    (done, usage().cpu_seconds - before)
}

/// What this process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time of all threads.
    pub cpu_seconds: f64,
    /// Largest resident set.
    pub peak_memory_bytes: u64,
}

pub fn usage() -> Usage {
    // SAFETY: rusage is plain data, for which zero bytes are a value.
    let mut raw: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `raw` is a live rusage that the call fills.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut raw) } != 0 {
        return Usage::default();
    }
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    Usage {
        cpu_seconds: seconds(raw.ru_utime) + seconds(raw.ru_stime),
        peak_memory_bytes: raw.ru_maxrss as u64 * 1024,
    }
}

/// The resident set now; None where the kernel does not tell.
pub fn resident_bytes() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let resident: u64 = pages.split_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: asks for a constant of the kernel.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    resident.checked_mul(u64::try_from(page).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_that_comes_back_adds_up() {
        let mut meter = Meter::default();
        for name in ["encode", "network", "encode"] {
            meter.phase(name);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let mut ledger = Ledger::default();
        meter.close(&mut ledger);
        let names: Vec<&str> = ledger.phases.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["encode", "network"]);
        assert!(ledger.phases[0].1 >= 0.010);
        assert!(ledger.device_seconds >= 0.015);
        assert!(ledger.peak_memory_bytes > 1 << 20);
    }
}
