//! A cancel that ends a search, not its run.
//!
//! PostgreSQL holds cancels back, but no termination, while QueryCancelHoldoffCount is not zero; an
//! ERROR sets it to zero. A time-out comes as a cancel too: it is the statement's limit, and ends
//! the run.

use std::time::{Duration, Instant};

use pgrx::pg_sys;
use serde::{Deserialize, Serialize};

/// One request may arrive as two signals: the postmaster signals the process and then its group.
/// What comes so soon after the first is the same request.
const SAME: Duration = Duration::from_millis(500);

// TimeoutId of utils/timeout.h, which pgrx does not bind.
const LOCK_TIMEOUT: u32 = 2;
const STATEMENT_TIMEOUT: u32 = 3;

extern "C-unwind" {
    fn get_timeout_indicator(id: u32, reset_indicator: bool) -> bool;
}

/// What a cancel does to a run, for other sessions to see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grace {
    /// It ends the run.
    #[default]
    None,
    /// It ends the search alone.
    Held,
    /// One has ended the search; what comes now is the same request.
    Heard,
    /// One has ended the search; another ends the run.
    Spent,
}

/// Holds cancels back during a search.
pub struct Reprieve {
    is_wanted: bool,
    grace: Grace,
    hold: Option<Hold>,
    /// When the cancel was heard.
    heard: Instant,
}

/// Cancels are held back while it lives.
struct Hold;

impl Reprieve {
    pub fn new(is_wanted: bool) -> Self {
        Reprieve { is_wanted, grace: Grace::None, hold: None, heard: Instant::now() }
    }

    pub fn grace(&self) -> Grace {
        self.grace
    }

    /// Begins with the search, and ends with it unless a cancel has come.
    pub fn follow(&mut self, is_searching: bool) {
        match self.grace {
            Grace::None if self.is_wanted && is_searching => {
                self.hold = Some(Hold::begin());
                self.grace = Grace::Held;
            }
            Grace::Held if !is_searching && !is_cancel_pending() => {
                self.hold = None;
                self.grace = Grace::None;
            }
            _ => {}
        }
    }

    /// Whether a cancel has come that ends the search alone: true once.
    pub fn is_called(&mut self) -> bool {
        match self.grace {
            Grace::Held | Grace::Heard if has_timed_out() => {
                self.spend();
                // It may have been taken for a cancel in between.
                ask_for_cancel();
            }
            Grace::Held if take_cancel() => {
                self.grace = Grace::Heard;
                self.heard = Instant::now();
                return true;
            }
            Grace::Heard if self.heard.elapsed() >= SAME => self.spend(),
            Grace::Heard => drop(take_cancel()),
            _ => {}
        }
        false
    }

    /// The trainer has answered: cancels count again.
    pub fn end(mut self) {
        if self.grace == Grace::Heard && !has_timed_out() {
            take_cancel();
        }
        self.spend();
    }

    fn spend(&mut self) {
        self.hold = None;
        self.grace = Grace::Spent;
    }
}

impl Hold {
    fn begin() -> Self {
        // SAFETY: this process's own counter, as HOLD_CANCEL_INTERRUPTS raises it.
        unsafe { pg_sys::QueryCancelHoldoffCount += 1 };
        Hold
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // SAFETY: undoes `begin`; an ERROR in between has set it to zero.
        unsafe {
            pg_sys::QueryCancelHoldoffCount = pg_sys::QueryCancelHoldoffCount.saturating_sub(1);
        }
    }
}

fn is_cancel_pending() -> bool {
    // SAFETY: this process's own flag, which its signal handler sets; no other thread runs.
    unsafe { (&raw const pg_sys::QueryCancelPending).read_volatile() != 0 }
}

/// Whether a cancel was held back, which is used up by this.
fn take_cancel() -> bool {
    let is_pending = is_cancel_pending();
    if is_pending {
        // SAFETY: as above; a signal in between asks for the same.
        unsafe { (&raw mut pg_sys::QueryCancelPending).write_volatile(0) };
    }
    is_pending
}

/// What the signal handler of a cancel does.
fn ask_for_cancel() {
    // SAFETY: this process's own flags.
    unsafe {
        (&raw mut pg_sys::QueryCancelPending).write_volatile(1);
        (&raw mut pg_sys::InterruptPending).write_volatile(1);
    }
}

/// Whether a time-out of the statement, or of its wait for a lock, has asked for a cancel. The
/// indicators stay for the server's message.
fn has_timed_out() -> bool {
    // SAFETY: reads this process's own table of time-outs, which is set up before any statement.
    unsafe {
        get_timeout_indicator(STATEMENT_TIMEOUT, false)
            || get_timeout_indicator(LOCK_TIMEOUT, false)
    }
}
