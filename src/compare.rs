//! riskft_compare: two versions of a model on the same labelled rows.

use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use riskft_core::metrics::{self, Comparison, Scoring};
use riskft_core::refusal::{code, Refusal, Result};

use crate::alias::{ModelName, Which};
use crate::argument;
use crate::catalog::{self, VersionFiles};
use crate::error::or_raise;
use crate::labelled::{self, Labelled};
use crate::model_cache::{self, SharedScorer};
use crate::relation::Relation;
use crate::settings;
use crate::spi::{self, Param};

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn riskft_compare(
    model: Option<&str>,
    a: Option<&str>,
    b: Option<&str>,
    relation: Option<&str>,
    target: Option<&str>,
) -> TableIterator<
    'static,
    (
        name!(metric, String),
        name!(a, Option<f64>),
        name!(b, Option<f64>),
        name!(difference, Option<f64>),
        name!(ci_low, Option<f64>),
        name!(ci_high, Option<f64>),
        name!(p_value, Option<f64>),
    ),
> {
    const CALL: &str =
        "SELECT * FROM riskft_compare('model', 'champion', 'challenger', 'relation', 'target').";
    let given =
        |name: &str, value: Option<&'_ str>| argument::given(name, value.map(str::to_owned), CALL);
    let lines = given("model", model).and_then(|model| {
        let (a, b) = (given("a", a)?, given("b", b)?);
        let pair = [Side::find(&model, &a)?, Side::find(&model, &b)?];
        compare(&model, &pair, &given("relation", relation)?, &given("target", target)?)
    });
    TableIterator::new(
        or_raise(lines)
            .into_iter()
            .map(|c| (c.metric, c.a, c.b, c.difference, c.ci_low, c.ci_high, c.p_value)),
    )
}

/// One of the two versions.
struct Side {
    files: VersionFiles,
    scorer: SharedScorer,
}

impl Side {
    /// The version that a number or an alias names.
    fn find(model: &str, which: &str) -> Result<Self> {
        let wanted = ModelName { name: model, which: Which::parse(which) };
        let files = catalog::scorable(&wanted)?;
        let scorer = model_cache::scorer(&files, settings::kernel()?)?;
        Ok(Side { files, scorer })
    }

    fn positive_label(&self) -> String {
        self.scorer.borrow().model().specification().positive_label.clone()
    }

    fn threshold(&self) -> f64 {
        self.scorer.borrow().model().specification().threshold
    }

    /// CPU seconds of its training; None of an imported one.
    fn training_seconds(&self, model: &str) -> Result<Option<f64>> {
        let rows = spi::as_owner(|| {
            spi::query(
                "SELECT (r.ledger ->> 'cpu_seconds')::float8
                 FROM riskft.version v JOIN riskft.model m USING (model_id)
                 JOIN riskft.run r USING (run_id)
                 WHERE m.name = $1 AND v.version = $2",
                &[Param::Text(model), Param::Int4(self.files.version)],
                true,
                |row| row.get::<f64>(1),
            )
        })?;
        Ok(rows.into_iter().next().flatten())
    }
}

fn compare(
    model: &str,
    [a, b]: &[Side; 2],
    relation: &str,
    target: &str,
) -> Result<Vec<Comparison>> {
    let (ours, theirs) = (a.positive_label(), b.positive_label());
    if ours != theirs {
        return Err(different_labels((a.files.version, &ours), (b.files.version, &theirs)));
    }
    let relation = Relation::resolve(relation)?;
    let labelled = labelled::score(&[&a.scorer, &b.scorer], &relation, target)?;
    labelled.tell_of_one_class("auc, ks and f1");
    let Labelled { labels, scored } = &labelled;
    let [of_a, of_b] = scored.as_slice() else { return Ok(Vec::new()) };
    for (side, scored) in [(a, of_a), (b, of_b)] {
        let who = format!("version {}", side.files.version);
        labelled::warn_of_fitted_rows(&who, &side.files, &scored.hashes)?;
    }
    let mut lines = metrics::compare(
        Scoring { scores: &of_a.scores, threshold: a.threshold() },
        Scoring { scores: &of_b.scores, threshold: b.threshold() },
        labels,
        &mut listen,
    );
    lines.push(Comparison::of(
        "training_cpu_seconds",
        a.training_seconds(model)?,
        b.training_seconds(model)?,
    ));
    let per_score = |seconds: f64| metrics::microseconds_each(seconds, labels.len());
    lines.push(Comparison::of(
        "score_microseconds",
        per_score(of_a.seconds),
        per_score(of_b.seconds),
    ));
    Ok(lines)
}

/// The refusal of versions whose scores mean different things.
pub fn different_labels(a: (i32, &str), b: (i32, &str)) -> Refusal {
    Refusal::new(code::INVALID_PARAMETER, "versions predict different labels")
        .detail(format!(
            "Version {} gives the probability of \"{}\", version {} that of \"{}\".",
            a.0, a.1, b.0, b.1
        ))
        .hint("Train one of them again with the other's positive label.")
}

fn listen() {
    pgrx::check_for_interrupts!();
}
