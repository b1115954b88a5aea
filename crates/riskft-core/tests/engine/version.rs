//! A small version with random weights over the tiny BERT, and rows for it.

use std::sync::Arc;

use super::{golden, tiny_vocabulary, Random};
use riskft_core::artifact;
use riskft_core::calibrate::Platt;
use riskft_core::cell::{Cell, ColumnType};
use riskft_core::encode::mix::Mixer;
use riskft_core::encode::statistic::{Estimates, Keys};
use riskft_core::encode::{
    tables, CategoryInput, CategorySource, EncodedColumn, EncodedRow, Encoding, KeyPart,
    NumberInput, NumberSource, StatisticInput, TextFormat, TextInput, TextSource, MAX_BINS,
};
use riskft_core::explain::Background;
use riskft_core::grams::{Reader, Table, View};
use riskft_core::model::{
    Branch, BranchKind, EncoderReference, GramsInput, Model, Specification, FORMAT,
};
use riskft_core::network::base::{read_shape, read_tensors};
use riskft_core::network::{
    EncoderShape, FloatLandmarks, FloatLinear, FloatMember, FloatNetwork, FloatTensor, TensorMap,
    NUMBER_WIDTH,
};
use riskft_core::options::Role;
use riskft_core::quantize::{self, Parts};
use riskft_core::trees::{Ensemble, Node, Side};

pub const NUMBERS: usize = 5;
pub const CATEGORIES: usize = 3;
pub const TEXTS: usize = 2;
/// Landmarks of each text.
pub const LANDMARKS: [usize; TEXTS] = [5, 3];
pub const MEMBERS: usize = 3;
pub const HIDDEN: usize = 40;

pub struct Tiny {
    pub shape: EncoderShape,
    pub tensors: TensorMap,
    pub base: Arc<Vec<u8>>,
}

pub fn tiny() -> Tiny {
    let shape = read_shape(&golden("tiny_bert/config.json")).unwrap();
    let tensors = read_tensors(&shape, &golden("tiny_bert/model.safetensors")).unwrap();
    let base = quantize::base_encoder(&shape, &tensors, &tiny_vocabulary()).unwrap();
    Tiny { shape, tensors, base: Arc::new(base) }
}

pub fn floats(random: &mut Random, count: usize, size: f32) -> Vec<f32> {
    (0..count).map(|_| random.float() * size).collect()
}

pub fn linear(random: &mut Random, outputs: usize, inputs: usize) -> FloatLinear {
    let size = (3.0 / inputs as f32).sqrt();
    FloatLinear {
        outputs,
        inputs,
        weight: floats(random, outputs * inputs, size),
        bias: floats(random, outputs, 0.1),
    }
}

pub fn encoding(texts: usize) -> Encoding {
    let column = |name: String, column_type, role| EncodedColumn {
        name,
        column_type,
        role,
        format: TextFormat::Plain,
    };
    let mut columns = Vec::new();
    columns.extend((0..NUMBERS).map(|i| column(format!("n{i}"), ColumnType::Float, Role::Number)));
    columns
        .extend((0..CATEGORIES).map(|i| column(format!("k{i}"), ColumnType::Text, Role::Category)));
    columns.extend((0..texts).map(|i| column(format!("t{i}"), ColumnType::Text, Role::Text)));
    Encoding {
        columns,
        numbers: (0..NUMBERS)
            .map(|i| NumberInput {
                name: format!("n{i}"),
                source: NumberSource::Value(i),
                edges: (0..=MAX_BINS - i).map(|e| e as f64 * 10.0).collect(),
            })
            .collect(),
        categories: (0..CATEGORIES)
            .map(|k| CategoryInput {
                name: format!("k{k}"),
                source: CategorySource::Value(NUMBERS + k),
                values: (0..3 * k + 1).map(|v| format!("v{v}")).collect(),
                added: Vec::new(),
            })
            .collect(),
        texts: (0..texts)
            .map(|f| TextInput {
                name: format!("t{f}"),
                source: TextSource::Column(NUMBERS + CATEGORIES + f),
                max_tokens: 20,
            })
            .collect(),
        statistics: [vec![NUMBERS], vec![NUMBERS, NUMBERS + 1]]
            .into_iter()
            .enumerate()
            .map(|(s, columns)| StatisticInput {
                name: format!("s{s}"),
                key: columns.into_iter().map(KeyPart::Value).collect(),
                parent: s.checked_sub(1),
            })
            .collect(),
        reference_date: 20_000,
        ..Encoding::default()
    }
}

pub fn member(random: &mut Random, encoding: &Encoding) -> FloatMember {
    let categories: usize = encoding.categories.iter().map(CategoryInput::dimension).sum();
    let inputs = NUMBERS * NUMBER_WIDTH + categories;
    FloatMember {
        number_weight: floats(random, NUMBERS * MAX_BINS * NUMBER_WIDTH, 0.3),
        number_missing: floats(random, NUMBERS * NUMBER_WIDTH, 0.5),
        number_bias: floats(random, NUMBERS * NUMBER_WIDTH, 0.5),
        embeddings: encoding
            .categories
            .iter()
            .map(|c| FloatTensor {
                shape: vec![c.codes(), c.dimension()],
                data: floats(random, c.codes() * c.dimension(), 0.5),
            })
            .collect(),
        hidden: vec![linear(random, HIDDEN, inputs), linear(random, HIDDEN, HIDDEN)],
        output: linear(random, 1, HIDDEN),
    }
}

/// Estimates of the keys 0..4 of the first statistic and 0..40 of the second.
fn estimates() -> (Keys, Estimates) {
    let rows = (0..400u64).map(|row| vec![row % 4, row % 40]);
    let keys = Keys::collect(&encoding(0).statistics, rows);
    let all: Vec<u32> = (0..400).collect();
    let estimates = keys.estimate(&all, |row| (row % 4 + row % 7) < 3, 1.0);
    (keys, estimates)
}

/// The features of a row's statistics, as the formula reads.
fn statistics(row: &EncodedRow) -> Vec<f64> {
    let (keys, estimates) = estimates();
    let mut features = vec![];
    let mut share = estimates.prior;
    for (s, key) in row.keys.iter().enumerate() {
        let found = estimates.entries(s).find(|(number, _, _)| keys.hashes(s)[*number] == *key);
        let (_, step, rows) = found.unwrap_or_default();
        share += step;
        features.extend([share, rows]);
    }
    features
}

/// Trees whose every node reads one number or one category.
fn trees(random: &mut Random, encoding: &Encoding) -> Ensemble {
    let mut trees = Ensemble::new(encoding.features()).unwrap();
    for feature in 0..encoding.features() as u32 {
        let children = [1, 2];
        let split = if (feature as usize) >= NUMBERS + CATEGORIES {
            let (missing, zero_missing) = (Side::Left, false);
            Node::Number { feature, threshold: 0.5, missing, zero_missing, children }
        } else if (feature as usize) < NUMBERS {
            let missing = if feature % 2 == 0 { Side::Left } else { Side::Right };
            Node::Number { feature, threshold: 60.0, missing, zero_missing: false, children }
        } else {
            Node::Category { feature, codes: vec![0b0101], children }
        };
        let leaves = [1, 2].map(|_| Node::Leaf(f64::from(random.float())));
        trees.push(&[&[split][..], &leaves].concat()).unwrap();
    }
    trees
}

/// Weights of all n-grams, in few buckets.
fn table(random: &mut Random) -> Table {
    let view = View { bits: 8, ..View::default() };
    let known: Vec<(u32, f32)> = (0..256).map(|bucket| (bucket, 1.5 + random.float())).collect();
    let weights: Vec<f64> = known.iter().map(|_| f64::from(random.float())).collect();
    let mut table = Table::new(view, &known).unwrap();
    table.set_weights(&weights, -0.25).unwrap();
    table
}

/// Cells of usual rows, the first of missing values.
pub fn usual_cells(row: usize) -> Vec<Cell<'static>> {
    if row == 0 {
        return vec![Cell::Null; NUMBERS + CATEGORIES + TEXTS];
    }
    let numbers = (0..NUMBERS).map(|n| Cell::Float((row * 37 + n * 11) as f64 % 190.0));
    let labels = ["v0", "v1", "v2", "v3", "v4", "other"];
    let labels = (0..CATEGORIES).map(|k| Cell::Text(labels[(row * 5 + k) % labels.len()]));
    let texts = ["new york bank", "loan", "", "full loans llc"];
    let texts = (0..TEXTS).map(|f| Cell::Text(texts[(row + f) % texts.len()]));
    numbers.chain(labels).chain(texts).collect()
}

fn background(encoding: &Encoding) -> Background {
    let mixer = Mixer::new(encoding);
    let rows = (0..6).map(|row| mixer.read(encoding, &usual_cells(row))).collect();
    Background { rows, texts: vec![0.25; encoding.texts.len()] }
}

/// Values of mean 0 and variance 1.
fn normalised(seed: u64, width: usize) -> Vec<f32> {
    let values = floats(&mut Random(seed), width, 1.0);
    let mean = values.iter().sum::<f32>() / width as f32;
    let square: f32 = values.iter().map(|v| (v - mean).powi(2)).sum();
    values.iter().map(|v| (v - mean) / (square / width as f32).sqrt()).collect()
}

/// A version of all branches, or of those without text.
pub fn network(tiny: &Tiny, texts: usize, shape: EncoderShape) -> (Specification, Parts) {
    let mut random = Random(42);
    let encoding = encoding(texts);
    let usual = background(&encoding);
    let members = (0..MEMBERS).map(|_| member(&mut random, &encoding)).collect();
    let trees = trees(&mut random, &encoding);
    let width = shape.width;
    let texts: Vec<_> = (0..texts).map(|_| (floats(&mut random, width, 0.1), 0.05)).collect();
    let near = |f: usize| FloatLandmarks {
        vectors: (0..LANDMARKS[f]).flat_map(|i| normalised(7 + i as u64, width)).collect(),
        weights: floats(&mut Random(8), LANDMARKS[f], 0.5),
    };
    let landmarks: Vec<_> = (0..texts.len()).map(near).collect();
    let weight = |kind| Branch { kind, weight: [0.75, 0.5, 1.5, 1.25][kind as usize] };
    let reads_text = |kind: &BranchKind| matches!(kind, BranchKind::Grams | BranchKind::Text);
    let kinds = BranchKind::ALL.into_iter().filter(|kind| !reads_text(kind) || !texts.is_empty());
    let grams = (!texts.is_empty()).then(|| table(&mut random));
    let encoder = (!texts.is_empty()).then(|| EncoderReference {
        base: "tiny".into(),
        digest: artifact::digest(&tiny.base),
        shape,
    });
    let specification = Specification {
        format: FORMAT,
        numerics: 1,
        encoding,
        branches: kinds.map(weight).collect(),
        members: MEMBERS,
        hidden: HIDDEN,
        encoder,
        grams: grams
            .as_ref()
            .map(|table| GramsInput { view: *table.view(), texts: (0..texts.len()).collect() }),
        landmarks: LANDMARKS[..texts.len()].to_vec(),
        calibration: Platt { slope: 1.25, intercept: -0.5 },
        threshold: 0.3,
        positive_label: "true".into(),
        negative_label: "false".into(),
        background: usual,
    };
    let (keys, estimates) = estimates();
    let statistics = tables::tensors(&keys, &estimates);
    let network = FloatNetwork { members, texts, landmarks };
    (specification, Parts { network, trees: Some(trees), grams, statistics })
}

/// The logit of the float branches.
pub fn float_logit(
    specification: &Specification,
    parts: &Parts,
    row: &EncodedRow,
    pooled: &[Option<Vec<f32>>],
) -> f64 {
    let logit = |branch: &Branch| match branch.kind {
        BranchKind::Network => parts.network.tabular(row),
        BranchKind::Trees => {
            let features = [&row.features[..], &statistics(row)].concat();
            parts.trees.as_ref().unwrap().score(&features)
        }
        BranchKind::Grams => {
            let texts = row.texts.iter().enumerate().map(|(f, text)| (f as u32, text.as_str()));
            let mut reader = Reader::default();
            parts.grams.as_ref().map_or(0.0, |table| table.grams().score(texts, &mut reader))
        }
        BranchKind::Text => parts.network.text(pooled),
    };
    specification.branches.iter().map(|branch| branch.weight * logit(branch)).sum()
}

/// Rows with missing values, extremes, unseen codes, empty, equal and long texts.
pub fn rows(count: usize) -> Vec<EncodedRow> {
    let mut random = Random(8);
    let encoding = encoding(TEXTS);
    let words = ["new", "york", "bank", "loan", "full", "loans", "a's", "llc", "9.5", "é", "  "];
    (0..count)
        .map(|_| {
            let positions: Vec<f32> = encoding
                .numbers
                .iter()
                .map(|number| match random.below(5) {
                    0 => f32::NAN,
                    1 => 0.0,
                    2 => (number.edges.len() - 1) as f32,
                    _ => (random.float() + 1.0) * 0.5 * (number.edges.len() - 1) as f32,
                })
                .collect();
            let codes: Vec<u32> =
                encoding.categories.iter().map(|c| random.below(c.codes()) as u32).collect();
            let texts = (0..TEXTS)
                .map(|_| {
                    let length = [0, 1, 3, 3, 30][random.below(5)];
                    let text: Vec<&str> =
                        (0..length).map(|_| words[random.below(words.len())]).collect();
                    text.join(" ").trim().to_owned()
                })
                .collect();
            let key = random.below(50) as u64;
            EncodedRow { keys: vec![key % 5, key], ..encoded(positions, codes, texts) }
        })
        .collect()
}

/// A row without keys whose numbers lie ten apart on each edge, as [`encoding`] has them.
pub fn encoded(positions: Vec<f32>, codes: Vec<u32>, texts: Vec<String>) -> EncodedRow {
    let values = positions.iter().map(|z| f64::from(*z) * 10.0);
    let features = values.chain(codes.iter().map(|code| f64::from(*code))).collect();
    EncodedRow { features, positions, codes, texts, ..EncodedRow::default() }
}

pub fn open(version: Vec<u8>, base: &Arc<Vec<u8>>) -> Arc<Model> {
    Arc::new(Model::open(Arc::new(version), Some(base.clone())).unwrap())
}
