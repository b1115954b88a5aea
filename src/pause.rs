//! Waiting that can be cancelled, and that ends with the server.

use std::time::Duration;

use pgrx::pg_sys;

/// Waits so long, or until a signal; then looks at interrupts. Ends the process where the
/// postmaster is gone: a backend that outlives it would keep the server from starting again.
pub fn pause(longest: Duration) {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    let milliseconds = i64::try_from(longest.as_millis()).unwrap_or(i64::MAX);
    // SAFETY: this process's own latch, which signals set.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            events as i32,
            milliseconds as std::ffi::c_long,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    follow_configuration();
    pgrx::check_for_interrupts!();
}

/// In a background worker, takes over a changed configuration; a backend does so between
/// statements.
fn follow_configuration() {
    // SAFETY: the flag is this process's; reading the configuration is allowed where no command
    // runs that began with the old one.
    unsafe {
        let is_worker = !pg_sys::MyBgworkerEntry.is_null();
        if is_worker && (&raw const pg_sys::ConfigReloadPending).read_volatile() != 0 {
            (&raw mut pg_sys::ConfigReloadPending).write_volatile(0);
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}
