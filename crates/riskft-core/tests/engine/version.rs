//! A small version with random weights over the tiny BERT, and rows for it.

use std::sync::Arc;

use super::{golden, tiny_vocabulary, Random};
use riskft_core::artifact;
use riskft_core::calibrate::Platt;
use riskft_core::cell::ColumnType;
use riskft_core::encode::{
    CategoryInput, CategorySource, EncodedColumn, EncodedRow, Encoding, NumberInput, NumberSource,
    TextFormat, TextInput, TextSource, MAX_BINS,
};
use riskft_core::model::{EncoderReference, Model, Specification};
use riskft_core::network::base::{read_shape, read_tensors};
use riskft_core::network::{
    EncoderShape, FloatLinear, FloatMember, FloatNetwork, FloatTensor, TensorMap, NUMBER_WIDTH,
};
use riskft_core::options::Role;
use riskft_core::quantize;

pub const NUMBERS: usize = 5;
pub const CATEGORIES: usize = 3;
pub const TEXTS: usize = 2;
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
            })
            .collect(),
        texts: (0..texts)
            .map(|f| TextInput {
                name: format!("t{f}"),
                source: TextSource::Column(NUMBERS + CATEGORIES + f),
                max_tokens: 20,
            })
            .collect(),
        reference_date: 20_000,
    }
}

pub fn member(random: &mut Random, encoding: &Encoding, width: usize) -> FloatMember {
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
        texts: encoding.texts.iter().map(|_| (floats(random, width, 0.1), 0.05)).collect(),
    }
}

pub fn network(tiny: &Tiny, texts: usize, shape: EncoderShape) -> (Specification, FloatNetwork) {
    let mut random = Random(42);
    let encoding = encoding(texts);
    let members = (0..MEMBERS).map(|_| member(&mut random, &encoding, shape.width)).collect();
    let encoder = (texts > 0).then(|| EncoderReference {
        base: "tiny".into(),
        digest: artifact::digest(&tiny.base),
        shape,
    });
    let specification = Specification {
        format: 1,
        numerics: 1,
        encoding,
        members: MEMBERS,
        hidden: HIDDEN,
        encoder,
        calibration: Platt { slope: 1.25, intercept: -0.5 },
        threshold: 0.3,
        positive_label: "true".into(),
        negative_label: "false".into(),
    };
    (specification, FloatNetwork { members })
}

/// Rows with missing values, extremes, unseen codes, empty, equal and long texts.
pub fn rows(count: usize) -> Vec<EncodedRow> {
    let mut random = Random(8);
    let encoding = encoding(TEXTS);
    let words = ["new", "york", "bank", "loan", "full", "loans", "a's", "llc", "9.5", "é", "  "];
    (0..count)
        .map(|_| EncodedRow {
            positions: encoding
                .numbers
                .iter()
                .map(|number| match random.below(5) {
                    0 => f32::NAN,
                    1 => 0.0,
                    2 => (number.edges.len() - 1) as f32,
                    _ => (random.float() + 1.0) * 0.5 * (number.edges.len() - 1) as f32,
                })
                .collect(),
            codes: encoding.categories.iter().map(|c| random.below(c.codes()) as u32).collect(),
            texts: (0..TEXTS)
                .map(|_| {
                    let length = [0, 1, 3, 3, 30][random.below(5)];
                    let text: Vec<&str> =
                        (0..length).map(|_| words[random.below(words.len())]).collect();
                    text.join(" ").trim().to_owned()
                })
                .collect(),
        })
        .collect()
}

pub fn open(version: Vec<u8>, base: &Arc<Vec<u8>>) -> Arc<Model> {
    Arc::new(Model::open(Arc::new(version), Some(base.clone())).unwrap())
}
