//! riskft_train: the CALL.

use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::IntoDatum;
use riskft_core::protocol::TrainingResult;
use riskft_core::refusal::{code, Refusal, Result};

use crate::catalog;
use crate::error::or_raise;
use crate::lock::Lock;
use crate::progress::StatusFile;
use crate::publish::Published;
use crate::queue;
use crate::request::Request;
use crate::run::{self, Run};
use crate::training::Training;

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
    or_raise(Training::require_none().and_then(|()| require_own_will()));
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
fn require_own_will() -> Result<()> {
    // SAFETY: reads a global of this process.
    if unsafe { pg_sys::InSecurityRestrictedOperation() } {
        return Err(Refusal::new(
            code::INSUFFICIENT_PRIVILEGE,
            "cannot train within a security-restricted operation",
        )
        .detail(
            "An index, a materialized view or a relation that is trained on calls riskft_train.",
        )
        .hint("Call riskft_train in a statement of its own."));
    }
    Ok(())
}

/// All steps in the caller's transaction.
fn train(request: Request) -> Result<(Published, TrainingResult)> {
    let id = run::next_id()?;
    let alive = Lock::Run(id).try_take();
    Lock::Row(id).take_for_transaction();
    let role = catalog::current_role();
    let status = StatusFile::new(id, &request.model, &role);
    let run = Run { id, role, queued: false, started_at: status.started_at() };
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
    let mut nulls = values.map(|v| v.is_none());
    let mut values = values.map(|v| v.unwrap_or(Datum::from(0)));
    // SAFETY: the description has the four INOUT parameters that sql/functions.sql declares.
    unsafe {
        let mut description = std::ptr::null_mut();
        pg_sys::get_call_result_type(fcinfo, std::ptr::null_mut(), &mut description);
        let description = pg_sys::BlessTupleDesc(description);
        let tuple = pg_sys::heap_form_tuple(description, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
    }
}
