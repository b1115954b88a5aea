//! riskft_select: which columns carry the risk. The rows are read within the caller's statement, which
//! keeps a line of the run and nothing else.

use pgrx::fcinfo::pg_getarg;
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::IntoDatum;
use riskft_core::options::Method;
use riskft_core::protocol::{SelectionHeader, SelectionResult, PROTOCOL};
use riskft_core::refusal::{code, Refusal, Result};
use riskft_core::select::{self, Ranked};
use serde_json::json;

use crate::argument;
use crate::error::or_raise;
use crate::feed;
use crate::json;
use crate::listener::Answer;
use crate::relation::Scan;
use crate::request::{names, Request};
use crate::run::{self, Entry};
use crate::spi;
use crate::table::Table;
use crate::train::require_own_will;
use crate::training::job_header;
use crate::work::{self, Work};

crate::version_1!(pg_finfo_riskft_select);

/// `riskft_select(relation, target, ...) -> SETOF record`: see sql/select.sql for the arguments.
///
/// # Safety
/// Called by the server with the arguments that sql/select.sql declares.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn riskft_select(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: the arguments are of the declared types.
    let selection = or_raise(unsafe { Selection::read(fcinfo) });
    or_raise(Work::require_none().and_then(|()| require_own_will()));
    // SAFETY: raises 25006 in a read-only transaction, before anything is read.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_select()".as_ptr()) };
    // SAFETY: a function that returns a set.
    let mut table = unsafe { Table::begin(fcinfo) };
    for column in or_raise(selection.select()) {
        // SAFETY: sql/select.sql declares OUT parameters of these types.
        unsafe { table.push(row(column)) };
    }
    Datum::from(0)
}

fn row(column: Ranked) -> [Option<Datum>; 5] {
    [
        i32::try_from(column.rank).unwrap_or(i32::MAX).into_datum(),
        column.column_name.into_datum(),
        column.mean_abs_shap.into_datum(),
        column.share.into_datum(),
        column.twin_of.into_datum(),
    ]
}

/// What is to be selected from, as of a training without a name; and how many columns.
struct Selection {
    request: Request,
    most: u32,
}

impl Selection {
    /// # Safety
    /// `fcinfo` is a call of riskft_select.
    unsafe fn read(fcinfo: FunctionCallInfo) -> Result<Self> {
        const CALL: &str = "SELECT * FROM riskft_select(relation => '...', target => '...').";
        // SAFETY: each argument is read as its declared type.
        unsafe {
            let top_k = argument::given("top_k", pg_getarg(fcinfo, 2), CALL)?;
            let options = json::value(fcinfo, 6, "options")?.unwrap_or_default();
            let request = Request {
                model: String::new(),
                relation: argument::given("relation", pg_getarg(fcinfo, 0), CALL)?,
                select: None,
                target: argument::given("target", pg_getarg(fcinfo, 1), CALL)?,
                positive: pg_getarg(fcinfo, 3),
                exclude: names(fcinfo, 4),
                time_column: pg_getarg(fcinfo, 5),
                method: Method::None,
                base: String::new(),
                options: select::options(&options)?,
            };
            Ok(Selection { request, most: select::top_k(top_k)? })
        }
    }

    fn select(&self) -> Result<Vec<Ranked>> {
        let (run, status, alive) = work::within_statement("")?;
        let mut work = Work::new("selection of columns".to_owned(), run, status, alive)?;
        let outcome = self.start(&mut work).and_then(|()| self.finish(&mut work));
        work.end(outcome.as_ref().err());
        outcome
    }

    /// Reads the relation and feeds the trainer. The relation's locks come before the trainer's
    /// place, as for trainings.
    fn start(&self, work: &mut Work) -> Result<()> {
        let scan = Scan::open(&self.request.resolve()?)?;
        work.take_place();
        let header = SelectionHeader {
            protocol: PROTOCOL,
            job: job_header(&self.request, String::new(), &scan),
            most: self.most,
        };
        work.start(&self.request.relation, |process, listener, holds| {
            feed::selection(&header, scan, process, listener, holds)
        })
    }

    /// Waits for the trainer, and stores the line of the run.
    fn finish(&self, work: &mut Work) -> Result<Vec<Ranked>> {
        let Answer::Columns(result) = work.answer()? else { return Err(no_columns()) };
        work.take_files(&[])?;
        work.publishing();
        let SelectionResult { columns, ledger } = *result;
        run::begin(&work.run, &self.entry()?)?;
        run::complete(&work.run, &ledger, &work.listener.notices())?;
        Ok(columns)
    }

    fn entry(&self) -> Result<Entry<'_>> {
        let options = &self.request.options;
        Ok(Entry {
            kind: "select",
            name: None,
            relation: &self.request.relation,
            target: Some(&self.request.target),
            method: None,
            base: None,
            options: spi::json(&json!({
                "top_k": self.most,
                "roles": options.roles,
                "seed": options.seed,
                "split": options.split,
                "threads": options.threads,
            }))?,
        })
    }
}

fn no_columns() -> Refusal {
    Refusal::new(code::PROTOCOL_VIOLATION, "the trainer returned no columns")
        .detail("Its answer is that of another kind of work.")
        .hint("The trainer and the extension must be of the same version; run make install.")
}
