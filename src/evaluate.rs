//! riskft_evaluate: figures of a model on the labelled rows of a relation.

use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use riskft_core::metrics::{self, Metric};
use riskft_core::refusal::Result;

use crate::alias::ModelName;
use crate::argument;
use crate::catalog;
use crate::error::or_raise;
use crate::labelled;
use crate::model_cache;
use crate::relation::Relation;
use crate::settings;

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn riskft_evaluate(
    model: Option<&str>,
    relation: Option<&str>,
    target: Option<&str>,
) -> TableIterator<
    'static,
    (
        name!(metric, String),
        name!(value, Option<f64>),
        name!(ci_low, Option<f64>),
        name!(ci_high, Option<f64>),
    ),
> {
    let metrics = or_raise(evaluate(model, relation, target));
    TableIterator::new(metrics.into_iter().map(|m| (m.metric, m.value, m.ci_low, m.ci_high)))
}

fn evaluate(
    model: Option<&str>,
    relation: Option<&str>,
    target: Option<&str>,
) -> Result<Vec<Metric>> {
    const CALL: &str = "SELECT * FROM riskft_evaluate('model', 'relation', 'target').";
    let model = argument::given("model", model, CALL)?;
    let files = catalog::scorable(&ModelName::parse(model))?;
    let scorer = model_cache::scorer(&files, settings::kernel()?)?;
    let relation = Relation::resolve(argument::given("relation", relation, CALL)?)?;
    let target = argument::given("target", target, CALL)?;
    let labelled = labelled::score(&[&scorer], &relation, target)?;
    let threshold = scorer.borrow().model().specification().threshold;
    labelled.tell_of_one_class("auc, ks, f1 and average_precision");
    let mut result = Vec::new();
    for scored in &labelled.scored {
        labelled::warn_of_fitted_rows("the model", &files, &scored.hashes)?;
        result = metrics::evaluate(&scored.scores, &labelled.labels, threshold);
    }
    Ok(result)
}
