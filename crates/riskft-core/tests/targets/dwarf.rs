//! The smallest model with every kind of part: one number, component, category, text, member and layer.

use std::sync::{Arc, OnceLock};

use riskft_core::artifact;
use riskft_core::calibrate::Platt;
use riskft_core::cell::{Cell, ColumnType};
use riskft_core::encode::mix::Mixer;
use riskft_core::encode::statistic::{KeyPart, Keys, StatisticInput};
use riskft_core::encode::{
    tables, CategoryInput, CategorySource, Components, EncodedColumn, Encoding, NumberInput,
    NumberSource, TextFormat, TextInput, TextSource, MAX_BINS,
};
use riskft_core::explain::Background;
use riskft_core::grams::{Table, View};
use riskft_core::model::{Branch, BranchKind, EncoderReference, GramsInput, Specification, FORMAT};
use riskft_core::network::{
    encoder_parts, EncoderShape, FloatLandmarks, FloatLinear, FloatMember, FloatNetwork,
    FloatTensor, TensorMap, NUMBER_WIDTH,
};
use riskft_core::options::Role;
use riskft_core::quantize::{self, Parts};
use riskft_core::reduce::Reducer;
use riskft_core::tokenize::{compile, Normaliser};
use riskft_core::trees::{Ensemble, Node, Side};

use super::reducers::small;

const WIDTH: usize = 8;
const HIDDEN: usize = 8;
const NUMBERS: usize = 2;
pub const TOKENS: [&str; 12] =
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "bank", "new", "##s", "a", "##a", "##b", "é", ","];

pub struct Dwarf {
    pub vocabulary: Vec<u8>,
    pub tensors: TensorMap,
    pub base: Vec<u8>,
    pub version: Vec<u8>,
    /// A version without text.
    pub tabular: Vec<u8>,
}

pub fn shape() -> EncoderShape {
    EncoderShape {
        layers: 1,
        width: WIDTH,
        heads: 2,
        intermediate: WIDTH,
        vocabulary: TOKENS.len(),
        positions: 8,
        position_offset: 0,
        token_types: 1,
        norm_epsilon: 1e-12,
        adapter: 0,
    }
}

/// Made once; the same bytes each time.
pub fn dwarf() -> &'static Dwarf {
    static DWARF: OnceLock<Dwarf> = OnceLock::new();
    DWARF.get_or_init(|| {
        let vocabulary = compile(&TOKENS, Normaliser::UNCASED, 100).unwrap();
        let tensors = tensors();
        let base = quantize::base_encoder(&shape(), &tensors, &vocabulary).unwrap();
        let version = |texts| {
            let (specification, network) = network(texts, &base);
            quantize::version(&specification, &network, &TensorMap::new()).unwrap()
        };
        Dwarf { version: version(1), tabular: version(0), vocabulary, tensors, base }
    })
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + 11) % 61) as f32 / 61.0 - 0.5).collect()
}

fn tensors() -> TensorMap {
    let shapes = encoder_parts(&shape()).into_iter().flat_map(|part| part.tensors());
    let tensor = |shape: Vec<usize>| FloatTensor { data: values(shape.iter().product()), shape };
    shapes.map(|(name, shape)| (name, tensor(shape))).collect()
}

fn linear(outputs: usize, inputs: usize) -> FloatLinear {
    FloatLinear { outputs, inputs, weight: values(outputs * inputs), bias: values(outputs) }
}

/// A number's split, a component's and a category's.
fn splits() -> [Node; 3] {
    let (missing, children) = (Side::Right, [1, 2]);
    [
        Node::Number { feature: 0, threshold: 2.5, missing, zero_missing: true, children },
        Node::Number { feature: 1, threshold: 0.25, missing, zero_missing: false, children },
        Node::Category { feature: 2, codes: vec![4], children },
    ]
}

fn network(texts: usize, base: &[u8]) -> (Specification, Parts) {
    let encoding = encoding(texts);
    let category = &encoding.categories[0];
    let codes = [category.codes(), category.dimension()];
    let member = FloatMember {
        number_weight: values(NUMBERS * MAX_BINS * NUMBER_WIDTH),
        number_missing: values(NUMBERS * NUMBER_WIDTH),
        number_bias: values(NUMBERS * NUMBER_WIDTH),
        embeddings: vec![FloatTensor { shape: codes.to_vec(), data: values(codes[0] * codes[1]) }],
        hidden: vec![linear(HIDDEN, NUMBERS * NUMBER_WIDTH + codes[1]), linear(HIDDEN, HIDDEN)],
        output: linear(1, HIDDEN),
    };
    let mut trees = Ensemble::new(encoding.features()).unwrap();
    for split in splits() {
        trees.push(&[split, Node::Leaf(-0.5), Node::Leaf(0.25)]).unwrap();
    }
    let kinds = BranchKind::ALL
        .into_iter()
        .filter(|kind| texts > 0 || !matches!(kind, BranchKind::Grams | BranchKind::Text));
    let grams = (texts > 0).then(|| {
        let view = View { bits: 6, ..View::default() };
        let mut table = Table::new(view, &[(3, 1.0), (20, 2.0), (63, 1.5)]).unwrap();
        table.set_weights(&[0.5, -0.25, 1.0], -0.5).unwrap();
        table
    });
    let reference =
        EncoderReference { base: "dwarf".into(), digest: artifact::digest(base), shape: shape() };
    let mixer = Mixer::new(&encoding);
    let usual = [Cell::Float(1.5), Cell::Text("NY"), Cell::Text("banks")];
    let rows = vec![mixer.read(&encoding, &usual), mixer.read(&encoding, &[])];
    let background = Background { rows, texts: vec![0.125; texts] };
    let specification = Specification {
        format: FORMAT,
        numerics: 1,
        encoding,
        branches: kinds.map(|kind| Branch { kind, weight: 0.5 }).collect(),
        members: 1,
        hidden: HIDDEN,
        encoder: (texts > 0).then_some(reference),
        grams: grams.as_ref().map(|table| GramsInput { view: *table.view(), texts: vec![0] }),
        landmarks: vec![2; texts.min(1)],
        calibration: Platt { slope: 1.25, intercept: -0.5 },
        threshold: 0.3,
        positive_label: "true".into(),
        negative_label: "false".into(),
        background,
    };
    let landmarks =
        vec![FloatLandmarks { vectors: values(2 * WIDTH), weights: values(2) }; texts.min(1)];
    let texts = vec![(values(WIDTH), 0.05); texts];
    let network = FloatNetwork { members: vec![member], texts, landmarks };
    let keys = Keys::collect(&specification.encoding.statistics, (0..9).map(|row| vec![row % 3]));
    let estimates = keys.estimate(&[0, 1, 2, 3, 4, 5, 6, 7], |row| row < 4, 1.0);
    let statistics = tables::tensors(&keys, &estimates);
    (specification, Parts { network, trees: Some(trees), grams, statistics })
}

fn encoding(texts: usize) -> Encoding {
    let column = |name: &str, column_type, role| EncodedColumn {
        name: name.into(),
        column_type,
        role,
        format: TextFormat::Plain,
    };
    let columns = vec![
        column("n", ColumnType::Float, Role::Number),
        column("k", ColumnType::Text, Role::Category),
        column("t", ColumnType::Text, Role::Text),
        column("c1", ColumnType::Float, Role::Number),
        column("c0", ColumnType::Int, Role::Number),
    ];
    let reducer = Reducer::open(Arc::new(small(2, 1).write().unwrap())).unwrap();
    let number = |name: &str, source, edges| NumberInput { name: name.into(), source, edges };
    Encoding {
        components: Components::of(&reducer, &columns),
        columns,
        numbers: vec![
            number("n", NumberSource::Value(0), vec![0.0, 1.0, 10.0]),
            number("component 1", NumberSource::Component(0), vec![-3.0, 0.5, 3.0]),
        ],
        categories: vec![CategoryInput {
            name: "k".into(),
            source: CategorySource::Value(1),
            values: vec!["CA".into(), "NY".into()],
            added: Vec::new(),
        }],
        texts: vec![
            TextInput { name: "t".into(), source: TextSource::Column(2), max_tokens: 8 };
            texts
        ],
        statistics: vec![StatisticInput {
            name: "k".into(),
            key: vec![KeyPart::Value(1)],
            parent: None,
        }],
        reference_date: 20_000,
    }
}

/// The dwarf's base encoder as a shared file.
pub fn base() -> artifact::Storage {
    static BASE: OnceLock<Arc<Vec<u8>>> = OnceLock::new();
    BASE.get_or_init(|| Arc::new(dwarf().base.clone())).clone()
}
