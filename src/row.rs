//! A row argument of any row type -> the cells of a model's columns, matched by name.

use pgrx::fcinfo::pg_getarg_datum_raw;
use pgrx::htup::{
    heap_tuple_header_get_datum_length, heap_tuple_header_get_type_id, heap_tuple_header_get_typmod,
};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo, Oid};
use riskft_core::cell::Cell;
use riskft_core::refusal::{code, Refusal, Result};

use crate::datum::Reader;
use crate::model_cache::SharedScorer;
use crate::relation::{attribute, attribute_name};

/// Where a row type holds the model's columns.
pub struct Layout {
    record: (Oid, i32, u64),
    /// For each column of the model: attribute index and reader.
    columns: Vec<(usize, Reader)>,
    values: Vec<Datum>,
    nulls: Vec<bool>,
}

impl Layout {
    /// Reads the row; the layout is made again where the row is of another type than the last one.
    ///
    /// # Safety
    /// Argument 1 of `fcinfo` is not NULL, and of the type that the call site says; the current memory
    /// context outlives the cells.
    pub unsafe fn cells<'a>(
        known: &mut Option<Layout>,
        shared: &SharedScorer,
        fcinfo: FunctionCallInfo,
    ) -> Result<Vec<Cell<'a>>> {
        // SAFETY: a composite datum points to a HeapTupleHeader, whose type says how to read it; the
        // description is released after use; cells live in the current memory context for the call.
        unsafe {
            let header = row_header(fcinfo)?;
            let type_id = heap_tuple_header_get_type_id(header);
            let typmod = heap_tuple_header_get_typmod(header);
            let record = (type_id, typmod, pg_sys::assign_record_type_identifier(type_id, typmod));
            let description = pg_sys::lookup_rowtype_tupdesc(type_id, typmod);
            if known.as_ref().is_none_or(|layout| layout.record != record) {
                let made = Layout::make(record, description, shared);
                *known = match made {
                    Ok(layout) => Some(layout),
                    Err(refusal) => {
                        release_description(description);
                        return Err(refusal);
                    }
                };
            }
            let Some(layout) = known.as_mut() else {
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
            let cell = |(index, reader): &(usize, Reader)| match layout.nulls[*index] {
                true => Cell::Null,
                false => reader.read(layout.values[*index]),
            };
            Ok(layout.columns.iter().map(cell).collect())
        }
    }

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
            return Err(Refusal::new("42804", "function needs a row")
                .detail(format!("The second argument is of type {}.", name.to_string_lossy()))
                .hint("Pass the table's alias: SELECT risk_score('m', t) FROM loans t; for jsonb there is risk_score_json."));
        }
        let datum = pg_getarg_datum_raw(fcinfo, 1);
        Ok(pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast())
    }
}

pub fn missing_column(name: &str) -> Refusal {
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
