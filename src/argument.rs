//! Arguments of SQL functions that must not be NULL; what a procedure returns.

use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use riskft_core::refusal::{code, Refusal, Result};

/// The argument, or 22004 where it is NULL; `hint` tells where a value is found.
pub fn given<T>(name: &str, value: Option<T>, hint: &str) -> Result<T> {
    value.ok_or_else(|| {
        Refusal::new(code::NULL_NOT_ALLOWED, format!("{name} must not be null"))
            .detail(format!("Argument \"{name}\" is null."))
            .hint(hint)
    })
}

/// The INOUT parameters of a procedure as one record.
///
/// # Safety
/// `fcinfo` is the call of a procedure that has as many INOUT parameters, of the values' types.
pub unsafe fn record<const N: usize>(
    fcinfo: FunctionCallInfo,
    values: [Option<Datum>; N],
) -> Datum {
    let mut nulls = values.map(|v| v.is_none());
    let mut values = values.map(|v| v.unwrap_or(Datum::from(0)));
    // SAFETY: the description has as many attributes, as promised.
    unsafe {
        let mut description = std::ptr::null_mut();
        pg_sys::get_call_result_type(fcinfo, std::ptr::null_mut(), &mut description);
        let description = pg_sys::BlessTupleDesc(description);
        let tuple = pg_sys::heap_form_tuple(description, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
    }
}
