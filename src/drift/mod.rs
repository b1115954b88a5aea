//! riskft_drift: how the rows of a relation differ from those that a version was fitted on.

mod monitor;
mod pass;
mod reference;

use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use riskft_core::drift::Line;
use riskft_core::refusal::Result;

use crate::argument::given;
use crate::error::or_raise;
use pass::{Pass, Watched};

pub use reference::{read, store};

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn riskft_drift(
    model: Option<&str>,
    relation: Option<&str>,
) -> TableIterator<
    'static,
    (
        name!(column_name, String),
        name!(kind, &'static str),
        name!(psi, Option<f64>),
        name!(alarm, Option<String>),
        name!(missing_share, Option<f64>),
        name!(missing_share_reference, Option<f64>),
        name!(unseen_share, Option<f64>),
        name!(rows, i64),
    ),
> {
    let lines = or_raise(drift(model, relation));
    TableIterator::new(lines.into_iter().map(|line| {
        (
            line.column_name,
            line.kind.name(),
            line.psi,
            line.alarm,
            line.missing_share,
            line.missing_share_reference,
            line.unseen_share,
            i64::try_from(line.rows).unwrap_or(i64::MAX),
        )
    }))
}

fn drift(model: Option<&str>, relation: Option<&str>) -> Result<Vec<Line>> {
    const CALL: &str = "SELECT * FROM riskft_drift('model', 'relation').";
    let (model, relation) = (given("model", model, CALL)?, given("relation", relation, CALL)?);
    Ok(Pass::over(&Watched::find(model)?, relation, None)?.lines)
}
