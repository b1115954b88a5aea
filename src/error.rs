//! Refusals become PostgreSQL errors here, and nowhere else.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_sys, PgLogLevel};
use riskft_core::refusal::Refusal;

/// Ends the statement with the refusal as its error.
pub fn raise(refusal: Refusal) -> ! {
    error_report(refusal).report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}

/// The value, or the statement's end.
pub fn or_raise<T>(result: Result<T, Refusal>) -> T {
    result.unwrap_or_else(|refusal| raise(refusal))
}

/// A WARNING with its detail.
pub fn warn(message: &str, detail: &str) {
    tell(Refusal::new("01000", message).detail(detail), PgLogLevel::WARNING);
}

/// A NOTICE; the arguments are those of `format!`.
macro_rules! notice {
    ($($argument:tt)*) => { $crate::error::note(format!($($argument)*)) };
}
pub(crate) use notice;

/// A line of the server's log; the arguments are those of `format!`.
macro_rules! log {
    ($($argument:tt)*) => { $crate::error::write_log(format!($($argument)*)) };
}
pub(crate) use log;

pub fn note(text: String) {
    tell(Refusal::new("00000", text), PgLogLevel::NOTICE);
}

pub fn write_log(text: String) {
    tell(Refusal::new("00000", text), PgLogLevel::LOG_SERVER_ONLY);
}

/// Says something that ends nothing, unless an interrupt waits.
///
/// The server looks for interrupts after each report, and converts it to the client's encoding: an
/// ERROR may leave it. pgrx guards every call of the server but this one (its notice!, warning! and
/// log! do not), and an ERROR that leapt over the callers' frames would leave their trainer, their
/// locks and their files behind.
fn tell(refusal: Refusal, level: PgLogLevel) {
    let report = error_report(refusal);
    // SAFETY: the frames that an ERROR leaps over are those of the report alone, which own nothing
    // that must be dropped.
    let say = || unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| report.report(level)) };
    if !std::thread::panicking() {
        return say();
    }
    // An ERROR is on its way already, and a second one out of a drop would abort the process. One
    // request to cancel may well arrive twice: the postmaster signals the backend and its group.
    let held = unheard();
    let _ = std::panic::catch_unwind(AssertUnwindSafe(say));
    drop(held);
}

/// Interrupts wait until this goes.
struct Unheard(u32);

fn unheard() -> Unheard {
    // SAFETY: the counter is this process's; its only thread changes it.
    unsafe {
        let before = (&raw const pg_sys::InterruptHoldoffCount).read_volatile();
        (&raw mut pg_sys::InterruptHoldoffCount).write_volatile(before + 1);
        Unheard(before)
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        // SAFETY: as above. It is set back, not counted down: an ERROR in between sets it to 0.
        unsafe { (&raw mut pg_sys::InterruptHoldoffCount).write_volatile(self.0) }
    }
}

fn error_report(refusal: Refusal) -> ErrorReport {
    let code = PgSqlErrorCode::from(sqlstate(&refusal.code));
    let mut report = ErrorReport::new(code, refusal.message, "riskft");
    if !refusal.detail.is_empty() {
        report = report.set_detail(refusal.detail);
    }
    if !refusal.hint.is_empty() {
        report = report.set_hint(refusal.hint);
    }
    report
}

/// PostgreSQL's MAKE_SQLSTATE: six bits a character, the first lowest.
fn sqlstate(code: &str) -> i32 {
    code.bytes()
        .take(5)
        .enumerate()
        .map(|(place, byte)| (i32::from(byte.wrapping_sub(b'0')) & 0x3F) << (6 * place))
        .sum()
}

/// An ERROR that was caught, in the words that the user would have seen.
pub fn refusal_of(error: &CaughtError) -> Refusal {
    let report = match error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
        CaughtError::RustPanic { ereport, .. } => ereport,
    };
    Refusal::new(&code_of(report.sql_error_code() as i32), report.message())
        .detail(report.detail().unwrap_or_default())
        .hint(report.hint().unwrap_or_default())
}

/// The five characters of an SQLSTATE; undoes [`sqlstate`].
fn code_of(state: i32) -> String {
    (0..5).map(|place| char::from(b'0' + (state >> (6 * place) & 0x3F) as u8)).collect()
}
