//! risk_score and risk_score_json: a row -> a calibrated probability, inside the query.

use pgrx::fcinfo::{pg_arg_is_null, pg_getarg_datum};
use pgrx::pg_sys::{Datum, FunctionCallInfo};
use pgrx::IntoDatum;
use riskft_core::cell::Cell;
use riskft_core::refusal::{code, Refusal, Result};

use crate::call_site::CallSite;
use crate::error::or_raise;
use crate::json::Object;
use crate::row::missing_column;

crate::version_1!(pg_finfo_risk_score);
crate::version_1!(pg_finfo_risk_score_json);

/// `risk_score(model text, t anyelement) -> float8`
///
/// # Safety
/// Called by the server with the arguments that sql/functions.sql declares.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn risk_score(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: fcinfo is the server's; argument 0 is text, argument 1 of the type that the call
    // site's expression says.
    unsafe {
        let site = CallSite::<()>::of(fcinfo);
        or_raise(site.resolve(fcinfo));
        if pg_arg_is_null(fcinfo, 1) {
            return null(fcinfo);
        }
        let score = or_raise(score_row(site, fcinfo));
        float8(score)
    }
}

/// `risk_score_json(model text, features jsonb) -> float8`
///
/// # Safety
/// Called by the server with the arguments that sql/functions.sql declares.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn risk_score_json(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: as for risk_score; argument 1 is jsonb.
    unsafe {
        let site = CallSite::<()>::of(fcinfo);
        or_raise(site.resolve(fcinfo));
        let Some(features) = pg_getarg_datum(fcinfo, 1) else { return null(fcinfo) };
        float8(or_raise(score_json(site, Object::of(features))))
    }
}

pub fn float8(score: f64) -> Datum {
    score.into_datum().unwrap_or(Datum::from(0))
}

/// # Safety
/// `fcinfo` is the server's.
pub unsafe fn null(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: as promised.
    unsafe { pgrx::fcinfo::pg_return_null(fcinfo) }
}

/// # Safety
/// Argument 1 of `fcinfo` is not NULL, and of the type that the call site says.
unsafe fn score_row(site: &mut CallSite<()>, fcinfo: FunctionCallInfo) -> Result<f64> {
    // SAFETY: as promised.
    let cells = unsafe { site.cells(fcinfo) }?;
    let score = site.scorer()?.borrow_mut().score(&cells);
    finite(score)
}

fn score_json(site: &CallSite<()>, features: Option<Object<'_>>) -> Result<f64> {
    let features = features.ok_or_else(|| {
        Refusal::new(code::INVALID_PARAMETER, "features must be a JSON object")
            .detail("The value is an array or a scalar.")
            .hint("Pass one object with the model's columns as keys, such as to_jsonb(t).")
    })?;
    let shared = site.scorer()?;
    let mut scorer = shared.borrow_mut();
    let model = scorer.model_arc();
    let columns = model.specification().encoding.columns.iter();
    let cells = columns
        .map(|c| features.cell(&c.name)?.ok_or_else(|| missing_column(&c.name)))
        .collect::<Result<Vec<Cell<'_>>>>()?;
    finite(scorer.score(&cells))
}

/// Damaged weights can give sums beyond float4, and so no number.
pub fn finite(score: f64) -> Result<f64> {
    if score.is_finite() {
        return Ok(score);
    }
    Err(Refusal::new(code::DATA_CORRUPTED, "the model gives no score for a row")
        .detail("Its weights lead to a value that is not finite.")
        .hint("Train the model again, or deploy an earlier version."))
}
