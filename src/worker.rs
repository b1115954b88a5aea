//! Background workers: one dispatcher for a database starts the queued runs, one runner for each
//! run executes it.
//!
//! Both are started when they are needed, so nothing has to be preloaded. The dispatcher connects
//! as the server's own superuser and only reads and settles riskft.run; it ends when the queue is
//! empty. A runner connects as the role that queued the run (its settings and its right to log in
//! count), and does everything else as the run's role.

use std::collections::HashMap;
use std::ffi::CString;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::PgTryBuilder;
use riskft_core::refusal::{code, Refusal, Result};

use crate::catalog;
use crate::error::{self, refusal_of};
use crate::lock::Lock;
use crate::pause::pause;
use crate::progress::StatusFile;
use crate::run::{self, Claimed, Queued, Run};
use crate::settings;
use crate::spi;
use crate::training::Training;

/// Between two looks of the dispatcher.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Before something is tried again that failed.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// Longest wait of a runner for a lock of its relation while it holds a trainer's place.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// Tries to store a finished training.
const ATTEMPTS: u32 = 5;
/// Runners that may end without taking on their run, before the run is given up.
const MOST_LOST: u32 = 3;

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

/// Main function of the dispatcher.
///
/// # Safety
/// Called by the server in a background worker.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn riskft_dispatcher(_argument: Datum) {
    let order = Order::mine();
    connect(order);
    show("starts queued runs");
    // The queue is looked at again after the lock is free: a run that was queued between the last
    // look and then found the lock taken.
    loop {
        let Ok(Some(held)) = caught(|| Ok(Lock::Dispatcher.try_take())) else { return };
        let done = Dispatcher { database: order.database, lost: HashMap::new() }.dispatch();
        drop(held);
        match done.and_then(|()| in_transaction(run::has_queued)) {
            Ok(false) => return,
            Ok(true) => {}
            // The extension was dropped.
            Err(refusal) if [code::NO_CATALOGUE, "42P01"].contains(&refusal.code.as_str()) => {
                error::log!("riskft dispatcher ends: {}", refusal.message);
                return;
            }
            // A run must not stay queued because of what goes by: the lock table was full, say.
            Err(refusal) => {
                error::log!("riskft dispatcher tries again: {}", refusal.message);
                pause(AFTER_ERROR);
            }
        }
    }
}

/// Starts the queued runs, oldest first, each when there is a place for its trainer.
struct Dispatcher {
    database: Oid,
    /// Runners that ended without taking on their run, for each run.
    lost: HashMap<i64, u32>,
}

impl Dispatcher {
    /// Until the queue is empty.
    fn dispatch(&mut self) -> Result<()> {
        in_transaction(run::settle)?;
        while in_transaction(run::has_queued)? {
            let started = caught(|| Ok(has_free_place()))? && self.start_next()?;
            if !started {
                caught(|| {
                    pause(LOOK_EVERY);
                    Ok(())
                })?;
            }
            in_transaction(run::settle)?;
        }
        Ok(())
    }

    /// Starts a runner for the oldest queued run; false where none could be started.
    fn start_next(&mut self) -> Result<bool> {
        let Some(queued) = in_transaction(run::queued)?.into_iter().next() else {
            // Their rows are locked: somebody is about to cancel them.
            return Ok(false);
        };
        let same = in_transaction(|| Ok(catalog::role_id(&queued.login) == Some(queued.login_id)))?;
        if !same {
            self.give_up(&queued, "The role was dropped meanwhile.")?;
            return Ok(true);
        }
        let order = Order { database: self.database, login: queued.login_id, run: queued.id };
        let name = format!("riskft run {}", queued.id);
        match start(order, &name, "riskft_runner", true) {
            Some(runner) => self.await_claim(&queued, &runner).map(|()| true),
            None => Ok(false),
        }
    }

    /// Waits until the runner has taken the run on, or has ended.
    fn await_claim(&mut self, queued: &Queued, runner: &Started) -> Result<()> {
        loop {
            // In this order: what a runner did before it stopped is seen.
            let stopped = runner.has_stopped();
            let state = in_transaction(|| run::state(queued.id))?;
            if state.is_none_or(|row| row.state != "queued") {
                return Ok(());
            }
            if stopped {
                let lost = self.lost.entry(queued.id).or_default();
                *lost += 1;
                if *lost >= MOST_LOST {
                    self.give_up(queued, "The server log says why; may the role log in?")?;
                }
                return Ok(());
            }
            caught(|| {
                pause(LOOK_EVERY);
                Ok(())
            })?;
        }
    }

    fn give_up(&mut self, queued: &Queued, why: &str) -> Result<()> {
        let refusal = Refusal::new(code::NOT_IN_STATE, "the run's worker could not start")
            .detail(format!(
                "It connects as role \"{}\", which queued the run. {why}",
                queued.login
            ))
            .hint("Queue the training again as a role that can log in.");
        self.lost.remove(&queued.id);
        in_transaction(|| run::fail(queued.id, "queued", &refusal, &[]))
    }
}

fn has_free_place() -> bool {
    (0..settings::max_trainers()).any(|place| Lock::Trainer(place).try_take().is_some())
}

/// Main function of a runner.
///
/// # Safety
/// Called by the server in a background worker.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn riskft_runner(_argument: Datum) {
    let order = Order::mine();
    connect(order);
    let Ok(Some(alive)) = caught(|| Ok(Lock::Run(order.run).try_take())) else { return };
    let mut claimed = match in_transaction(|| run::claim(order.run)) {
        Ok(Some(claimed)) => claimed,
        Ok(None) => return,
        Err(refusal) => {
            error::log!("riskft run {} cannot be taken on: {}", order.run, refusal.message);
            return;
        }
    };
    let Some(request) = claimed.request.take() else { return };
    show(&format!("run {}: training of model {}", order.run, request.model));
    let status = StatusFile::new(order.run, &request.model, &claimed.role);
    let role = claimed.role.clone();
    let run = Run { id: order.run, role, queued: true, started_at: status.started_at() };
    // The run's row says "running" from here on; what ends below ends it.
    let mut training = match Training::new(request, run, status, Some(alive)) {
        Ok(training) => training,
        Err(refusal) => return end(order.run, &refusal, &[]),
    };
    let outcome = execute(&mut training, &claimed);
    training.end(outcome.as_ref().err());
    if let Err(refusal) = outcome {
        end(order.run, &refusal, &training.notices());
    }
}

/// One transaction to read, none to train, one to publish: a long training holds no snapshot.
fn execute(training: &mut Training, claimed: &Claimed) -> Result<()> {
    let role = in_transaction(|| {
        settings::take_over(&claimed.search_path, claimed.device_hour_price)?;
        let role = catalog::role_id(&claimed.role).filter(|role| *role == claimed.role_id);
        role.ok_or_else(|| {
            Refusal::new(
                code::UNDEFINED_OBJECT,
                format!("role \"{}\" does not exist", claimed.role),
            )
            .detail("The run's role was dropped after the run was queued.")
            .hint("Queue the training again as another role.")
        })
    })?;
    in_transaction(|| spi::as_role(role, || training.check()))?;
    loop {
        caught(|| training.take_place())?;
        let started = in_transaction(|| {
            // Who holds the relation's lock may wait for this run's place.
            settings::limit_lock_waits(LOCK_WAIT)?;
            spi::as_role(role, || training.start())
        });
        match started {
            Err(refusal) if refusal.code == code::LOCK_NOT_AVAILABLE => training.give_place_back(),
            outcome => break outcome?,
        }
        caught(|| {
            pause(AFTER_ERROR);
            Ok(())
        })?;
    }
    let (result, blobs) = caught(|| training.finish())?;
    // The result of hours is in memory: what goes by does not lose it.
    for attempt in 1.. {
        match in_transaction(|| spi::as_role(role, || training.publish(&result, &blobs))) {
            Err(refusal) if attempt < ATTEMPTS && goes_by(&refusal) => {}
            outcome => return outcome.map(|_| ()),
        }
    }
    Ok(())
}

fn goes_by(refusal: &Refusal) -> bool {
    [code::DEADLOCK, code::SERIALIZATION_FAILURE, code::LOCK_NOT_AVAILABLE]
        .contains(&refusal.code.as_str())
}

fn end(run: i64, refusal: &Refusal, notices: &[String]) {
    // A second cancel would only cancel this note.
    // SAFETY: this process's own signal and flag.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        (&raw mut pg_sys::QueryCancelPending).write_volatile(0);
    }
    if let Err(error) = in_transaction(|| run::fail(run, "running", refusal, notices)) {
        error::log!("riskft run {run}: its end could not be written: {}", error.message);
    }
}
