//! A request to end the search with the best so far: the signal SIGUSR1.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: libc::c_int) {
    ASKED.store(true, Ordering::Relaxed);
}

/// Notes the signal from now on. Interrupted calls go on.
pub fn listen() {
    // SAFETY: sigaction is plain data, for which zero bytes are a value: no mask, no flags.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: a live action whose handler only stores to an atomic; the old one is not asked for.
    unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) };
}

/// Whether the signal has come.
pub fn is_asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
