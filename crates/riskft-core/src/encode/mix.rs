//! Rows mixed out of two, source column by source column, without their cells.
//!
//! A [`Reading`] holds what each source column gives to a version's inputs. An input of several
//! columns (a ratio, a comparison, a pair of labels) is made when rows are mixed, so that each of its
//! columns can come from another row. A mixed row that takes all columns from one reading is the row
//! that [`Encoding::encode_row`] makes, to the bit.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::apply::cell;
use super::statistic::{key_hash, share_hash};
use super::value::{label, Scratch};
use super::{CategorySource, EncodedRow, Encoding, KeyPart, TextSource};
use crate::cell::Cell;
use crate::dataset::hash::bytes_hash;

/// A label's hash where there is none.
const MISSING: u64 = 0;

/// What the columns of a row give to the inputs of the tabular branches. Texts are not in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// For each source column its number, NaN (in JSON null) where it is missing or not read as one.
    #[serde(serialize_with = "write_numbers", deserialize_with = "read_numbers")]
    pub values: Vec<f64>,
    /// For each category its code; 0 of one that compares two columns.
    pub codes: Vec<u32>,
    /// For each category that compares two columns the hashes of both labels, 0 = missing.
    pub labels: Vec<u64>,
    /// For each label of the statistics' keys its hash; 0 of a share, which has two columns.
    pub keys: Vec<u64>,
}

fn write_numbers<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(|value| (!value.is_nan()).then_some(*value)))
}

fn read_numbers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    let values = Vec::<Option<f64>>::deserialize(from)?;
    Ok(values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
}

/// Which inputs of an encoding each source column has a part in.
#[derive(Debug, Clone, Default)]
pub struct Mixer {
    columns: Vec<Parts>,
    /// Labels of all statistics' keys, one after the other.
    keys: Vec<KeyPart>,
    /// Pairs of columns of the categories that compare them.
    pairs: Vec<(usize, usize)>,
}

/// Places of one source column in a reading.
#[derive(Debug, Clone, Default)]
struct Parts {
    is_number: bool,
    codes: Vec<usize>,
    labels: Vec<usize>,
    keys: Vec<usize>,
}

impl Parts {
    fn is_tabular(&self) -> bool {
        self.is_number || !(self.codes.is_empty() && self.labels.is_empty() && self.keys.is_empty())
    }
}

impl Mixer {
    /// Indexes of the encoding are within its columns, as they are in a model that was opened.
    pub fn new(encoding: &Encoding) -> Self {
        let mut mixer = Mixer {
            columns: vec![Parts::default(); encoding.columns.len()],
            keys: encoding.statistics.iter().flat_map(|s| s.key.iter().copied()).collect(),
            pairs: Vec::new(),
        };
        for input in &encoding.numbers {
            let mut source = input.source;
            source.columns().for_each(|column| mixer.number(*column));
        }
        if let Some(components) = &encoding.components {
            components.columns.iter().for_each(|column| mixer.number(*column));
        }
        for (place, input) in encoding.categories.iter().enumerate() {
            match input.source {
                CategorySource::Value(c) | CategorySource::Prefix(c, _) => {
                    mixer.part(c, |parts| parts.codes.push(place));
                }
                CategorySource::Equal(a, b) => {
                    let first = 2 * mixer.pairs.len();
                    mixer.pairs.push((a, b));
                    mixer.part(a, |parts| parts.labels.push(first));
                    mixer.part(b, |parts| parts.labels.push(first + 1));
                }
            }
        }
        for place in 0..mixer.keys.len() {
            match mixer.keys[place] {
                KeyPart::Value(c) | KeyPart::Prefix(c, _) | KeyPart::Year(c) => {
                    mixer.part(c, |parts| parts.keys.push(place));
                }
                KeyPart::Share(a, b) => [a, b].into_iter().for_each(|c| mixer.number(c)),
            }
        }
        mixer
    }

    fn number(&mut self, column: usize) {
        self.part(column, |parts| parts.is_number = true);
    }

    fn part(&mut self, column: usize, add: impl FnOnce(&mut Parts)) {
        if let Some(parts) = self.columns.get_mut(column) {
            add(parts);
        }
    }

    /// The columns that a tabular input reads, ascending.
    pub fn tabular(&self) -> Vec<usize> {
        (0..self.columns.len()).filter(|column| self.columns[*column].is_tabular()).collect()
    }

    /// Numbers of a reading: columns, codes, labels and keys.
    pub fn size(&self, encoding: &Encoding) -> usize {
        self.columns.len() + encoding.categories.len() + 2 * self.pairs.len() + self.keys.len()
    }

    /// Reads the cells of [`Encoding::columns`], in their order; cells that lack are missing.
    pub fn read(&self, encoding: &Encoding, cells: &[Cell<'_>]) -> Reading {
        let mut scratch = [Scratch::default(), Scratch::default()];
        let value = |(column, parts): (usize, &Parts)| match parts.is_number {
            true => encoding.value_of(column, cells),
            false => f64::NAN,
        };
        let code = |input: &super::CategoryInput| match input.source {
            CategorySource::Equal(..) => 0,
            _ => input.code(cells, &mut scratch),
        };
        let (values, codes) = (
            self.columns.iter().enumerate().map(value).collect(),
            encoding.categories.iter().map(code).collect(),
        );
        let mut labels = Vec::with_capacity(2 * self.pairs.len());
        for column in self.pairs.iter().flat_map(|(a, b)| [*a, *b]) {
            let label = label(cell(cells, column), &mut scratch[0]);
            labels.push(label.map_or(MISSING, |label| bytes_hash(label.as_bytes()).max(1)));
        }
        let key = |part: &KeyPart| match part {
            KeyPart::Share(..) => 0,
            part => encoding.label_hash(*part, cells, &mut scratch[0]),
        };
        let keys = self.keys.iter().map(key).collect();
        Reading { values, codes, labels, keys }
    }

    /// Whether a column gives the same to every input in both readings.
    pub fn agree(&self, column: usize, a: &Reading, b: &Reading) -> bool {
        let Some(parts) = self.columns.get(column) else { return true };
        let same = |x: Option<&f64>, y: Option<&f64>| match (x, y) {
            (Some(x), Some(y)) => x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan()),
            _ => false,
        };
        (!parts.is_number || same(a.values.get(column), b.values.get(column)))
            && parts.codes.iter().all(|place| a.codes.get(*place) == b.codes.get(*place))
            && parts.labels.iter().all(|place| a.labels.get(*place) == b.labels.get(*place))
            && parts.keys.iter().all(|place| a.keys.get(*place) == b.keys.get(*place))
    }

    /// The inputs of a row whose columns are those of `own` where `taken`, by column, says so, else
    /// those of `other`. It has no texts.
    pub fn mix(
        &self,
        encoding: &Encoding,
        (own, other): (&Reading, &Reading),
        taken: &[bool],
        out: &mut EncodedRow,
    ) {
        let of = |column: usize| match taken.get(column) {
            Some(true) => own,
            _ => other,
        };
        let value = |column: usize| of(column).values.get(column).copied().unwrap_or(f64::NAN);
        encoding.components_of(value, &mut out.components);
        out.features.clear();
        let numbers = encoding.numbers.iter();
        out.features.extend(numbers.map(|input| input.source.of(value, &out.components)));
        out.positions.clear();
        let positions = encoding.numbers.iter().zip(&out.features);
        out.positions.extend(positions.map(|(input, value)| input.position(*value)));
        out.codes.clear();
        let mut pair = 0;
        for (place, input) in encoding.categories.iter().enumerate() {
            out.codes.push(match input.source {
                CategorySource::Value(c) | CategorySource::Prefix(c, _) => {
                    of(c).codes.get(place).copied().unwrap_or_default()
                }
                CategorySource::Equal(a, b) => {
                    let label = |column, place: usize| {
                        of(column).labels.get(place).copied().filter(|label| *label != MISSING)
                    };
                    let labels = label(a, pair).zip(label(b, pair + 1));
                    pair += 2;
                    input.code_of_equal(labels.map(|(a, b)| a == b))
                }
            });
        }
        out.features.extend(encoding.tree_codes(&out.codes));
        out.keys.clear();
        let mut first = 0;
        for statistic in &encoding.statistics {
            let labels = statistic.key.iter().enumerate().map(|(place, part)| match *part {
                KeyPart::Value(c) | KeyPart::Prefix(c, _) | KeyPart::Year(c) => {
                    of(c).keys.get(first + place).copied().unwrap_or_default()
                }
                KeyPart::Share(a, b) => share_hash(value(a), value(b)),
            });
            out.keys.push(key_hash(labels));
            first += statistic.key.len();
        }
    }
}

impl Reading {
    /// Whether the reading is one of rows of the encoding: as many entries, codes that it has.
    pub fn check(&self, mixer: &Mixer, encoding: &Encoding) -> Result<(), String> {
        let wanted = [
            encoding.columns.len(),
            encoding.categories.len(),
            2 * mixer.pairs.len(),
            mixer.keys.len(),
        ];
        let found = [self.values.len(), self.codes.len(), self.labels.len(), self.keys.len()];
        if found != wanted {
            return Err(format!("its background has {found:?} entries of a row, not {wanted:?}"));
        }
        if let Some(value) = self.values.iter().find(|value| value.is_infinite()) {
            return Err(format!("a number of its background is {value}"));
        }
        let codes = self.codes.iter().zip(&encoding.categories);
        match codes.clone().find(|(code, input)| **code as usize >= input.codes()) {
            None => Ok(()),
            Some((code, input)) => {
                Err(format!("its background has code {code} of \"{}\"", input.name))
            }
        }
    }
}

/// The column that a text is read from; None where it is the whole row.
pub fn column_of(source: TextSource) -> Option<usize> {
    match source {
        TextSource::Column(column) => Some(column),
        TextSource::Row => None,
    }
}
