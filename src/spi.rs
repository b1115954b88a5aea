//! Queries on the catalogue, as its owner.
//!
//! pgrx's own Spi assigns a transaction id on reads and turns read-write once the transaction has
//! one; scoring must do neither (standbys, parallel workers). So this is a thin layer over the
//! server's SPI, with `read_only` said by the caller.

use std::ffi::{CStr, CString};

use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{FromDatum, IntoDatum};
use riskft_core::refusal::{code, Refusal, Result};

/// A parameter of a query.
pub enum Param<'a> {
    Text(&'a str),
    OptionalText(Option<&'a str>),
    Int4(i32),
    OptionalInt4(Option<i32>),
    Int8(i64),
    Float8(f64),
    OptionalFloat8(Option<f64>),
    Bytes(&'a [u8]),
    /// Microseconds since 2000-01-01, UTC.
    Timestamp(i64),
    Role(Oid),
    /// A relation, an operator, a collation.
    Object(Oid),
}

impl Param<'_> {
    fn datum(&self) -> (Oid, Option<Datum>) {
        match self {
            Param::Text(v) => (pg_sys::TEXTOID, v.into_datum()),
            Param::OptionalText(v) => (pg_sys::TEXTOID, v.into_datum()),
            Param::Int4(v) => (pg_sys::INT4OID, v.into_datum()),
            Param::OptionalInt4(v) => (pg_sys::INT4OID, v.into_datum()),
            Param::Int8(v) => (pg_sys::INT8OID, v.into_datum()),
            Param::Float8(v) => (pg_sys::FLOAT8OID, v.into_datum()),
            Param::OptionalFloat8(v) => (pg_sys::FLOAT8OID, v.into_datum()),
            Param::Role(v) | Param::Object(v) => (pg_sys::OIDOID, v.into_datum()),
            Param::Timestamp(v) => (pg_sys::TIMESTAMPTZOID, v.into_datum()),
            Param::Bytes(v) => (pg_sys::BYTEAOID, v.into_datum()),
        }
    }
}

/// A row of a result.
pub struct Row {
    tuple: pg_sys::HeapTuple,
    description: pg_sys::TupleDesc,
}

impl Row {
    /// The value of a column, from 1; None for NULL. `T` is the column's type.
    pub fn get<T: FromDatum>(&self, column: i32) -> Option<T> {
        let mut is_null = false;
        // SAFETY: tuple and description belong to the SPI result that the row was made from, which
        // lives until SPI_finish; the caller names the type that its own query returns.
        unsafe {
            let datum = pg_sys::SPI_getbinval(self.tuple, self.description, column, &mut is_null);
            T::from_datum(datum, is_null)
        }
    }
}

/// Runs one statement on the catalogue and maps the rows that it returns.
pub fn query<T>(
    sql: &str,
    params: &[Param<'_>],
    read_only: bool,
    mut map: impl FnMut(&Row) -> T,
) -> Result<Vec<T>> {
    let sql = CString::new(sql).map_err(|_| Refusal::new("22021", "query holds a zero byte"))?;
    // SAFETY: connect and finish are paired on the only path that returns; an ERROR between them
    // leaves through the transaction's abort, which cleans up SPI. Parameters live in SPI's
    // memory context until finish.
    unsafe {
        pg_sys::SPI_connect();
        let (mut types, mut values, mut nulls) = (Vec::new(), Vec::new(), Vec::new());
        for param in params {
            let (oid, datum) = param.datum();
            types.push(oid);
            nulls.push(if datum.is_none() { b'n' } else { b' ' } as std::ffi::c_char);
            values.push(datum.unwrap_or(Datum::from(0)));
        }
        pg_sys::SPI_execute_with_args(
            sql.as_ptr(),
            params.len() as i32,
            types.as_mut_ptr(),
            values.as_mut_ptr(),
            nulls.as_ptr(),
            read_only,
            0,
        );
        let table = pg_sys::SPI_tuptable;
        let mut rows = Vec::new();
        if !table.is_null() {
            for index in 0..(*table).numvals as usize {
                let tuple = *(*table).vals.add(index);
                rows.push(map(&Row { tuple, description: (*table).tupdesc }));
            }
        }
        pg_sys::SPI_finish();
        Ok(rows)
    }
}

/// A value as JSON text, for a jsonb parameter.
pub fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| Refusal::new(code::PROTOCOL_VIOLATION, format!("cannot write JSON: {e}")))
}

/// Runs one statement that returns nothing.
pub fn execute(sql: &str, params: &[Param<'_>]) -> Result<()> {
    query(sql, params, false, |_| ()).map(|_| ())
}

/// Does something under a fresh snapshot: what others have committed by now.
pub fn latest<T>(action: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: push and pop are paired; an ERROR between them leaves through the transaction's
    // abort, which pops.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let result = action();
        pg_sys::PopActiveSnapshot();
        result
    }
}

/// Does something with the rights of a role, as SET ROLE gives them, but so that no code that
/// runs meanwhile can change the role.
pub fn as_role<T>(role: Oid, action: impl FnOnce() -> Result<T>) -> Result<T> {
    let guard = Rights::take(role, 0);
    let result = action();
    drop(guard);
    result
}

/// Does something with the rights of the catalogue's owner and a search path that no user can
/// reach into.
pub fn as_owner<T>(action: impl FnOnce() -> Result<T>) -> Result<T> {
    let rights = Rights::take(catalog_owner()?, 0);
    let path = Setting::closed_path();
    let result = action();
    drop(path);
    drop(rights);
    result
}

/// Does something with the rights that the caller has, under a search path that no user can reach
/// into.
pub fn as_caller<T>(action: impl FnOnce() -> Result<T>) -> Result<T> {
    let path = Setting::closed_path();
    let result = action();
    drop(path);
    result
}

/// A role's rights, until dropped.
struct Rights {
    user: Oid,
    context: i32,
}

impl Rights {
    fn take(role: Oid, restriction: u32) -> Self {
        // SAFETY: plain calls into the server from its only thread; the saved identity is put
        // back by Drop, or by the transaction's abort.
        unsafe {
            let (mut user, mut context) = (Oid::INVALID, 0);
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            pg_sys::SetUserIdAndSecContext(
                role,
                context | (pg_sys::SECURITY_LOCAL_USERID_CHANGE | restriction) as i32,
            );
            Rights { user, context }
        }
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        // While an ERROR unwinds, the transaction's abort restores them.
        if std::thread::panicking() {
            return;
        }
        // SAFETY: undoes `take`.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
    }
}

/// Keeps code of users from writing, from changing the role, and from leaving anything behind
/// that runs later with other rights (a cursor WITH HOLD, a trigger at commit), until dropped: a
/// function in a view runs as whoever reads the view.
pub struct Watch {
    _read_only: Setting,
    _rights: Rights,
}

impl Watch {
    pub fn begin() -> Self {
        // SAFETY: reads a global of this process.
        let user = unsafe { pg_sys::GetUserId() };
        let rights = Rights::take(user, pg_sys::SECURITY_RESTRICTED_OPERATION);
        Watch { _read_only: Setting::put(c"transaction_read_only", c"on"), _rights: rights }
    }
}

/// A setting that differs until dropped.
struct Setting {
    nest_level: i32,
}

impl Setting {
    /// A search path that no user can reach into.
    fn closed_path() -> Self {
        Setting::put(c"search_path", c"pg_catalog, pg_temp")
    }

    fn put(name: &CStr, value: &CStr) -> Self {
        // SAFETY: a new nest level, undone by Drop or by the transaction's abort.
        unsafe {
            let nest_level = pg_sys::NewGUCNestLevel();
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
            Setting { nest_level }
        }
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        // While an ERROR unwinds, the transaction's abort restores it.
        if std::thread::panicking() {
            return;
        }
        // SAFETY: undoes `put`.
        unsafe { pg_sys::AtEOXact_GUC(false, self.nest_level) };
    }
}

/// Owner of schema riskft, which CREATE EXTENSION made.
fn catalog_owner() -> Result<Oid> {
    // SAFETY: syscache lookups; the tuple is released after its owner is read.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"riskft".as_ptr(), true);
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::NAMESPACEOID as i32,
            Datum::from(schema),
        );
        if tuple.is_null() {
            return Err(no_catalogue());
        }
        let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_namespace>();
        let owner = (*form).nspowner;
        pg_sys::ReleaseSysCache(tuple);
        // Without the extension, anybody who may create a schema could stand in for it.
        let extension = pg_sys::get_extension_oid(c"riskft".as_ptr(), true);
        let of = pg_sys::getExtensionOfObject(pg_sys::NamespaceRelationId, schema);
        if extension == Oid::INVALID || of != extension {
            return Err(no_catalogue());
        }
        Ok(owner)
    }
}

fn no_catalogue() -> Refusal {
    Refusal::new(code::NO_CATALOGUE, "schema \"riskft\" does not exist")
        .detail("The extension's catalogue is not in this database.")
        .hint("Run CREATE EXTENSION riskft.")
}
