//! The table of scores: found and checked, or made; its rows written.
//!
//! All of it with the caller's rights. Statements on the table run under the caller's search path,
//! as the caller's own would, for its triggers and policies; so each name and operator in them is
//! qualified.

use std::ffi::CString;

use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{IntoDatum, PgSqlErrorCode, PgTryBuilder};
use riskft_core::refusal::{code, Refusal, Result};

use crate::catalog;
use crate::relation::{self, quote_identifier, Named};
use crate::spi::{self, Param};

/// What a score table has beside its key: names and types of pg_catalog.
const COLUMNS: [(&str, Oid, &str); 4] = [
    ("score", pg_sys::FLOAT8OID, "float8"),
    ("version", pg_sys::INT4OID, "int4"),
    ("scored_at", pg_sys::TIMESTAMPTZOID, "timestamptz"),
    ("row_hash", pg_sys::INT8OID, "int8"),
];

/// The column that tells rows apart, as the relation declares it.
pub struct Key {
    pub name: String,
    pub type_id: Oid,
    /// Type and collation as SQL writes them, qualified.
    pub declared: String,
    /// Equality of the type, as SQL writes it: `OPERATOR(pg_catalog.=)`.
    pub equal: String,
}

pub struct Target {
    pub id: Oid,
    /// Qualified and quoted.
    pub name: String,
    pub key: String,
    pub equal: String,
    pub key_type: Oid,
    /// ` COLLATE ...` of the key; empty where its type has none.
    pub collate: String,
}

impl Target {
    /// The table that the text names, as `regclass` resolves it; made where there is none.
    pub fn existing_or_new(text: &str, key: &Key) -> Result<Self> {
        if COLUMNS.iter().any(|(name, ..)| *name == key.name) {
            return Err(reserved(&key.name));
        }
        if relation::named(text, not_a_name)?.is_none() {
            create(text, key)?;
        }
        // What was made here is not in the statement's snapshot.
        spi::latest(|| {
            let found = relation::named(text, not_a_name)?.ok_or_else(|| not_a_name(text))?;
            spi::as_caller(|| Target::checked(&found, key))
        })
    }

    fn checked(found: &Named, key: &Key) -> Result<Self> {
        let (id, name) = (found.id, found.qualified());
        require_table(id, &name)?;
        let collate = require_columns(id, &name, key)?;
        require_unique_key(id, &name, key)?;
        Ok(Target {
            id,
            key: quote_identifier(&key.name),
            equal: key.equal.clone(),
            key_type: key.type_id,
            collate,
            name,
        })
    }
}

/// Makes the table where the caller's search path, or the schema in the text, says.
fn create(text: &str, key: &Key) -> Result<()> {
    let name = parsed(text)?.iter().map(|part| quote_identifier(part)).collect::<Vec<_>>();
    let (name, column) = (name.join("."), quote_identifier(&key.name));
    let mut statements = vec![format!(
        "CREATE TABLE {name} ({column} {} PRIMARY KEY, {})",
        key.declared,
        COLUMNS.map(|(name, _, of)| format!("{name} pg_catalog.{of} NOT NULL")).join(", ")
    )];
    for (of, comment) in [
        (format!("TABLE {name}"), "Scores, written and refreshed by riskft_score_table"),
        (format!("COLUMN {name}.{column}"), "Key of the row in the relation"),
        (format!("COLUMN {name}.score"), "Calibrated probability of the positive class"),
        (format!("COLUMN {name}.version"), "Version of the model that scored the row"),
        (format!("COLUMN {name}.scored_at"), "When the row was scored"),
        (
            format!("COLUMN {name}.row_hash"),
            "Hash of the version and of the columns that it reads: a row of another hash is scored again",
        ),
    ] {
        statements.push(format!("COMMENT ON {of} IS '{comment}'"));
    }
    let make = || statements.iter().try_for_each(|statement| spi::execute(statement, &[]));
    // Somebody else has made it since it was looked for.
    let taken = |_| Err(made_meanwhile(text));
    PgTryBuilder::new(make)
        .catch_when(PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE, taken)
        .catch_when(PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION, taken)
        .execute()
}

/// The parts of a name of one or two, unquoted.
fn parsed(text: &str) -> Result<Vec<String>> {
    let parse = || {
        spi::query(
            "SELECT part FROM pg_catalog.unnest(pg_catalog.parse_ident($1)) AS part",
            &[Param::Text(text)],
            true,
            |row| row.get::<String>(1).unwrap_or_default(),
        )
    };
    let parts = PgTryBuilder::new(parse)
        .catch_when(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, |_| Err(not_a_name(text)))
        .execute()?;
    match parts.len() {
        1 | 2 => Ok(parts),
        _ => Err(not_a_name(text)),
    }
}

/// Refuses what is no table, and a table that the caller may not write.
fn require_table(id: Oid, name: &str) -> Result<()> {
    let found = spi::query(
        "SELECT c.relkind IN ('r', 'p'),
                has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
                AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')
         FROM pg_class c WHERE c.oid = $1",
        &[Param::Object(id)],
        true,
        |row| (row.get::<bool>(1) == Some(true), row.get::<bool>(2) == Some(true)),
    )?;
    let (is_table, may_write) = found.into_iter().next().unwrap_or_default();
    if !is_table {
        return Err(Refusal::new(code::WRONG_OBJECT, format!("{name} is not a table"))
            .detail("Scores are written to a plain or partitioned table.")
            .hint("Give the name of such a table, or one that is not taken: it is made."));
    }
    if !may_write {
        return Err(Refusal::new(
            code::INSUFFICIENT_PRIVILEGE,
            format!("permission denied for table {name}"),
        )
        .detail(format!(
            "Role \"{}\" needs SELECT, INSERT, UPDATE and DELETE on it.",
            catalog::current_role()
        ))
        .hint("Ask its owner for them, or name another table."));
    }
    Ok(())
}

/// Refuses a table that lacks a column, or has it of another type. Returns the collation of its
/// key.
fn require_columns(id: Oid, name: &str, key: &Key) -> Result<String> {
    let columns = spi::query(
        "SELECT a.attname::text, a.atttypid, format_type(a.atttypid, a.atttypmod),
                a.attgenerated <> '' OR a.attidentity = 'a',
                ' COLLATE ' || quote_ident(n.nspname) || '.' || quote_ident(c.collname)
         FROM pg_attribute a
         LEFT JOIN pg_collation c ON c.oid = a.attcollation
         LEFT JOIN pg_namespace n ON n.oid = c.collnamespace
         WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped",
        &[Param::Object(id)],
        true,
        |row| Column {
            name: row.get(1).unwrap_or_default(),
            type_id: row.get(2).unwrap_or(Oid::INVALID),
            declared: row.get(3).unwrap_or_default(),
            is_generated: row.get(4) == Some(true),
            collate: row.get(5).unwrap_or_default(),
        },
    )?;
    let wanted = COLUMNS.iter().copied();
    let wanted = wanted.chain([(key.name.as_str(), key.type_id, key.declared.as_str())]);
    for (wanted, type_id, declared) in wanted {
        let Some(column) = columns.iter().find(|column| column.name == wanted) else {
            return Err(Refusal::new(
                INVALID_TABLE,
                format!("table {name} is no score table: column \"{wanted}\" is missing"),
            )
            .detail(format!("Column \"{wanted}\" of type {declared} is to be written."))
            .hint(MADE));
        };
        if column.type_id != type_id {
            return Err(Refusal::new(
                "42804",
                format!("column \"{wanted}\" of table {name} is of another type"),
            )
            .detail(format!("It is of type {}; {declared} is to be written.", column.declared))
            .hint(MADE));
        }
        if column.is_generated {
            return Err(Refusal::new(
                INVALID_TABLE,
                format!("column \"{wanted}\" of table {name} is generated"),
            )
            .detail("Its values come from the table itself, so that none can be written.")
            .hint(MADE));
        }
    }
    let found = columns.into_iter().find(|column| column.name == key.name);
    Ok(found.map(|column| column.collate).unwrap_or_default())
}

/// A column of the table.
struct Column {
    name: String,
    type_id: Oid,
    declared: String,
    is_generated: bool,
    collate: String,
}

/// invalid_table_definition
const INVALID_TABLE: &str = "42P16";
const MADE: &str = "Name a table that does not exist: it is made with the right columns.";

/// Refuses a table in which two rows could have one key.
fn require_unique_key(id: Oid, name: &str, key: &Key) -> Result<()> {
    let found = spi::query(
        "SELECT FROM pg_index i
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
         WHERE i.indrelid = $1 AND a.attname = $2::name AND i.indnkeyatts = 1 AND i.indisunique
           AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL",
        &[Param::Object(id), Param::Text(&key.name)],
        true,
        |_| (),
    )?;
    if !found.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(
        INVALID_TABLE,
        format!("table {name} is no score table: column \"{}\" is not its key", key.name),
    )
    .detail("It has no primary key and no unique constraint on this column alone.")
    .hint(MADE))
}

fn not_a_name(text: &str) -> Refusal {
    Refusal::new("42602", "target_table must be the name of a table")
        .detail(format!("The text is \"{}\".", riskft_core::protocol::cut(text, 100)))
        .hint("Give a name such as 'public.loan_scores', and quote names that are not lower case.")
}

fn reserved(name: &str) -> Refusal {
    Refusal::new("42701", format!("a score table has a column \"{name}\" of its own"))
        .detail("Its columns are the key, score, version, scored_at and row_hash.")
        .hint("Give the key another name: 'SELECT t.*, t.score AS loan_id FROM t'.")
}

fn made_meanwhile(text: &str) -> Refusal {
    Refusal::new(
        code::LOCK_NOT_AVAILABLE,
        format!("another session has just made \"{}\"", riskft_core::protocol::cut(text, 100)),
    )
    .detail("It did not exist when this call looked for it.")
    .hint("Call again when the other session's call has ended.")
}

/// Writes rows, in one transaction. SPI is connected from `open` to `close`.
pub struct Writer {
    put: pg_sys::SPIPlanPtr,
    take: pg_sys::SPIPlanPtr,
    version: i32,
    scored: u64,
    removed: u64,
}

impl Writer {
    pub fn open(target: &Target, version: i32) -> Result<Self> {
        let Target { name, key, equal, key_type, .. } = target;
        let put = statement(format!(
            "INSERT INTO {name} AS t ({key}, score, version, scored_at, row_hash)
             VALUES ($1, $2, $3, pg_catalog.clock_timestamp(), $4)
             ON CONFLICT ({key}) DO UPDATE SET score = EXCLUDED.score, version = EXCLUDED.version,
                 scored_at = EXCLUDED.scored_at, row_hash = EXCLUDED.row_hash"
        ))?;
        let take = statement(format!("DELETE FROM {name} AS t WHERE t.{key} {equal} $1"))?;
        let mut types = [*key_type, pg_sys::FLOAT8OID, pg_sys::INT4OID, pg_sys::INT8OID];
        // SAFETY: SPI is connected here and finished by `close`, or by the transaction's abort; the
        // statements have as many parameters as types are told.
        unsafe {
            pg_sys::SPI_connect();
            Ok(Writer {
                put: pg_sys::SPI_prepare(put.as_ptr(), 4, types.as_mut_ptr()),
                take: pg_sys::SPI_prepare(take.as_ptr(), 1, types.as_mut_ptr()),
                version,
                scored: 0,
                removed: 0,
            })
        }
    }

    /// # Safety
    /// `key` is a value of the key's type.
    pub unsafe fn put(&mut self, key: Datum, score: f64, hash: i64) {
        let mut values =
            [Some(key), score.into_datum(), self.version.into_datum(), hash.into_datum()]
                .map(|value| value.unwrap_or(Datum::from(0)));
        // SAFETY: the statement's four parameters, none of them NULL.
        self.scored += unsafe { execute(self.put, &mut values) };
    }

    /// # Safety
    /// `key` is a value of the key's type.
    pub unsafe fn take(&mut self, key: Datum) {
        // SAFETY: the statement's only parameter.
        self.removed += unsafe { execute(self.take, &mut [key]) };
    }

    /// Rows written and removed; a trigger of the table may have kept some as they were.
    pub fn close(self) -> (u64, u64) {
        // SAFETY: finishes what `open` connected.
        unsafe { pg_sys::SPI_finish() };
        (self.scored, self.removed)
    }
}

/// Rows that the statement changed.
///
/// # Safety
/// SPI is connected, and the values are the statement's parameters.
unsafe fn execute(plan: pg_sys::SPIPlanPtr, values: &mut [Datum]) -> u64 {
    // SAFETY: as promised; what fails leaves as an ERROR.
    unsafe {
        pg_sys::SPI_execute_plan(plan, values.as_mut_ptr(), std::ptr::null(), false, 0);
        pg_sys::SPI_processed
    }
}

fn statement(sql: String) -> Result<CString> {
    CString::new(sql).map_err(|_| Refusal::new("22021", "statement holds a zero byte"))
}
