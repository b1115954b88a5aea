//! risk_score and risk_score_json: a row -> a calibrated probability, inside the query. What scores a row,
//! for all functions of a model and a row.

use std::cell::RefCell;

use pgrx::fcinfo::{pg_arg_is_null, pg_getarg_datum};
use pgrx::pg_sys::{Datum, FunctionCallInfo};
use pgrx::IntoDatum;
use riskft_core::ab::Arm;
use riskft_core::cell::Cell;
use riskft_core::model::Scorer;
use riskft_core::refusal::{code, Refusal, Result};

use crate::call_site::CallSite;
use crate::error::or_raise;
use crate::json::Object;
use crate::meaning::Meaning;
use crate::model_cache::SharedScorer;
use crate::row::{RowReader, Worker};

/// A call site of a function on a model and a row.
pub type Site<T = ()> = CallSite<Meaning, Own<T>>;

/// What such a call site keeps.
#[derive(Default)]
pub struct Own<T> {
    reader: RowReader,
    key: String,
    /// The function's own, of the version of each arm.
    arms: [T; 2],
}

/// What scores a row.
pub struct Chosen<'s, 'c, T> {
    pub scorer: SharedScorer,
    /// The row's, as the version reads them.
    pub cells: Vec<Cell<'c>>,
    /// Name of the model.
    pub model: &'s str,
    /// The function's own, of this version.
    pub own: &'s mut T,
}

/// The version that the call's name means for the call's row.
///
/// # Safety
/// Argument 1 of `fcinfo` is not NULL, and of the type that the call site says; the current memory
/// context outlives the cells.
pub unsafe fn choose<'s, 'c, T: Default + 'static>(
    site: &'s mut Site<T>,
    fcinfo: FunctionCallInfo,
) -> Result<Chosen<'s, 'c, T>> {
    let (meaning, model, Own { reader, key, arms }) = site.parts()?;
    // SAFETY: as promised.
    unsafe {
        let mut row = reader.read::<RefCell<Scorer>>(fcinfo)?;
        let arm = match meaning.key_column() {
            Some(column) => meaning.arm(row.write_key(column, key)?.then_some(key.as_str())),
            None => Arm::Champion,
        };
        let scorer = meaning.scorer(arm)?;
        let cells = row.cells(arm.index(), &*scorer)?;
        Ok(Chosen { scorer, cells, model, own: &mut arms[arm.index()] })
    }
}

impl Worker for RefCell<Scorer> {
    const ROWS: &'static str = "Pass the table's alias: SELECT risk_score('m', t) FROM loans t; for jsonb use risk_score_json.";

    fn columns(&self) -> Vec<String> {
        let borrowed = self.borrow();
        let columns = borrowed.model().specification().encoding.columns.iter();
        columns.map(|column| column.name.clone()).collect()
    }

    fn lacks(name: &str) -> Refusal {
        missing_column(name)
    }

    fn unread(name: &str) -> Refusal {
        Refusal::new("42804", format!("column \"{name}\" has a type that is not read"))
            .detail(format!("Column \"{name}\" was read as another type at training."))
            .hint("Cast it in a subquery, or train again.")
    }
}

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
        let site: &mut Site = or_raise(Site::of(fcinfo));
        if pg_arg_is_null(fcinfo, 1) {
            return null(fcinfo);
        }
        float8(or_raise(score_row(site, fcinfo)))
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
        let site: &mut Site = or_raise(Site::of(fcinfo));
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
pub unsafe fn score_row<T: Default + 'static>(
    site: &mut Site<T>,
    fcinfo: FunctionCallInfo,
) -> Result<f64> {
    // SAFETY: as promised.
    let Chosen { scorer, cells, .. } = unsafe { choose(site, fcinfo) }?;
    let score = scorer.borrow_mut().score(&cells);
    finite(score)
}

fn missing_column(name: &str) -> Refusal {
    Refusal::new(code::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist in the row"))
        .detail(format!(
            "The model was trained with column \"{name}\"; columns are matched by name."
        ))
        .hint("Pass a row that has the column, or NULL AS the column where the value is unknown.")
}

fn score_json(site: &mut Site, features: Option<Object<'_>>) -> Result<f64> {
    let features = features.ok_or_else(|| {
        Refusal::new(code::INVALID_PARAMETER, "features must be a JSON object")
            .detail("The value is an array or a scalar.")
            .hint("Pass one object with the model's columns as keys, such as to_jsonb(t).")
    })?;
    let (meaning, _, Own { key, .. }) = site.parts()?;
    let arm = match meaning.key_column() {
        Some(column) => meaning.arm(features.write_key(column, key)?.then_some(key.as_str())),
        None => Arm::Champion,
    };
    let shared = meaning.scorer(arm)?;
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
