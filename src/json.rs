//! jsonb arguments. What an object holds is read in place; what Rust's parser cannot hold (nesting
//! beyond 127 levels, numbers beyond float8) is refused where a whole value is asked for.

use std::ffi::CStr;
use std::marker::PhantomData;

use pgrx::fcinfo::pg_getarg_datum;
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use riskft_core::ab::Key;
use riskft_core::cell::Cell;
use riskft_core::protocol::{cut, MAX_TEXT};
use riskft_core::refusal::{code, Refusal, Result};
use serde_json::Value;

use crate::ab::key::no_scalar;
use crate::datum::{output_text, Reader};

/// An argument as a whole value; `what` names it. NULL is None.
///
/// # Safety
/// The argument is declared as jsonb.
pub unsafe fn value(fcinfo: FunctionCallInfo, index: usize, what: &str) -> Result<Option<Value>> {
    // SAFETY: jsonb_out takes any jsonb, toasted or not, and gives a palloc'd C string.
    let text = unsafe {
        let Some(datum) = pg_getarg_datum(fcinfo, index) else { return Ok(None) };
        let text: Option<&CStr> = pgrx::direct_function_call(pg_sys::jsonb_out, &[Some(datum)]);
        text.unwrap_or_default()
    };
    serde_json::from_slice(text.to_bytes()).map(Some).map_err(|error| {
        Refusal::new(code::INVALID_PARAMETER, format!("{what} cannot be read"))
            .detail(format!("The JSON value has {error}."))
            .hint("Nest at most 127 levels, and keep numbers within float8.")
    })
}

/// A JSON object in a jsonb value.
pub struct Object<'a> {
    container: *mut pg_sys::JsonbContainer,
    value: PhantomData<&'a pg_sys::Jsonb>,
}

impl<'a> Object<'a> {
    /// None for an array or a scalar.
    ///
    /// # Safety
    /// `datum` is a jsonb value; the current memory context outlives the object.
    pub unsafe fn of(datum: Datum) -> Option<Self> {
        // SAFETY: a detoasted jsonb begins with its length word, then the root container.
        unsafe {
            let whole = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::Jsonb>();
            let container = &raw mut (*whole).root;
            let is_object = (*container).header & pg_sys::JB_FOBJECT != 0;
            is_object.then_some(Object { container, value: PhantomData })
        }
    }

    /// The cell under a key; None without the key. A numeric beyond float8 is infinite, as in a
    /// row; an array or an object is 22023.
    pub fn cell(&self, key: &str) -> Result<Option<Cell<'a>>> {
        let Some(found) = self.find(key) else { return Ok(None) };
        // SAFETY: the type of the value says which member of the union is set.
        unsafe {
            Ok(Some(match found.type_ {
                pg_sys::jbvType::jbvNull => Cell::Null,
                pg_sys::jbvType::jbvBool => Cell::Bool(found.val.boolean),
                pg_sys::jbvType::jbvNumeric => number(Datum::from(found.val.numeric)),
                pg_sys::jbvType::jbvString => Cell::Text(string(&found)),
                _ => return Err(no_single_value(key)),
            }))
        }
    }

    /// Writes what is under a key as a key of an A/B test; false without it, or where it is null.
    pub fn write_key(&self, key: &str, into: &mut String) -> Result<bool> {
        let Some(found) = self.find(key) else { return Ok(false) };
        // SAFETY: the value was found in the object.
        unsafe { write_scalar(&found, into) }.ok_or_else(|| no_single_value(key))
    }

    fn find(&self, key: &str) -> Option<pg_sys::JsonbValue> {
        let mut found = pg_sys::JsonbValue::default();
        // SAFETY: the container was checked to be an object's; the value found points into it.
        let is_found = unsafe {
            !pg_sys::getKeyJsonValueFromContainer(
                self.container,
                key.as_ptr().cast(),
                key.len() as i32,
                &raw mut found,
            )
            .is_null()
        };
        is_found.then_some(found)
    }
}

/// Writes a jsonb value as a key of an A/B test; false where it is null.
///
/// # Safety
/// `datum` is a jsonb value.
pub unsafe fn write_key(datum: Datum, into: &mut String) -> Result<bool> {
    let mut found = pg_sys::JsonbValue::default();
    // SAFETY: as promised; a detoasted jsonb begins with its length word, then the root container.
    unsafe {
        let whole = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::Jsonb>();
        let is_scalar = pg_sys::JsonbExtractScalar(&raw mut (*whole).root, &raw mut found);
        let written = if is_scalar { write_scalar(&found, into) } else { None };
        written.ok_or_else(no_scalar)
    }
}

/// None of an array or an object.
///
/// # Safety
/// The value was found in a jsonb that still lives.
unsafe fn write_scalar(found: &pg_sys::JsonbValue, into: &mut String) -> Option<bool> {
    // SAFETY: the type of the value says which member of the union is set.
    unsafe {
        let key = match found.type_ {
            pg_sys::jbvType::jbvNull => return Some(false),
            pg_sys::jbvType::jbvBool => Key::Bool(found.val.boolean),
            pg_sys::jbvType::jbvString => Key::Text(string(found)),
            pg_sys::jbvType::jbvNumeric => {
                Key::Decimal(output_text(Datum::from(found.val.numeric), pg_sys::numeric_out))
            }
            _ => return None,
        };
        Some(key.write(into))
    }
}

/// # Safety
/// The value is a string of a jsonb that lives as long as the text is used.
unsafe fn string<'a>(found: &pg_sys::JsonbValue) -> &'a str {
    // SAFETY: as promised.
    unsafe {
        let string = found.val.string;
        let length = usize::try_from(string.len).unwrap_or(0);
        let bytes = std::slice::from_raw_parts(string.val.cast::<u8>(), length);
        cut(std::str::from_utf8(bytes).unwrap_or_default(), MAX_TEXT)
    }
}

/// A whole number without a point is an integer.
///
/// # Safety
/// `datum` is a numeric; the current memory context outlives the call.
unsafe fn number<'a>(datum: Datum) -> Cell<'a> {
    // SAFETY: as promised.
    unsafe {
        match output_text(datum, pg_sys::numeric_out).parse() {
            Ok(integer) => Cell::Int(integer),
            Err(_) => Reader::Numeric.read(datum),
        }
    }
}

fn no_single_value(key: &str) -> Refusal {
    Refusal::new(code::INVALID_PARAMETER, format!("key \"{key}\" holds no single value"))
        .detail(format!("The value of \"{key}\" is an array or an object."))
        .hint("Pass a string, a number, a boolean or null.")
}
