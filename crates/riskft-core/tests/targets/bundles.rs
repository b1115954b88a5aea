//! Exported models. Their digests are mended, or hardly any change would get beyond them; whoever
//! makes one by hand mends them too.

use std::borrow::Borrow;

use riskft_core::artifact;
use riskft_core::bundle::{Bundle, Manifest, MAGIC};
use riskft_core::metrics::Metric;
use riskft_core::options::{Method, Role};
use riskft_core::protocol::{
    BlobHeader, BlobKind, BranchReport, EffectReport, FeatureReport, Figures, GateReport,
    ImportanceReport, PartMetric, PeriodReport, TrialReport,
};
use riskft_core::refusal::code;
use serde_json::{json, Value};

use super::dwarf::dwarf;
use super::models::tried;

/// Longest file of a bundle, bytes.
const MOST: u64 = 1 << 20;
/// What comes before the digest of the manifest: name, format, length.
const HEAD: usize = MAGIC.len() + 4 + 4;

/// Bytes as an exported model, as they are and with digests that fit.
pub fn run(input: &[u8]) {
    imported(input);
    if let Some(mended) = mended(input) {
        imported(&mended);
    }
}

fn imported(input: &[u8]) {
    if let Ok(bundle) = Bundle::open(input, MOST) {
        // What was read is written, and read again as the same.
        let again = [bundle.manifest.head().unwrap(), bundle.files.concat()].concat();
        let read = Bundle::open(&again, MOST).unwrap();
        assert_eq!(read.manifest, bundle.manifest);
        assert_eq!(read.files, bundle.files);
    }
    let codes = &[code::INVALID_PARAMETER, code::LIMIT_EXCEEDED];
    tried(|| Bundle::open(input, MOST).and_then(|bundle| bundle.model()), codes);
}

/// A bundle taken apart, whether or not its digests fit.
pub struct Parts<'a> {
    pub head: &'a [u8],
    pub json: &'a [u8],
    /// As many as the manifest names and the bytes have.
    pub files: Vec<&'a [u8]>,
    pub after: &'a [u8],
}

pub fn parts(input: &[u8]) -> Option<Parts<'_>> {
    let (head, rest) = input.split_at_checked(HEAD)?;
    let length = u32::from_le_bytes(*head.last_chunk()?);
    let (json, mut after) = rest.get(32..)?.split_at_checked(length as usize)?;
    let mut files = Vec::new();
    let manifest = serde_json::from_slice::<Value>(json).unwrap_or_default();
    for header in manifest["files"].as_array().into_iter().flatten() {
        let length = header["length"].as_u64().and_then(|length| usize::try_from(length).ok());
        let Some((file, rest)) = length.and_then(|length| after.split_at_checked(length)) else {
            break;
        };
        files.push(file);
        after = rest;
    }
    Some(Parts { head, json, files, after })
}

/// The parts as one, with the manifest's length and digest as they should be.
pub fn whole(head: &[u8], json: &[u8], files: &[impl Borrow<[u8]>], after: &[u8]) -> Vec<u8> {
    let length = (json.len() as u32).to_le_bytes();
    let digits = artifact::digest(json);
    let digest: Vec<u8> =
        (0..32).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap()).collect();
    [&head[..HEAD - 4], &length, &digest, json, &files.concat(), after].concat()
}

/// The bundle with digests that fit: the manifest's, its files', and the encoder's within the
/// version. None where they fit already.
fn mended(input: &[u8]) -> Option<Vec<u8>> {
    let Parts { head, json, files, after } = parts(input)?;
    let manifest = serde_json::from_slice::<Value>(json).unwrap_or_default();
    let mut json = json.to_vec();
    let mut files: Vec<Vec<u8>> = files.into_iter().map(<[u8]>::to_vec).collect();
    let mut order: Vec<usize> = (0..files.len()).collect();
    // The version is the last one: it names the encoder's digest.
    order.sort_by_key(|at| manifest["files"][*at]["kind"] == "version");
    for at in order {
        let Some(old) = manifest["files"][at]["digest"].as_str() else { continue };
        let new = artifact::digest(&files[at]);
        if old.len() == new.len() && old != new {
            for bytes in files.iter_mut().chain([&mut json]) {
                replace(bytes, old.as_bytes(), new.as_bytes());
            }
        }
    }
    let mended = whole(head, &json, &files, after);
    (mended != input).then_some(mended)
}

/// All of `old` by `new`, which is as long.
fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    let mut at = 0;
    while let Some(window) = bytes.get_mut(at..at + old.len()) {
        if window == old {
            window.copy_from_slice(new);
        }
        at += 1;
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let dwarf = dwarf();
    let training = artifact::write(BlobKind::Training, "{}", &Default::default());
    let with_text = [
        (BlobKind::Version, &dwarf.version),
        (BlobKind::Encoder, &dwarf.base),
        (BlobKind::Training, &training),
    ];
    vec![export(&with_text), export(&[(BlobKind::Version, &dwarf.tabular)])]
}

fn export(files: &[(BlobKind, &Vec<u8>)]) -> Vec<u8> {
    let header = |(kind, file): &(BlobKind, &Vec<u8>)| BlobHeader {
        kind: *kind,
        digest: artifact::digest(file),
        length: file.len() as u64,
    };
    let figure = |name: &str, value| PartMetric {
        part: "test".into(),
        metric: Metric { metric: name.into(), value, ci_low: None, ci_high: value },
    };
    let manifest = Manifest {
        model: "m".into(),
        version: 3,
        method: Method::Lora,
        base: Some("dwarf".into()),
        relation: "SELECT 'é' FROM loans".into(),
        target: "defaulted".into(),
        options: json!({"seed": 7, "share": 0.1}),
        ledger: json!({"rows": 12, "phases": [["load", 0.25]]}),
        positive_label: "true".into(),
        negative_label: "false".into(),
        threshold: 0.3,
        gate: GateReport { rows: 9, change_max: 0.1, ..GateReport::default() },
        figures: Figures {
            metrics: vec![figure("auc", Some(0.7)), figure("ks", None)],
            features: vec![FeatureReport {
                column_name: "n".into(),
                role: Role::Number,
                why: "numbers".into(),
                missing_share: 0.25,
                distinct_values: 40,
                alone_auc: Some(0.61),
            }],
            branches: vec![BranchReport {
                branch: "trees".into(),
                weight: 0.5,
                ..Default::default()
            }],
            periods: vec![PeriodReport {
                part: "test".into(),
                begins: 13_149,
                period: "2006-Q1".into(),
                rows: 7,
                ..Default::default()
            }],
            trials: vec![TrialReport {
                trial: 1,
                rungs: 2,
                options: json!({"rank": 8}),
                state: "best".into(),
                ..Default::default()
            }],
            importances: vec![ImportanceReport {
                column_name: "n".into(),
                mean_abs_shap: 0.25,
                share: 1.0,
            }],
            effects: vec![EffectReport {
                column_name: "n".into(),
                ordinal: 1,
                value: Some("2.5".into()),
                mean_score: 0.25,
                rows: 7,
            }],
            reference: vec![riskft_core::drift::score(&[0.25, 0.5])],
            curve: riskft_core::curve::bins(&[0.25; 12], &[true; 12]),
        },
        files: files.iter().map(header).collect(),
    };
    let mut bytes = manifest.head().unwrap();
    files.iter().for_each(|(_, file)| bytes.extend_from_slice(file));
    bytes
}
