//! riskft_score_table: a relation's scores in a table of the caller's, written and refreshed.
//!
//! One read finds, under one snapshot, which rows are to be scored and which are gone. They are kept
//! beside the transaction, so that each batch of them commits by itself where the CALL stands outside
//! a transaction block: what is finished stays, and the next call finds less to do.

mod changes;
mod kept;
mod target;

use pgrx::fcinfo::pg_getarg;
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::IntoDatum;
use riskft_core::protocol::Progress;
use riskft_core::refusal::{code, Refusal, Result};

use crate::alias::ModelName;
use crate::argument;
use crate::catalog;
use crate::error::or_raise;
use crate::feed;
use crate::lock::{Held, Lock};
use crate::meaning;
use crate::model_cache;
use crate::progress::StatusFile;
use crate::relation::Relation;
use crate::run;
use crate::settings;
use changes::{Changes, Source};
use target::{Target, Writer};

/// Rows between two reports of the progress.
const REPORT_EVERY: u64 = 1000;

crate::version_1!(pg_finfo_riskft_score_table);

/// `CALL riskft_score_table(...)`: see sql/score_table.sql for the arguments.
///
/// # Safety
/// Called by the server with the arguments that sql/score_table.sql declares.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn riskft_score_table(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: the arguments are of the declared types.
    let request = or_raise(unsafe { Request::read(fcinfo) });
    // SAFETY: raises 25006 in a read-only transaction, before anything is read.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_score_table()".as_ptr()) };
    // SAFETY: fcinfo is the server's.
    let commits = unsafe { may_commit(fcinfo) };
    let done = or_raise(request.refresh(commits));
    let values = [
        count(done.scored).into_datum(),
        count(done.unchanged).into_datum(),
        count(done.removed).into_datum(),
        done.version.into_datum(),
    ];
    // SAFETY: sql/score_table.sql declares these four INOUT parameters.
    unsafe { argument::record(fcinfo, values) }
}

/// A count as bigint; what is beyond it is the largest.
fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Whether the CALL may end the transaction: at top level outside a transaction block, or below
/// procedures of which that is true.
///
/// # Safety
/// `fcinfo` is a CALL of a procedure.
unsafe fn may_commit(fcinfo: FunctionCallInfo) -> bool {
    // SAFETY: the server passes a CallContext to procedures; other callers pass none.
    unsafe {
        let context = (*fcinfo).context;
        !context.is_null()
            && (*context).type_ == pg_sys::NodeTag::T_CallContext
            && !(*context.cast::<pg_sys::CallContext>()).atomic
            && !pg_sys::IsSubTransaction()
    }
}

/// Commits, and goes on in a new transaction. Nothing that ends with a transaction may be open: no
/// scan, no rights or settings that were taken for a while.
fn commit() {
    // SAFETY: only called where `may_commit` is true; connect and finish are paired, and an ERROR
    // between them leaves through the transaction's abort.
    unsafe {
        pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as i32);
        pg_sys::SPI_commit();
        pg_sys::SPI_finish();
        pg_sys::EnsurePortalSnapshotExists();
    }
}

/// The arguments of a call.
struct Request {
    model: String,
    relation: String,
    target_table: String,
    key: String,
    batch_rows: u64,
}

/// What a call did.
struct Done {
    scored: u64,
    unchanged: u64,
    removed: u64,
    version: i32,
}

impl Request {
    /// # Safety
    /// `fcinfo` is a call of riskft_score_table.
    unsafe fn read(fcinfo: FunctionCallInfo) -> Result<Self> {
        const CALL: &str =
            "CALL riskft_score_table('model', 'relation', 'target_table', key => 'loan_id').";
        // SAFETY: each argument is read as its declared type.
        unsafe {
            let text = |place: usize, name| argument::given(name, pg_getarg(fcinfo, place), CALL);
            let batch_rows: i32 = argument::given("batch_rows", pg_getarg(fcinfo, 4), CALL)?;
            Ok(Request {
                model: text(0, "model")?,
                relation: text(1, "relation")?,
                target_table: text(2, "target_table")?,
                key: text(3, "key")?,
                batch_rows: u64::try_from(batch_rows)
                    .ok()
                    .filter(|rows| *rows > 0)
                    .ok_or_else(|| no_batch(batch_rows))?,
            })
        }
    }

    fn refresh(&self, commits: bool) -> Result<Done> {
        // Resolved once: what is deployed meanwhile has no say.
        let files = meaning::whole(&ModelName::parse(&self.model))?;
        let scorer = model_cache::scorer(&files, settings::kernel()?)?;
        let model = scorer.borrow().model_arc();
        let wanted = model.specification().encoding.columns.iter().map(|c| c.name.as_str());
        let relation = Relation::resolve(&self.relation)?;
        let source = Source::of(&relation, &self.key, &wanted.collect::<Vec<_>>())?;
        let target = Target::existing_or_new(&self.target_table, &source.key)?;
        let lock = lock(&target, commits)?;
        let mut status = self.status()?;
        status.0.report(&Progress { phase: "load".to_owned(), ..Progress::default() });
        let mut changes = Changes::find(&source, &target, &files)?;
        feed::require_locks(&|| lock.as_ref().is_none_or(Held::is_held))?;
        let mut done =
            Done { scored: 0, unchanged: changes.unchanged, removed: 0, version: files.version };
        let (mut seen, total) = (0, changes.total);
        while seen < total {
            status.0.report(&progress(seen, total));
            let mut writer = Writer::open(&target, files.version)?;
            let end = total.min(seen.saturating_add(self.batch_rows));
            while seen < end {
                changes.next(&scorer, &mut writer)?;
                seen += 1;
                if seen % REPORT_EVERY == 0 {
                    status.0.report(&progress(seen, total));
                }
            }
            let (scored, removed) = writer.close();
            done.scored += scored;
            done.removed += removed;
            if commits {
                commit();
            }
        }
        // A table that was made for no rows at all commits as well before its lock is given up.
        if commits && total == 0 {
            commit();
        }
        Ok(done)
    }

    /// A line of riskft.progress, with the lock that says it is alive.
    fn status(&self) -> Result<(StatusFile, Option<Held>)> {
        let id = run::next_id()?;
        let alive = Lock::Run(id).try_take();
        let name = ModelName::parse(&self.model).name;
        Ok((StatusFile::new(id, name, &catalog::current_role()), alive))
    }
}

fn progress(done: u64, total: u64) -> Progress {
    Progress { phase: "score".to_owned(), done, total, ..Progress::default() }
}

/// Keeps other calls away from a target: to the end of the transaction, or of the CALL where it
/// commits.
fn lock(target: &Target, commits: bool) -> Result<Option<Held>> {
    let lock = Lock::ScoreTable(target.id);
    let held = commits.then(|| lock.try_take()).flatten();
    if held.is_some() || (!commits && lock.take_for_transaction()) {
        return Ok(held);
    }
    Err(Refusal::new(
        code::LOCK_NOT_AVAILABLE,
        format!("another call writes table {}", target.name),
    )
    .detail("Two calls of riskft_score_table on one table would score its rows twice.")
    .hint("Wait until it has ended; riskft.progress shows it."))
}

fn no_batch(batch_rows: i32) -> Refusal {
    Refusal::new(code::INVALID_PARAMETER, "batch_rows must be at least 1")
        .detail(format!("Argument \"batch_rows\" is {batch_rows}."))
        .hint("It is the number of rows that are written before each commit.")
}
