//! What a refresh has to do: found by one read of the relation beside the target, under one snapshot.

use std::ffi::CStr;

use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{check_for_interrupts, FromDatum};
use riskft_core::cell::Cell;
use riskft_core::dataset::hash::{bytes_hash, cells_hash, mix};
use riskft_core::dataset::names;
use riskft_core::refusal::{code, Refusal, Result};

use super::kept::{Kept, Memory};
use super::target::{Key, Target, Writer};
use crate::catalog::VersionFiles;
use crate::datum::Reader;
use crate::model_cache::SharedScorer;
use crate::relation::{attribute, attribute_name, quote_identifier, Relation, Scan};
use crate::score::finite;
use crate::spi::{self, Param};

// Places in the rows of the read.
/// NULL where the row is in the target alone.
const HERE: usize = 0;
const KEY: usize = 1;
/// Of the target's row, if there is one: its key, version and hash.
const KNOWN_KEY: usize = 2;
const KNOWN_VERSION: usize = 3;
/// In rows that are kept: the hash of the relation's row.
const HASH: usize = 4;
/// Whether the row before has the same key.
const AGAIN: usize = 5;
/// The first column that the model reads.
const CELLS: usize = 6;

/// The relation: its key and the columns that the model reads.
pub struct Source {
    body: String,
    pub key: Key,
    columns: Vec<String>,
}

impl Source {
    /// Refuses a relation that lacks the key or a column of the model.
    pub fn of(relation: &Relation, key: &str, columns: &[&str]) -> Result<Self> {
        let scan = Scan::open(relation)?;
        for column in columns {
            scan.position(column)?;
        }
        let key = key_of(scan.description(), key)?;
        scan.close();
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        Ok(Source { body: relation.body(), key: key.resolve()?, columns })
    }

    /// The read: rows of the relation, each beside the target's of the same key, in the order of the
    /// keys; then those that the target alone has.
    fn beside(&self, target: &Target) -> Result<Relation> {
        let Target { name, key, equal, collate, .. } = target;
        let inner = |(place, column): (usize, &String)| {
            format!(", s.{} AS c{}", quote_identifier(column), CELLS + place)
        };
        let inner: String = self.columns.iter().enumerate().map(inner).collect();
        let outer: String =
            (0..self.columns.len()).map(|place| format!(", r.c{}", CELLS + place)).collect();
        Relation::of_select(&format!(
            "SELECT r.c{HERE}, r.c{KEY}, t.{key} AS c{KNOWN_KEY}, t.version AS c{KNOWN_VERSION},
                 t.row_hash AS c{HASH},
                 r.c{KEY}{collate} {equal} pg_catalog.lag(r.c{KEY}) OVER (ORDER BY r.c{KEY}{collate}) AS c{AGAIN}
                 {outer}
             FROM (SELECT true AS c{HERE}, s.{key} AS c{KEY}{inner} FROM (
             {}
             ) AS s) AS r
             FULL JOIN {name} AS t ON t.{key} {equal} r.c{KEY}{collate}
             ORDER BY r.c{KEY}{collate}",
            self.body
        ))
    }
}

/// A key before its words are looked up.
struct Declared {
    name: String,
    type_id: Oid,
    typmod: i32,
    collation: Oid,
}

fn key_of(description: pg_sys::TupleDesc, name: &str) -> Result<Declared> {
    // SAFETY: the description of an open scan.
    let attributes: Vec<_> =
        unsafe { (0..(*description).natts).map(|at| attribute(description, at)).collect() };
    let named = attributes.iter().map(|attribute| attribute_name(attribute)).collect::<Vec<_>>();
    let Some(place) = named.iter().position(|known| known == name) else {
        let known: Vec<&str> = named.iter().map(String::as_str).collect();
        return Err(names::missing(name, "the key", &known));
    };
    let attribute = attributes[place];
    Ok(Declared {
        name: name.to_owned(),
        type_id: attribute.atttypid,
        typmod: attribute.atttypmod,
        collation: attribute.attcollation,
    })
}

impl Declared {
    fn resolve(self) -> Result<Key> {
        let flags = pg_sys::TYPECACHE_EQ_OPR | pg_sys::TYPECACHE_LT_OPR;
        // SAFETY: an entry of the type cache, which stays; the type's name is copied.
        let (equal, less, declared) = unsafe {
            let entry = pg_sys::lookup_type_cache(self.type_id, flags as i32);
            let flags = pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY;
            let name = pg_sys::format_type_extended(self.type_id, self.typmod, flags as u16);
            let name = CStr::from_ptr(name).to_string_lossy().into_owned();
            ((*entry).eq_opr, (*entry).lt_opr, name)
        };
        if equal == Oid::INVALID || less == Oid::INVALID {
            return Err(Refusal::new("42804", format!("column \"{}\" cannot be a key", self.name))
                .detail(format!("Values of type {declared} are not ordered."))
                .hint("Name another column, or cast it: 'SELECT t.*, t.id::text AS key FROM t'."));
        }
        let words = spi::as_caller(|| {
            spi::query(
                "SELECT 'OPERATOR(' || quote_ident(n.nspname) || '.' || o.oprname || ')',
                        (SELECT ' COLLATE ' || quote_ident(s.nspname) || '.' || quote_ident(c.collname)
                         FROM pg_collation c JOIN pg_namespace s ON s.oid = c.collnamespace
                         WHERE c.oid = $2)
                 FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE o.oid = $1",
                &[Param::Object(equal), Param::Object(self.collation)],
                true,
                |row| {
                    let text = |place| row.get::<String>(place).unwrap_or_default();
                    (text(1), text(2))
                },
            )
        })?;
        let (equal, collate) = words.into_iter().next().unwrap_or_default();
        Ok(Key {
            name: self.name,
            type_id: self.type_id,
            declared: format!("{declared}{collate}"),
            equal,
        })
    }
}

/// Rows to be scored or removed, in the order of their keys.
pub struct Changes {
    kept: Kept,
    readers: Vec<Reader>,
    /// How many they are.
    pub total: u64,
    /// Rows of the relation that are scored already.
    pub unchanged: u64,
    /// Of one row's values.
    memory: Memory,
}

impl Changes {
    pub fn find(source: &Source, target: &Target, files: &VersionFiles) -> Result<Self> {
        let mut scan = Scan::open(&source.beside(target)?)?;
        let readers = (CELLS..CELLS + source.columns.len()).map(|place| scan.reader(place));
        let readers: Vec<Reader> = readers.collect::<Result<_>>()?;
        let mut kept = Kept::like(scan.description());
        let (mut total, mut unchanged) = (0u64, 0u64);
        let seed = version_hash(files);
        while scan.next_values(|values, nulls| {
            // SAFETY: the read's columns are of these types; all of it is used within this call.
            unsafe {
                if !nulls[HERE] {
                    if nulls[KEY] {
                        return Err(null_key(&source.key));
                    }
                    if bool::from_datum(values[AGAIN], nulls[AGAIN]) == Some(true) {
                        return Err(same_key(&source.key, values[KEY]));
                    }
                    let hash = row_hash(seed, &cells(&readers, values, nulls));
                    let version = i32::from_datum(values[KNOWN_VERSION], nulls[KNOWN_VERSION]);
                    let known = i64::from_datum(values[HASH], nulls[HASH]);
                    if (version, known) == (Some(files.version), Some(hash)) {
                        unchanged += 1;
                        return Ok(());
                    }
                    (values[HASH], nulls[HASH]) = (Datum::from(hash), false);
                }
                kept.put(values, nulls);
            }
            total += 1;
            Ok(())
        })? {}
        scan.close();
        Ok(Changes {
            kept,
            readers,
            total,
            unchanged,
            memory: Memory::new(c"riskft score table row"),
        })
    }

    /// Takes the next row: scores and writes it, or removes it.
    pub fn next(&mut self, scorer: &SharedScorer, writer: &mut Writer) -> Result<()> {
        check_for_interrupts!();
        let Some((values, nulls)) = self.kept.next() else { return Ok(()) };
        // SAFETY: values of the read's columns; what is made of them lives in the row's memory until
        // it is reset.
        unsafe {
            if nulls[HERE] {
                writer.take(values[KNOWN_KEY]);
                return Ok(());
            }
            self.memory.reset();
            let score = self.memory.within(|| {
                let cells = cells(&self.readers, values, nulls);
                scorer.borrow_mut().score(&cells)
            });
            writer.put(values[KEY], finite(score)?, values[HASH].value() as i64);
        }
        Ok(())
    }
}

/// The cells of a row of the read, in the order of the model's columns.
///
/// # Safety
/// The readers are those of the read's columns; the current memory context outlives the cells.
unsafe fn cells<'a>(readers: &[Reader], values: &[Datum], nulls: &[bool]) -> Vec<Cell<'a>> {
    let read = |(place, reader): (usize, &Reader)| match nulls[place] {
        true => Cell::Null,
        // SAFETY: as promised.
        false => unsafe { reader.read(values[place]) },
    };
    (CELLS..).zip(readers).map(read).collect()
}

/// As a bigint column holds it.
fn row_hash(seed: u64, cells: &[Cell<'_>]) -> i64 {
    mix(seed ^ cells_hash(cells)).cast_signed()
}

/// What tells versions apart: a number is used again when a model is dropped, or a training rolled
/// back, so it does not.
fn version_hash(files: &VersionFiles) -> u64 {
    let encoder = files.encoder_file.as_ref().map_or("", |file| &file.digest);
    bytes_hash(format!("{} {encoder}", files.version_file.digest).as_bytes())
}

fn null_key(key: &Key) -> Refusal {
    Refusal::new(code::NULL_NOT_ALLOWED, format!("key column \"{}\" holds a null", key.name))
        .detail("A row without a key cannot be found again.")
        .hint("Leave such rows out: 'SELECT * FROM t WHERE key IS NOT NULL'.")
}

/// # Safety
/// `value` is of the key's type.
unsafe fn same_key(key: &Key, value: Datum) -> Refusal {
    // SAFETY: as promised; the text is copied.
    let text = unsafe {
        let (mut output, mut is_varlena) = (Oid::INVALID, false);
        pg_sys::getTypeOutputInfo(key.type_id, &mut output, &mut is_varlena);
        CStr::from_ptr(pg_sys::OidOutputFunctionCall(output, value)).to_string_lossy().into_owned()
    };
    Refusal::new("23505", format!("two rows have the same key in column \"{}\"", key.name))
        .detail(format!("The key is {}.", riskft_core::protocol::cut(&text, 200)))
        .hint("Give a relation with one row for each key.")
}
