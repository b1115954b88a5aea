//! A version from quantization to scores: near the float network, the same bits however it is
//! computed, and no damage that panics.

mod engine;

use std::sync::Arc;

use engine::{golden, tiny_vocabulary, Random};
use riskft_core::artifact::{self, Artifact};
use riskft_core::calibrate::Platt;
use riskft_core::cell::{Cell, ColumnType};
use riskft_core::encode::{
    CategoryInput, CategorySource, EncodedColumn, EncodedRow, Encoding, NumberInput, NumberSource,
    TextFormat, TextInput, TextSource, MAX_BINS,
};
use riskft_core::encoder::{Encoder, Scratch};
use riskft_core::gemm::Kernel;
use riskft_core::model::{EncoderReference, Model, Scorer, Specification};
use riskft_core::network::base::{read_shape, read_tensors};
use riskft_core::network::{
    EncoderShape, FloatLinear, FloatMember, FloatNetwork, FloatTensor, TensorMap, NUMBER_WIDTH,
};
use riskft_core::options::Role;
use riskft_core::quantize;
use riskft_core::tokenize::Tokenizer;

const NUMBERS: usize = 5;
const CATEGORIES: usize = 3;
const TEXTS: usize = 2;
const MEMBERS: usize = 3;
const HIDDEN: usize = 40;

struct Tiny {
    shape: EncoderShape,
    tensors: TensorMap,
    base: Arc<Vec<u8>>,
}

fn tiny() -> Tiny {
    let shape = read_shape(&golden("tiny_bert/config.json")).unwrap();
    let tensors = read_tensors(&shape, &golden("tiny_bert/model.safetensors")).unwrap();
    let base = quantize::base_encoder(&shape, &tensors, &tiny_vocabulary()).unwrap();
    Tiny { shape, tensors, base: Arc::new(base) }
}

fn floats(random: &mut Random, count: usize, size: f32) -> Vec<f32> {
    (0..count).map(|_| random.float() * size).collect()
}

fn linear(random: &mut Random, outputs: usize, inputs: usize) -> FloatLinear {
    let size = (3.0 / inputs as f32).sqrt();
    FloatLinear {
        outputs,
        inputs,
        weight: floats(random, outputs * inputs, size),
        bias: floats(random, outputs, 0.1),
    }
}

fn encoding(texts: usize) -> Encoding {
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

fn member(random: &mut Random, encoding: &Encoding, width: usize) -> FloatMember {
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

fn network(tiny: &Tiny, texts: usize, shape: EncoderShape) -> (Specification, FloatNetwork) {
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
fn rows(count: usize) -> Vec<EncodedRow> {
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

fn open(version: Vec<u8>, base: &Arc<Vec<u8>>) -> Arc<Model> {
    Arc::new(Model::open(Arc::new(version), Some(base.clone())).unwrap())
}

/// Pooled vectors of a row's texts by the int8 encoder.
fn pooled(model: &Model, row: &EncodedRow) -> Vec<Option<Vec<f32>>> {
    let (encoder, vocabulary) = (model.encoder().unwrap(), model.vocabulary().unwrap());
    row.texts
        .iter()
        .map(|text| {
            let mut ids = Vec::new();
            Tokenizer::default().encode(&vocabulary, text, 20, &mut ids);
            let mut scratch = Scratch::default();
            let v = encoder.pooled(Kernel::detect(), &ids, &[ids.len()], &mut scratch);
            (!ids.is_empty()).then(|| v.as_flattened()[..encoder.shape().width].to_vec())
        })
        .collect()
}

#[test]
fn int8_scores_are_near_the_float_network() {
    let tiny = tiny();
    let (specification, float) = network(&tiny, TEXTS, tiny.shape.clone());
    let version = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    let model = open(version, &tiny.base);
    let mut scorer = Scorer::new(Arc::clone(&model), Kernel::detect(), 1 << 16);
    let (mut worst, mut low, mut high) = (0.0f64, f64::MAX, f64::MIN);
    for row in rows(500) {
        let exact = float.logit(&row, &pooled(&model, &row));
        let logit = scorer.logit_row(&row);
        worst = worst.max((logit - exact).abs());
        (low, high) = (low.min(exact), high.max(exact));
        let score = 1.0 / (1.0 + (-(1.25 * logit - 0.5)).exp());
        assert!((scorer.score_row(&row) - score).abs() < 1e-12);
    }
    println!("largest change of a logit: {worst:.4}, logits from {low:.2} to {high:.2}");
    assert!(high - low > 1.0, "the rows differ");
    assert!(worst < 0.02, "{worst}");
}

#[test]
fn a_score_has_the_same_bits_on_every_path() {
    let tiny = tiny();
    let (specification, float) = network(&tiny, TEXTS, tiny.shape.clone());
    let version = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    let model = open(version, &tiny.base);
    let mut rows = rows(300);
    // Values far outside the training range, and codes that the model lacks.
    rows[0].positions.fill(1e30);
    rows[1].positions.fill(-1e30);
    rows[2].positions.fill(f32::INFINITY);
    rows[3].codes.fill(u32::MAX);
    let alone: Vec<u64> = rows
        .iter()
        .map(|row| {
            let mut scorer = Scorer::new(Arc::clone(&model), Kernel::Portable, 0);
            scorer.score_row(row).to_bits()
        })
        .collect();
    for kernel in Kernel::ALL {
        if !kernel.available() {
            println!("skipped: this processor lacks {}", kernel.name());
        }
        for cache in [0, 700, 1 << 20] {
            let mut scorer = Scorer::new(Arc::clone(&model), kernel, cache);
            for pass in 0..2 {
                for (i, row) in rows.iter().enumerate() {
                    let score = scorer.score_row(row);
                    assert!((0.0..=1.0).contains(&score));
                    assert_eq!(
                        score.to_bits(),
                        alone[i],
                        "row {i}, pass {pass}, cache {cache}, {}",
                        kernel.name()
                    );
                }
            }
            assert!(scorer.bytes() < 1 << 21);
        }
    }
}

#[test]
fn cells_are_encoded_and_scored() {
    let tiny = tiny();
    let (specification, float) = network(&tiny, TEXTS, tiny.shape.clone());
    let version = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    let mut scorer = Scorer::new(open(version, &tiny.base), Kernel::detect(), 1000);
    let mut cells = vec![Cell::Float(15.0); NUMBERS];
    cells.extend([Cell::Text("v0"), Cell::Text("v1"), Cell::Null]);
    cells.extend([Cell::Text("new york bank"), Cell::Text("   ")]);
    let row = EncodedRow {
        positions: vec![1.5; NUMBERS],
        codes: vec![2, 3, 1],
        texts: vec!["new york bank".into(), String::new()],
    };
    assert_eq!(scorer.score(&cells), scorer.score_row(&row));
    // A row without cells is a row of NULLs.
    let nothing = EncodedRow {
        positions: vec![f32::NAN; NUMBERS],
        codes: vec![1; CATEGORIES],
        texts: vec![String::new(); TEXTS],
    };
    assert_eq!(scorer.score(&[]), scorer.score_row(&nothing));
}

#[test]
fn a_version_lies_over_its_base() {
    let tiny = tiny();
    let (specification, float) = network(&tiny, TEXTS, tiny.shape.clone());
    let mut overlay = TensorMap::new();
    let mut changed = tiny.tensors.clone();
    for name in ["layer.0.query.weight", "layer.2.value.weight", "layer.1.output.bias"] {
        for v in &mut changed.get_mut(name).unwrap().data {
            *v = *v * 0.5 + 0.01;
        }
        overlay.insert(name.into(), changed[name].clone());
    }
    let version = quantize::version(&specification, &float, &overlay).unwrap();
    let over = open(version, &tiny.base);
    let whole = quantize::base_encoder(&tiny.shape, &changed, &tiny_vocabulary()).unwrap();
    let plain = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    let (whole, plain) = (open(plain.clone(), &Arc::new(whole)), open(plain, &tiny.base));
    let mut scores = [over, whole, plain].map(|model| Scorer::new(model, Kernel::detect(), 0));
    for row in rows(50).iter().filter(|row| !row.texts[0].is_empty()) {
        let [over, whole, plain] = scores.each_mut().map(|scorer| scorer.score_row(row));
        assert_eq!(over, whole);
        assert_ne!(over, plain);
    }
}

/// `x + up(relu(down(x)))` is the identity where `up` is zero, and is not elsewhere.
#[test]
fn adapters_follow_their_formula() {
    let tiny = tiny();
    let shape = EncoderShape { adapter: 10, ..tiny.shape.clone() };
    let (specification, float) = network(&tiny, TEXTS, shape.clone());
    let mut random = Random(77);
    let adapters = |random: &mut Random, size: f32| {
        let mut overlay = TensorMap::new();
        for layer in 0..shape.layers {
            for place in ["attention_adapter", "output_adapter"] {
                for (part, outputs, inputs, size) in
                    [("down", 10, shape.width, 0.3), ("up", shape.width, 10, size)]
                {
                    let name = format!("layer.{layer}.{place}.{part}");
                    let weight = floats(random, outputs * inputs, size);
                    let bias = floats(random, outputs, size);
                    overlay.insert(
                        format!("{name}.weight"),
                        FloatTensor { shape: vec![outputs, inputs], data: weight },
                    );
                    overlay.insert(
                        format!("{name}.bias"),
                        FloatTensor { shape: vec![outputs], data: bias },
                    );
                }
            }
        }
        overlay
    };
    let states = |overlay: &TensorMap, layers| {
        let version = quantize::version(&specification, &float, overlay).unwrap();
        let model = open(version, &tiny.base);
        model.encoder().unwrap().states_after(Kernel::detect(), layers, &[2, 30, 40, 3])
    };
    let base = Artifact::open(tiny.base.clone()).unwrap();
    let plain = Encoder::open(&base, None, &tiny.shape).unwrap();
    let plain = plain.states_after(Kernel::detect(), 3, &[2, 30, 40, 3]);
    assert_eq!(states(&adapters(&mut random, 0.0), 3), plain);
    let overlay = adapters(&mut random, 0.5);
    let adapted = states(&overlay, 3);
    assert!(adapted.iter().all(|v| v.is_finite()));
    let cosine = engine::cosine(&adapted, &plain);
    assert!(cosine < 0.99, "adapters change the states: {cosine}");
    let missing: TensorMap = overlay.into_iter().skip(1).collect();
    let version = quantize::version(&specification, &float, &missing).unwrap();
    let refusal = Model::open(Arc::new(version), Some(tiny.base)).err().unwrap();
    assert_eq!(refusal.code, "XX001");
}

#[test]
fn a_version_without_text_or_without_a_table_is_scored() {
    let tiny = tiny();
    let (specification, float) = network(&tiny, 0, tiny.shape.clone());
    let version = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    let model = Arc::new(Model::open(Arc::new(version), None).unwrap());
    let mut scorer = Scorer::new(Arc::clone(&model), Kernel::detect(), 0);
    for row in rows(50) {
        assert!((scorer.logit_row(&row) - float.logit(&row, &[])).abs() < 0.02);
    }
    assert!(model.encoder().is_none() && model.vocabulary().is_none());

    let (mut specification, mut float) = network(&tiny, 1, tiny.shape.clone());
    specification.encoding.numbers.clear();
    specification.encoding.categories.clear();
    for member in &mut float.members {
        *member = FloatMember {
            output: FloatLinear { outputs: 1, bias: vec![-0.75], ..FloatLinear::default() },
            texts: member.texts.clone(),
            ..FloatMember::default()
        };
    }
    let version = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    let model = open(version, &tiny.base);
    let mut scorer = Scorer::new(Arc::clone(&model), Kernel::detect(), 0);
    let row = |text: &str| EncodedRow { texts: vec![text.into()], ..EncodedRow::default() };
    assert!((scorer.logit_row(&row("")) - -0.75).abs() < 1e-12, "the bias alone");
    let exact = float.logit(&row("new york"), &pooled(&model, &row("new york")));
    assert!((scorer.logit_row(&row("new york")) - exact).abs() < 1e-4);
}

#[test]
fn what_cannot_be_quantized_is_refused() {
    let tiny = tiny();
    let (specification, float) = network(&tiny, TEXTS, tiny.shape.clone());
    let refuse = |change: &dyn Fn(&mut FloatNetwork, &mut Specification, &mut TensorMap)| {
        let (mut float, mut s, mut overlay) =
            (float.clone(), specification.clone(), TensorMap::new());
        change(&mut float, &mut s, &mut overlay);
        quantize::version(&s, &float, &overlay).err().map(|refusal| refusal.code)
    };
    let code = Some("22000".to_owned());
    assert_eq!(refuse(&|_, _, _| ()), None);
    assert_eq!(refuse(&|f, _, _| f.members[1].hidden[0].weight[3] = f32::NAN), code);
    assert_eq!(refuse(&|f, _, _| f.members[0].number_bias[0] = f32::INFINITY), code);
    assert_eq!(refuse(&|f, _, _| f.members[0].texts[1].1 = f32::NAN), code);
    assert_eq!(refuse(&|f, _, _| drop(f.members.pop())), code);
    assert_eq!(refuse(&|f, _, _| drop(f.members[2].embeddings.pop())), code);
    assert_eq!(refuse(&|f, _, _| drop(f.members[2].texts.pop())), code);
    assert_eq!(refuse(&|f, _, _| drop(f.members[2].hidden.pop())), code);
    assert_eq!(refuse(&|f, _, _| f.members[2].output.weight.clear()), code);
    assert_eq!(refuse(&|_, s, _| s.hidden = 41), code);
    let tensor = |shape: &[usize], v: f32| FloatTensor {
        shape: shape.to_vec(),
        data: vec![v; shape.iter().product()],
    };
    assert_eq!(
        refuse(&|_, _, o| drop(o.insert("layer.9.query.bias".into(), tensor(&[60], 0.0)))),
        code
    );
    assert_eq!(
        refuse(&|_, _, o| drop(o.insert("layer.0.query.bias".into(), tensor(&[61], 0.0)))),
        code
    );
    assert_eq!(
        refuse(&|_, _, o| drop(o.insert("layer.0.query.bias".into(), tensor(&[60], f32::NAN)))),
        code
    );
    let mut lacking = tiny.tensors.clone();
    lacking.remove("layer.1.key.bias");
    assert!(quantize::base_encoder(&tiny.shape, &lacking, &tiny_vocabulary()).is_err());
    assert!(quantize::base_encoder(&tiny.shape, &tiny.tensors, b"RFV1").is_err());
}

#[test]
fn the_same_network_gives_the_same_bytes() {
    let tiny = tiny();
    let (specification, float) = network(&tiny, TEXTS, tiny.shape.clone());
    let version = || quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    assert_eq!(version(), version());
    let again = quantize::base_encoder(&tiny.shape, &tiny.tensors, &tiny_vocabulary()).unwrap();
    assert_eq!(artifact::digest(&again), artifact::digest(&tiny.base));
}

/// A constant column and one of zeros: finite scores, also when they change at scoring.
#[test]
fn rows_and_weights_of_zeros_are_scored() {
    let tiny = tiny();
    let (specification, mut float) = network(&tiny, TEXTS, tiny.shape.clone());
    for member in &mut float.members {
        member.number_weight.fill(0.0);
        member.number_bias.fill(0.0);
        member.hidden[0].weight.fill(0.0);
        member.hidden[1].weight[..HIDDEN].fill(0.0);
    }
    let version = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    let model = open(version, &tiny.base);
    let mut scorer = Scorer::new(Arc::clone(&model), Kernel::detect(), 0);
    for row in rows(100) {
        let exact = float.logit(&row, &pooled(&model, &row));
        assert!((scorer.logit_row(&row) - exact).abs() < 0.02);
    }
}

fn respecified(version: &[u8], change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    let length = u64::from_le_bytes(*version.first_chunk().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&version[8..8 + length]).unwrap();
    let text = header["__metadata__"]["specification"].as_str().unwrap().to_owned();
    let mut specification = serde_json::from_str(&text).unwrap();
    change(&mut specification);
    header["__metadata__"]["specification"] = specification.to_string().into();
    let mut header = header.to_string();
    while (8 + header.len()) % 64 != 0 {
        header.push(' ');
    }
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &version[8 + length..]].concat()
}

#[test]
fn lying_specifications_are_refused() {
    let tiny = tiny();
    let (specification, float) = network(&tiny, TEXTS, tiny.shape.clone());
    let version = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    let code = |version: Vec<u8>| {
        let base: artifact::Storage = tiny.base.clone();
        Model::open(Arc::new(version), Some(base)).err().map(|refusal| refusal.code)
    };
    assert_eq!(code(respecified(&version, |_| ())), None);
    let change = |path: &str, value: serde_json::Value| {
        let path = path.to_owned();
        code(respecified(&version, move |s| {
            *s.pointer_mut(&path).unwrap_or_else(|| panic!("{path}")) = value.clone();
        }))
    };
    let damaged = Some("XX001".to_owned());
    for (path, value) in [
        ("/members", 0.into()),
        ("/members", 4.into()),
        ("/members", u64::MAX.into()),
        ("/hidden", 30.into()),
        ("/hidden", u64::MAX.into()),
        ("/encoding/numbers/0/source/value", 10.into()),
        ("/encoding/categories/0/source/value", u64::MAX.into()),
        ("/encoding/texts/0/source/column", 99.into()),
        ("/encoding/texts/0/max_tokens", 71.into()),
        ("/encoding/texts/0/max_tokens", 2.into()),
        ("/encoding/numbers/0/edges", vec![1.0].into()),
        ("/encoding/numbers/0/edges", vec![1.0, 1.0].into()),
        ("/encoding/numbers/0/edges", vec![0.0; 100].into()),
        ("/encoding/numbers", serde_json::Value::Array(vec![])),
        ("/encoding/categories/2/values", serde_json::Value::Array(vec![])),
        ("/encoder/shape/layers", 4.into()),
        ("/encoder/shape/layers", 0.into()),
        ("/encoder/shape/width", 64.into()),
        ("/encoder/shape/heads", 7.into()),
        ("/encoder/shape/vocabulary", 1_000_000_000_000u64.into()),
        ("/encoder/shape/adapter", 8.into()),
        ("/encoder", serde_json::Value::Null),
        ("/calibration", 3.into()),
        ("/threshold", serde_json::Value::Null),
    ] {
        assert_eq!(change(path, value.clone()), damaged, "{path} = {value}");
    }
    assert_eq!(change("/format", 2.into()), Some("0A000".into()));
    assert_eq!(change("/numerics", 2.into()), Some("0A000".into()));
    let lacking = Model::open(Arc::new(version.clone()), None).err().unwrap();
    assert_eq!(lacking.code, "58P01");
    let swapped = Model::open(tiny.base.clone(), Some(Arc::new(version))).err().unwrap();
    assert_eq!(swapped.code, "XX001");
}

/// Damage anywhere in either file: refused, or scored without a panic.
#[test]
fn damaged_files_never_panic() {
    let tiny = tiny();
    let (specification, float) = network(&tiny, TEXTS, tiny.shape.clone());
    let version = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    let rows = rows(4);
    let mut random = Random(2024);
    let (mut opened, mut refused) = (0, 0);
    for round in 0..3000 {
        let (mut version, mut base) = (version.clone(), (*tiny.base).clone());
        let file = if round % 2 == 0 { &mut version } else { &mut base };
        let header = 8 + u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
        match round % 3 {
            0 => {
                let length = random.below(file.len());
                file.truncate(length);
            }
            1 => file[random.below(header)] = random.next() as u8,
            _ => {
                let at = header + random.below(file.len() - header);
                file[at] = random.next() as u8;
            }
        }
        match Model::open(Arc::new(version), Some(Arc::new(base))) {
            Err(refusal) => {
                assert!(["XX001", "0A000"].contains(&refusal.code.as_str()), "{refusal:?}");
                refused += 1;
            }
            Ok(model) => {
                let mut scorer = Scorer::new(Arc::new(model), Kernel::detect(), 500);
                for row in &rows {
                    scorer.score_row(row);
                }
                opened += 1;
            }
        }
    }
    println!("of 3,000 damaged pairs {refused} were refused, {opened} scored");
    assert!(refused > 1000 && opened > 100);
}
