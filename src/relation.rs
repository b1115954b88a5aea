//! A table, view or SELECT -> typed columns and batches, read as the calling role.
//!
//! The read goes through one read-only cursor, so SELECT rights and row-level security hold, and
//! no statement that writes gets through. Functions that the relation calls can neither write nor
//! change the role meanwhile.

use std::ffi::{CStr, CString};

use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{check_for_interrupts, PgSqlErrorCode, PgTryBuilder};
use riskft_core::cell::{Cell, SourceColumn};
use riskft_core::refusal::{code, Refusal, Result};

use crate::ab::key::KeyReader;
use crate::datum::Reader;
use crate::spi::{self, Param, Watch};

/// Rows of one fetch.
const FETCH: i64 = 1000;

/// A resolved relation: one SELECT.
pub struct Relation {
    select: CString,
}

impl Relation {
    /// Resolves what the user wrote, as `regclass` does for a name, or as one SELECT.
    pub fn resolve(text: &str) -> Result<Self> {
        let select = if looks_like_query(text) {
            text.to_owned()
        } else {
            format!("SELECT * FROM {}", existing(text)?.qualified())
        };
        let select = CString::new(select)
            .map_err(|_| invalid_relation("It holds a zero byte.".to_owned()))?;
        require_one_select(&select)?;
        Ok(Relation { select })
    }

    /// The SELECT that `text` resolved to earlier.
    pub fn of_select(select: &str) -> Result<Self> {
        let select = CString::new(select)
            .map_err(|_| invalid_relation("It holds a zero byte.".to_owned()))?;
        require_one_select(&select)?;
        Ok(Relation { select })
    }

    /// The one SELECT.
    pub fn text(&self) -> String {
        self.select.to_string_lossy().into_owned()
    }

    /// The SELECT without the semicolon that may follow it: fit to stand in parentheses, on lines of
    /// its own, for a comment may end it.
    pub fn body(&self) -> String {
        // SAFETY: the text was parsed as one statement before; the list lives in the current memory
        // context.
        let (start, length) = unsafe {
            let list =
                pg_sys::raw_parser(self.select.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
            let raw = nth(list, 0).cast::<pg_sys::RawStmt>();
            ((*raw).stmt_location, (*raw).stmt_len)
        };
        let text = self.text();
        let start = usize::try_from(start).unwrap_or(0);
        // Length 0 means up to the end.
        let end = match usize::try_from(length) {
            Ok(0) | Err(_) => text.len(),
            Ok(length) => start + length,
        };
        text.get(start..end).unwrap_or(&text).to_owned()
    }

    /// Whether the SELECT names a temporary table or view.
    pub fn uses_temporary(&self) -> Result<bool> {
        // SAFETY: parses and analyses in the current memory context, under the statement's
        // snapshot; an ERROR (an unknown column) leaves as one.
        unsafe {
            let list =
                pg_sys::raw_parser(self.select.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
            let query = pg_sys::parse_analyze_fixedparams(
                nth(list, 0).cast(),
                self.select.as_ptr(),
                std::ptr::null(),
                0,
                std::ptr::null_mut(),
            );
            Ok(pg_sys::isQueryUsingTempRelation(query))
        }
    }
}

fn invalid_relation(detail: String) -> Refusal {
    Refusal::new(code::INVALID_PARAMETER, "relation must be a table, a view or one SELECT")
        .detail(detail)
        .hint("Give a name such as 'public.loans', or a text that begins with SELECT.")
}

/// A name never begins with one of these words followed by a blank, unless it is quoted.
fn looks_like_query(text: &str) -> bool {
    let text = text.trim_start();
    if text.starts_with('(') {
        return true;
    }
    let word: String = text.chars().take_while(char::is_ascii_alphabetic).collect();
    let next = text[word.len()..].chars().next();
    ["select", "with", "values", "table"].contains(&word.to_ascii_lowercase().as_str())
        && next.is_some_and(|c| c.is_whitespace() || c == '(' || c == '*')
}

/// An existing relation.
pub struct Named {
    pub id: Oid,
    schema: String,
    name: String,
}

impl Named {
    /// Its name with its schema, quoted.
    pub fn qualified(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }
}

fn existing(text: &str) -> Result<Named> {
    let no_name = |text: &str| invalid_relation(format!("The text is \"{}\".", shortened(text)));
    named(text, no_name)?.ok_or_else(|| {
        Refusal::new("42P01", format!("relation \"{}\" does not exist", shortened(text)))
            .detail("No table or view of this name is on the search path.")
            .hint("Write the schema before the name, and quote names that are not lower case.")
    })
}

/// The relation that a name means, as `regclass` resolves it; `no_name` refuses what is no name.
pub fn named(text: &str, no_name: fn(&str) -> Refusal) -> Result<Option<Named>> {
    let lookup = || {
        spi::query(
            "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.oid
             FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
             WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass($1)",
            &[Param::Text(text)],
            true,
            |row| Named {
                id: row.get(3).unwrap_or(Oid::INVALID),
                schema: row.get(1).unwrap_or_default(),
                name: row.get(2).unwrap_or_default(),
            },
        )
    };
    // A name that cannot be parsed (a stray quote, four parts) or that leads to another database is
    // an ERROR in to_regclass; nothing was changed, so the statement may go on to its own refusal.
    let refused = |_| Err(no_name(text));
    let found = PgTryBuilder::new(lookup)
        .catch_when(PgSqlErrorCode::ERRCODE_INVALID_NAME, refused)
        .catch_when(PgSqlErrorCode::ERRCODE_SYNTAX_ERROR, refused)
        .catch_when(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, refused)
        .execute()?;
    Ok(found.into_iter().next())
}

fn shortened(text: &str) -> &str {
    riskft_core::protocol::cut(text, 100)
}

pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Refuses all but exactly one SELECT that writes nothing.
fn require_one_select(sql: &CStr) -> Result<()> {
    // SAFETY: the parser returns a list of RawStmt in the current memory context; a syntax error
    // leaves as an ERROR. Node casts follow the node's tag.
    unsafe {
        let list = pg_sys::raw_parser(sql.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        let statements = if list.is_null() { 0 } else { (*list).length };
        if statements != 1 {
            return Err(invalid_relation(format!("It holds {statements} statements.")));
        }
        let raw = nth(list, 0).cast::<pg_sys::RawStmt>();
        let node = (*raw).stmt;
        if (*node).type_ != pg_sys::NodeTag::T_SelectStmt {
            return Err(invalid_relation("The statement is not a SELECT.".to_owned()));
        }
        let select = node.cast::<pg_sys::SelectStmt>();
        if !(*select).intoClause.is_null() || !(*select).lockingClause.is_null() {
            return Err(invalid_relation("The SELECT writes or locks.".to_owned()));
        }
        if has_modifying_cte((*select).withClause) {
            return Err(invalid_relation("Its WITH clause writes.".to_owned()));
        }
    }
    Ok(())
}

/// # Safety
/// `with` is null or a WithClause of a raw parse tree.
unsafe fn has_modifying_cte(with: *mut pg_sys::WithClause) -> bool {
    if with.is_null() {
        return false;
    }
    // SAFETY: `ctes` is a list of CommonTableExpr.
    unsafe {
        let list = (*with).ctes;
        (0..(*list).length).any(|index| {
            let cte = nth(list, index).cast::<pg_sys::CommonTableExpr>();
            (*(*cte).ctequery).type_ != pg_sys::NodeTag::T_SelectStmt
        })
    }
}

/// A column of keys of an A/B test.
#[derive(Debug, Clone, Copy)]
pub struct KeyColumn {
    at: usize,
    reader: KeyReader,
}

/// An open read of a relation. SPI is connected, and the transaction watched, from `open` to
/// `close`.
pub struct Scan {
    portal: pg_sys::Portal,
    batch_memory: pg_sys::MemoryContext,
    watch: Watch,
    readers: Vec<Option<Reader>>,
    pub columns: Vec<SourceColumn>,
    /// (name, declared type) of the columns whose type is not read.
    pub unread: Vec<(String, String)>,
}

impl Scan {
    pub fn open(relation: &Relation) -> Result<Self> {
        // SAFETY: SPI is connected here and finished by `close`, or by the transaction's abort.
        unsafe {
            let watch = Watch::begin();
            pg_sys::SPI_connect();
            let plan = pg_sys::SPI_prepare_cursor(
                relation.select.as_ptr(),
                0,
                std::ptr::null_mut(),
                pg_sys::CURSOR_OPT_NO_SCROLL as i32,
            );
            if plan.is_null() {
                return Err(invalid_relation("It could not be prepared.".to_owned()));
            }
            let portal = pg_sys::SPI_cursor_open(
                std::ptr::null(),
                plan,
                std::ptr::null_mut(),
                std::ptr::null(),
                true,
            );
            let batch_memory = pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"riskft batch".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            let mut scan = Scan {
                portal,
                batch_memory,
                watch,
                readers: Vec::new(),
                columns: Vec::new(),
                unread: Vec::new(),
            };
            scan.describe()?;
            Ok(scan)
        }
    }

    /// # Safety
    /// The portal is open.
    unsafe fn describe(&mut self) -> Result<()> {
        // SAFETY: the portal's description has `natts` attributes.
        unsafe {
            let description = (*self.portal).tupDesc;
            for index in 0..(*description).natts {
                let attribute = attribute(description, index);
                let name = attribute_name(attribute);
                let declared = declared_type(attribute);
                let reader = Reader::of(attribute.atttypid);
                if self.columns.iter().any(|c| c.name == name)
                    || self.unread.iter().any(|(n, _)| *n == name)
                {
                    return Err(Refusal::new("42701", format!("column \"{name}\" appears twice"))
                        .detail("Scoring finds columns by name, so names must differ.")
                        .hint("Give one of them another name with AS."));
                }
                match reader {
                    Some(reader) => self.columns.push(SourceColumn {
                        name,
                        column_type: reader.column_type(),
                        hint: reader.hint(),
                        declared,
                    }),
                    None => self.unread.push((name, declared)),
                }
                self.readers.push(reader);
            }
        }
        Ok(())
    }

    /// Place of a column among the cells; 42703 for a name that no column has.
    pub fn position(&self, name: &str) -> Result<usize> {
        self.columns.iter().position(|column| column.name == name).ok_or_else(|| {
            Refusal::new(code::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"))
                .detail(format!("The relation has no column \"{name}\" of a type that is read."))
                .hint("Give the relation the columns that the model was trained with.")
        })
    }

    /// A column that holds keys of an A/B test; None within where its type is none, 42703 for a name that
    /// no column has.
    pub fn key(&self, name: &str) -> Result<Option<KeyColumn>> {
        // SAFETY: the portal's description has `natts` attributes.
        let found = unsafe {
            let description = (*self.portal).tupDesc;
            let mut attributes = (0..(*description).natts).map(|at| attribute(description, at));
            attributes.position(|a| attribute_name(a) == name).map(|at| {
                let reader = KeyReader::of(attribute(description, at as i32).atttypid);
                reader.map(|reader| KeyColumn { at, reader })
            })
        };
        // The name of no column.
        found.map_or_else(|| self.position(name).map(|_| None), Ok)
    }

    /// As [`Scan::next`], with each row's key; None where it is NULL or no key.
    pub fn next_by_key(
        &mut self,
        key: KeyColumn,
        mut sink: impl FnMut(&[Cell<'_>], Option<&str>) -> Result<()>,
    ) -> Result<bool> {
        let mut text = String::new();
        self.next_raw(|cells, values, nulls| {
            // SAFETY: the reader was made for the column's type.
            let is_key = !nulls[key.at] && unsafe { key.reader.write(values[key.at], &mut text) }?;
            sink(cells, is_key.then_some(text.as_str()))
        })
    }

    /// How the cells of the SELECT's column at a place are read; 42703 for a type that is not.
    pub fn reader(&self, place: usize) -> Result<Reader> {
        self.readers.get(place).copied().flatten().ok_or_else(|| {
            invalid_relation(format!("Column {} is of a type that is not read.", place + 1))
        })
    }

    /// The SELECT's columns; they live as long as the scan is open.
    pub fn description(&self) -> pg_sys::TupleDesc {
        // SAFETY: the portal is open.
        unsafe { (*self.portal).tupDesc }
    }

    /// Hands the next rows to `sink`, cells in the order of `columns`; false at the end.
    pub fn next(&mut self, mut sink: impl FnMut(&[Cell<'_>]) -> Result<()>) -> Result<bool> {
        self.next_raw(|cells, _, _| sink(cells))
    }

    /// [`Scan::next`], with the values of all columns of the relation and whether they are NULL.
    fn next_raw(
        &mut self,
        mut sink: impl FnMut(&[Cell<'_>], &[Datum], &[bool]) -> Result<()>,
    ) -> Result<bool> {
        let readers = self.readers.clone();
        let mut cells = Vec::with_capacity(self.columns.len());
        self.next_values(|values, nulls| {
            cells.clear();
            for (column, reader) in readers.iter().enumerate() {
                let Some(reader) = reader else { continue };
                let cell = match nulls[column] {
                    true => Cell::Null,
                    // SAFETY: the reader was made for the column's type; the cell is used within this
                    // call, which the value outlives.
                    false => unsafe { reader.read(values[column]) },
                };
                cells.push(cell);
            }
            sink(&cells, values, nulls)
        })
    }

    /// Hands the next rows to `sink`, as a value and whether it is null for each column of the SELECT;
    /// false at the end. What is allocated there goes with the rows.
    pub fn next_values(
        &mut self,
        mut sink: impl FnMut(&mut [Datum], &mut [bool]) -> Result<()>,
    ) -> Result<bool> {
        check_for_interrupts!();
        // SAFETY: SPI is connected and the portal open. Values point into the fetched tuples or
        // into batch_memory; both live until the end of this call, and so does what is made of them.
        unsafe {
            pg_sys::SPI_cursor_fetch(self.portal, true, FETCH as _);
            let table = pg_sys::SPI_tuptable;
            let rows = if table.is_null() { 0 } else { (*table).numvals as usize };
            let before = pg_sys::MemoryContextSwitchTo(self.batch_memory);
            let mut values = vec![Datum::from(0); self.readers.len()];
            let mut nulls = vec![true; self.readers.len()];
            for index in 0..rows {
                let tuple = *(*table).vals.add(index);
                pg_sys::heap_deform_tuple(
                    tuple,
                    (*table).tupdesc,
                    values.as_mut_ptr(),
                    nulls.as_mut_ptr(),
                );
                sink(&mut values, &mut nulls)?;
            }
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::MemoryContextReset(self.batch_memory);
            pg_sys::SPI_freetuptable(table);
            Ok(rows > 0)
        }
    }

    pub fn close(self) {
        // SAFETY: closes what `open` opened.
        unsafe {
            pg_sys::SPI_cursor_close(self.portal);
            pg_sys::MemoryContextDelete(self.batch_memory);
            pg_sys::SPI_finish();
        }
        drop(self.watch);
    }
}

/// # Safety
/// `list` is a pointer list with more than `index` elements.
unsafe fn nth(list: *const pg_sys::List, index: i32) -> *mut std::ffi::c_void {
    // SAFETY: as promised.
    unsafe { (*(*list).elements.add(index as usize)).ptr_value }
}

/// # Safety
/// `description` has more than `index` attributes and outlives the borrow.
pub unsafe fn attribute<'a>(
    description: pg_sys::TupleDesc,
    index: i32,
) -> &'a pg_sys::FormData_pg_attribute {
    // SAFETY: as promised; `attrs` is the description's flexible end.
    unsafe { &*(*description).attrs.as_ptr().add(index as usize) }
}

pub fn attribute_name(attribute: &pg_sys::FormData_pg_attribute) -> String {
    // SAFETY: a NameData is zero-terminated.
    unsafe { CStr::from_ptr(attribute.attname.data.as_ptr()).to_string_lossy().into_owned() }
}

fn declared_type(attribute: &pg_sys::FormData_pg_attribute) -> String {
    // SAFETY: returns a palloc'd C string, which is copied.
    unsafe {
        let text = pg_sys::format_type_with_typemod(attribute.atttypid, attribute.atttypmod);
        CStr::from_ptr(text).to_string_lossy().into_owned()
    }
}
