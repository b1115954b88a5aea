//! risk_score and risk_score_json: a row -> a calibrated probability, inside the query.
//!
//! A call site keeps what it has resolved (version, column mapping) in its FmgrInfo. That can
//! outlive a statement, so the version is resolved again whenever the snapshot changes.

use std::rc::Rc;

use pgrx::fcinfo::{pg_arg_is_null, pg_getarg_datum, pg_getarg_datum_raw};
use pgrx::htup::{
    heap_tuple_header_get_datum_length, heap_tuple_header_get_type_id, heap_tuple_header_get_typmod,
};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo, Oid};
use pgrx::{FromDatum, IntoDatum};
use riskft_core::cell::Cell;
use riskft_core::gemm::Kernel;
use riskft_core::refusal::{code, Refusal, Result};

use crate::catalog;
use crate::datum::Reader;
use crate::error::or_raise;
use crate::json::Object;
use crate::model_cache::{self, SharedScorer};
use crate::relation::{attribute, attribute_name};
use crate::settings;

/// Identifies what a statement sees: equal keys see the same catalogue rows.
///
/// snapXactCompletionCount changes when any transaction with an id ends, here or (on a standby) in
/// replay; curcid changes with the own transaction's commands; a parallel worker lives for one
/// statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SnapshotKey {
    xmin: u32,
    xmax: u32,
    curcid: u32,
    completed: u64,
    local_transaction: u32,
    user: Oid,
}

impl SnapshotKey {
    fn current() -> Self {
        // SAFETY: a statement that calls a function has an active snapshot and a PGPROC.
        unsafe {
            let snapshot = pg_sys::GetActiveSnapshot();
            SnapshotKey {
                xmin: u32::from((*snapshot).xmin),
                xmax: u32::from((*snapshot).xmax),
                curcid: (*snapshot).curcid,
                completed: (*snapshot).snapXactCompletionCount,
                local_transaction: (*pg_sys::MyProc).lxid,
                user: pg_sys::GetUserId(),
            }
        }
    }
}

/// What one call site has resolved.
#[derive(Default)]
struct CallSite {
    model: String,
    key: Option<(SnapshotKey, Kernel)>,
    scorer: Option<SharedScorer>,
    layout: Option<Layout>,
}

/// Where a row type holds the model's columns.
struct Layout {
    record: (Oid, i32, u64),
    /// For each column of the model: attribute index and reader.
    columns: Vec<(usize, Reader)>,
    values: Vec<Datum>,
    nulls: Vec<bool>,
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
        let site = call_site(fcinfo);
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
        let site = call_site(fcinfo);
        or_raise(site.resolve(fcinfo));
        let Some(features) = pg_getarg_datum(fcinfo, 1) else { return null(fcinfo) };
        float8(or_raise(score_json(site, Object::of(features))))
    }
}

fn float8(score: f64) -> Datum {
    score.into_datum().unwrap_or(Datum::from(0))
}

/// # Safety
/// `fcinfo` is the server's.
unsafe fn null(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: as promised.
    unsafe { pgrx::fcinfo::pg_return_null(fcinfo) }
}

/// The call site's state, made at its first call and dropped with the FmgrInfo's memory.
///
/// # Safety
/// `fcinfo` is the server's; the returned borrow ends with the call.
unsafe fn call_site<'a>(fcinfo: FunctionCallInfo) -> &'a mut CallSite {
    unsafe extern "C-unwind" fn release(site: *mut std::ffi::c_void) {
        // SAFETY: the pointer came from Box::into_raw below; the callback runs once.
        drop(unsafe { Box::from_raw(site.cast::<CallSite>()) });
    }
    // SAFETY: fn_extra is ours alone: null, or what was put there here.
    unsafe {
        let info = (*fcinfo).flinfo;
        if (*info).fn_extra.is_null() {
            let callback = pg_sys::MemoryContextAllocZero(
                (*info).fn_mcxt,
                size_of::<pg_sys::MemoryContextCallback>(),
            )
            .cast::<pg_sys::MemoryContextCallback>();
            let site = Box::into_raw(Box::<CallSite>::default());
            (*callback).func = Some(release);
            (*callback).arg = site.cast();
            pg_sys::MemoryContextRegisterResetCallback((*info).fn_mcxt, callback);
            (*info).fn_extra = site.cast();
        }
        &mut *(*info).fn_extra.cast::<CallSite>()
    }
}

impl CallSite {
    /// Finds the scorer that the model argument means now.
    ///
    /// # Safety
    /// `fcinfo` is a call of risk_score or risk_score_json.
    unsafe fn resolve(&mut self, fcinfo: FunctionCallInfo) -> Result<()> {
        // SAFETY: the function has two arguments.
        if unsafe { pg_arg_is_null(fcinfo, 0) } {
            return Err(Refusal::new(code::NULL_NOT_ALLOWED, "model must not be null")
                .detail("Argument \"model\" of the score function is null.")
                .hint("Name a model; the view riskft.models lists yours."));
        }
        // SAFETY: argument 0 is text; it lives for the call.
        let model = unsafe { <&str>::from_datum(pg_getarg_datum_raw(fcinfo, 0), false) };
        let model = model.unwrap_or_default();
        let key = (SnapshotKey::current(), settings::kernel()?);
        if self.key == Some(key) && self.model == model && self.scorer.is_some() {
            return Ok(());
        }
        self.key = None;
        let files = catalog::scorable(model)?;
        let scorer = model_cache::scorer(&files, key.1)?;
        if !self.scorer.as_ref().is_some_and(|known| Rc::ptr_eq(known, &scorer)) {
            self.layout = None;
        }
        self.scorer = Some(scorer);
        model.clone_into(&mut self.model);
        self.key = Some(key);
        Ok(())
    }

    fn scorer(&self) -> Result<SharedScorer> {
        let none = || Refusal::new(code::DATA_CORRUPTED, "call site is not resolved");
        self.scorer.clone().ok_or_else(none)
    }
}

/// # Safety
/// Argument 1 of `fcinfo` is not NULL, and of the type that the call site says.
unsafe fn score_row(site: &mut CallSite, fcinfo: FunctionCallInfo) -> Result<f64> {
    let shared = site.scorer()?;
    // SAFETY: a composite datum points to a HeapTupleHeader, whose type says how to read it; the
    // description is released after use; cells live in the current memory context for the call.
    unsafe {
        let header = row_header(fcinfo)?;
        let type_id = heap_tuple_header_get_type_id(header);
        let typmod = heap_tuple_header_get_typmod(header);
        let record = (type_id, typmod, pg_sys::assign_record_type_identifier(type_id, typmod));
        let description = pg_sys::lookup_rowtype_tupdesc(type_id, typmod);
        if site.layout.as_ref().is_none_or(|layout| layout.record != record) {
            let made = Layout::make(record, description, &shared);
            site.layout = match made {
                Ok(layout) => Some(layout),
                Err(refusal) => {
                    release_description(description);
                    return Err(refusal);
                }
            };
        }
        let Some(layout) = site.layout.as_mut() else {
            return Err(Refusal::new(code::DATA_CORRUPTED, "row layout is missing"));
        };
        let mut tuple: pg_sys::HeapTupleData = std::mem::zeroed();
        tuple.t_len = heap_tuple_header_get_datum_length(header) as u32;
        tuple.t_data = header;
        pg_sys::heap_deform_tuple(
            &mut tuple,
            description,
            layout.values.as_mut_ptr(),
            layout.nulls.as_mut_ptr(),
        );
        release_description(description);
        let cells: Vec<Cell<'_>> =
            layout
                .columns
                .iter()
                .map(|(index, reader)| {
                    if layout.nulls[*index] {
                        Cell::Null
                    } else {
                        reader.read(layout.values[*index])
                    }
                })
                .collect();
        let score = shared.borrow_mut().score(&cells);
        probability(score)
    }
}

/// # Safety
/// `description` came from lookup_rowtype_tupdesc.
unsafe fn release_description(description: pg_sys::TupleDesc) {
    // SAFETY: only counted descriptions are released.
    unsafe {
        if (*description).tdrefcount >= 0 {
            pg_sys::DecrTupleDescRefCount(description);
        }
    }
}

/// # Safety
/// Argument 1 of `fcinfo` is not NULL.
unsafe fn row_header(fcinfo: FunctionCallInfo) -> Result<pg_sys::HeapTupleHeader> {
    // SAFETY: the type is checked to be a row type before the datum is read as one.
    unsafe {
        let declared = pg_sys::get_fn_expr_argtype((*fcinfo).flinfo, 1);
        if !pg_sys::type_is_rowtype(declared) {
            let name = std::ffi::CStr::from_ptr(pg_sys::format_type_be(declared));
            return Err(Refusal::new("42804", "risk_score needs a row")
                .detail(format!("Its second argument is of type {}.", name.to_string_lossy()))
                .hint("Pass the table's alias: SELECT risk_score('m', t) FROM loans t; for jsonb use risk_score_json."));
        }
        let datum = pg_getarg_datum_raw(fcinfo, 1);
        Ok(pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast())
    }
}

impl Layout {
    /// # Safety
    /// `description` describes the record.
    unsafe fn make(
        record: (Oid, i32, u64),
        description: pg_sys::TupleDesc,
        scorer: &SharedScorer,
    ) -> Result<Self> {
        // SAFETY: the description has `natts` attributes.
        let attributes: Vec<&pg_sys::FormData_pg_attribute> = unsafe {
            (0..(*description).natts).map(|index| attribute(description, index)).collect()
        };
        let find = |name: &str| {
            let mut named = (0..attributes.len()).filter(|index| {
                !attributes[*index].attisdropped && attribute_name(attributes[*index]) == name
            });
            let index = named.next().ok_or_else(|| missing_column(name))?;
            if named.next().is_some() {
                return Err(ambiguous_column(name));
            }
            let reader = Reader::of(attributes[index].atttypid).ok_or_else(|| {
                Refusal::new("42804", format!("column \"{name}\" has a type that is not read"))
                    .detail(format!("Column \"{name}\" was read as another type at training."))
                    .hint("Cast it in a subquery, or train again.")
            })?;
            Ok((index, reader))
        };
        let borrowed = scorer.borrow();
        let wanted = &borrowed.model().specification().encoding.columns;
        let columns = wanted.iter().map(|c| find(&c.name)).collect::<Result<_>>()?;
        Ok(Layout {
            record,
            columns,
            values: vec![Datum::from(0); attributes.len()],
            nulls: vec![true; attributes.len()],
        })
    }
}

fn missing_column(name: &str) -> Refusal {
    Refusal::new(code::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist in the row"))
        .detail(format!(
            "The model was trained with column \"{name}\"; columns are matched by name."
        ))
        .hint("Pass a row that has the column, or NULL AS the column where the value is unknown.")
}

fn ambiguous_column(name: &str) -> Refusal {
    Refusal::new("42702", format!("column \"{name}\" appears twice in the row"))
        .detail("Columns are matched by name, and the row has two of this name.")
        .hint("Give one of them another name with AS, or pass the alias of one table.")
}

fn score_json(site: &CallSite, features: Option<Object<'_>>) -> Result<f64> {
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
    probability(scorer.score(&cells))
}

/// Damaged weights can give sums beyond float4, and so no number.
fn probability(score: f64) -> Result<f64> {
    if score.is_finite() {
        return Ok(score);
    }
    Err(Refusal::new(code::DATA_CORRUPTED, "the model gives no score for a row")
        .detail("Its weights lead to a value that is not finite.")
        .hint("Train the model again, or deploy an earlier version."))
}
