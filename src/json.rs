//! jsonb arguments. What an object holds is read in place; what Rust's parser cannot hold (nesting
//! beyond 127 levels, numbers beyond float8) is refused where a whole value is asked for.

use std::ffi::CStr;
use std::marker::PhantomData;

use pgrx::fcinfo::pg_getarg_datum;
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use riskft_core::cell::Cell;
use riskft_core::protocol::{cut, MAX_TEXT};
use riskft_core::refusal::{code, Refusal, Result};
use serde_json::Value;

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
        let mut found = pg_sys::JsonbValue::default();
        // SAFETY: the container was checked to be an object's; the value found points into it, and
        // its type says which member of the union is set.
        unsafe {
            let found = pg_sys::getKeyJsonValueFromContainer(
                self.container,
                key.as_ptr().cast(),
                key.len() as i32,
                &raw mut found,
            );
            let Some(found) = found.as_ref() else { return Ok(None) };
            Ok(Some(match found.type_ {
                pg_sys::jbvType::jbvNull => Cell::Null,
                pg_sys::jbvType::jbvBool => Cell::Bool(found.val.boolean),
                pg_sys::jbvType::jbvNumeric => number(Datum::from(found.val.numeric)),
                pg_sys::jbvType::jbvString => {
                    let string = found.val.string;
                    let bytes = std::slice::from_raw_parts(
                        string.val.cast::<u8>(),
                        usize::try_from(string.len).unwrap_or(0),
                    );
                    Cell::Text(cut(std::str::from_utf8(bytes).unwrap_or_default(), MAX_TEXT))
                }
                _ => return Err(no_single_value(key)),
            }))
        }
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
