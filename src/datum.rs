//! A PostgreSQL value -> a cell. Training and scoring read alike, and no session setting has a say.

use std::ffi::CStr;

use pgrx::pg_sys::{self, Datum, Oid};
use riskft_core::cell::{Cell, ColumnType, TypeHint};
use riskft_core::protocol::{cut, MAX_TEXT};

/// Days and microseconds from 1970-01-01 to PostgreSQL's epoch, 2000-01-01.
pub const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;

/// How the values of one type are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    Money,
    Text,
    Bpchar,
    Char,
    Name,
    Enum,
    Uuid,
    Date,
    Timestamp,
}

impl Reader {
    /// The reader of a type (domains are resolved), or None for a type that is not read.
    pub fn of(declared: Oid) -> Option<Reader> {
        // SAFETY: catalogue lookups of a type that exists.
        let (base, category, is_varlena) = unsafe {
            let base = pg_sys::getBaseType(declared);
            let (mut category, mut preferred) = (0, false);
            pg_sys::get_type_category_preferred(base, &mut category, &mut preferred);
            (base, category as u8, pg_sys::get_typlen(base) == -1)
        };
        Some(match base {
            pg_sys::BOOLOID => Reader::Bool,
            pg_sys::INT2OID => Reader::Int2,
            pg_sys::INT4OID => Reader::Int4,
            pg_sys::INT8OID => Reader::Int8,
            pg_sys::OIDOID => Reader::Oid,
            pg_sys::FLOAT4OID => Reader::Float4,
            pg_sys::FLOAT8OID => Reader::Float8,
            pg_sys::NUMERICOID => Reader::Numeric,
            pg_sys::MONEYOID => Reader::Money,
            pg_sys::BPCHAROID => Reader::Bpchar,
            pg_sys::CHAROID => Reader::Char,
            pg_sys::NAMEOID => Reader::Name,
            pg_sys::UUIDOID => Reader::Uuid,
            pg_sys::DATEOID => Reader::Date,
            pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID => Reader::Timestamp,
            _ if category == pg_sys::TYPCATEGORY_ENUM => Reader::Enum,
            // text, varchar, and string types of other extensions (citext).
            _ if category == pg_sys::TYPCATEGORY_STRING && is_varlena => Reader::Text,
            _ => return None,
        })
    }

    pub fn column_type(self) -> ColumnType {
        match self {
            Reader::Bool => ColumnType::Bool,
            Reader::Int2 | Reader::Int4 | Reader::Int8 | Reader::Oid => ColumnType::Int,
            Reader::Float4 | Reader::Float8 | Reader::Numeric | Reader::Money => ColumnType::Float,
            Reader::Text | Reader::Bpchar | Reader::Char | Reader::Name => ColumnType::Text,
            Reader::Enum | Reader::Uuid => ColumnType::Text,
            Reader::Date => ColumnType::Date,
            Reader::Timestamp => ColumnType::Timestamp,
        }
    }

    pub fn hint(self) -> TypeHint {
        match self {
            Reader::Money => TypeHint::Money,
            Reader::Enum => TypeHint::Label,
            Reader::Uuid => TypeHint::Identifier,
            _ => TypeHint::None,
        }
    }

    /// Reads a value that is not NULL.
    ///
    /// # Safety
    /// `datum` is a value of a type that this reader was made for, and the current memory context
    /// outlives the cell.
    pub unsafe fn read<'a>(self, datum: Datum) -> Cell<'a> {
        // SAFETY: as the caller promised; each arm reads its own type's representation.
        unsafe {
            match self {
                Reader::Bool => Cell::Bool(datum.value() as u8 != 0),
                Reader::Int2 => Cell::Int(i64::from(datum.value() as i16)),
                Reader::Int4 => Cell::Int(i64::from(datum.value() as i32)),
                Reader::Int8 => Cell::Int(datum.value() as i64),
                Reader::Oid => Cell::Int(i64::from(datum.value() as u32)),
                Reader::Float4 => Cell::Float(f64::from(f32::from_bits(datum.value() as u32))),
                Reader::Float8 => Cell::Float(f64::from_bits(datum.value() as u64)),
                Reader::Numeric => {
                    let float = call(pg_sys::numeric_float8_no_overflow, datum);
                    Cell::Float(f64::from_bits(float.value() as u64))
                }
                // The stored integer counts hundredths; lc_monetary, which may differ between
                // sessions, is not asked.
                Reader::Money => Cell::Float(datum.value() as i64 as f64 / 100.0),
                Reader::Text => Cell::Text(varlena_text(datum)),
                Reader::Bpchar => Cell::Text(varlena_text(datum).trim_end_matches(' ')),
                Reader::Char => Cell::Text(char_text(datum)),
                Reader::Name => Cell::Text(c_text(datum.cast_mut_ptr())),
                Reader::Enum => Cell::Text(output_text(datum, pg_sys::enum_out)),
                Reader::Uuid => Cell::Text(output_text(datum, pg_sys::uuid_out)),
                Reader::Date => Cell::Date((datum.value() as i32).saturating_add(EPOCH_DAYS)),
                Reader::Timestamp => {
                    Cell::Timestamp((datum.value() as i64).saturating_add(EPOCH_MICROSECONDS))
                }
            }
        }
    }
}

/// Text of a varlena, at most MAX_TEXT bytes of it; a longer one is not read whole.
///
/// # Safety
/// `datum` points to a varlena; the current memory context outlives the text.
unsafe fn varlena_text<'a>(datum: Datum) -> &'a str {
    // SAFETY: as promised; detoasting gives a plain or short varlena whose length is its own.
    unsafe {
        let whole = datum.cast_mut_ptr::<pg_sys::varlena>();
        let plain = if pg_sys::toast_raw_datum_size(datum) > MAX_TEXT + pg_sys::VARHDRSZ {
            pg_sys::pg_detoast_datum_slice(whole, 0, MAX_TEXT as i32)
        } else {
            pg_sys::pg_detoast_datum_packed(whole)
        };
        let bytes = std::slice::from_raw_parts(
            pgrx::vardata_any(plain).cast::<u8>(),
            pgrx::varsize_any_exhdr(plain),
        );
        valid_text(bytes)
    }
}

/// The longest valid prefix: the database is in UTF8, so only the cut can split a character.
fn valid_text(bytes: &[u8]) -> &str {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    };
    cut(text, MAX_TEXT)
}

/// # Safety
/// `text` is a C string that lives as long as the result is used.
unsafe fn c_text<'a>(text: *mut std::ffi::c_char) -> &'a str {
    // SAFETY: as promised.
    unsafe { valid_text(CStr::from_ptr(text).to_bytes()) }
}

/// A value as its type prints it.
///
/// # Safety
/// `output` is the output function of the datum's type; the current memory context outlives the
/// text.
pub unsafe fn output_text<'a>(
    datum: Datum,
    output: unsafe fn(pg_sys::FunctionCallInfo) -> Datum,
) -> &'a str {
    // SAFETY: an output function returns a palloc'd C string.
    unsafe { c_text(call(output, datum).cast_mut_ptr()) }
}

/// # Safety
/// The current memory context outlives the text.
unsafe fn char_text<'a>(datum: Datum) -> &'a str {
    let byte = datum.value() as u8;
    if !byte.is_ascii() {
        return "";
    }
    // SAFETY: one byte is allocated in the current memory context and written before it is read.
    unsafe {
        let out = pg_sys::palloc(1).cast::<u8>();
        *out = byte;
        valid_text(std::slice::from_raw_parts(out, usize::from(byte != 0)))
    }
}

/// A call's frame with room for one argument (PostgreSQL's LOCAL_FCINFO).
#[repr(C)]
struct OneArgument {
    frame: pg_sys::FunctionCallInfoBaseData,
    argument: pg_sys::NullableDatum,
}

/// Calls a built-in function of one argument; no memory is taken for the call itself.
///
/// # Safety
/// `datum` is a value of the function's argument type, and the function is strict.
unsafe fn call(function: unsafe fn(pg_sys::FunctionCallInfo) -> Datum, datum: Datum) -> Datum {
    // SAFETY: a zeroed frame is what LOCAL_FCINFO starts from; `args` is the frame's flexible end,
    // where the argument follows.
    unsafe {
        let mut call: OneArgument = std::mem::zeroed();
        call.frame.nargs = 1;
        call.argument = pg_sys::NullableDatum { value: datum, isnull: false };
        function(&raw mut call.frame)
    }
}
