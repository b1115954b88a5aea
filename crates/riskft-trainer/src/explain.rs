//! What each source column moves: the background of later explanations, importances and effects.

use std::sync::Arc;

use riskft_core::cell::Cell;
use riskft_core::dataset::{Dataset, Part};
use riskft_core::encode::value::{label, number, Scratch};
use riskft_core::encode::{CategorySource, EncodedColumn, Encoding};
use riskft_core::explain::{scored_rows, Background, Explainer};
use riskft_core::model::Model;
use riskft_core::options::{Explain, Options, Role};
use riskft_core::protocol::{EffectReport, ImportanceReport};
use riskft_core::refusal::Result;

use crate::events::Reporter;
use crate::finish::Trained;
use crate::rows::{sample, Reader};
use crate::run::Run;
use crate::scoring::{scorer, Crew};

/// Inputs that importances may take in all: mixed rows times what each has, and as much again for
/// its trees. 256 rows of the loans take 93 million, some seconds on one core.
const MOST_INPUTS: usize = 120_000_000;
const INPUTS_OF_TREES: usize = 100;
/// Seconds of a thread for an input by trees, and what each network adds to them: fitted to four tables.
const SECONDS_OF_INPUT: f64 = 7e-8;
const NETWORK_OF_INPUT: f64 = 0.3;
/// Products of a projection that take as long as an input of the network.
const PRODUCTS_OF_INPUT: usize = 256;
/// Fewest rows that a mean is taken over.
const LEAST_ROWS: usize = 8;
/// Columns that effects are computed of, the most important ones, and values of each.
const MOST_COLUMNS: usize = 40;
const MOST_VALUES: usize = 10;

/// Rows that are usual: out-of-fold logits of the fitted rows divide them into as many strata, each
/// of which gives its middle row.
pub fn background(trained: &Trained<'_>, model: &Arc<Model>) -> Result<Background> {
    let logits = &trained.blend.out_of_fold;
    let has_logit = |place: &&u32| !logits[**place as usize].is_nan();
    let fitted = &trained.run.folds.fitted;
    let mut places: Vec<u32> = fitted.iter().filter(has_logit).copied().collect();
    let hashes = &trained.run.rows.hashes;
    // By hash where logits are equal: physical order has no say.
    places.sort_by(|a, b| {
        let by_logit = logits[*a as usize].total_cmp(&logits[*b as usize]);
        by_logit.then_with(|| hashes[*a as usize].cmp(&hashes[*b as usize]))
    });
    let count = trained.run.header.options.explain.background.min(places.len());
    let middle = |stratum: usize| places[(2 * stratum + 1) * places.len() / (2 * count)];
    let chosen: Vec<u32> = (0..count).map(middle).collect();
    let reader = Reader::new(&trained.job.dataset, &model.specification().encoding)?;
    let rows = trained.source(&chosen);
    let cells: Vec<Vec<Cell<'_>>> = rows.iter().map(|row| reader.cells(*row as usize)).collect();
    Ok(Background::of(&mut scorer(model), &cells))
}

/// A finished version, and rows that neither it nor its calibration has learnt from.
pub struct Shown<'a> {
    pub model: &'a Arc<Model>,
    pub dataset: &'a Dataset,
    /// Rows of the dataset.
    pub rows: Vec<u32>,
    pub options: &'a Options,
    pub threads: usize,
    pub reporter: &'a Reporter,
}

impl Shown<'_> {
    /// Importances and effects on some of the rows.
    ///
    /// # Errors
    /// 38000 when a thread fails.
    pub fn figures(self) -> Result<(Vec<ImportanceReport>, Vec<EffectReport>)> {
        let Shown { model, dataset, rows, options, threads, reporter } = self;
        let none = (Vec::new(), Vec::new());
        if options.explain.rows == 0 || rows.is_empty() {
            return Ok(none);
        }
        let encoding = &model.specification().encoding;
        let most = match Explainer::new(&mut scorer(model)) {
            Ok(explainer) => MOST_INPUTS / inputs(encoding, explainer.most_rows()),
            Err(refusal) => {
                reporter.notice(format!("there are no importances: {}", refusal.message));
                return Ok(none);
            }
        };
        if most < LEAST_ROWS {
            reporter.notice(format!(
                "there are no importances: {} columns would take too long",
                encoding.columns.len()
            ));
            return Ok(none);
        }
        let reader = Reader::new(dataset, encoding)?;
        let chosen = sample(rows, options.explain.rows.min(most), options.seed);
        let of = Explained {
            model,
            cells: chosen.iter().map(|row| reader.cells(*row as usize)).collect(),
            crew: Crew { phase: "explain", threads, reporter },
        };
        let importances = of.importances()?;
        let effects = of.effects(&importances)?;
        Ok((importances, effects))
    }
}

/// Inputs that mixed rows take, as [`MOST_INPUTS`] counts them; at least 1.
fn inputs(encoding: &Encoding, rows: usize) -> usize {
    let products = encoding.components.as_ref().map_or(0, |c| c.columns.len() * c.count);
    let each = encoding.features() + INPUTS_OF_TREES + products / PRODUCTS_OF_INPUT;
    (rows * each).max(1)
}

/// Rows that [`Shown::figures`] explains of a version that reads all columns of the run, and its wall seconds
/// but for their texts.
pub fn seconds(run: &Run<'_>) -> (usize, f64) {
    let options = &run.header.options;
    let Explain { background, rows } = options.explain;
    let each = inputs(run.encoding, scored_rows(run.encoding.columns.len(), background));
    let test = run.rows.part(Part::Test).len();
    let shown = if test > 0 { test } else { run.folds.fitted.len() };
    let most = MOST_INPUTS / each;
    let rows = if most < LEAST_ROWS { 0 } else { rows.min(shown).min(most) };
    let networks = (run.folds.models() * options.members) as f64;
    let input = SECONDS_OF_INPUT * (1.0 + NETWORK_OF_INPUT * networks);
    (rows, (rows * each) as f64 * input / run.compute.threads as f64)
}

/// A version and rows that it is explained on.
struct Explained<'a> {
    model: &'a Arc<Model>,
    cells: Vec<Vec<Cell<'a>>>,
    crew: Crew<'a>,
}

impl Explained<'_> {
    /// Mean magnitudes of the columns' contributions, the largest first.
    fn importances(&self) -> Result<Vec<ImportanceReport>> {
        let (model, cells) = (self.model, &self.cells);
        let rows = self.crew.each(cells.len(), || {
            let mut scorer = scorer(model);
            let mut explainer = Explainer::new(&mut scorer).ok();
            move |row: usize| -> Vec<f64> {
                let Some(explainer) = &mut explainer else { return Vec::new() };
                let found = explainer.explain(&mut scorer, &cells[row], &mut || ());
                found.columns.iter().map(|column| column.contribution.abs()).collect()
            }
        })?;
        let columns = &self.model.specification().encoding.columns;
        let mut means = vec![0.0; columns.len()];
        for row in &rows {
            means.iter_mut().zip(row).for_each(|(mean, size)| *mean += size / rows.len() as f64);
        }
        let total: f64 = means.iter().sum();
        let report = |(column, mean): (&EncodedColumn, f64)| ImportanceReport {
            column_name: column.name.clone(),
            mean_abs_shap: mean,
            share: if total > 0.0 { mean / total } else { 0.0 },
        };
        let mut reports: Vec<ImportanceReport> = columns.iter().zip(means).map(report).collect();
        reports.sort_by(|a, b| {
            let by_size = b.mean_abs_shap.total_cmp(&a.mean_abs_shap);
            by_size.then_with(|| a.column_name.cmp(&b.column_name))
        });
        Ok(reports)
    }

    /// Mean scores of the rows with one value in all of them, of the most important columns.
    fn effects(&self, importances: &[ImportanceReport]) -> Result<Vec<EffectReport>> {
        let encoding = &self.model.specification().encoding;
        let place = |name: &str| encoding.columns.iter().position(|column| column.name == name);
        let important = importances.iter().take(MOST_COLUMNS);
        let columns = important.filter_map(|importance| place(&importance.column_name));
        let mut steps: Vec<(usize, u32, Value<'_>)> = Vec::new();
        for column in columns {
            let values = self.values(encoding, column);
            steps.extend(values.into_iter().zip(1..).map(|(value, n)| (column, n, value)));
        }
        let (model, cells) = (self.model, &self.cells);
        let means = self.crew.each(steps.len(), || {
            let mut scorer = scorer(model);
            let mut changed = Vec::new();
            let steps = &steps;
            move |step: usize| {
                let (column, _, value) = &steps[step];
                let mut sum = 0.0;
                for row in cells {
                    changed.clone_from(row);
                    changed[*column] = value.cell;
                    sum += scorer.score(&changed);
                }
                sum / cells.len() as f64
            }
        })?;
        let mut scratch = Scratch::default();
        let report =
            |((column, ordinal, value), mean): ((usize, u32, Value<'_>), f64)| EffectReport {
                column_name: encoding.columns[column].name.clone(),
                ordinal,
                value: label(value.cell, &mut scratch).map(str::to_owned),
                mean_score: mean,
                rows: value.rows as u64,
            };
        Ok(steps.into_iter().zip(means).map(report).collect())
    }

    /// The values of a column that stand for its rows; none of a text.
    fn values(&self, encoding: &Encoding, column: usize) -> Vec<Value<'_>> {
        let cells = self.cells.iter().map(|row| row[column]);
        let mut values = match encoding.columns[column].role {
            Role::Number | Role::Date => numbers(encoding, column, cells.clone()),
            Role::Category | Role::Flag => labels(encoding, column, cells.clone()),
            _ => return Vec::new(),
        };
        let mut scratch = Scratch::default();
        let missing = cells.filter(|cell| label(*cell, &mut scratch).is_none()).count();
        if missing > 0 && !values.is_empty() {
            values.push(Value { cell: Cell::Null, rows: missing });
        }
        values
    }
}

/// A value, and how many rows it stands for.
struct Value<'a> {
    cell: Cell<'a>,
    rows: usize,
}

/// Numbers or days, ascending: all of few, else the middles of equal shares of the rows.
fn numbers<'a>(
    encoding: &Encoding,
    column: usize,
    cells: impl Iterator<Item = Cell<'a>>,
) -> Vec<Value<'a>> {
    let read = |cell: Cell<'_>| number(cell, &encoding.columns[column], encoding.reference_date);
    let mut known: Vec<(f64, Cell<'a>)> =
        cells.map(|cell| (read(cell), cell)).filter(|(value, _)| !value.is_nan()).collect();
    known.sort_by(|a, b| a.0.total_cmp(&b.0));
    let same: Vec<&[(f64, Cell<'a>)]> = known.chunk_by(|a, b| a.0 == b.0).collect();
    let groups = match same.len() {
        0..=MOST_VALUES => same,
        _ => known.chunks(known.len().div_ceil(MOST_VALUES)).collect(),
    };
    let value = |rows: &[(f64, Cell<'a>)]| Value { cell: rows[rows.len() / 2].1, rows: rows.len() };
    groups.into_iter().map(value).collect()
}

/// The most frequent labels that the version knows by name.
fn labels<'a>(
    encoding: &Encoding,
    column: usize,
    cells: impl Iterator<Item = Cell<'a>>,
) -> Vec<Value<'a>> {
    let known = encoding.categories.iter().find(|c| c.source == CategorySource::Value(column));
    let mut scratch = Scratch::default();
    let mut found: Vec<(String, Value<'a>)> = Vec::new();
    for cell in cells {
        let Some(label) = label(cell, &mut scratch) else { continue };
        if known.is_some_and(|c| !c.has(label)) {
            continue;
        }
        match found.iter_mut().find(|(name, _)| name == label) {
            Some((_, value)) => value.rows += 1,
            None => found.push((label.to_owned(), Value { cell, rows: 1 })),
        }
    }
    if known.is_none() && encoding.columns[column].role != Role::Flag {
        return Vec::new();
    }
    found.sort_by(|a, b| b.1.rows.cmp(&a.1.rows).then_with(|| a.0.cmp(&b.0)));
    found.truncate(MOST_VALUES);
    found.into_iter().map(|(_, value)| value).collect()
}
