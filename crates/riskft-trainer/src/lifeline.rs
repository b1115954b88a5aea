//! The trainer lives no longer than the server's backend that listens to it.

use std::os::fd::AsRawFd;

use crate::EXIT_GONE;

/// Ends the process as soon as the reader of stdout is gone, also between two events. (The server
/// further asks the kernel to kill the trainer when its backend dies.)
pub fn follow_listener() {
    let started = std::thread::Builder::new().name("lifeline".into()).spawn(wait);
    // Without the thread the next event finds out.
    drop(started);
}

fn wait() {
    let mut end = libc::pollfd { fd: std::io::stdout().as_raw_fd(), events: 0, revents: 0 };
    loop {
        // SAFETY: `end` is one live pollfd, as the count says.
        let ready = unsafe { libc::poll(&mut end, 1, -1) };
        if ready > 0 && end.revents & libc::POLLNVAL != 0 {
            return;
        }
        if ready > 0 && end.revents & (libc::POLLERR | libc::POLLHUP) != 0 {
            end_now();
        }
    }
}

/// Ends the process without running destructors, which would take away what libtorch's threads
/// still work on.
pub fn end_now() -> ! {
    // SAFETY: _exit has no preconditions and does not return.
    unsafe { libc::_exit(EXIT_GONE) }
}
