//! riskft_estimate: what a training would take, before it is started. The rows are read within the
//! caller's statement, which keeps a line of the run and nothing else.

use pgrx::fcinfo::pg_getarg;
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::{IntoDatum, JsonB};
use riskft_core::options::{Method, Options};
use riskft_core::protocol::{EstimateHeader, EstimateResult, PROTOCOL};
use riskft_core::refusal::{code, Refusal, Result};
use serde_json::{Map, Value};

use crate::argument;
use crate::base;
use crate::error::or_raise;
use crate::feed;
use crate::json;
use crate::listener::Answer;
use crate::relation::Scan;
use crate::request::{names, Request};
use crate::run::{self, Entry};
use crate::train::require_own_will;
use crate::training::job_header;
use crate::work::{self, Work};

crate::version_1!(pg_finfo_riskft_estimate);

/// `riskft_estimate(relation, target, method, ...) -> record`: see sql/cost.sql for the arguments.
///
/// # Safety
/// Called by the server with the arguments that sql/cost.sql declares.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn riskft_estimate(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: the arguments are of the declared types.
    let request = or_raise(unsafe { read(fcinfo) });
    or_raise(Work::require_none().and_then(|()| require_own_will()));
    // SAFETY: raises 25006 in a read-only transaction, before anything is read.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_estimate()".as_ptr()) };
    let (result, run) = or_raise(estimate(&request));
    // SAFETY: fcinfo is the server's.
    unsafe { answer(fcinfo, &result, run) }
}

/// The arguments, as those of a training without a name.
///
/// # Safety
/// `fcinfo` is a call of riskft_estimate.
unsafe fn read(fcinfo: FunctionCallInfo) -> Result<Request> {
    const CALL: &str =
        "SELECT * FROM riskft_estimate(relation => '...', target => '...', method => 'lora').";
    // SAFETY: each argument is read as its declared type.
    unsafe {
        let method: String = argument::given("method", pg_getarg(fcinfo, 2), CALL)?;
        let options = json::value(fcinfo, 7, "options")?.unwrap_or_default();
        Ok(Request {
            model: String::new(),
            relation: argument::given("relation", pg_getarg(fcinfo, 0), CALL)?,
            select: None,
            target: argument::given("target", pg_getarg(fcinfo, 1), CALL)?,
            positive: pg_getarg(fcinfo, 3),
            exclude: names(fcinfo, 4),
            time_column: pg_getarg(fcinfo, 5),
            method: Method::parse(&method)?,
            base: argument::given("base", pg_getarg(fcinfo, 6), CALL)?,
            options: Options::parse(&options)?,
        })
    }
}

fn estimate(request: &Request) -> Result<(EstimateResult, i64)> {
    let base_directory = base::needed_by(request)?;
    let (run, status, alive) = work::within_statement("")?;
    let mut work = Work::new("estimate of a training".to_owned(), run, status, alive)?;
    let outcome =
        start(request, base_directory, &mut work).and_then(|()| finish(request, &mut work));
    work.end(outcome.as_ref().err());
    outcome.map(|result| (result, work.run.id))
}

/// Reads the relation and feeds the trainer. The relation's locks come before the trainer's place,
/// as for trainings.
fn start(request: &Request, base_directory: String, work: &mut Work) -> Result<()> {
    let scan = Scan::open(&request.resolve()?)?;
    work.take_place();
    let header =
        EstimateHeader { protocol: PROTOCOL, job: job_header(request, base_directory, &scan) };
    work.start(&request.relation, |process, listener, holds| {
        feed::estimate(&header, scan, process, listener, holds)
    })
}

/// Waits for the trainer, and stores the line of the run.
fn finish(request: &Request, work: &mut Work) -> Result<EstimateResult> {
    let Answer::Estimate(result) = work.answer()? else { return Err(no_estimate()) };
    work.take_files(&[])?;
    work.publishing();
    run::begin(&work.run, &Entry { kind: "estimate", name: None, ..request.entry()? })?;
    run::complete(&work.run, &result.ledger, &work.listener.notices())?;
    Ok(*result)
}

fn no_estimate() -> Refusal {
    Refusal::new(code::PROTOCOL_VIOLATION, "the trainer returned no estimate")
        .detail("Its answer is that of another kind of work.")
        .hint("The trainer and the extension must be of the same version; run make install.")
}

/// # Safety
/// `fcinfo` is a call of riskft_estimate.
unsafe fn answer(fcinfo: FunctionCallInfo, result: &EstimateResult, run: i64) -> Datum {
    let (least, most) = result.seconds();
    let ledger = &result.ledger;
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX).into_datum();
    let phases: Map<String, Value> =
        result.phases.iter().map(|p| (p.phase.clone(), Value::from(p.seconds))).collect();
    let values = [
        count(ledger.rows),
        count(ledger.rows_train),
        count(ledger.rows_test),
        count(ledger.tokens),
        count(ledger.tokens_distinct),
        (most / 60.0).into_datum(),
        (least / 60.0).into_datum(),
        count(result.memory_bytes),
        ledger.device.clone().into_datum(),
        JsonB(Value::Object(phases)).into_datum(),
        run.into_datum(),
    ];
    // SAFETY: sql/cost.sql declares OUT parameters of these types.
    unsafe { argument::record(fcinfo, values) }
}
