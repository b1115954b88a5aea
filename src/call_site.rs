//! Functions of a name and a row: what a call site has resolved, and the row's cells by column name.
//!
//! A call site keeps what it has resolved (a scorer or projector, the column mapping) in its FmgrInfo.
//! That can outlive a statement, so the name is resolved again whenever the snapshot changes.

use std::collections::HashMap;
use std::ffi::{c_void, CStr};
use std::rc::Rc;

use pgrx::fcinfo::{pg_arg_is_null, pg_getarg_datum_raw};
use pgrx::htup::{
    heap_tuple_header_get_datum_length, heap_tuple_header_get_type_id, heap_tuple_header_get_typmod,
};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo, Oid};
use pgrx::FromDatum;
use riskft_core::cell::Cell;
use riskft_core::gemm::Kernel;
use riskft_core::refusal::{code, Refusal, Result};

use crate::argument;
use crate::datum::Reader;
use crate::relation::{attribute, attribute_name};
use crate::settings;

/// What a function does with rows, and which columns it wants of them.
pub trait Worker: Sized + 'static {
    /// Name of the first argument.
    const ARGUMENT: &'static str;
    /// Where names are found, and what to call with a value that is no row.
    const NAMES: &'static str;
    const ROWS: &'static str;

    /// What the name means now, for the current role.
    fn find(name: &str, kernel: Kernel) -> Result<Rc<Self>>;

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

/// What one call site has resolved; `own` is the function's, made anew whenever the name is resolved.
pub struct CallSite<W: Worker, T = ()> {
    name: String,
    key: Option<(SnapshotKey, Kernel)>,
    worker: Option<Rc<W>>,
    layout: Option<Layout>,
    pub own: T,
}

/// Where a row type holds the columns that are wanted.
struct Layout {
    record: (Oid, i32, u64),
    /// For each of these columns: attribute index and reader.
    columns: Vec<(usize, Reader)>,
    values: Vec<Datum>,
    nulls: Vec<bool>,
}

impl<W: Worker, T: Default + 'static> CallSite<W, T> {
    /// The call site's state, made at its first call and dropped with the FmgrInfo's memory, with its
    /// name resolved.
    ///
    /// # Safety
    /// `fcinfo` is a call of the worker's function, whose argument 0 is text; the returned borrow ends
    /// with the call.
    pub unsafe fn of<'a>(fcinfo: FunctionCallInfo) -> Result<&'a mut Self> {
        unsafe extern "C-unwind" fn release<W: Worker, T>(site: *mut c_void) {
            // SAFETY: the pointer came from Box::into_raw below; the callback runs once.
            drop(unsafe { Box::from_raw(site.cast::<CallSite<W, T>>()) });
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
                let new: CallSite<W, T> = CallSite {
                    name: String::new(),
                    key: None,
                    worker: None,
                    layout: None,
                    own: T::default(),
                };
                let site = Box::into_raw(Box::new(new));
                (*callback).func = Some(release::<W, T>);
                (*callback).arg = site.cast();
                pg_sys::MemoryContextRegisterResetCallback((*info).fn_mcxt, callback);
                (*info).fn_extra = site.cast();
            }
            let site = &mut *(*info).fn_extra.cast::<CallSite<W, T>>();
            site.resolve(fcinfo)?;
            Ok(site)
        }
    }

    /// Finds what the first argument means now.
    ///
    /// # Safety
    /// As for [`CallSite::of`].
    unsafe fn resolve(&mut self, fcinfo: FunctionCallInfo) -> Result<()> {
        // SAFETY: argument 0 is text; it lives for the call.
        let name = unsafe {
            let name = match pg_arg_is_null(fcinfo, 0) {
                true => None,
                false => <&str>::from_datum(pg_getarg_datum_raw(fcinfo, 0), false),
            };
            argument::given(W::ARGUMENT, name, W::NAMES)?
        };
        let key = (SnapshotKey::current(), settings::kernel()?);
        if self.key == Some(key) && self.name == name && self.worker.is_some() {
            return Ok(());
        }
        self.key = None;
        let worker = W::find(name, key.1)?;
        if !self.worker.as_ref().is_some_and(|known| Rc::ptr_eq(known, &worker)) {
            self.layout = None;
        }
        self.own = T::default();
        self.worker = Some(worker);
        name.clone_into(&mut self.name);
        self.key = Some(key);
        Ok(())
    }

    pub fn worker(&self) -> Result<Rc<W>> {
        let none = || Refusal::new(code::DATA_CORRUPTED, "call site is not resolved");
        self.worker.clone().ok_or_else(none)
    }

    /// The name as it was given, without a version.
    pub fn bare_name(&self) -> &str {
        self.name.rsplit_once('@').map_or(&self.name, |(name, _)| name)
    }

    /// The wanted cells of the row.
    ///
    /// # Safety
    /// Argument 1 of `fcinfo` is not NULL, and of the type that the call site says; the current memory
    /// context outlives the cells.
    pub unsafe fn cells<'a>(&mut self, fcinfo: FunctionCallInfo) -> Result<Vec<Cell<'a>>> {
        let worker = self.worker()?;
        // SAFETY: a composite datum points to a HeapTupleHeader, whose type says how to read it; the
        // description is released after use.
        unsafe {
            let header = row_header::<W>(fcinfo)?;
            let type_id = heap_tuple_header_get_type_id(header);
            let typmod = heap_tuple_header_get_typmod(header);
            let record = (type_id, typmod, pg_sys::assign_record_type_identifier(type_id, typmod));
            let description = pg_sys::lookup_rowtype_tupdesc(type_id, typmod);
            if self.layout.as_ref().is_none_or(|layout| layout.record != record) {
                let made = Layout::make(record, description, &*worker);
                self.layout = match made {
                    Ok(layout) => Some(layout),
                    Err(refusal) => {
                        release_description(description);
                        return Err(refusal);
                    }
                };
            }
            let Some(layout) = self.layout.as_mut() else {
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
            Ok(layout.columns.iter().map(|(at, reader)| layout.cell(*at, *reader)).collect())
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

impl Layout {
    /// # Safety
    /// `description` describes the record.
    unsafe fn make<W: Worker>(
        record: (Oid, i32, u64),
        description: pg_sys::TupleDesc,
        worker: &W,
    ) -> Result<Self> {
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
        let find = |name: &String| {
            let index = match places.get(name) {
                None => return Err(W::lacks(name)),
                Some(Place::Several) => return Err(ambiguous_column(name)),
                Some(Place::One(index)) => *index,
            };
            let reader = Reader::of(attributes[index].atttypid).filter(|reader| W::takes(*reader));
            Ok((index, reader.ok_or_else(|| W::unread(name))?))
        };
        let columns = worker.columns().iter().map(find).collect::<Result<_>>()?;
        Ok(Layout {
            record,
            columns,
            values: vec![Datum::from(0); attributes.len()],
            nulls: vec![true; attributes.len()],
        })
    }

    /// # Safety
    /// The row was deformed into `values` and `nulls`, and the current memory context outlives the
    /// cell.
    unsafe fn cell<'a>(&self, index: usize, reader: Reader) -> Cell<'a> {
        match self.nulls[index] {
            true => Cell::Null,
            // SAFETY: as promised; the reader was made for the attribute's type.
            false => unsafe { reader.read(self.values[index]) },
        }
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
