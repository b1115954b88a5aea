//! Background workers: one dispatcher for a database starts the queued runs, one runner for each
//! run executes it.
//!
//! Both are started when they are needed, so nothing has to be preloaded. The dispatcher connects
//! as the server's own superuser and only reads and settles riskft.run; it ends when the queue is
//! empty. A runner connects as the role that queued the run (its settings and its right to log in
//! count), and does everything else as the run's role.

use std::ffi::CString;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::PgTryBuilder;
use riskft_core::refusal::{code, Refusal, Result};

use crate::catalog;
use crate::error::refusal_of;
use crate::lock::Lock;
use crate::progress::StatusFile;
use crate::run::{self, Claimed, Run};
use crate::settings;
use crate::spi;
use crate::train::Training;

/// Between two looks of the dispatcher.
const LOOK_EVERY: Duration = Duration::from_millis(100);

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

/// Connects this worker to its database; ends the process when it may not.
fn connect(order: Order) {
    // SAFETY: called once, first thing in a worker's main function.
    unsafe {
        pg_sys::pqsignal(libc::SIGTERM, Some(terminate));
        pg_sys::pqsignal(libc::SIGHUP, Some(reload));
        pg_sys::BackgroundWorkerUnblockSignals();
        pg_sys::BackgroundWorkerInitializeConnectionByOid(order.database, order.login, 0);
    }
}

/// A SIGTERM: the next look at interrupts ends the process, as in a backend.
unsafe extern "C-unwind" fn terminate(_: i32) {
    // SAFETY: a signal handler that only sets flags.
    unsafe {
        (&raw mut pg_sys::ProcDiePending).write_volatile(1);
        (&raw mut pg_sys::InterruptPending).write_volatile(1);
        pg_sys::SetLatch(pg_sys::MyLatch);
    }
}

/// A SIGHUP: the main loop reads the configuration again.
unsafe extern "C-unwind" fn reload(_: i32) {
    // SAFETY: a signal handler that only sets flags.
    unsafe {
        (&raw mut pg_sys::ConfigReloadPending).write_volatile(1);
        pg_sys::SetLatch(pg_sys::MyLatch);
    }
}

fn follow_configuration() {
    // SAFETY: the flag is this process's; reading the configuration is allowed between commands.
    unsafe {
        if (&raw const pg_sys::ConfigReloadPending).read_volatile() != 0 {
            (&raw mut pg_sys::ConfigReloadPending).write_volatile(0);
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
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
        let Some(held) = Lock::Dispatcher.try_take() else { return };
        let done = dispatch(order.database);
        drop(held);
        match done.and_then(|()| in_transaction(run::oldest_queued)) {
            Ok(None) => return,
            Ok(Some(_)) => {}
            Err(refusal) => {
                pgrx::log!("riskft dispatcher ends: {}", refusal.message);
                return;
            }
        }
    }
}

/// Starts the queued runs, oldest first, each when there is a place for its trainer.
fn dispatch(database: Oid) -> Result<()> {
    while let Some((run, login)) = in_transaction(|| {
        run::settle()?;
        run::oldest_queued()
    })? {
        if !has_free_place() {
            pause();
            continue;
        }
        let login_id = in_transaction(|| Ok(catalog::role_id(&login)))?;
        let Some(login_id) = login_id else {
            end_unstarted(run, &login, "The role does not exist any more.")?;
            continue;
        };
        let order = Order { database, login: login_id, run };
        match start(order, &format!("riskft run {run}"), "riskft_runner", true) {
            Some(runner) => await_claim(run, &login, &runner)?,
            None => pause(),
        }
    }
    Ok(())
}

fn has_free_place() -> bool {
    (0..settings::max_trainers()).any(|place| Lock::Trainer(place).try_take().is_some())
}

fn pause() {
    pgrx::check_for_interrupts!();
    std::thread::sleep(LOOK_EVERY);
    follow_configuration();
}

/// Waits until the runner has taken the run on and has a place for its trainer, or has ended.
fn await_claim(run: i64, login: &str, runner: &Started) -> Result<()> {
    loop {
        let state = in_transaction(|| run::state(run))?;
        if state.is_none_or(|row| row.state != "queued") {
            // Its trainer takes its place a moment later.
            pause();
            return Ok(());
        }
        if runner.has_stopped() {
            let still = in_transaction(|| run::state(run))?;
            if still.is_some_and(|row| row.state == "queued") {
                end_unstarted(run, login, "The server log says why; may the role log in?")?;
            }
            return Ok(());
        }
        pause();
    }
}

fn end_unstarted(run: i64, login: &str, why: &str) -> Result<()> {
    let refusal = Refusal::new(code::NOT_IN_STATE, "the run's worker could not start")
        .detail(format!("It connects as role \"{login}\", which queued the run. {why}"))
        .hint("Queue the training again as a role that can log in.");
    in_transaction(|| run::fail(run, &refusal, "[]"))
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
    let Some(_alive) = Lock::Run(order.run).try_take() else { return };
    let claimed = match in_transaction(|| run::claim(order.run)) {
        Ok(Some(claimed)) => claimed,
        Ok(None) => return,
        Err(refusal) => return end(order.run, &refusal, "[]"),
    };
    show(&format!("run {}: training of model {}", order.run, claimed.request.model));
    let status = StatusFile::new(order.run, &claimed.request.model, &claimed.role);
    let run = Run {
        id: order.run,
        role: claimed.role.clone(),
        queued: true,
        started_at: status.started_at(),
    };
    let mut training = Training::new(claimed.request.clone(), run, status);
    let outcome = execute(&mut training, &claimed);
    training.log_end(&outcome);
    if let Err(refusal) = outcome {
        end(order.run, &refusal, &training.notices());
    }
}

/// One transaction to read, none to train, one to publish: a long training holds no snapshot.
fn execute(training: &mut Training, claimed: &Claimed) -> Result<()> {
    let role = in_transaction(|| {
        settings::take_over(&claimed.search_path, claimed.device_hour_price)?;
        catalog::role_id(&claimed.role).ok_or_else(|| {
            Refusal::new(
                code::UNDEFINED_OBJECT,
                format!("role \"{}\" does not exist", claimed.role),
            )
            .detail("The run's role was dropped after the run was queued.")
            .hint("Queue the training again as another role.")
        })
    })?;
    in_transaction(|| spi::as_role(role, || training.check()))?;
    caught(|| training.take_place())?;
    in_transaction(|| spi::as_role(role, || training.start()))?;
    let (result, blobs) = caught(|| training.finish())?;
    in_transaction(|| spi::as_role(role, || training.publish(&result, &blobs)))?;
    Ok(())
}

fn end(run: i64, refusal: &Refusal, notices: &str) {
    if let Err(error) = in_transaction(|| run::fail(run, refusal, notices)) {
        pgrx::log!("riskft run {run}: its end could not be written: {}", error.message);
    }
}
