//! The labelled rows of a relation, scored by one version or by several, in one scan.

use std::time::Instant;

use riskft_core::artifact::Artifact;
use riskft_core::cell::Cell;
use riskft_core::dataset::hash::cells_hash;
use riskft_core::encode::value::{label, Scratch};
use riskft_core::refusal::Result;

use crate::catalog::VersionFiles;
use crate::error::{self, warn};
use crate::model_cache::{self, SharedScorer};
use crate::relation::{Relation, Scan};

/// The rows that have a label, in the order of the scan.
pub struct Labelled {
    /// Whether the label is the positive one of the first version.
    pub labels: Vec<bool>,
    /// What each version says of them.
    pub scored: Vec<Scored>,
}

/// What a version says of the rows.
#[derive(Default)]
pub struct Scored {
    /// Of each row's cells, as the version sees them.
    pub hashes: Vec<u64>,
    pub scores: Vec<f64>,
    /// Wall time of all scores.
    pub seconds: f64,
}

/// Scores the rows of a relation that have a label; a NOTICE tells how many have none.
pub fn score(scorers: &[&SharedScorer], relation: &Relation, target: &str) -> Result<Labelled> {
    let mut scan = Scan::open(relation)?;
    let label_column = scan.position(target)?;
    let mut columns: Vec<Vec<usize>> = Vec::new();
    let mut positive = None;
    for scorer in scorers {
        // Borrowed row by row below: the relation may be a view that scores with the same model.
        let model = scorer.borrow().model_arc();
        let specification = model.specification();
        let wanted = specification.encoding.columns.iter();
        columns.push(wanted.map(|c| scan.position(&c.name)).collect::<Result<_>>()?);
        positive.get_or_insert_with(|| specification.positive_label.clone());
    }
    let mut scratch = Scratch::default();
    let mut labelled = Labelled {
        labels: Vec::new(),
        scored: scorers.iter().map(|_| Scored::default()).collect(),
    };
    let mut unlabelled = 0u64;
    loop {
        let more = scan.next(|row| {
            let Some(label) = label(row[label_column], &mut scratch) else {
                unlabelled += 1;
                return Ok(());
            };
            // The scan hands over 1,000 rows at a time; a long text costs milliseconds.
            pgrx::check_for_interrupts!();
            // They take turns in going first, for the first one fetches the row's bytes.
            let first = labelled.labels.len();
            for turn in 0..scorers.len() {
                let at = (first + turn) % scorers.len();
                let cells: Vec<Cell<'_>> = columns[at].iter().map(|c| row[*c]).collect();
                let scored = &mut labelled.scored[at];
                scored.hashes.push(cells_hash(&cells));
                let begun = Instant::now();
                scored.scores.push(scorers[at].borrow_mut().score(&cells));
                scored.seconds += begun.elapsed().as_secs_f64();
            }
            labelled.labels.push(positive.as_deref() == Some(label));
            Ok(())
        })?;
        if !more {
            break;
        }
    }
    scan.close();
    if unlabelled > 0 {
        error::notice!("{unlabelled} rows without a label are left out");
    }
    Ok(labelled)
}

impl Labelled {
    /// Says which figures do not exist where the rows have one class, or there are none.
    pub fn tell_of_one_class(&self, figures: &str) {
        let positives = self.labels.iter().filter(|l| **l).count();
        if positives == 0 || positives == self.labels.len() {
            error::notice!(
                "{figures} are null: the {} labelled rows are not of two classes (one class, or none)",
                self.labels.len()
            );
        }
    }
}

/// Figures on rows that the version was fitted on are better than those on new rows. `who` names
/// it in the WARNING.
pub fn warn_of_fitted_rows(who: &str, files: &VersionFiles, hashes: &[u64]) -> Result<()> {
    let Some(file) = &files.training_file else { return Ok(()) };
    let training = Artifact::open(model_cache::open(file)?)?;
    let fitted = training.slice::<u64>("fitted_rows")?;
    let seen = hashes.iter().filter(|hash| fitted.binary_search(hash).is_ok()).count();
    if seen > 0 {
        warn(
            &format!(
                "{who} was fitted on some of these rows; its figures are better here than on new rows"
            ),
            &format!(
                "{seen} of {} labelled rows ({:.0}%) took part in its training or calibration.",
                hashes.len(),
                100.0 * seen as f64 / hashes.len() as f64
            ),
        );
    }
    Ok(())
}
