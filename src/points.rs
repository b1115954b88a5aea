//! risk_points and risk_grade: a score on the scale of a scorecard, and the grade that it falls in.

use pgrx::fcinfo::{pg_arg_is_null, pg_getarg_datum_raw};
use pgrx::pg_sys::{Datum, FunctionCallInfo};
use pgrx::{FromDatum, IntoDatum};
use riskft_core::points::Scale;
use riskft_core::refusal::{code, Refusal, Result};

use crate::argument;
use crate::catalog;
use crate::error::or_raise;
use crate::score::{choose, finite, float8, null, Chosen, Site};
use crate::spi::{self, Param};

crate::version_1!(pg_finfo_risk_points);
crate::version_1!(pg_finfo_risk_grade);

/// `risk_points(model text, t anyelement, base float8, odds float8, pdo float8) -> float8`
///
/// # Safety
/// Called by the server with the arguments that sql/explain.sql declares.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn risk_points(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: fcinfo is the server's; argument 0 is text, argument 1 of the type that the call
    // site's expression says, the others float8.
    unsafe {
        let site = or_raise(Site::<()>::of(fcinfo));
        let number = |index: usize, name: &str| {
            let datum = pg_getarg_datum_raw(fcinfo, index);
            let value = f64::from_datum(datum, pg_arg_is_null(fcinfo, index));
            argument::given(name, value, "Leave it out for its default.")
        };
        let (base, odds, pdo) =
            (or_raise(number(2, "base")), or_raise(number(3, "odds")), or_raise(number(4, "pdo")));
        let scale = or_raise(Scale::new(base, odds, pdo));
        if pg_arg_is_null(fcinfo, 1) {
            return null(fcinfo);
        }
        let Chosen { scorer, cells, .. } = or_raise(choose(site, fcinfo));
        let log_odds = scorer.borrow_mut().log_odds(&cells);
        float8(or_raise(finite(scale.points(log_odds))))
    }
}

/// The grades that count for a model, the highest probability first.
#[derive(Default)]
struct Grades(Option<Vec<(f64, String)>>);

/// `risk_grade(model text, t anyelement) -> text`
///
/// # Safety
/// Called by the server with the arguments that sql/explain.sql declares.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn risk_grade(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: fcinfo is the server's; argument 0 is text, argument 1 of the type that the call
    // site's expression says.
    unsafe {
        let site = or_raise(Site::<Grades>::of(fcinfo));
        if pg_arg_is_null(fcinfo, 1) {
            return null(fcinfo);
        }
        let chosen = or_raise(choose(site, fcinfo));
        match or_raise(grade(chosen)).into_datum() {
            Some(grade) => grade,
            None => null(fcinfo),
        }
    }
}

/// None where the probability lies below all grades.
fn grade(chosen: Chosen<'_, '_, Grades>) -> Result<Option<String>> {
    let Chosen { scorer, cells, model, own } = chosen;
    let score = scorer.borrow_mut().score(&cells);
    let score = finite(score)?;
    if own.0.is_none() {
        let grades = spi::as_owner(|| read(model))?;
        if grades.is_empty() {
            return Err(Refusal::new(
                code::NOT_IN_STATE,
                format!("there are no grades for model \"{model}\""),
            )
            .detail("Table riskft.grade has no rows for the model, and none for any model.")
            .hint(format!(
                "INSERT INTO riskft.grade (model, grade, at_least) VALUES ({}, 'A', 0), ...;",
                catalog::literal(model)
            )));
        }
        own.0 = Some(grades);
    }
    let grades = own.0.as_deref().unwrap_or_default();
    let found = grades.iter().find(|(at_least, _)| score >= *at_least);
    Ok(found.map(|(_, grade)| grade.clone()))
}

/// The model's own grades, or those of any model where it has none.
fn read(model: &str) -> Result<Vec<(f64, String)>> {
    spi::query(
        "SELECT g.at_least, g.grade FROM riskft.grade g
         WHERE g.model IS NOT DISTINCT FROM
             (SELECT m.model FROM riskft.grade m WHERE m.model = $1 LIMIT 1)
         ORDER BY g.at_least DESC",
        &[Param::Text(model)],
        true,
        |row| (row.get(1).unwrap_or_default(), row.get(2).unwrap_or_default()),
    )
}
