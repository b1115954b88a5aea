//! The cells of a row, by column name.

use std::collections::HashMap;
use std::ffi::CStr;

use pgrx::fcinfo::pg_getarg_datum_raw;
use pgrx::htup::{
    heap_tuple_header_get_datum_length, heap_tuple_header_get_type_id, heap_tuple_header_get_typmod,
};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo, Oid};
use riskft_core::cell::Cell;
use riskft_core::refusal::{Refusal, Result};

use crate::ab::key::{self, KeyReader};
use crate::datum::Reader;
use crate::relation::{attribute, attribute_name};

/// What works on rows, and which columns it wants of them.
pub trait Worker {
    /// What to call with a value that is no row.
    const ROWS: &'static str;

    /// The columns that it wants, in the order of the cells.
    fn columns(&self) -> Vec<String>;

    /// The refusal of a row that lacks a column, or whose column is of a type that cannot be read.
    fn lacks(name: &str) -> Refusal;
    fn unread(name: &str) -> Refusal;

    /// Whether a column that is read like this will do.
    fn takes(_reader: Reader) -> bool {
        true
    }
}

/// Reads the rows of a call site, for one worker or for one of two.
#[derive(Default)]
pub struct RowReader {
    layout: Option<Layout>,
}

/// Where a row type holds what is wanted. Found out when it is wanted first: a column that a worker lacks is
/// no matter to rows that it does not work on.
struct Layout {
    record: (Oid, i32, u64),
    places: HashMap<String, Place>,
    /// Of each attribute.
    types: Vec<Oid>,
    /// For each worker, and each of its columns: attribute index and reader.
    columns: [Option<Vec<(usize, Reader)>>; 2],
    /// Attribute index and reader of the key; None within where the row lacks it.
    key: Option<Option<(usize, KeyReader)>>,
    values: Vec<Datum>,
    nulls: Vec<bool>,
}

impl RowReader {
    /// Takes the row of argument 1 apart.
    ///
    /// # Safety
    /// Argument 1 of `fcinfo` is not NULL, and of the type that the call site says.
    pub unsafe fn read<W: Worker>(&mut self, fcinfo: FunctionCallInfo) -> Result<Row<'_>> {
        // SAFETY: a composite datum points to a HeapTupleHeader, whose type says how to read it; the
        // description is released after use.
        unsafe {
            let header = row_header::<W>(fcinfo)?;
            let type_id = heap_tuple_header_get_type_id(header);
            let typmod = heap_tuple_header_get_typmod(header);
            let record = (type_id, typmod, pg_sys::assign_record_type_identifier(type_id, typmod));
            let description = pg_sys::lookup_rowtype_tupdesc(type_id, typmod);
            if self.layout.as_ref().is_some_and(|layout| layout.record != record) {
                self.layout = None;
            }
            let layout = self.layout.get_or_insert_with(|| Layout::of(record, description));
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
            Ok(Row { layout })
        }
    }
}

/// A row that is taken apart.
pub struct Row<'r> {
    layout: &'r mut Layout,
}

impl Row<'_> {
    /// The cells that a worker wants; `place` tells it from the other one.
    ///
    /// # Safety
    /// The row is that of the present call, whose memory context outlives the cells.
    pub unsafe fn cells<'a, W: Worker>(
        &mut self,
        place: usize,
        worker: &W,
    ) -> Result<Vec<Cell<'a>>> {
        if self.layout.columns[place].is_none() {
            self.layout.columns[place] = Some(self.layout.find(worker)?);
        }
        let columns = self.layout.columns[place].as_deref().unwrap_or_default();
        let cell = |(at, reader): &(usize, Reader)| match self.layout.nulls[*at] {
            true => Cell::Null,
            // SAFETY: as promised; the reader was made for the attribute's type.
            false => unsafe { reader.read(self.layout.values[*at]) },
        };
        Ok(columns.iter().map(cell).collect())
    }

    /// Writes the row's key, the same column in each call; false where the row lacks the column, or the
    /// value is NULL or no key.
    ///
    /// # Safety
    /// The row is that of the present call.
    pub unsafe fn write_key(&mut self, column: &str, into: &mut String) -> Result<bool> {
        let found = match self.layout.key {
            Some(found) => found,
            None => *self.layout.key.insert(self.layout.key(column)?),
        };
        match found {
            // SAFETY: as promised; the reader was made for the attribute's type.
            Some((at, reader)) if !self.layout.nulls[at] => unsafe {
                reader.write(self.layout.values[at], into)
            },
            _ => Ok(false),
        }
    }
}

impl Layout {
    /// # Safety
    /// `description` describes the record.
    unsafe fn of(record: (Oid, i32, u64), description: pg_sys::TupleDesc) -> Self {
        // SAFETY: the description has `natts` attributes.
        let attributes: Vec<&pg_sys::FormData_pg_attribute> = unsafe {
            (0..(*description).natts).map(|index| attribute(description, index)).collect()
        };
        let mut places: HashMap<String, Place> = HashMap::with_capacity(attributes.len());
        for (index, attribute) in attributes.iter().enumerate().filter(|(_, a)| !a.attisdropped) {
            places
                .entry(attribute_name(attribute))
                .and_modify(|place| *place = Place::Several)
                .or_insert(Place::One(index));
        }
        Layout {
            record,
            places,
            types: attributes.iter().map(|attribute| attribute.atttypid).collect(),
            columns: [None, None],
            key: None,
            values: vec![Datum::from(0); attributes.len()],
            nulls: vec![true; attributes.len()],
        }
    }

    fn find<W: Worker>(&self, worker: &W) -> Result<Vec<(usize, Reader)>> {
        let find = |name: &String| {
            let index = self.position(name)?.ok_or_else(|| W::lacks(name))?;
            let reader = Reader::of(self.types[index]).filter(|reader| W::takes(*reader));
            Ok((index, reader.ok_or_else(|| W::unread(name))?))
        };
        worker.columns().iter().map(find).collect()
    }

    fn key(&self, column: &str) -> Result<Option<(usize, KeyReader)>> {
        let Some(index) = self.position(column)? else { return Ok(None) };
        let reader = KeyReader::of(self.types[index]).ok_or_else(|| key::unreadable(column))?;
        Ok(Some((index, reader)))
    }

    fn position(&self, name: &str) -> Result<Option<usize>> {
        match self.places.get(name) {
            None => Ok(None),
            Some(Place::Several) => Err(ambiguous_column(name)),
            Some(Place::One(index)) => Ok(Some(*index)),
        }
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
unsafe fn row_header<W: Worker>(fcinfo: FunctionCallInfo) -> Result<pg_sys::HeapTupleHeader> {
    // SAFETY: the type is checked to be a row type before the datum is read as one.
    unsafe {
        let declared = pg_sys::get_fn_expr_argtype((*fcinfo).flinfo, 1);
        if !pg_sys::type_is_rowtype(declared) {
            let name = CStr::from_ptr(pg_sys::format_type_be(declared));
            return Err(Refusal::new("42804", format!("{} needs a row", function_name(fcinfo)))
                .detail(format!("Its second argument is of type {}.", name.to_string_lossy()))
                .hint(W::ROWS));
        }
        let datum = pg_getarg_datum_raw(fcinfo, 1);
        Ok(pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast())
    }
}

/// # Safety
/// `fcinfo` is the server's.
unsafe fn function_name(fcinfo: FunctionCallInfo) -> String {
    // SAFETY: a name in the current memory context, or null where the function has just been dropped.
    unsafe {
        let name = pg_sys::get_func_name((*(*fcinfo).flinfo).fn_oid);
        if name.is_null() {
            return "function".to_owned();
        }
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

/// Where a row has a name.
enum Place {
    One(usize),
    Several,
}

fn ambiguous_column(name: &str) -> Refusal {
    Refusal::new("42702", format!("column \"{name}\" appears twice in the row"))
        .detail("Columns are matched by name, and the row has two of this name.")
        .hint("Give one of them another name with AS, or pass the alias of one table.")
}
