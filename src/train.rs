//! riskft_train: the CALL.

use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::IntoDatum;
use riskft_core::protocol::TrainingResult;
use riskft_core::refusal::{code, Refusal, Result};

use crate::argument;
use crate::error::or_raise;
use crate::publish::Published;
use crate::queue;
use crate::request::Request;
use crate::training::Training;
use crate::work::{self, Work};

crate::version_1!(pg_finfo_riskft_train);

/// `CALL riskft_train(...)`: see sql/functions.sql for the arguments.
///
/// # Safety
/// Called by the server with the arguments that sql/functions.sql declares.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn riskft_train(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: the arguments are of the declared types.
    let (request, wait) = or_raise(unsafe { Request::read(fcinfo) });
    or_raise(Work::require_none().and_then(|()| require_own_will()));
    // SAFETY: raises 25006 in a read-only transaction, before anything is read.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_train()".as_ptr()) };
    if !wait {
        let run = or_raise(queue::add(request));
        // SAFETY: fcinfo is the server's.
        return unsafe { answer(fcinfo, None, None, run) };
    }
    let (published, result) = or_raise(train(request));
    // SAFETY: fcinfo is the server's.
    unsafe { answer(fcinfo, Some(published.version), Some(&result), published.run) }
}

/// Where the server runs a table owner's code for somebody else (an index function under ANALYZE
/// or REINDEX, a materialized view's query under REFRESH), the session is not that owner's: a run
/// queued there would connect as whoever maintains the table.
pub fn require_own_will() -> Result<()> {
    // SAFETY: reads a global of this process.
    if unsafe { pg_sys::InSecurityRestrictedOperation() } {
        return Err(Refusal::new(
            code::INSUFFICIENT_PRIVILEGE,
            "cannot train within a security-restricted operation",
        )
        .detail(
            "An index, a materialized view or a relation that is trained on calls riskft_train, \
             riskft_reduce, riskft_select or riskft_estimate.",
        )
        .hint("Call it in a statement of its own."));
    }
    Ok(())
}

/// All steps in the caller's transaction.
fn train(request: Request) -> Result<(Published, TrainingResult)> {
    let (run, status, alive) = work::within_statement(&request.model)?;
    let mut training = Training::new(request, run, status, alive)?;
    let outcome = in_one_transaction(&mut training);
    training.end(outcome.as_ref().err());
    outcome
}

fn in_one_transaction(training: &mut Training) -> Result<(Published, TrainingResult)> {
    training.check()?;
    training.start()?;
    let (result, blobs) = training.finish()?;
    let published = training.publish(&result, &blobs)?;
    Ok((published, result))
}

/// The INOUT parameters as one record.
///
/// # Safety
/// `fcinfo` is a call of riskft_train.
unsafe fn answer(
    fcinfo: FunctionCallInfo,
    version: Option<i32>,
    result: Option<&TrainingResult>,
    run: i64,
) -> Datum {
    let figure = |name: &str| {
        let of =
            |m: &&riskft_core::protocol::PartMetric| m.part == "test" && m.metric.metric == name;
        result?.figures.metrics.iter().find(of).and_then(|m| m.metric.value)
    };
    let values = [
        version.into_datum(),
        figure("auc").into_datum(),
        figure("ks").into_datum(),
        run.into_datum(),
    ];
    // SAFETY: sql/functions.sql declares these four INOUT parameters.
    unsafe { argument::record(fcinfo, values) }
}
