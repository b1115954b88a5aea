//! One pass over a relation: its rows counted in a version's bins, some of them scored, and those
//! with an outcome beside it.

use riskft_core::cell::{Cell, ColumnType};
use riskft_core::dataset::hash::cells_hash;
use riskft_core::drift::{Counter, Line, Reference, Sample, MOST_BYTES, MOST_ROWS};
use riskft_core::encode::value::{day, label, Scratch};
use riskft_core::encode::TextFormat;
use riskft_core::model::Specification;
use riskft_core::options::Role;
use riskft_core::refusal::{code, Refusal, Result};

use super::reference;
use crate::alias::ModelName;
use crate::catalog::{self, VersionFiles};
use crate::error;
use crate::model_cache::{self, SharedScorer};
use crate::relation::{Relation, Scan};
use crate::settings;
use crate::spi;

/// A version that the current role may score, and what its drift is told against.
pub struct Watched {
    pub name: String,
    pub files: VersionFiles,
    reference: Vec<Reference>,
    scorer: SharedScorer,
}

impl Watched {
    /// `name`, `name@3` or `name@alias`.
    pub fn find(text: &str) -> Result<Self> {
        let wanted = ModelName::parse(text);
        let files = catalog::scorable(&wanted)?;
        let name = wanted.name.to_owned();
        let reference = spi::as_owner(|| reference::read(&name, files.version))?;
        if reference.is_empty() {
            return Err(Refusal::new(
                code::NOT_IN_STATE,
                format!("version {} of model \"{name}\" has no reference", files.version),
            )
            .detail("It was trained before drift was measured.")
            .hint("Train the model again."));
        }
        let scorer = model_cache::scorer(&files, settings::kernel()?)?;
        Ok(Watched { name, files, reference, scorer })
    }
}

/// What is asked of rows whose outcome is known.
pub struct Wanted<'a> {
    pub target: &'a str,
    pub time_column: Option<&'a str>,
}

/// What came of a pass.
pub struct Pass {
    /// The score's, then one for each column.
    pub lines: Vec<Line>,
    pub rows: u64,
    pub outcomes: Outcomes,
}

/// The rows with an outcome, where a target was given.
#[derive(Default)]
pub struct Outcomes {
    /// Of each row's cells, as the model sees them.
    pub hashes: Vec<u64>,
    pub scores: Vec<f64>,
    pub labels: Vec<bool>,
    /// Days since 1970-01-01 by the time column.
    pub days: Vec<Option<i32>>,
    pub unlabelled: u64,
}

impl Pass {
    /// Reads the relation as the current role.
    pub fn over(watched: &Watched, relation: &str, wanted: Option<&Wanted<'_>>) -> Result<Self> {
        // Borrowed row by row: the relation may be a view that scores with the same model.
        let model = watched.scorer.borrow().model_arc();
        let specification = model.specification();
        let mut scan = Scan::open(&Relation::resolve(relation)?)?;
        let names = specification.encoding.columns.iter().map(|column| &column.name);
        let columns = names.map(|name| scan.position(name)).collect::<Result<Vec<usize>>>()?;
        let mut outcomes =
            wanted.map(|wanted| Outcome::of(&scan, wanted, specification)).transpose()?;
        let mut counter = Counter::new(&watched.reference, &specification.encoding);
        let mut sample = Sample::new(MOST_ROWS, MOST_BYTES);
        loop {
            let more = scan.next(|row| {
                let cells: Vec<Cell<'_>> = columns.iter().map(|c| row[*c]).collect();
                counter.row(&cells);
                sample.offer(&cells);
                if let Some(outcomes) = &mut outcomes {
                    outcomes.row(row, &cells, &watched.scorer);
                }
                Ok(())
            })?;
            if !more {
                break;
            }
        }
        scan.close();
        score(&watched.scorer, sample, &mut counter);
        let outcomes = outcomes.map(|of| of.found).unwrap_or_default();
        Ok(Pass { lines: counter.lines(), rows: counter.rows(), outcomes })
    }
}

/// Scores the sample. Cancels are heard between rows: a long text costs milliseconds.
fn score(scorer: &SharedScorer, sample: Sample, counter: &mut Counter<'_>) {
    let is_partial = sample.is_partial();
    let rows = sample.rows();
    for row in &rows {
        pgrx::check_for_interrupts!();
        counter.score(scorer.borrow_mut().score(&row.cells()));
    }
    if is_partial {
        error::notice!(
            "the score's line is of a sample of {} of {} rows",
            rows.len(),
            counter.rows()
        );
    }
}

/// Collects the rows with an outcome.
struct Outcome<'a> {
    target: usize,
    /// The time column, and how its texts are written.
    time: Option<(usize, TextFormat)>,
    specification: &'a Specification,
    scratch: Scratch,
    found: Outcomes,
}

impl<'a> Outcome<'a> {
    fn of(scan: &Scan, wanted: &Wanted<'_>, specification: &'a Specification) -> Result<Self> {
        Ok(Outcome {
            target: scan.position(wanted.target)?,
            time: wanted.time_column.map(|name| time(scan, name, specification)).transpose()?,
            specification,
            scratch: Scratch::default(),
            found: Outcomes::default(),
        })
    }

    fn row(&mut self, row: &[Cell<'_>], cells: &[Cell<'_>], scorer: &SharedScorer) {
        let Some(label) = label(row[self.target], &mut self.scratch) else {
            self.found.unlabelled += 1;
            return;
        };
        pgrx::check_for_interrupts!();
        let reference_date = self.specification.encoding.reference_date;
        let day = self.time.and_then(|(column, format)| day(row[column], format, reference_date));
        self.found.hashes.push(cells_hash(cells));
        self.found.labels.push(label == self.specification.positive_label);
        self.found.days.push(day.and_then(|day| i32::try_from(day).ok()));
        self.found.scores.push(scorer.borrow_mut().score(cells));
    }
}

/// Place and format of a time column; what holds no days is refused.
fn time(scan: &Scan, name: &str, specification: &Specification) -> Result<(usize, TextFormat)> {
    let place = scan.position(name)?;
    let encoded = specification.encoding.columns.iter().find(|column| column.name == name);
    let format = encoded.filter(|column| column.role == Role::Date).map(|column| column.format);
    match (scan.columns[place].column_type, format) {
        (ColumnType::Date | ColumnType::Timestamp, _) => Ok((place, TextFormat::Plain)),
        (ColumnType::Text, Some(format)) => Ok((place, format)),
        _ => Err(Refusal::new(
            code::INVALID_PARAMETER,
            format!("column \"{name}\" cannot be the time column"),
        )
        .detail("It holds no dates that the version reads.")
        .hint("Use a date, a timestamp, or a column of the model that holds dates as texts.")),
    }
}
