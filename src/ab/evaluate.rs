//! riskft_ab_evaluate: what each arm of a test has come to, on rows whose outcome is known.

use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern, pg_sys};
use riskft_core::ab::Arm;
use riskft_core::cell::Cell;
use riskft_core::dataset::hash::cells_hash;
use riskft_core::drift::period::LEAST_ROWS;
use riskft_core::encode::value::{label, Scratch};
use riskft_core::metrics::{self, Estimate, Scoring, Side, Unpaired};
use riskft_core::refusal::Result;

use super::key;
use super::test::Test;
use crate::alias::{ModelName, Which};
use crate::argument;
use crate::catalog::{self, Privilege, VersionFiles};
use crate::error::{self, or_raise};
use crate::labelled::warn_of_fitted_rows;
use crate::model_cache::{self, SharedScorer};
use crate::object::{self, Hold, Kind};
use crate::relation::{Relation, Scan};
use crate::settings;
use crate::spi::{self, Param};

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn riskft_ab_evaluate(
    model: Option<&str>,
    relation: Option<&str>,
    target: Option<&str>,
    test: Option<i32>,
) -> TableIterator<
    'static,
    (
        name!(arm, String),
        name!(version, Option<i32>),
        name!(metric, String),
        name!(value, Option<f64>),
        name!(ci_low, Option<f64>),
        name!(ci_high, Option<f64>),
        name!(p_value, Option<f64>),
    ),
> {
    // SAFETY: raises 25006 in a read-only transaction, before anything is read.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_ab_evaluate()".as_ptr()) };
    let lines = or_raise(evaluate(model, relation, target, test));
    TableIterator::new(lines.into_iter().map(|line| {
        let Estimate { value, ci_low, ci_high, p_value } = line.estimate;
        (line.arm.to_owned(), line.version, line.metric.to_owned(), value, ci_low, ci_high, p_value)
    }))
}

/// A figure of an arm, or of the challenger less the champion.
struct Line {
    arm: &'static str,
    version: Option<i32>,
    metric: &'static str,
    estimate: Estimate,
}

fn evaluate(
    model: Option<&str>,
    relation: Option<&str>,
    target: Option<&str>,
    test: Option<i32>,
) -> Result<Vec<Line>> {
    const CALL: &str = "SELECT * FROM riskft_ab_evaluate('model', 'relation', 'target').";
    let model = argument::given("model", model, CALL)?;
    let text = argument::given("relation", relation, CALL)?;
    let target = argument::given("target", target, CALL)?;
    let object = object::existing(model, Kind::Model)?;
    catalog::require(&object, Privilege::Score)?;
    // What is kept is read by whoever holds a privilege on the model.
    catalog::require(&object, Privilege::Deploy)?;
    let test = match test {
        Some(number) => Test::existing(model, number)?,
        None => Test::newest(model)?,
    };
    let arms = [Version::find(model, test.champion)?, Version::find(model, test.challenger)?];
    let scored = score(&arms, &test, &Relation::resolve(text)?, target)?;
    for (version, rows) in arms.iter().zip(&scored) {
        let who = format!("version {}", version.files.version);
        warn_of_fitted_rows(&who, &version.files, &rows.hashes)?;
    }
    let [a, b] = [Arm::Champion, Arm::Challenger].map(|arm| Side {
        scoring: Scoring {
            scores: &scored[arm.index()].scores,
            threshold: arms[arm.index()].threshold(),
        },
        labels: &scored[arm.index()].labels,
    });
    let lines = lines(&test, metrics::unpaired(a, b));
    match scored.iter().map(|rows| rows.labels.len()).min() {
        Some(fewest) if fewest >= LEAST_ROWS => keep(model, &test, text, target, &lines)?,
        fewest => error::notice!(
            "an arm has {} rows with an outcome: figures of fewer than {LEAST_ROWS} are not kept",
            fewest.unwrap_or(0)
        ),
    }
    Ok(lines)
}

/// A version of the test.
struct Version {
    files: VersionFiles,
    scorer: SharedScorer,
}

impl Version {
    fn find(model: &str, version: i32) -> Result<Self> {
        let number = version.to_string();
        let files = catalog::scorable(&ModelName { name: model, which: Which::Number(&number) })?;
        let scorer = model_cache::scorer(&files, settings::kernel()?)?;
        Ok(Version { files, scorer })
    }

    fn threshold(&self) -> f64 {
        self.scorer.borrow().model().specification().threshold
    }
}

/// The rows of an arm whose outcome is known.
#[derive(Default)]
struct Rows {
    hashes: Vec<u64>,
    scores: Vec<f64>,
    labels: Vec<bool>,
}

/// Scores each row by the version of its arm.
fn score(arms: &[Version; 2], test: &Test, relation: &Relation, target: &str) -> Result<[Rows; 2]> {
    let mut scan = Scan::open(relation)?;
    let label_column = scan.position(target)?;
    let key = scan.key(&test.key_column)?.ok_or_else(|| key::unreadable(&test.key_column))?;
    let mut columns: [Vec<usize>; 2] = Default::default();
    let mut positive = String::new();
    for (version, columns) in arms.iter().zip(&mut columns) {
        // Borrowed row by row below: the relation may be a view that scores with the same model.
        let model = version.scorer.borrow().model_arc();
        let wanted = model.specification().encoding.columns.iter();
        *columns = wanted.map(|c| scan.position(&c.name)).collect::<Result<_>>()?;
        model.specification().positive_label.clone_into(&mut positive);
    }
    let mut found: [Rows; 2] = Default::default();
    let (mut unlabelled, mut unkeyed) = (0u64, 0u64);
    let mut scratch = Scratch::default();
    while scan.next_by_key(key, |row, key| {
        pgrx::check_for_interrupts!();
        let (Some(label), Some(key)) = (label(row[label_column], &mut scratch), key) else {
            match key {
                None => unkeyed += 1,
                Some(_) => unlabelled += 1,
            }
            return Ok(());
        };
        let arm = test.split.arm(key).index();
        let cells: Vec<Cell<'_>> = columns[arm].iter().map(|c| row[*c]).collect();
        let rows = &mut found[arm];
        rows.hashes.push(cells_hash(&cells));
        rows.scores.push(arms[arm].scorer.borrow_mut().score(&cells));
        rows.labels.push(positive == label);
        Ok(())
    })? {}
    scan.close();
    tell(&found, test, unlabelled, unkeyed);
    Ok(found)
}

fn tell(found: &[Rows; 2], test: &Test, unlabelled: u64, unkeyed: u64) {
    if unkeyed > 0 {
        error::notice!(
            "{unkeyed} rows without a key in column \"{}\" are left out",
            test.key_column
        );
    }
    if unlabelled > 0 {
        error::notice!("{unlabelled} rows without a label are left out");
    }
    for arm in Arm::BOTH {
        let labels = &found[arm.index()].labels;
        let positives = labels.iter().filter(|label| **label).count();
        if positives == 0 || positives == labels.len() {
            error::notice!(
                "auc, ks and f1 of the {} are null: its {} labelled rows are not of two classes (one class, or none)",
                arm.name(),
                labels.len()
            );
        }
    }
}

fn lines(test: &Test, figures: Vec<Unpaired>) -> Vec<Line> {
    let line =
        |arm: &'static str, version, metric, estimate| Line { arm, version, metric, estimate };
    let of = |at: &Unpaired| {
        [
            line(Arm::Champion.name(), Some(test.champion), at.metric, at.a),
            line(Arm::Challenger.name(), Some(test.challenger), at.metric, at.b),
            line("difference", None, at.metric, at.difference),
        ]
    };
    figures.iter().flat_map(of).collect()
}

/// Stores the figures as one more evaluation of the test.
fn keep(model: &str, test: &Test, relation: &str, target: &str, lines: &[Line]) -> Result<()> {
    let role = catalog::current_role();
    spi::as_owner(|| {
        let id = object::hold(model, Kind::Model, Hold::Existing)?;
        let stored = spi::query(
            "INSERT INTO riskft.ab_evaluation (model_id, test, role, relation, target)
             VALUES ($1, $2, $3::name, $4, $5) RETURNING evaluation_id",
            &[
                Param::Int8(id),
                Param::Int4(test.number),
                Param::Text(&role),
                Param::Text(relation),
                Param::Text(target),
            ],
            false,
            |row| row.get::<i64>(1).unwrap_or_default(),
        )?;
        let evaluation = stored.into_iter().next().unwrap_or_default();
        for (line, ordinal) in lines.iter().zip(1i32..) {
            let Estimate { value, ci_low, ci_high, p_value } = line.estimate;
            spi::execute(
                "INSERT INTO riskft.ab_result (evaluation_id, ordinal, model_id, arm, version, metric,
                     value, ci_low, ci_high, p_value)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                &[
                    Param::Int8(evaluation),
                    Param::Int4(ordinal),
                    Param::Int8(id),
                    Param::Text(line.arm),
                    Param::OptionalInt4(line.version),
                    Param::Text(line.metric),
                    Param::OptionalFloat8(value),
                    Param::OptionalFloat8(ci_low),
                    Param::OptionalFloat8(ci_high),
                    Param::OptionalFloat8(p_value),
                ],
            )?;
        }
        Ok(())
    })
}
