//! riskft_project: a row -> its components, inside the query; riskft.stored_loadings.

use std::cell::RefCell;

use pgrx::fcinfo::pg_arg_is_null;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::{name, pg_extern};
use riskft_core::gemm::Kernel;
use riskft_core::reduce::{is_number, Projector};
use riskft_core::refusal::{code, Refusal, Result};

use crate::call_site::{CallSite, Named};
use crate::catalog::{self, Privilege, StoredFile};
use crate::datum::Reader;
use crate::error::or_raise;
use crate::model_cache::{self, SharedProjector};
use crate::object::{Kind, Object};
use crate::row::{RowReader, Worker};
use crate::score::null;
use crate::settings;
use crate::spi::{self, Param};

type Site = CallSite<SharedProjector, RowReader>;

impl Named for SharedProjector {
    const ARGUMENT: &'static str = "reducer";
    const NAMES: &'static str = "Name a reducer; the view riskft.reducers lists yours.";

    fn find(name: &str, kernel: Kernel) -> Result<Self> {
        let (reducer, file) = find(name)?.ok_or_else(|| Kind::Reducer.unknown(name))?;
        catalog::require(&reducer.of_kind(Kind::Reducer)?, Privilege::Score)?;
        model_cache::projector(&file.ok_or_else(|| lost(name))?, kernel)
    }
}

impl Worker for RefCell<Projector> {
    const ROWS: &'static str =
        "Pass the table's alias: SELECT riskft_project('r', t) FROM loans t.";

    fn columns(&self) -> Vec<String> {
        self.borrow().reducer().columns().to_vec()
    }

    fn lacks(name: &str) -> Refusal {
        Refusal::new(
            code::UNDEFINED_COLUMN,
            format!("column \"{name}\" does not exist in the row"),
        )
        .detail(format!(
            "The reducer was fitted with column \"{name}\"; columns are matched by name."
        ))
        .hint("Pass a row that has the column, or NULL::float8 AS the column where the value is unknown.")
    }

    fn unread(name: &str) -> Refusal {
        Refusal::new("42804", format!("column \"{name}\" holds no numbers"))
            .detail(format!("Column \"{name}\" held numbers when the reducer was fitted."))
            .hint("Cast it in a subquery, or reduce again.")
    }

    fn takes(reader: Reader) -> bool {
        is_number(reader.column_type())
    }
}

/// What has the name, and a reducer's file.
fn find(name: &str) -> Result<Option<(Object, Option<StoredFile>)>> {
    spi::as_owner(|| {
        let rows = spi::query(
            "SELECT m.kind, m.owner::text, b.digest, b.length
             FROM riskft.model m
             LEFT JOIN riskft.reducer r ON r.model_id = m.model_id
             LEFT JOIN riskft.blob b ON b.digest = r.digest
             WHERE m.name = $1",
            &[Param::Text(name)],
            true,
            |row| {
                let kind = Kind::of(&row.get::<String>(1).unwrap_or_default());
                let owner = row.get(2).unwrap_or_default();
                let length = row.get::<i64>(4).and_then(|length| u64::try_from(length).ok());
                let file = row.get::<String>(3).zip(length);
                let file = file.map(|(digest, length)| StoredFile { digest, length });
                (Object { kind, name: name.to_owned(), owner }, file)
            },
        )?;
        Ok(rows.into_iter().next())
    })
}

fn lost(name: &str) -> Refusal {
    Refusal::new(code::DATA_CORRUPTED, format!("reducer \"{name}\" has no file"))
        .detail("Its row of riskft.reducer, or the file that it names, is gone.")
        .hint("Restore the tables of schema riskft from a backup, or drop it and reduce again.")
}

crate::version_1!(pg_finfo_riskft_project);

/// `riskft_project(reducer text, t anyelement) -> float8[]`
///
/// # Safety
/// Called by the server with the arguments that sql/reduce.sql declares.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn riskft_project(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: fcinfo is the server's; argument 0 is text, argument 1 of the type that the call
    // site's expression says.
    unsafe {
        let site = or_raise(Site::of(fcinfo));
        if pg_arg_is_null(fcinfo, 1) {
            return null(fcinfo);
        }
        let (projector, _, reader) = or_raise(site.parts());
        let mut row = or_raise(reader.read::<RefCell<Projector>>(fcinfo));
        let cells = or_raise(row.cells(0, &**projector));
        let projected = array(projector.borrow_mut().project(&cells));
        projected
    }
}

/// A float8[] in the current memory context.
fn array(values: &[f64]) -> Datum {
    let mut datums: Vec<Datum> = values.iter().map(|v| Datum::from(v.to_bits())).collect();
    // SAFETY: as many datums as said, of a type whose length and alignment these are; on 64-bit
    // machines it is passed by value.
    unsafe {
        Datum::from(pg_sys::construct_array(
            datums.as_mut_ptr(),
            datums.len() as i32,
            pg_sys::FLOAT8OID,
            size_of::<f64>() as i32,
            true,
            pg_sys::TYPALIGN_DOUBLE as std::ffi::c_char,
        ))
    }
}

/// Rows of riskft.loadings of one reducer; none of one that the current role may not project by.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn riskft_stored_loadings(
    reducer: Option<&str>,
) -> TableIterator<
    'static,
    (
        name!(component, i32),
        name!(column_name, String),
        name!(mean, f64),
        name!(scale, f64),
        name!(loading, f64),
    ),
> {
    let shared = or_raise(visible(reducer.unwrap_or_default()));
    let rows = shared.map(|shared| {
        let projector = shared.borrow();
        let reducer = projector.reducer();
        let columns = reducer.columns().len();
        let cell = |at: usize| {
            let (component, column) = (at / columns, at % columns);
            let name = reducer.columns()[column].clone();
            let (mean, scale) = (reducer.axes().means()[column], reducer.axes().scales()[column]);
            (component as i32 + 1, name, mean, scale, reducer.axes().loading(component, column))
        };
        (0..reducer.count() * columns).map(cell).collect::<Vec<_>>()
    });
    TableIterator::new(rows.unwrap_or_default())
}

fn visible(name: &str) -> Result<Option<SharedProjector>> {
    let Some((reducer, Some(file))) = find(name)? else { return Ok(None) };
    if !catalog::holds(&reducer, Privilege::Score)? {
        return Ok(None);
    }
    model_cache::projector(&file, settings::kernel()?).map(Some)
}
