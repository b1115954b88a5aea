//! A version as one string of bytes, on its way to another database.
//!
//! | bytes | what |
//! |---|---|
//! | 16 | [`MAGIC`] |
//! | 4 | format, u32 LE: [`FORMAT`] |
//! | 4 | length of the manifest, u32 LE, at most [`MAX_MANIFEST`] |
//! | 32 | SHA-256 of the manifest |
//! | .. | [`Manifest`] as JSON |
//! | .. | the model files, in the manifest's order, without gaps, up to the end |
//!
//! Reading takes memory for the manifest only; the files stay slices of the caller's bytes. The
//! same version gives the same bytes.

use std::collections::HashSet;
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::artifact::{self, Artifact, Storage};
use crate::curve;
use crate::model::Model;
use crate::options::Method;
use crate::protocol::{BlobHeader, BlobKind, Figures, GateReport};
use crate::refusal::{code, Refusal, Result};

/// Begins an exported model. As in PNG, the bytes after the name are the first to suffer from a
/// transfer as text.
pub const MAGIC: &[u8; 16] = b"riskft-model\r\n\x1a\n";
pub const FORMAT: u32 = 1;
/// Longest manifest, bytes. A feature takes about 200; a relation has at most 1,664 columns.
pub const MAX_MANIFEST: usize = 16 << 20;

/// Days since 1970-01-01 that PostgreSQL has a date for: 4714-11-24 BC to 5874897-12-31.
const DATES: RangeInclusive<i32> = -2_440_588..=2_145_042_905;

const HEAD: usize = MAGIC.len() + 4 + 4 + 32;

/// All of a version but the bytes of its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The model's name and the version's number where it was exported.
    pub model: String,
    pub version: i32,
    pub method: Method,
    /// None where the version reads no text.
    pub base: Option<String>,
    pub relation: String,
    pub target: String,
    /// As the training resolved them.
    pub options: Value,
    /// What the training used ([`crate::protocol::Ledger`]), kept as it is.
    pub ledger: Value,
    pub positive_label: String,
    pub negative_label: String,
    /// 0..=1
    pub threshold: f64,
    pub gate: GateReport,
    #[serde(flatten)]
    pub figures: Figures,
    /// One of kind version; at most one each of kinds encoder and training.
    pub files: Vec<BlobHeader>,
}

impl Manifest {
    /// What comes before the files.
    ///
    /// 54000 where the manifest is longer than [`MAX_MANIFEST`].
    pub fn head(&self) -> Result<Vec<u8>> {
        let json = serde_json::to_vec(self)
            .map_err(|e| damaged(format!("Its manifest cannot be written: {e}.")))?;
        if json.len() > MAX_MANIFEST {
            return Err(Refusal::new(code::LIMIT_EXCEEDED, "model has too many columns to export")
                .detail(format!("Its description takes {} bytes.", json.len()))
                .hint("Train on fewer columns."));
        }
        let mut head = Vec::with_capacity(HEAD + json.len());
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&FORMAT.to_le_bytes());
        head.extend_from_slice(&(json.len() as u32).to_le_bytes());
        head.extend_from_slice(&Sha256::digest(&json));
        head.extend_from_slice(&json);
        Ok(head)
    }

    /// What the digests cannot tell: they fit whatever their maker wrote.
    fn check(&self) -> Result<()> {
        let kinds: HashSet<&str> = self.files.iter().map(|file| file.kind.name()).collect();
        let other = kinds.contains(BlobKind::Reducer.name());
        if other || kinds.len() != self.files.len() || !kinds.contains(BlobKind::Version.name()) {
            return Err(damaged(
                "It must hold one file of kind version, and at most one each of kinds encoder and training.",
            ));
        }
        let f = &self.figures;
        let twice = repeats(f.metrics.iter().map(|m| (&m.part, &m.metric.metric)))
            || repeats(f.branches.iter().map(|b| &b.branch))
            || repeats(f.periods.iter().map(|p| (&p.part, p.begins)))
            || repeats(f.trials.iter().map(|t| t.trial))
            || repeats(f.importances.iter().map(|i| &i.column_name))
            || repeats(f.effects.iter().map(|e| (&e.column_name, e.ordinal)))
            || repeats(f.reference.iter().map(|r| (&r.column_name, r.kind)));
        if twice {
            return Err(damaged("Its manifest gives a figure twice."));
        }
        if let Some(period) = f.periods.iter().find(|p| !DATES.contains(&p.begins)) {
            return Err(damaged(format!("Its period \"{}\" begins on no date.", period.period)));
        }
        let trials = f.trials.iter().flat_map(|t| [t.trial, t.rungs]);
        let mut counts = trials.chain(f.effects.iter().map(|e| e.ordinal));
        if let Some(count) = counts.find(|n| i32::try_from(*n).is_err()) {
            return Err(damaged(format!("It counts trials, rungs or values up to {count}.")));
        }
        if let Some(fault) = f.reference.iter().find_map(|r| r.check().err()) {
            return Err(damaged(format!("In its manifest {fault}.")));
        }
        if let Err(fault) = curve::check(&f.curve) {
            return Err(damaged(format!("In its manifest {fault}.")));
        }
        if !(0.0..=1.0).contains(&self.threshold) {
            return Err(damaged(format!("Its threshold is {}.", self.threshold)));
        }
        Ok(())
    }
}

/// An exported model whose every byte fits its digest.
#[derive(Debug)]
pub struct Bundle<'a> {
    pub manifest: Manifest,
    /// Bytes of the manifest's files, in its order.
    pub files: Vec<&'a [u8]>,
}

impl<'a> Bundle<'a> {
    /// Takes the bytes apart and checks all lengths and digests; no file is longer than `most`.
    ///
    /// 22023 for bytes that are no exported model, 0A000 for a later format, 54000 for a file that
    /// is too long, XX001 for damage.
    pub fn open(bytes: &'a [u8], most: u64) -> Result<Self> {
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(foreign)?;
        let (format, rest) = number(rest)?;
        if format > FORMAT {
            return Err(Refusal::new(code::NOT_SUPPORTED, "exported model is of a later riskft")
                .detail(format!("Its format is {format}; this riskft reads {FORMAT}."))
                .hint(
                    "Update riskft here, or export the model from a riskft as old as this one.",
                ));
        }
        let (length, rest) = number(rest)?;
        if format == 0 || length as usize > MAX_MANIFEST {
            return Err(damaged("Its header is damaged."));
        }
        let (digest, rest) = rest.split_at_checked(32).ok_or_else(short)?;
        let (json, rest) = rest.split_at_checked(length as usize).ok_or_else(short)?;
        if Sha256::digest(json).as_slice() != digest {
            return Err(damaged("Its manifest does not fit its digest."));
        }
        let manifest = read_manifest(json)?;
        manifest.check()?;
        let files = split(&manifest.files, rest, most)?;
        Ok(Bundle { manifest, files })
    }

    /// The version of these files: it loads, each file is of the kind that it is said to be, and
    /// the manifest tells of it what it says itself.
    ///
    /// As for [`Model::open`]; XX001 where manifest and files disagree.
    pub fn model(&self) -> Result<Model> {
        let storage = |kind| -> Option<Storage> {
            self.file(kind).map(|(_, bytes)| Arc::new(bytes.to_vec()) as Storage)
        };
        if let Some(training) = storage(BlobKind::Training) {
            if Artifact::open(training)?.kind() != BlobKind::Training {
                return Err(damaged("Its training file is of another kind."));
            }
        }
        let version = storage(BlobKind::Version).ok_or_else(short)?;
        let model = Model::open(version, storage(BlobKind::Encoder)).map_err(|refusal| {
            if refusal.code == code::UNDEFINED_FILE {
                return damaged("It lacks the encoder that its version file needs.");
            }
            refusal
        })?;
        let (specification, manifest) = (model.specification(), &self.manifest);
        let encoder = specification.encoder.as_ref().map(|encoder| encoder.digest.as_str());
        if encoder != self.file(BlobKind::Encoder).map(|(header, _)| header.digest.as_str()) {
            return Err(damaged("Its encoder is not the one that the version was trained with."));
        }
        if specification.positive_label != manifest.positive_label
            || specification.negative_label != manifest.negative_label
            || specification.threshold.to_bits() != manifest.threshold.to_bits()
        {
            return Err(damaged(
                "Its manifest and its version file give other labels or thresholds.",
            ));
        }
        Ok(model)
    }

    fn file(&self, kind: BlobKind) -> Option<(&BlobHeader, &'a [u8])> {
        let index = self.manifest.files.iter().position(|header| header.kind == kind)?;
        Some((&self.manifest.files[index], self.files[index]))
    }
}

/// Whether any key comes twice.
fn repeats<K: Eq + Hash>(mut keys: impl Iterator<Item = K>) -> bool {
    let mut seen = HashSet::new();
    keys.any(|key| !seen.insert(key))
}

/// A little-endian u32, and what follows it.
fn number(bytes: &[u8]) -> Result<(u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
    Ok((u32::from_le_bytes(*head), rest))
}

fn read_manifest(json: &[u8]) -> Result<Manifest> {
    let unreadable = |e: serde_json::Error| damaged(format!("Its manifest cannot be read: {e}."));
    let value: Value = serde_json::from_slice(json).map_err(unreadable)?;
    if holds_zero(&value) {
        return Err(damaged("Its manifest holds a zero byte, which no PostgreSQL text can."));
    }
    serde_json::from_value(value).map_err(unreadable)
}

/// Whether any text in it holds U+0000. The parser bounds the depth.
fn holds_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_zero),
        Value::Object(items) => items.iter().any(|(name, v)| name.contains('\0') || holds_zero(v)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn split<'a>(headers: &[BlobHeader], mut rest: &'a [u8], most: u64) -> Result<Vec<&'a [u8]>> {
    let mut files = Vec::with_capacity(headers.len());
    for header in headers {
        if header.length > most {
            return Err(Refusal::new(code::LIMIT_EXCEEDED, "model file is too large")
                .detail(format!(
                    "The {} file has {} bytes, riskft.max_model_size allows {most}.",
                    header.kind.name(),
                    header.length
                ))
                .hint("Raise riskft.max_model_size."));
        }
        let length = usize::try_from(header.length).map_err(|_| short())?;
        let (file, tail) = rest.split_at_checked(length).ok_or_else(short)?;
        if artifact::digest(file) != header.digest {
            return Err(damaged(format!(
                "Its {} file does not fit its digest.",
                header.kind.name()
            )));
        }
        files.push(file);
        rest = tail;
    }
    if rest.is_empty() {
        return Ok(files);
    }
    Err(damaged(format!("It has {} bytes after its end.", rest.len())))
}

fn foreign() -> Refusal {
    Refusal::new(code::INVALID_PARAMETER, "bytes are no exported model")
        .detail("They do not begin as riskft_export_model writes them.")
        .hint("Pass the bytes unchanged, as bytea: text tools and encodings change them.")
}

fn short() -> Refusal {
    damaged("It ends early.")
}

fn damaged(detail: impl Into<String>) -> Refusal {
    Refusal::new(code::DATA_CORRUPTED, "exported model is damaged")
        .detail(detail)
        .hint("Export it again and pass the bytes unchanged; nothing was stored.")
}
