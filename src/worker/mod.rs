//! Background workers: one dispatcher for a database starts the queued runs, one runner for each
//! run executes it.
//!
//! Both are started when they are needed, so nothing has to be preloaded. The dispatcher connects
//! as the server's own superuser and only reads and settles riskft.run; it ends when the queue is
//! empty. A runner connects as the role that queued the run (its settings and its right to log in
//! count), and does everything else as the run's role.

mod dispatcher;
mod runner;

use std::ffi::CString;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use pgrx::pg_sys::{self, Oid};
use pgrx::PgTryBuilder;
use riskft_core::refusal::{code, Refusal, Result};

use crate::error::refusal_of;

/// Before something is tried again that failed.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// What a worker is told, in its bgw_extra.
#[derive(Debug, Clone, Copy)]
struct Order {
    database: Oid,
    login: Oid,
    run: i64,
}

impl Order {
    fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&u32::from(self.database).to_le_bytes());
        bytes[4..8].copy_from_slice(&u32::from(self.login).to_le_bytes());
        bytes[8..].copy_from_slice(&self.run.to_le_bytes());
        bytes
    }

    fn of(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, run @ ..] = bytes;
        Order {
            database: Oid::from(u32::from_le_bytes([a, b, c, d])),
            login: Oid::from(u32::from_le_bytes([e, f, g, h])),
            run: i64::from_le_bytes(run),
        }
    }

    /// The order of this process, a background worker.
    fn mine() -> Self {
        let mut bytes = [0; 16];
        // SAFETY: the server sets MyBgworkerEntry before a worker's main function runs.
        let extra = unsafe { &(*pg_sys::MyBgworkerEntry).bgw_extra };
        for (byte, stored) in bytes.iter_mut().zip(extra) {
            *byte = stored.cast_unsigned();
        }
        Order::of(bytes)
    }
}

/// A started worker, to be asked how it is.
struct Started(*mut pg_sys::BackgroundWorkerHandle);

impl Started {
    fn has_stopped(&self) -> bool {
        let mut pid = 0;
        // SAFETY: the handle came from RegisterDynamicBackgroundWorker of this process.
        let status = unsafe { pg_sys::GetBackgroundWorkerPid(self.0, &mut pid) };
        status == pg_sys::BgwHandleStatus::BGWH_STOPPED
            || status == pg_sys::BgwHandleStatus::BGWH_POSTMASTER_DIED
    }
}

/// Asks for a dispatcher in this database; false when the server has no worker to spare.
pub fn start_dispatcher() -> bool {
    // SAFETY: reads shared memory.
    if unsafe { pg_sys::RecoveryInProgress() } {
        // A standby runs nothing; a worker would wait there for the promotion.
        return true;
    }
    // SAFETY: reads a global of this process.
    let database = unsafe { pg_sys::MyDatabaseId };
    let order = Order { database, login: Oid::INVALID, run: 0 };
    start(order, "riskft dispatcher", "riskft_dispatcher", false).is_some()
}

/// Does not raise: it is called while a transaction ends.
fn start(order: Order, name: &str, function: &str, tracked: bool) -> Option<Started> {
    let mut worker = pg_sys::BackgroundWorker {
        bgw_flags: (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION)
            as i32,
        bgw_start_time: pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished,
        bgw_restart_time: pg_sys::BGW_NEVER_RESTART,
        ..pg_sys::BackgroundWorker::default()
    };
    put(&mut worker.bgw_name, name.as_bytes());
    put(&mut worker.bgw_type, b"riskft");
    put(&mut worker.bgw_library_name, b"riskft");
    put(&mut worker.bgw_function_name, function.as_bytes());
    put(&mut worker.bgw_extra, &order.bytes());
    let mut handle = std::ptr::null_mut();
    // SAFETY: the description is complete; a handle is palloc'd only where it is asked for.
    let started = unsafe {
        if tracked {
            worker.bgw_notify_pid = pg_sys::MyProcPid;
        }
        let place = if tracked { &raw mut handle } else { std::ptr::null_mut() };
        pg_sys::RegisterDynamicBackgroundWorker(&mut worker, place)
    };
    started.then_some(Started(handle))
}

/// Copies as much as fits before the last byte, which stays zero.
fn put(field: &mut [std::ffi::c_char], bytes: &[u8]) {
    let most = field.len() - 1;
    for (place, byte) in field[..most].iter_mut().zip(bytes) {
        *place = byte.cast_signed();
    }
}

extern "C-unwind" {
    // The server's own signal handlers; pgrx binds them as Rust functions, which are none.
    fn die(signal: i32);
    fn SignalHandlerForConfigReload(signal: i32);
}

/// Connects this worker to its database; ends the process when it may not.
fn connect(order: Order) {
    // SAFETY: called once, first thing in a worker's main function.
    unsafe {
        pg_sys::pqsignal(libc::SIGTERM, Some(die));
        pg_sys::pqsignal(libc::SIGHUP, Some(SignalHandlerForConfigReload));
        pg_sys::BackgroundWorkerUnblockSignals();
        pg_sys::BackgroundWorkerInitializeConnectionByOid(order.database, order.login, 0);
    }
}

/// What pg_stat_activity shows.
fn show(activity: &str) {
    let Ok(text) = CString::new(activity) else { return };
    // SAFETY: the string is copied.
    unsafe { pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text.as_ptr()) };
}

/// Does something in a transaction of its own; an ERROR in it, or at its commit, is returned.
fn in_transaction<T>(action: impl FnOnce() -> Result<T>) -> Result<T> {
    let whole = || {
        // SAFETY: no transaction is open in this worker; commit follows start, and what fails
        // between them is aborted below.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            // Whatever the database's or the role's defaults are.
            pg_sys::XactReadOnly = false;
            pg_sys::XactIsoLevel = pg_sys::XACT_READ_COMMITTED as i32;
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            let value = action()?;
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
            Ok(value)
        }
    };
    let outcome = caught(whole);
    if outcome.is_err() {
        // SAFETY: ends whatever is open; nothing is, after a failed commit.
        unsafe { pg_sys::AbortCurrentTransaction() };
    }
    outcome
}

/// Does something whose ERRORs are returned.
fn caught<T>(action: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut action = Some(action);
    let mut once = AssertUnwindSafe(|| match action.take() {
        Some(action) => action(),
        None => Err(Refusal::new(code::EXTERNAL_ROUTINE, "step was taken twice")),
    });
    PgTryBuilder::new(AssertUnwindSafe(move || (once.0)()))
        .catch_others(|error| Err(refusal_of(&error)))
        .catch_rust_panic(|error| Err(refusal_of(&error)))
        .execute()
}
