//! An exported version: read back whole, and refused in every damaged or dishonest form.

mod engine;

use engine::version::{network, tiny, Tiny, TEXTS};
use engine::Random;
use riskft_core::artifact;
use riskft_core::bundle::{Bundle, Manifest, FORMAT, MAGIC, MAX_MANIFEST};
use riskft_core::curve::CurveBin;
use riskft_core::drift::{self, Bins, Kind, Reference};
use riskft_core::metrics::Metric;
use riskft_core::network::TensorMap;
use riskft_core::options::{Method, Role};
use riskft_core::protocol::{
    BlobHeader, BlobKind, BranchReport, EffectReport, FeatureReport, Figures, GateReport,
    ImportanceReport, PartMetric, PeriodReport, TrialReport,
};
use riskft_core::quantize;
use serde_json::{json, Value};

const MOST: u64 = 1 << 30;

/// A version over the tiny encoder, or one without text.
struct Export {
    manifest: Manifest,
    files: Vec<Vec<u8>>,
}

impl Export {
    fn new(tiny: &Tiny, texts: usize) -> Self {
        let (specification, float) = network(tiny, texts, tiny.shape.clone());
        let version = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
        let training = artifact::write(BlobKind::Training, "{}", &Default::default());
        let mut export = Export {
            manifest: Manifest {
                model: "m".into(),
                version: 3,
                method: Method::Lora,
                base: Some("tiny".into()),
                relation: "SELECT 'é' FROM loans".into(),
                target: "defaulted".into(),
                options: json!({"seed": 7, "share": 0.1}),
                ledger: json!({"rows": 12, "phases": [["load", 0.25]]}),
                positive_label: "true".into(),
                negative_label: "false".into(),
                threshold: 0.3,
                gate: GateReport { rows: 9, change_max: 0.1 + 0.2, ..GateReport::default() },
                figures: Figures {
                    metrics: vec![
                        figure("test", "auc", Some(0.700_000_000_000_000_1)),
                        figure("test", "ks", None),
                    ],
                    features: vec![FeatureReport {
                        column_name: "a \"b\"".into(),
                        role: Role::Number,
                        why: "numbers".into(),
                        missing_share: 1.0 / 3.0,
                        distinct_values: u64::MAX,
                        alone_auc: Some(0.61),
                    }],
                    branches: vec![branch("network", 0.7), branch("baseline", 0.0)],
                    periods: vec![period("test", 13_149), period("validation", 13_149)],
                    trials: vec![trial(1), trial(2)],
                    importances: vec![importance("n"), importance("k")],
                    effects: vec![effect(1), effect(2)],
                    reference: vec![drift::score(&[0.1 + 0.2, 1.0 / 3.0, 0.5]), labels()],
                    curve: vec![bin(0.1 + 0.2, 0.1), bin(0.5, 1.0 / 3.0)],
                },
                files: Vec::new(),
            },
            files: Vec::new(),
        };
        export.add(BlobKind::Version, version);
        if texts > 0 {
            export.add(BlobKind::Encoder, tiny.base.to_vec());
        }
        export.add(BlobKind::Training, training);
        export
    }

    fn add(&mut self, kind: BlobKind, file: Vec<u8>) {
        let header =
            BlobHeader { kind, digest: artifact::digest(&file), length: file.len() as u64 };
        self.manifest.files.push(header);
        self.files.push(file);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.manifest.head().unwrap();
        self.files.iter().for_each(|file| bytes.extend_from_slice(file));
        bytes
    }
}

type Change<'a> = &'a dyn Fn(&mut Export);

fn figure(part: &str, metric: &str, value: Option<f64>) -> PartMetric {
    let metric = Metric { metric: metric.into(), value, ci_low: None, ci_high: value };
    PartMetric { part: part.into(), metric }
}

fn branch(name: &str, weight: f64) -> BranchReport {
    BranchReport {
        branch: name.into(),
        weight,
        auc: Some(0.1 + 0.6),
        why: "é".into(),
        ..BranchReport::default()
    }
}

fn period(part: &str, begins: i32) -> PeriodReport {
    PeriodReport {
        part: part.into(),
        begins,
        period: "2006".into(),
        rows: 7,
        auc: None,
        mean_score: 0.1,
        mean_outcome: 1.0 / 3.0,
    }
}

fn trial(number: u32) -> TrialReport {
    TrialReport {
        trial: number,
        rungs: 2,
        options: json!({"trees": {"leaves": 15}}),
        log_loss: Some(0.4),
        state: "kept".into(),
        ..TrialReport::default()
    }
}

fn importance(column: &str) -> ImportanceReport {
    ImportanceReport { column_name: column.into(), mean_abs_shap: 1.0 / 3.0, share: 0.5 }
}

fn effect(ordinal: u32) -> EffectReport {
    let value = (ordinal == 1).then(|| "é".into());
    EffectReport { column_name: "k".into(), ordinal, value, mean_score: 0.1, rows: 7 }
}

fn labels() -> Reference {
    let bins = Bins { edges: Vec::new(), values: vec!["é".into()], counts: vec![12, 3, 0] };
    Reference { column_name: "k".into(), kind: Kind::Label, bins }
}

/// SQLSTATE of the refusal; of a whole reading, for the files alone may give it away.
fn code(bytes: &[u8]) -> Option<String> {
    let whole = Bundle::open(bytes, MOST).and_then(|bundle| bundle.model().map(|_| ()));
    whole.err().map(|refusal| refusal.code)
}

#[test]
fn a_bundle_is_read_as_it_was_written() {
    let tiny = tiny();
    for texts in [0, TEXTS] {
        let export = Export::new(&tiny, texts);
        let bytes = export.bytes();
        let bundle = Bundle::open(&bytes, MOST).unwrap();
        assert_eq!(bundle.manifest, export.manifest);
        assert_eq!(bundle.files, export.files);
        let model = bundle.model().unwrap();
        assert_eq!(model.encoder().is_some(), texts > 0);
        assert_eq!(bundle.manifest.head().unwrap(), export.manifest.head().unwrap());
    }
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    let bytes = Export::new(&tiny(), 0).bytes();
    let manifest = bytes.len() - Export::new(&tiny(), 0).files.concat().len();
    let every = (0..manifest + 64).chain((manifest + 64..bytes.len()).step_by(997));
    for length in every {
        let code = code(&bytes[..length]);
        let wanted = if length < MAGIC.len() { "22023" } else { "XX001" };
        assert_eq!(code.as_deref(), Some(wanted), "cut to {length} bytes");
    }
    let mut random = Random(5);
    let mut damaged = bytes.clone();
    for number in 0..2_000 {
        let place = if number < manifest { number } else { random.below(bytes.len()) };
        let bit = 1 << random.below(8);
        damaged[place] ^= bit;
        let wanted: &[&str] = match place {
            0..16 => &["22023"],
            16..20 => &["0A000", "XX001"],
            _ => &["XX001"],
        };
        let code = code(&damaged);
        assert!(code.as_deref().is_some_and(|code| wanted.contains(&code)), "{place}: {code:?}");
        damaged[place] ^= bit;
    }
    assert_eq!(code(&bytes), None);
}

/// The digests fit, but what is there is not what an export writes.
#[test]
fn a_dishonest_bundle_is_refused() {
    let tiny = tiny();
    let changed = |texts: usize, change: Change<'_>| {
        let mut export = Export::new(&tiny, texts);
        change(&mut export);
        code(&export.bytes())
    };
    let damaged = Some("XX001".to_owned());
    assert_eq!(changed(TEXTS, &|_| ()), None);
    let lies: [(&str, Change<'_>); 37] = [
        ("no version", &|e| {
            e.manifest.files.remove(0);
            e.files.remove(0);
        }),
        ("no file at all", &|e| {
            e.manifest.files.clear();
            e.files.clear();
        }),
        ("two versions", &|e| e.add(BlobKind::Version, e.files[0].clone())),
        ("a version as encoder", &|e| e.manifest.files[1].kind = BlobKind::Training),
        ("files exchanged", &|e| {
            e.manifest.files[0].kind = BlobKind::Encoder;
            e.manifest.files[1].kind = BlobKind::Version;
        }),
        ("no encoder", &|e| {
            e.manifest.files.remove(1);
            e.files.remove(1);
        }),
        ("a pickle as training file", &|e| {
            e.manifest.files.pop();
            e.files.pop();
            e.add(BlobKind::Training, b"\x80\x04pickle".to_vec());
        }),
        ("a version as training file", &|e| {
            e.manifest.files.pop();
            e.files.pop();
            e.add(BlobKind::Training, e.files[0].clone());
        }),
        ("the longest length", &|e| e.manifest.files[2].length = MOST),
        ("a shorter length", &|e| e.manifest.files[2].length -= 1),
        ("bytes after the end", &|e| e.files.push(vec![0])),
        ("another label", &|e| e.manifest.positive_label = "yes".into()),
        ("another threshold", &|e| e.manifest.threshold = 0.31),
        ("a threshold above one", &|e| e.manifest.threshold = 1.5),
        ("a figure twice", &|e| e.manifest.figures.metrics.push(figure("test", "auc", None))),
        ("a branch twice", &|e| e.manifest.figures.branches.push(branch("network", 0.1))),
        ("a period twice", &|e| e.manifest.figures.periods.push(period("test", 13_149))),
        ("a trial twice", &|e| e.manifest.figures.trials.push(trial(2))),
        ("an importance twice", &|e| e.manifest.figures.importances.push(importance("k"))),
        ("an effect twice", &|e| e.manifest.figures.effects.push(effect(2))),
        ("a reference twice", &|e| e.manifest.figures.reference.push(labels())),
        ("counts without bins", &|e| e.manifest.figures.reference[1].bins.counts.push(1)),
        ("edges that fall", &|e| e.manifest.figures.reference[0].bins.edges.reverse()),
        ("scores that fall", &|e| e.manifest.figures.curve.reverse()),
        ("a bin of nine rows", &|e| e.manifest.figures.curve[0].rows = 9),
        ("more positives than rows", &|e| e.manifest.figures.curve[0].positives = 13),
        ("a score above one", &|e| e.manifest.figures.curve[1].upper = 1.5),
        ("a mean above the bin", &|e| e.manifest.figures.curve[1].mean_score = 0.6),
        ("rows beyond counting", &|e| e.manifest.figures.curve[1].rows = 1 << 62),
        ("too many bins", &|e| {
            e.manifest.figures.curve =
                (1..=51).map(|n| bin(f64::from(n) / 60.0, f64::from(n) / 60.0)).collect()
        }),
        ("too many effects", &|e| e.manifest.figures.effects[0].ordinal = 1 << 31),
        ("a period before all dates", &|e| e.manifest.figures.periods[0].begins = -2_440_589),
        ("a period after all dates", &|e| e.manifest.figures.periods[0].begins = i32::MAX),
        ("too many trials", &|e| e.manifest.figures.trials[0].trial = 1 << 31),
        ("a zero byte in a trial", &|e| e.manifest.figures.trials[0].options = json!({"a": "\0"})),
        ("a zero byte", &|e| e.manifest.relation = "a\0b".into()),
        ("a zero byte within", &|e| e.manifest.options = json!({"a": [{"\0": 1}]})),
    ];
    for (lie, change) in lies {
        assert_eq!(changed(TEXTS, change), damaged, "{lie}");
    }
    assert_eq!(changed(0, &|e| e.add(BlobKind::Encoder, tiny.base.to_vec())), damaged);
}

#[test]
fn an_encoder_of_another_version_is_refused() {
    let tiny = tiny();
    // Another encoder of the same shape: its digest is not the one that the version names.
    let mut tensors = tiny.tensors.clone();
    tensors.values_mut().next().unwrap().data[0] += 1.0;
    let other = quantize::base_encoder(&tiny.shape, &tensors, &engine::tiny_vocabulary()).unwrap();
    assert_ne!(other, *tiny.base);
    let mut export = Export::new(&tiny, TEXTS);
    export.manifest.files.truncate(1);
    export.files.truncate(1);
    export.add(BlobKind::Encoder, other);
    assert_eq!(code(&export.bytes()).as_deref(), Some("XX001"));
}

#[test]
fn lengths_are_bounded_before_memory_is_taken() {
    let export = Export::new(&tiny(), 0);
    let mut bytes = export.bytes();
    for length in [MAX_MANIFEST as u32 + 1, u32::MAX] {
        bytes[20..24].copy_from_slice(&length.to_le_bytes());
        assert_eq!(code(&bytes).as_deref(), Some("XX001"), "{length}");
    }
    for length in [u64::MAX, MOST + 1] {
        let mut export = Export::new(&tiny(), 0);
        export.manifest.files[1].length = length;
        assert_eq!(code(&export.bytes()).as_deref(), Some("54000"), "{length}");
    }
    let longest = export.files.iter().map(Vec::len).max().unwrap() as u64;
    assert!(Bundle::open(&export.bytes(), longest).is_ok());
    assert!(Bundle::open(&export.bytes(), longest - 1).is_err_and(|r| r.code == "54000"));
    let mut export = export;
    export.manifest.relation = "x".repeat(MAX_MANIFEST);
    assert!(export.manifest.head().is_err_and(|refusal| refusal.code == "54000"));
}

#[test]
fn other_files_and_later_formats_are_told_apart() {
    let export = Export::new(&tiny(), 0);
    let mut bytes = export.bytes();
    for format in [FORMAT + 1, u32::MAX] {
        bytes[16..20].copy_from_slice(&format.to_le_bytes());
        assert_eq!(code(&bytes).as_deref(), Some("0A000"), "{format}");
    }
    let foreign: [&[u8]; 7] = [
        b"",
        b"\x80\x04pickle",
        b"PK\x03\x04",
        b"\x7fELF",
        b"riskft-model\n\x1a\n",
        b"PGDMP",
        &export.files[0],
    ];
    for bytes in foreign {
        assert_eq!(code(bytes).as_deref(), Some("22023"), "{:?}", &bytes[..bytes.len().min(12)]);
    }
}

/// A later riskft may add to the manifest; what this one does not know is left out.
#[test]
fn unknown_facts_are_passed_over_and_missing_ones_refused() {
    let export = Export::new(&tiny(), 0);
    let described = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let mut manifest = serde_json::to_value(&export.manifest).unwrap();
        change(manifest.as_object_mut().unwrap());
        let json = serde_json::to_vec(&manifest).unwrap();
        let mut bytes = export.bytes()[..20].to_vec();
        bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&sha256(&json));
        bytes.extend_from_slice(&json);
        bytes.extend_from_slice(&export.files.concat());
        code(&bytes)
    };
    assert_eq!(described(&|m| drop(m.insert("tested_by".into(), json!({"name": "x"})))), None);
    // What versions of before the branches lack.
    for fact in ["branches", "periods", "trials", "importances", "effects", "reference", "curve"] {
        assert_eq!(described(&|m| drop(m.remove(fact))), None, "{fact}");
    }
    for fact in ["positive_label", "files", "method", "gate"] {
        assert_eq!(described(&|m| drop(m.remove(fact))).as_deref(), Some("XX001"), "{fact}");
    }
}

fn bin(upper: f64, mean_score: f64) -> CurveBin {
    CurveBin { upper, mean_score, rows: 12, positives: 5 }
}

/// The bytes of a digest, out of its digits.
fn sha256(bytes: &[u8]) -> Vec<u8> {
    let digits = artifact::digest(bytes);
    (0..32).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap()).collect()
}
