//! Queued runs: riskft_train(wait => false), riskft_cancel, riskft_wait.
//!
//! The row is the caller's transaction's; a worker is asked for at its COMMIT, so that it finds
//! the row, and a ROLLBACK leaves neither.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pgrx::datum::Interval;
use pgrx::{pg_extern, pg_sys};
use riskft_core::refusal::{code, Refusal, Result};

use crate::argument;
use crate::base;
use crate::catalog;
use crate::error::{self, or_raise};
use crate::lock;
use crate::pause::pause;
use crate::progress;
use crate::relation::Scan;
use crate::reprieve::Grace;
use crate::request::Request;
use crate::run;
use crate::settings;
use crate::spi;
use crate::worker;

/// Between two looks at a run that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longest wait for a run to take notice of a cancel.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Between two requests for a dispatcher.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Queues a training; it starts when the transaction commits.
pub fn add(mut request: Request) -> Result<i64> {
    catalog::require_training(&request.model, request.options.deploy)?;
    base::needed_by(&request)?;
    let relation = request.resolve()?;
    if relation.uses_temporary()? {
        return Err(Refusal::new(
            code::NOT_SUPPORTED,
            "a queued run cannot read a temporary table",
        )
        .detail("The relation is temporary, or reads one that is; another session runs it.")
        .hint("Train with wait => true, or copy the rows into a permanent table."));
    }
    check_columns(&request, Scan::open(&relation)?)?;
    request.select = Some(relation.text());
    let id = run::next_id()?;
    run::queue(id, &request, &settings::search_path())?;
    start_at_commit();
    error::notice!(
        "run {id} of model \"{}\" is queued; it starts when this transaction commits",
        request.model
    );
    Ok(id)
}

/// What can be known now is refused now, not in another session an hour later.
fn check_columns(request: &Request, scan: Scan) -> Result<()> {
    let has = |name: &str| {
        scan.columns.iter().any(|c| c.name == name) || scan.unread.iter().any(|(n, _)| n == name)
    };
    let wanted = [Some(&request.target), request.time_column.as_ref()];
    let absent = wanted.into_iter().flatten().find(|name| !has(name)).cloned();
    scan.close();
    absent.map_or(Ok(()), |name| {
        Err(Refusal::new(code::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"))
            .detail(format!("The relation has no column \"{name}\"."))
            .hint("Name a column of the relation; names are case-sensitive."))
    })
}

thread_local! {
    /// Whether this transaction has queued a run.
    static QUEUED: Cell<bool> = const { Cell::new(false) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

fn start_at_commit() {
    QUEUED.set(true);
    if !REGISTERED.replace(true) {
        // SAFETY: the callback lives as long as the library, which is never unloaded.
        unsafe { pg_sys::RegisterXactCallback(Some(at_transaction_end), std::ptr::null_mut()) };
    }
}

/// After the commit record is written nothing here may fail: a missing worker is a WARNING, the
/// run stays queued, and the next riskft_wait or queued run starts it.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn at_transaction_end(
    event: pg_sys::XactEvent::Type,
    _argument: *mut std::ffi::c_void,
) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PRE_PREPARE};
    match event {
        XACT_EVENT_COMMIT if QUEUED.replace(false) => start_queued(),
        XACT_EVENT_ABORT => QUEUED.set(false),
        XACT_EVENT_PRE_PREPARE if QUEUED.get() => or_raise(Err(Refusal::new(
            code::NOT_SUPPORTED,
            "cannot PREPARE a transaction that has queued a run",
        )
        .detail("A queued run starts at COMMIT, which another session would do.")
        .hint("Commit the transaction in this session."))),
        _ => {}
    }
}

fn start_queued() {
    if !worker::start_dispatcher() {
        pgrx::warning!(
            "no background worker is free for the queued run; it stays queued until riskft_wait or another queued run starts it"
        );
    }
}

fn given<T>(name: &str, value: Option<T>) -> Result<T> {
    argument::given(name, value, "The views riskft.runs and riskft.progress list your runs.")
}

/// Refuses a run that does not exist, or that the caller may not touch.
fn authorise(id: i64, allowed: fn(&str) -> bool) -> Result<()> {
    // A training within a statement has no row yet that others see, but a status file.
    let owner = match run::state(id)? {
        Some(row) => Some(row.owner),
        None => progress::alive()?.into_iter().find(|(s, _)| s.run == id).map(|(s, _)| s.owner),
    };
    let owner = owner.ok_or_else(|| {
        Refusal::new(code::UNDEFINED_OBJECT, format!("run {id} does not exist"))
            .detail("No run of this number is stored, queued or under way in this database.")
            .hint("The views riskft.runs and riskft.progress list your runs.")
    })?;
    if allowed(&owner) {
        return Ok(());
    }
    Err(Refusal::new(code::INSUFFICIENT_PRIVILEGE, format!("permission denied for run {id}"))
        .detail(format!("Run {id} belongs to role \"{owner}\"."))
        .hint(format!("Ask a member of role \"{owner}\".")))
}

/// Ends a queued or running run, or its search alone, with a NOTICE, where it is asked to keep the
/// best; false, with a NOTICE, where it has ended already.
#[pg_extern(sql = false)]
fn riskft_cancel(run: Option<i64>) -> bool {
    or_raise(given("run", run).and_then(cancel))
}

fn cancel(id: i64) -> Result<bool> {
    // SAFETY: raises 25006 on a standby, where no run can be reached.
    unsafe { pg_sys::PreventCommandDuringRecovery(c"riskft_cancel()".as_ptr()) };
    authorise(id, catalog::may_signal)?;
    if run::state(id)?.is_some_and(|row| row.state == "queued") {
        // SAFETY: raises 25006 in a read-only transaction.
        unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_cancel()".as_ptr()) };
        if run::cancel_queued(id)? {
            return Ok(true);
        }
    }
    // A worker may have taken it on meanwhile. One that has just heard a cancel would take another
    // for the same.
    await_other_grace(id, Grace::Heard)?;
    let grace = progress::grace_of(id)?;
    let Some(pid) = lock::runner_of(id)? else {
        let state = run::state(id)?.map_or("rolled back".to_owned(), |row| row.state);
        error::notice!("run {id} has ended already: {state}");
        return Ok(false);
    };
    // SAFETY: the process holds the run's lock, so it is a backend or a worker of this server;
    // SIGINT cancels what it does, as pg_cancel_backend does.
    let is_told = unsafe { libc::kill(pid, libc::SIGINT) } == 0;
    if is_told && grace == Some(Grace::Held) {
        tell_what_goes_on(id)?;
    }
    Ok(is_told)
}

/// Says so if the cancel ended the search alone.
fn tell_what_goes_on(id: i64) -> Result<()> {
    if let Some(Grace::Heard | Grace::Spent) = await_other_grace(id, Grace::Held)? {
        error::notice!(
            "run {id} goes on: the cancel has ended its search, and the best so far becomes a \
             version that is not deployed; riskft_wait({id}) waits for it, riskft_deploy deploys \
             it, and another riskft_cancel({id}) ends the run"
        );
    }
    Ok(())
}

/// Waits, for a while, until a cancel does something else than now; None where the run has ended.
fn await_other_grace(id: i64, now: Grace) -> Result<Option<Grace>> {
    let begun = Instant::now();
    loop {
        let grace = progress::grace_of(id)?;
        if grace != Some(now) || begun.elapsed() >= ANSWER_WAIT {
            return Ok(grace);
        }
        pause(LOOK_EVERY);
    }
}

/// Waits for the end of a run; its state, or NULL where its transaction left no row.
#[pg_extern(sql = false)]
fn riskft_wait(run: Option<i64>, timeout: Option<Interval>) -> Option<String> {
    or_raise(given("run", run).and_then(|id| wait(id, longest(timeout)?)))
}

fn longest(timeout: Option<Interval>) -> Result<Option<Duration>> {
    let Some(timeout) = timeout else { return Ok(None) };
    // Months count 30 days, as in PostgreSQL's own comparison of intervals.
    let days = i64::from(timeout.months()) * 30 + i64::from(timeout.days());
    let microseconds = i128::from(days) * 86_400_000_000 + i128::from(timeout.micros());
    let microseconds = u64::try_from(microseconds).map_err(|_| {
        Refusal::new(code::INVALID_PARAMETER, "timeout must not be negative")
            .detail("Argument \"timeout\" is below zero.")
            .hint("Give an interval such as '10 minutes', or NULL to wait without end.")
    })?;
    Ok(Some(Duration::from_micros(microseconds)))
}

fn wait(id: i64, longest: Option<Duration>) -> Result<Option<String>> {
    authorise(id, catalog::may_watch)?;
    require_no_files_locked()?;
    let begun = Instant::now();
    let mut asked = None;
    loop {
        let (ended, state) = look(id, &mut asked)?;
        if ended || longest.is_some_and(|longest| begun.elapsed() >= longest) {
            return Ok(state);
        }
        pause(LOOK_EVERY);
    }
}

/// Whether the run has ended, and its state: NULL where no row is left.
fn look(id: i64, asked: &mut Option<Instant>) -> Result<(bool, Option<String>)> {
    // In this order: who gives the lock up has written the end before.
    let alive = lock::runner_of(id)?.is_some() || lock::is_uncommitted(id)?;
    let Some(row) = run::state(id)? else {
        return Ok((!alive, alive.then(|| "running".to_owned())));
    };
    match row.state.as_str() {
        "queued" if row.is_ours => {
            Err(Refusal::new(code::NOT_IN_STATE, format!("run {id} is queued in this transaction"))
                .detail("It starts when the transaction commits.")
                .hint("COMMIT, then wait for the run."))
        }
        "queued" => {
            ask_for_dispatcher(asked)?;
            Ok((false, Some(row.state)))
        }
        // SAFETY: reads shared memory. A standby does not see the primary's locks.
        "running" if !alive && !unsafe { pg_sys::RecoveryInProgress() } => {
            // The dispatcher writes the end down.
            worker::start_dispatcher();
            Ok((true, Some("failed".to_owned())))
        }
        "running" => Ok((false, Some(row.state))),
        _ => Ok((true, Some(row.state))),
    }
}

/// After a restart, or where no worker was free, nobody starts the queued runs: asks until
/// somebody does.
fn ask_for_dispatcher(asked: &mut Option<Instant>) -> Result<()> {
    if asked.is_none_or(|asked: Instant| asked.elapsed() > ASK_EVERY) && !lock::has_dispatcher()? {
        worker::start_dispatcher();
        *asked = Some(Instant::now());
    }
    Ok(())
}

/// A run that is waited for may need the lock on the stored files to publish.
fn require_no_files_locked() -> Result<()> {
    let locked = spi::as_owner(|| {
        spi::query(
            "SELECT FROM pg_catalog.pg_locks
             WHERE locktype = 'relation' AND relation = 'riskft.blob'::regclass AND granted
                 AND pid = pg_catalog.pg_backend_pid() AND mode = 'ShareRowExclusiveLock'
                 AND database = (SELECT oid FROM pg_catalog.pg_database
                                 WHERE datname = pg_catalog.current_database())",
            &[],
            true,
            |_| (),
        )
    })?;
    if locked.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(
        code::NOT_IN_STATE,
        "cannot wait in a transaction that has trained or dropped",
    )
    .detail("It holds a lock that the run needs to store its version.")
    .hint("COMMIT, then wait for the run."))
}
