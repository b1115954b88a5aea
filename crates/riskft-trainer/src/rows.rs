//! Rows as the network reads them, compact: positions, codes and text numbers. Labelled ones first;
//! behind them those without a label where they are asked for, then made-up ones.

use riskft_core::cell::Cell;
use riskft_core::dataset::hash::cells_hash;
use riskft_core::dataset::{Dataset, Part};
use riskft_core::encode::statistic::Keys;
use riskft_core::encode::{EncodedRow, Encoding, TextSource};
use riskft_core::refusal::{code, Refusal, Result};
use tch::{Device, Tensor};

use crate::head::Batch;
use crate::inputs::Inputs;
use crate::random::Random;
use crate::tensors::{index, to_doubles, to_floats};
use crate::terms::TextBatch;
use crate::texts::Collector;

/// Reads rows of a dataset in the order of an encoding's columns.
pub struct Reader<'a> {
    dataset: &'a Dataset,
    encoding: &'a Encoding,
    columns: Vec<usize>,
}

impl<'a> Reader<'a> {
    /// # Errors
    /// 42703 when the dataset lacks a column of the encoding.
    pub fn new(dataset: &'a Dataset, encoding: &'a Encoding) -> Result<Self> {
        let find = |name: &str| {
            dataset.columns.iter().position(|c| c.source.name == name).ok_or_else(|| {
                Refusal::new(code::UNDEFINED_COLUMN, "a column of the encoding is missing")
                    .detail(format!("The rows have no column \"{name}\"."))
            })
        };
        let columns = encoding.columns.iter().map(|c| find(&c.name)).collect::<Result<_>>()?;
        Ok(Reader { dataset, encoding, columns })
    }

    /// The row's hash as a model sees it.
    pub fn hash(&self, row: usize) -> u64 {
        cells_hash(&self.cells(row))
    }

    /// The cell of a text's column; of a whole row, none.
    pub fn text_cell(&self, source: TextSource, row: usize) -> Cell<'a> {
        match source {
            TextSource::Column(column) => {
                let column = self.columns.get(column);
                column.map_or(Cell::Null, |column| self.dataset.columns[*column].cell(row))
            }
            TextSource::Row => Cell::Null,
        }
    }

    /// The cells of the encoding's columns.
    pub fn cells(&self, row: usize) -> Vec<Cell<'a>> {
        self.columns.iter().map(|column| self.dataset.columns[*column].cell(row)).collect()
    }

    /// Encodes one row into `out`.
    pub fn encode(&self, row: usize, cells: &mut Vec<Cell<'a>>, out: &mut EncodedRow) {
        cells.clear();
        cells.extend(self.columns.iter().map(|c| self.dataset.columns[*c].cell(row)));
        self.encoding.encode_row(cells, out);
    }
}

/// Features of rows by place, apart from the tensors, so that threads can share them.
#[derive(Debug, Clone, Default)]
pub struct Features {
    /// Numbers and codes [rows, width].
    values: Vec<f64>,
    width: usize,
    /// Keys of the target statistics.
    pub keys: Keys,
}

impl Features {
    /// Numbers and codes of a row.
    pub fn of(&self, place: u32) -> &[f64] {
        let start = place as usize * self.width;
        &self.values[start..start + self.width]
    }
}

/// A row that trains, though no row of the table has its label.
pub struct Made {
    /// The place of the row it was made from: source and statistics' keys are that row's.
    pub own: u32,
    pub label: bool,
    /// Numbers, then codes, as [`Features::of`].
    pub features: Vec<f64>,
}

/// The rows of a run, by place; `source` has their row in the dataset.
pub struct Rows {
    pub source: Vec<u32>,
    /// False where there is none.
    pub labels: Vec<bool>,
    /// Places before this one have a label of their own.
    pub labelled: usize,
    /// Places before this one are rows of the table.
    pub table: usize,
    /// Places of train, validation, calibration and test rows.
    parts: [Vec<u32>; 4],
    /// Of the rows as they are encoded.
    pub hashes: Vec<u64>,
    /// What the trees read.
    pub features: Features,
    /// [rows, numbers], f32
    positions: Tensor,
    /// [rows, categories], i32
    codes: Tensor,
    /// Text numbers [rows * texts], -1 = none
    pub text_numbers: Vec<i32>,
    pub texts: usize,
    /// 0 and 1
    targets: Tensor,
    device: Device,
}

impl Rows {
    /// Encodes all labelled rows, and behind them the others if `unlabelled`, without their texts.
    /// Text numbers are the collector's, provisional.
    pub fn read(
        reader: &Reader<'_>,
        labels: &[Option<bool>],
        parts: &[Part],
        unlabelled: bool,
        collector: &mut Collector,
        mut progress: impl FnMut(usize),
    ) -> Self {
        let encoding = reader.encoding;
        let (numbers, categories) = (encoding.numbers.len(), encoding.categories.len());
        let labelled = labels.iter().flatten().count();
        let count = if unlabelled { labels.len() } else { labelled };
        let mut positions = Vec::with_capacity(count * numbers);
        let mut codes: Vec<i32> = Vec::with_capacity(count * categories);
        let mut rows = Rows::empty(encoding.texts.len());
        rows.features.width = numbers + categories;
        rows.labelled = labelled;
        let with = (0..labels.len()).filter(|row| labels[*row].is_some());
        let without = (0..labels.len()).filter(|row| unlabelled && labels[*row].is_none());
        let mut keys = Vec::with_capacity(count * encoding.statistics.len());
        let (mut cells, mut encoded) = (Vec::new(), EncodedRow::default());
        for row in with.chain(without) {
            reader.encode(row, &mut cells, &mut encoded);
            rows.hashes.push(encoding.row_hash(&encoded));
            rows.features.values.extend_from_slice(&encoded.features);
            keys.extend_from_slice(&encoded.keys);
            positions.extend_from_slice(&encoded.positions);
            codes.extend(encoded.codes.iter().map(|c| *c as i32));
            for (text, input) in encoded.texts.iter().zip(&encoding.texts) {
                let number = match text.as_str() {
                    "" => -1,
                    _ if labels[row].is_none() => -1,
                    text => collector.number(text, input.max_tokens) as i32,
                };
                rows.text_numbers.push(number);
            }
            if let Some(part) = place_of(parts[row]) {
                rows.parts[part].push(rows.source.len() as u32);
            }
            rows.source.push(row as u32);
            rows.labels.push(labels[row].unwrap_or_default());
            progress(rows.source.len());
        }
        rows.table = rows.source.len();
        let count = rows.table as i64;
        rows.positions = Tensor::from_slice(&positions).view([count, numbers as i64]);
        rows.codes = Tensor::from_slice(&codes).view([count, categories as i64]);
        let targets: Vec<f32> = rows.labels.iter().map(|l| f32::from(u8::from(*l))).collect();
        rows.targets = Tensor::from_slice(&targets);
        let each = keys.chunks_exact(encoding.statistics.len().max(1)).map(<[u64]>::to_vec);
        rows.features.keys = Keys::collect(&encoding.statistics, each);
        rows
    }

    /// Rows of numbers' positions and categories' codes alone, as the network reads them.
    pub fn of_network(inputs: &Inputs, device: Device) -> Self {
        let count = inputs.labels.len();
        let targets: Vec<f32> = inputs.labels.iter().map(|l| f32::from(u8::from(*l))).collect();
        let codes: Vec<i32> = inputs.codes.iter().map(|code| *code as i32).collect();
        let [numbers, categories] = inputs.widths.map(|width| width as i64);
        Rows {
            source: (0..count as u32).collect(),
            labels: inputs.labels.clone(),
            labelled: count,
            table: count,
            positions: Tensor::from_slice(&inputs.positions).view([count as i64, numbers]),
            codes: Tensor::from_slice(&codes).view([count as i64, categories]),
            targets: Tensor::from_slice(&targets),
            ..Rows::empty(0)
        }
        .to_device(device)
    }

    /// What the network reads of some rows.
    pub fn inputs(&self, places: &[u32]) -> Inputs {
        let batch = self.batch(places);
        let codes = to_doubles(&batch.codes).into_iter().map(|code| code as u32).collect();
        let widths = [&batch.positions, &batch.codes].map(|t| t.size()[1] as usize);
        Inputs {
            widths,
            positions: to_floats(&batch.positions),
            codes,
            labels: self.labels_of(places),
        }
    }

    fn empty(texts: usize) -> Self {
        Rows {
            source: Vec::new(),
            labels: Vec::new(),
            labelled: 0,
            table: 0,
            parts: Default::default(),
            hashes: Vec::new(),
            features: Features::default(),
            positions: Tensor::new(),
            codes: Tensor::new(),
            text_numbers: Vec::new(),
            texts,
            targets: Tensor::new(),
            device: Device::Cpu,
        }
    }

    /// The rows with some more at the end, which have no text.
    pub fn with(&self, made: &[Made], encoding: &Encoding) -> Self {
        let width = encoding.numbers.len();
        let mut positions = Vec::with_capacity(made.len() * width);
        let mut codes: Vec<i32> = Vec::new();
        let mut rows = Rows {
            source: self.source.clone(),
            labels: self.labels.clone(),
            hashes: self.hashes.clone(),
            parts: self.parts.clone(),
            features: self.features.clone(),
            text_numbers: self.text_numbers.clone(),
            ..Rows::empty(self.texts)
        };
        for row in made {
            let (own, other) = row.features.split_at(width);
            positions.extend(encoding.numbers.iter().zip(own).map(|(n, v)| n.position(*v)));
            codes.extend(other.iter().map(|code| *code as i32));
            rows.source.push(self.source[row.own as usize]);
            rows.hashes.push(self.hashes[row.own as usize]);
            rows.labels.push(row.label);
            rows.features.values.extend_from_slice(&row.features);
            rows.features.keys.repeat(row.own);
        }
        rows.text_numbers.resize(rows.source.len() * rows.texts, -1);
        let count = made.len() as i64;
        let behind =
            |tensor: &Tensor, more: Tensor| Tensor::cat(&[tensor, &more.to_device(self.device)], 0);
        let more = |values: Tensor, width: usize| values.view([count, width as i64]);
        rows.positions = behind(&self.positions, more(Tensor::from_slice(&positions), width));
        let categories = encoding.categories.len();
        rows.codes = behind(&self.codes, more(Tensor::from_slice(&codes), categories));
        let targets: Vec<f32> = made.iter().map(|row| f32::from(u8::from(row.label))).collect();
        rows.targets = behind(&self.targets, Tensor::from_slice(&targets));
        (rows.labelled, rows.table, rows.device) = (self.labelled, self.table, self.device);
        rows
    }

    /// Places of the rows of the table that have no label, where they were asked for.
    pub fn unlabelled(&self) -> Vec<u32> {
        (self.labelled as u32..self.table as u32).collect()
    }

    /// Replaces provisional text numbers by final ones.
    pub fn renumber(&mut self, numbers: &[i32]) {
        for number in self.text_numbers.iter_mut().filter(|n| **n >= 0) {
            *number = numbers[*number as usize];
        }
    }

    pub fn to_device(mut self, device: Device) -> Self {
        self.positions = self.positions.to_device(device);
        self.codes = self.codes.to_device(device);
        self.targets = self.targets.to_device(device);
        self.device = device;
        self
    }

    pub fn device(&self) -> Device {
        self.device
    }

    /// At most `most` rows of a part, ascending, drawn by the seed.
    pub fn sample(&self, part: Part, most: usize, seed: u64) -> Vec<u32> {
        sample(self.part(part).to_vec(), most, seed)
    }

    pub fn part(&self, part: Part) -> &[u32] {
        place_of(part).map_or(&[], |place| &self.parts[place])
    }

    pub fn labels_of(&self, rows: &[u32]) -> Vec<bool> {
        rows.iter().map(|row| self.labels[*row as usize]).collect()
    }

    /// Targets [rows], f32.
    pub fn targets(&self, rows: &[u32]) -> Tensor {
        self.targets.index_select(0, &self.index(rows))
    }

    /// The places as an index on the device.
    pub fn index(&self, rows: &[u32]) -> Tensor {
        index(rows.iter().map(|row| *row as usize), self.device)
    }

    /// Text numbers of some rows, text by text: [texts * rows].
    pub fn numbers_of<'a>(&'a self, rows: &'a [u32]) -> impl Iterator<Item = i32> + 'a {
        let texts = self.texts;
        (0..texts).flat_map(move |f| {
            rows.iter().map(move |row| self.text_numbers[*row as usize * texts + f])
        })
    }

    /// Distinct texts of some rows, ascending.
    pub fn distinct(&self, rows: &[u32]) -> Vec<usize> {
        let mut numbers: Vec<usize> =
            self.numbers_of(rows).filter(|n| *n >= 0).map(|n| n as usize).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// The rows as the network reads them.
    pub fn batch(&self, rows: &[u32]) -> Batch {
        let index = self.index(rows);
        Batch {
            positions: self.positions.index_select(0, &index),
            codes: self.codes.index_select(0, &index),
        }
    }

    /// The part of a row.
    pub fn part_of(&self, place: u32) -> Option<Part> {
        let own = |part: &Part| self.part(*part).binary_search(&place).is_ok();
        Part::LABELLED.into_iter().find(own)
    }

    /// The texts as the terms read them. `vectors` are normalised pooled vectors [.., width];
    /// `place` is a text's row in them.
    pub fn text_batch(
        &self,
        rows: &[u32],
        vectors: &Tensor,
        place: impl Fn(usize) -> usize,
    ) -> TextBatch {
        let (f, count) = (self.texts as i64, rows.len() as i64);
        let places = self.numbers_of(rows).map(|n| usize::try_from(n).map_or(0, &place));
        let present: Vec<f32> =
            self.numbers_of(rows).map(|n| if n >= 0 { 1.0 } else { 0.0 }).collect();
        let width = vectors.size().last().copied().unwrap_or(0);
        TextBatch {
            vectors: vectors.index_select(0, &index(places, self.device)).view([f, count, width]),
            present: Tensor::from_slice(&present).to_device(self.device).view([f, count]),
        }
    }
}

/// At most `most` of some places, ascending, drawn by the seed.
pub fn sample(mut places: Vec<u32>, most: usize, seed: u64) -> Vec<u32> {
    if places.len() > most {
        Random::new(seed).shuffle(&mut places);
        places.truncate(most);
        places.sort_unstable();
    }
    places
}

fn place_of(part: Part) -> Option<usize> {
    Part::LABELLED.iter().position(|p| *p == part)
}
