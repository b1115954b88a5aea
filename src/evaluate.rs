//! riskft_evaluate: figures of a model on the labelled rows of a relation.

use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use riskft_core::artifact::Artifact;
use riskft_core::cell::Cell;
use riskft_core::dataset::hash::cells_hash;
use riskft_core::encode::value::{label, Scratch};
use riskft_core::metrics::{self, Metric};
use riskft_core::refusal::{code, Refusal, Result};

use crate::catalog::{self, VersionFiles};
use crate::error::{self, or_raise, warn};
use crate::model_cache::{self, SharedScorer};
use crate::relation::{Relation, Scan};
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
    let required = |value: Option<&'_ str>, name: &str| {
        value.map(str::to_owned).ok_or_else(|| {
            Refusal::new(code::NULL_NOT_ALLOWED, format!("{name} must not be null"))
                .detail(format!("Argument \"{name}\" of riskft_evaluate is null."))
                .hint("SELECT * FROM riskft_evaluate('model', 'relation', 'target').")
        })
    };
    let files = catalog::scorable(&required(model, "model")?)?;
    let scorer = model_cache::scorer(&files, settings::kernel()?)?;
    let relation = Relation::resolve(&required(relation, "relation")?)?;
    let scored = score_relation(&scorer, &relation, &required(target, "target")?)?;
    if scored.unlabelled > 0 {
        error::notice!("{} rows without a label are left out", scored.unlabelled);
    }
    let threshold = scorer.borrow().model().specification().threshold;
    warn_of_fitted_rows(&files, &scored.hashes)?;
    let result = metrics::evaluate(&scored.scores, &scored.labels, threshold);
    let positives = scored.labels.iter().filter(|l| **l).count();
    if positives == 0 || positives == scored.labels.len() {
        error::notice!(
            "auc, ks, f1 and average_precision are null: the {} labelled rows are not of two classes (one class, or none)",
            scored.labels.len()
        );
    }
    Ok(result)
}

/// Figures on rows that the version was fitted on are better than those on new rows.
fn warn_of_fitted_rows(files: &VersionFiles, hashes: &[u64]) -> Result<()> {
    let Some(file) = &files.training_file else { return Ok(()) };
    let training = Artifact::open(model_cache::open(file)?)?;
    let fitted = training.slice::<u64>("fitted_rows")?;
    let seen = hashes.iter().filter(|hash| fitted.binary_search(hash).is_ok()).count();
    if seen > 0 {
        warn(
            "the model was fitted on some of these rows; its figures are better here than on new rows",
            &format!(
                "{seen} of {} labelled rows ({:.0}%) took part in its training or calibration.",
                hashes.len(),
                100.0 * seen as f64 / hashes.len() as f64
            ),
        );
    }
    Ok(())
}

struct Scored {
    /// Of each scored row's cells, as the model sees them.
    hashes: Vec<u64>,
    scores: Vec<f64>,
    labels: Vec<bool>,
    unlabelled: u64,
}

fn score_relation(scorer: &SharedScorer, relation: &Relation, target: &str) -> Result<Scored> {
    // Borrowed row by row: the relation may be a view that scores with the same model.
    let model = scorer.borrow().model_arc();
    let specification = model.specification();
    let mut scan = Scan::open(relation)?;
    let position = |name: &str| {
        scan.columns.iter().position(|c| c.name == name).ok_or_else(|| {
            Refusal::new(code::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"))
                .detail(format!("The relation has no column \"{name}\" of a type that is read."))
                .hint("Give the relation the columns that the model was trained with.")
        })
    };
    let label_column = position(target)?;
    let columns = specification
        .encoding
        .columns
        .iter()
        .map(|c| position(&c.name))
        .collect::<Result<Vec<usize>>>()?;
    let mut scratch = Scratch::default();
    let mut scored =
        Scored { hashes: Vec::new(), scores: Vec::new(), labels: Vec::new(), unlabelled: 0 };
    loop {
        let more = scan.next(|row| {
            let Some(label) = label(row[label_column], &mut scratch) else {
                scored.unlabelled += 1;
                return Ok(());
            };
            // The scan hands over 1,000 rows at a time; a long text costs milliseconds.
            pgrx::check_for_interrupts!();
            let cells: Vec<Cell<'_>> = columns.iter().map(|c| row[*c]).collect();
            scored.hashes.push(cells_hash(&cells));
            scored.scores.push(scorer.borrow_mut().score(&cells));
            scored.labels.push(label == specification.positive_label);
            Ok(())
        })?;
        if !more {
            break;
        }
    }
    scan.close();
    Ok(scored)
}
