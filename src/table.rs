//! The rows of a function that returns a set, where its arguments need more than pgrx reads.

use pgrx::pg_sys::{self, Datum, FunctionCallInfo};

/// The set that a call returns.
pub struct Table {
    info: *mut pg_sys::ReturnSetInfo,
}

impl Table {
    /// An empty set. A caller that takes no set is refused by the server.
    ///
    /// # Safety
    /// `fcinfo` is a call of a function that returns SETOF record with OUT parameters; the set is
    /// used during the call alone.
    pub unsafe fn begin(fcinfo: FunctionCallInfo) -> Self {
        // SAFETY: checks the caller's context and fills its ReturnSetInfo, or raises an error.
        unsafe {
            pg_sys::InitMaterializedSRF(fcinfo, 0);
            Table { info: (*fcinfo).resultinfo.cast() }
        }
    }

    /// Adds a row: one value for each OUT parameter, of its type.
    ///
    /// # Safety
    /// Each value is a datum of its parameter's type.
    pub unsafe fn push<const N: usize>(&mut self, values: [Option<Datum>; N]) {
        let mut nulls = values.map(|value| value.is_none());
        let mut values = values.map(|value| value.unwrap_or(Datum::from(0)));
        // SAFETY: store and description are those of `begin`; the description has N columns.
        unsafe {
            let (store, description) = ((*self.info).setResult, (*self.info).setDesc);
            pg_sys::tuplestore_putvalues(
                store,
                description,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
        }
    }
}
