//! The new rows of an update.

use riskft_core::dataset::target::Classes;
use riskft_core::dataset::{hash, split, Dataset, Part};
use riskft_core::encode::value::{label, Scratch};
use riskft_core::encode::{extend, EncodedRow, Encoding};
use riskft_core::options::SplitShares;
use riskft_core::protocol::UpdateHeader;
use riskft_core::refusal::{code, Refusal, Result};
use riskft_core::update::{MIN_CLASS_ROWS, MIN_ROWS, TEST_SHARE};

use super::origin::Origin;
use crate::events::Reporter;
use crate::inputs::Inputs;
use crate::rows::Reader;

/// The labelled rows, in the dataset's order.
pub struct NewRows {
    /// Rows of the dataset.
    pub source: Vec<u32>,
    pub inputs: Inputs,
    /// Of the rows as they are encoded.
    pub hashes: Vec<u64>,
    /// Hashes of the cells, as [`Origin::fitted_rows`].
    pub seen_as: Vec<u64>,
    /// Places that are learnt from, and those that are set aside; ascending.
    pub fitted: Vec<u32>,
    pub test: Vec<u32>,
    /// The version's encoding with new labels of categories.
    pub encoding: Encoding,
    /// For each category how many labels are new.
    pub added: Vec<usize>,
}

impl NewRows {
    /// # Errors
    /// 22023 for labels that the version does not have, and for too few rows.
    pub fn read(
        data: &Dataset,
        header: &UpdateHeader,
        origin: &Origin,
        reporter: &Reporter,
    ) -> Result<Self> {
        let labels = labels(data, header, origin, reporter)?;
        let hashes = hash::row_hashes(data, header.options.seed, |column| {
            data.columns[column].source.name != header.target
        });
        let shares = SplitShares {
            train: 1.0 - TEST_SHARE,
            validation: 0.0,
            calibration: 0.0,
            test: TEST_SHARE,
        };
        let parts = split::by_hash(&hashes, &labels, shares);
        let learnt: Vec<u32> =
            (0..data.rows as u32).filter(|row| parts[*row as usize] == Part::Train).collect();
        let (encoding, added) = extend(&origin.specification().encoding, data, &learnt);
        let mut new = NewRows {
            source: Vec::new(),
            inputs: Inputs::new(&encoding),
            hashes: Vec::new(),
            seen_as: Vec::new(),
            fitted: Vec::new(),
            test: Vec::new(),
            encoding: Encoding::default(),
            added,
        };
        let reader = Reader::new(data, &encoding)?;
        let (mut cells, mut row) = (Vec::new(), EncodedRow::default());
        for (number, known) in labels.iter().enumerate() {
            let Some(known) = known else { continue };
            reader.encode(number, &mut cells, &mut row);
            new.hashes.push(encoding.row_hash(&row));
            new.seen_as.push(reader.hash(number));
            new.inputs.push(&row, *known);
            let place = new.source.len() as u32;
            new.source.push(number as u32);
            match parts[number] {
                Part::Train => new.fitted.push(place),
                _ => new.test.push(place),
            }
        }
        drop(reader);
        new.encoding = encoding;
        new.warn_of_fitted_rows(origin, reporter);
        new.tell_of_labels(origin, reporter);
        Ok(new)
    }

    pub fn inputs_labels(&self, places: &[u32]) -> Vec<bool> {
        places.iter().map(|place| self.inputs.labels[*place as usize]).collect()
    }

    fn warn_of_fitted_rows(&self, origin: &Origin, reporter: &Reporter) {
        let seen =
            self.seen_as.iter().filter(|hash| origin.fitted_rows.binary_search(hash).is_ok());
        let (seen, all) = (seen.count(), self.seen_as.len());
        if seen > 0 {
            reporter.warning(
                "the version was fitted on some of these rows; its figures are better here than on new rows",
                format!(
                    "{seen} of {all} labelled rows ({:.0}%) took part in its training or calibration.",
                    100.0 * seen as f64 / all as f64
                ),
            );
        }
    }

    fn tell_of_labels(&self, origin: &Origin, reporter: &Reporter) {
        let old = &origin.specification().encoding.categories;
        for (input, before) in self.encoding.categories.iter().zip(old) {
            let named: Vec<String> = input.added[before.added.len()..]
                .iter()
                .take(5)
                .map(|label| format!("\"{}\"", riskft_core::protocol::cut(label, 40)))
                .collect();
            let count = input.added.len() - before.added.len();
            if count > 0 {
                reporter.notice(format!(
                    "{count} new labels of \"{}\" have a code of their own: {}{}",
                    input.name,
                    named.join(", "),
                    if count > named.len() { ", ..." } else { "" }
                ));
            }
        }
    }
}

/// The label of each row; None where it has none.
fn labels(
    data: &Dataset,
    header: &UpdateHeader,
    origin: &Origin,
    reporter: &Reporter,
) -> Result<Vec<Option<bool>>> {
    let target = &header.target;
    let column = data.column(target).ok_or_else(|| {
        Refusal::new(code::UNDEFINED_COLUMN, format!("column \"{target}\" does not exist"))
            .detail("The labels of the rows are read from it.")
            .hint("Give the relation the target column that the model was trained with.")
    })?;
    let specification = origin.specification();
    let classes = Classes {
        positive: specification.positive_label.clone(),
        negative: specification.negative_label.clone(),
    };
    let mut scratch = Scratch::default();
    let (mut labels, mut foreign) = (Vec::with_capacity(data.rows), Vec::new());
    for row in 0..data.rows {
        let text = label(column.cell(row), &mut scratch);
        let class = text.and_then(|text| classes.of(text));
        if let (Some(text), None) = (text, class) {
            foreign.push(text.to_owned());
        }
        labels.push(class);
    }
    if let Some(first) = foreign.first() {
        return Err(Refusal::new(
            code::INVALID_PARAMETER,
            format!("\"{}\" is no label of the model", riskft_core::protocol::cut(first, 40)),
        )
        .detail(format!(
            "Column \"{target}\" holds other labels than \"{}\" and \"{}\" in {} rows.",
            classes.positive,
            classes.negative,
            foreign.len()
        ))
        .hint("Give a SELECT that writes labels as the model's training did."));
    }
    let rows = labels.iter().flatten().count();
    let positive = labels.iter().flatten().filter(|label| **label).count();
    let without = data.rows - rows;
    if without > 0 {
        reporter.notice(format!("{without} rows without a label are left out"));
    }
    if rows < MIN_ROWS || positive.min(rows - positive) < MIN_CLASS_ROWS {
        return Err(Refusal::new(code::INVALID_PARAMETER, "too few rows to update with")
            .detail(format!("{positive} rows are positive and {} are negative.", rows - positive))
            .hint(format!(
                "An update needs at least {MIN_ROWS} labelled rows and {MIN_CLASS_ROWS} of each class."
            )));
    }
    Ok(labels)
}
