//! A test as it is stored: riskft.ab_test.

use riskft_core::ab::Split;
use riskft_core::refusal::{code, Refusal, Result};

use crate::catalog;
use crate::spi::{self, Param, Row};

/// A test of a model, running or stopped.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    /// From 1 within its model.
    pub number: i32,
    /// Versions.
    pub champion: i32,
    pub challenger: i32,
    /// Column whose value decides a row's arm.
    pub key_column: String,
    /// Whether the challenger scores its rows, or the champion all of them.
    pub routes: bool,
    pub share: f64,
    pub split: Split,
}

/// As riskft.ab_test stores whether a test routes.
pub const MODES: [&str; 2] = ["route", "shadow"];

pub fn mode(routes: bool) -> &'static str {
    MODES[usize::from(!routes)]
}

impl Test {
    /// A test that the caller's snapshot shows. Rights are the caller's to check.
    pub fn existing(model: &str, number: i32) -> Result<Self> {
        find(model, Some(number))?.ok_or_else(|| unknown(model, number))
    }

    /// The newest test of a model, which is the running one where one runs.
    pub fn newest(model: &str) -> Result<Self> {
        find(model, None)?.ok_or_else(|| none(model))
    }
}

const SELECT: &str =
    "SELECT t.test, t.champion, t.challenger, t.key_column, t.mode, t.share, t.model_id
                      FROM riskft.ab_test t";

fn find(model: &str, number: Option<i32>) -> Result<Option<Test>> {
    let sql = format!(
        "{SELECT} JOIN riskft.model m USING (model_id)
         WHERE m.name = $1 AND ($2 IS NULL OR t.test = $2) ORDER BY t.test DESC LIMIT 1"
    );
    let params = [Param::Text(model), Param::OptionalInt4(number)];
    Ok(spi::as_owner(|| spi::query(&sql, &params, true, read))?.into_iter().next())
}

/// The running test of a model that is held. To be called as the catalogue's owner.
pub fn running(model: i64) -> Result<Option<Test>> {
    let sql = format!("{SELECT} WHERE t.model_id = $1 AND t.stopped_at IS NULL");
    Ok(spi::query(&sql, &[Param::Int8(model)], false, read)?.into_iter().next())
}

fn read(row: &Row) -> Test {
    let number = row.get(1).unwrap_or_default();
    let share = row.get(6).unwrap_or_default();
    Test {
        number,
        champion: row.get(2).unwrap_or_default(),
        challenger: row.get(3).unwrap_or_default(),
        key_column: row.get(4).unwrap_or_default(),
        routes: row.get::<String>(5).as_deref() == Some(mode(true)),
        share,
        split: Split::new(row.get(7).unwrap_or_default(), number, share),
    }
}

fn unknown(model: &str, number: i32) -> Refusal {
    Refusal::new(
        code::UNDEFINED_OBJECT,
        format!("test {number} of model \"{model}\" does not exist"),
    )
    .detail(format!("The test asked for is {number}."))
    .hint("The view riskft.ab_tests lists the tests of your models.")
}

fn none(model: &str) -> Refusal {
    Refusal::new(code::NOT_IN_STATE, format!("model \"{model}\" has no A/B test"))
        .detail("None was started yet.")
        .hint(format!(
            "Start one: SELECT riskft_ab_start({}, 'challenger', key => 'loan_id').",
            catalog::literal(model)
        ))
}

/// The refusal of what needs a running test.
pub fn not_running(model: &str) -> Refusal {
    Refusal::new(code::NOT_IN_STATE, format!("no A/B test of model \"{model}\" is running"))
        .detail("There is none, or the last one was stopped.")
        .hint("The view riskft.ab_tests lists the tests of your models.")
}
