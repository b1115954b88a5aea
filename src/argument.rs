//! Arguments of SQL functions that must not be NULL.

use riskft_core::refusal::{code, Refusal, Result};

/// The argument, or 22004 where it is NULL; `hint` tells where a value is found.
pub fn given<T>(name: &str, value: Option<T>, hint: &str) -> Result<T> {
    value.ok_or_else(|| {
        Refusal::new(code::NULL_NOT_ALLOWED, format!("{name} must not be null"))
            .detail(format!("Argument \"{name}\" is null."))
            .hint(hint)
    })
}
