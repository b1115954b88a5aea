//! riskft_ab_arm: the arm of a key. risk_score_both: a row by both versions.

use std::cell::RefCell;

use pgrx::fcinfo::{pg_arg_is_null, pg_getarg_datum};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::IntoDatum;
use riskft_core::ab::Arm;
use riskft_core::model::Scorer;
use riskft_core::refusal::{code, Refusal, Result};

use super::key::{self, KeyReader};
use super::test::Test;
use crate::argument;
use crate::call_site::CallSite;
use crate::error::or_raise;
use crate::meaning::Meaning;
use crate::row::RowReader;
use crate::score::{finite, null};

crate::version_1!(pg_finfo_riskft_ab_arm);
crate::version_1!(pg_finfo_risk_score_both);

/// What a call site keeps for its keys.
#[derive(Default)]
struct Keys {
    reader: Option<KeyReader>,
    text: String,
}

/// `riskft_ab_arm(model text, key text | anyelement) -> text`
///
/// # Safety
/// Called by the server with the arguments that sql/ab.sql declares.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn riskft_ab_arm(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: fcinfo is the server's; argument 0 is text, argument 1 of the type that the call site's
    // expression says.
    unsafe {
        let site = or_raise(CallSite::<Meaning, Keys>::of(fcinfo));
        match or_raise(arm(site, fcinfo)).and_then(|arm| arm.name().into_datum()) {
            Some(arm) => arm,
            None => null(fcinfo),
        }
    }
}

/// None without a test, and of a value that is no key.
///
/// # Safety
/// As for [`riskft_ab_arm`].
unsafe fn arm(site: &mut CallSite<Meaning, Keys>, fcinfo: FunctionCallInfo) -> Result<Option<Arm>> {
    let (_, _, keys) = site.parts()?;
    let reader = match keys.reader {
        Some(reader) => reader,
        None => {
            // SAFETY: the call site's expression says the type of the argument.
            let declared = unsafe { pg_sys::get_fn_expr_argtype((*fcinfo).flinfo, 1) };
            *keys.reader.insert(KeyReader::of(declared).ok_or_else(key::no_key)?)
        }
    };
    let Some(test) = tested(site)? else { return Ok(None) };
    let split = test.split;
    let (_, _, keys) = site.parts()?;
    // SAFETY: the reader was made for the argument's type.
    unsafe {
        let Some(key) = pg_getarg_datum(fcinfo, 1) else { return Ok(None) };
        let is_key = reader.write(key, &mut keys.text)?;
        Ok(is_key.then(|| split.arm(&keys.text)))
    }
}

/// The test that runs on the bare name; a name with a version is refused, for it takes part in none.
fn tested<T: Default + 'static>(site: &mut CallSite<Meaning, T>) -> Result<Option<&Test>> {
    if !site.is_bare() {
        return Err(Refusal::new(
            code::INVALID_PARAMETER,
            "an arm is asked of a model without a version",
        )
        .detail("A name with @ means one version, whichever test runs.")
        .hint("Leave out the @ and what follows it."));
    }
    Ok(site.parts()?.0.test())
}

/// What a call site keeps for its rows.
#[derive(Default)]
struct Rows {
    reader: RowReader,
    text: String,
}

/// `risk_score_both(model text, t anyelement) -> (arm text, champion float8, challenger float8)`
///
/// # Safety
/// Called by the server with the arguments that sql/ab.sql declares.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn risk_score_both(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: fcinfo is the server's; argument 0 is text, argument 1 of the type that the call site's
    // expression says; the record has the types of the OUT parameters.
    unsafe {
        let site = or_raise(CallSite::<Meaning, Rows>::of(fcinfo));
        or_raise(tested(site));
        if pg_arg_is_null(fcinfo, 1) {
            return null(fcinfo);
        }
        let (arm, [champion, challenger]) = or_raise(both(site, fcinfo));
        let arm = arm.and_then(|arm| arm.name().into_datum());
        argument::record(fcinfo, [arm, champion.into_datum(), challenger.into_datum()])
    }
}

/// Arm and scores of a row. Without a test it has no arm, and one score.
///
/// # Safety
/// Argument 1 is not NULL, and of the type that the call site says.
unsafe fn both(
    site: &mut CallSite<Meaning, Rows>,
    fcinfo: FunctionCallInfo,
) -> Result<(Option<Arm>, [Option<f64>; 2])> {
    let (meaning, _, Rows { reader, text }) = site.parts()?;
    // SAFETY: as promised; the cells are used within the call.
    unsafe {
        let mut row = reader.read::<RefCell<Scorer>>(fcinfo)?;
        let mut score = |arm: Arm| {
            let scorer = meaning.scorer(arm)?;
            let cells = row.cells(arm.index(), &*scorer)?;
            let score = scorer.borrow_mut().score(&cells);
            finite(score)
        };
        let champion = score(Arm::Champion)?;
        let Some(test) = meaning.test() else { return Ok((None, [Some(champion), None])) };
        let challenger = score(Arm::Challenger)?;
        let is_key = row.write_key(&test.key_column, text)?;
        Ok((is_key.then(|| test.split.arm(text)), [Some(champion), Some(challenger)]))
    }
}
