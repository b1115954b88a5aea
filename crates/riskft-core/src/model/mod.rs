//! A loaded version: cells -> probability.

mod branch;
mod cache;
mod check;
mod head;
mod landmarks;
mod scorer;
mod text;

use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, ArtifactError, Storage, View};
use crate::calibrate::Platt;
use crate::encode::{Encoding, Tables};
use crate::encoder::Encoder;
use crate::explain::Background;
use crate::grams;
use crate::network::EncoderShape;
use crate::protocol::BlobKind;
use crate::refusal::{code, Refusal, Result};
use crate::tokenize::{Layout, Vocabulary};
use crate::trees::Stored;

pub use branch::{Branch, BranchKind};
use head::Head;
pub use landmarks::{nearness, MOST as MOST_LANDMARKS, SHARPNESS};
pub use scorer::Scorer;

/// Prefix of the trees' tensors.
pub(crate) const TREES: &str = "trees";
/// Prefix of the n-grams' tensors.
pub(crate) const GRAMS: &str = "grams";

/// Form of a version's file. 1 had a network alone, with text terms within its members; 2 had no
/// landmarks, and is read as a version without them.
pub const FORMAT: u32 = 3;
/// The oldest form that is read.
const OLDEST: u32 = 2;

/// The specification in a version's artifact: all of the version but its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Specification {
    /// [`FORMAT`], or an older one that can be read
    pub format: u32,
    /// Names the arithmetic that scoring uses, so that a later one leaves old versions' bits alone. 1
    pub numerics: u32,
    pub encoding: Encoding,
    /// The parts whose weighted logits add up, in ascending order of their kinds.
    pub branches: Vec<Branch>,
    /// Members of the network, 0 without that branch.
    pub members: usize,
    pub hidden: usize,
    pub encoder: Option<EncoderReference>,
    /// How the branch `grams` reads texts.
    #[serde(default)]
    pub grams: Option<GramsInput>,
    /// For each text how many landmarks its term has; none where the list ends.
    #[serde(default)]
    pub landmarks: Vec<usize>,
    pub calibration: Platt,
    pub threshold: f64,
    pub positive_label: String,
    pub negative_label: String,
    /// Usual rows that scores are explained against.
    #[serde(default)]
    pub background: Background,
}

impl Specification {
    /// The version's logit, from those of its branches in their order.
    pub fn blend(&self, logits: impl Iterator<Item = f64>) -> f64 {
        self.branches.iter().zip(logits).map(|(branch, logit)| branch.weight * logit).sum()
    }

    /// The branch of a kind, if the version has it.
    pub fn branch(&self, kind: BranchKind) -> Option<&Branch> {
        self.branches.iter().find(|branch| branch.kind == kind)
    }
}

/// The texts whose n-grams are counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GramsInput {
    pub view: grams::View,
    /// Indexes into [`Encoding::texts`], by which the n-grams of columns are told apart.
    pub texts: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncoderReference {
    pub base: String,
    /// SHA-256 (hex) of the base encoder's artifact; the version's own tensors lie over it.
    pub digest: String,
    pub shape: EncoderShape,
}

/// A version whose every tensor and index was checked once.
pub struct Model {
    specification: Specification,
    version: Storage,
    head: Head,
    trees: Option<Stored>,
    tables: Tables,
    grams: Option<grams::Stored>,
    text: Option<TextPart>,
    bytes: usize,
}

struct TextPart {
    encoder: Encoder,
    base: Storage,
    vocabulary: View<u8>,
    layout: Layout,
}

impl Model {
    /// Opens a version over its base encoder, which a version without text does not need.
    ///
    /// A damaged or lying file is XX001, one of a later riskft 0A000. Digests are the caller's
    /// affair: they are checked when a file is stored, not at each opening.
    pub fn open(version: Storage, base: Option<Storage>) -> Result<Self> {
        let file = Artifact::open(version.clone())?;
        if file.kind() != BlobKind::Version {
            return Err(ArtifactError::Metadata("kind").into());
        }
        let mut specification = read_specification(file.specification())?;
        check::specification(&specification).map_err(damaged)?;
        let mut bytes = (*version).as_ref().len() + file.specification().len();
        if let Some(components) = &mut specification.encoding.components {
            components.open(&file)?;
            bytes += components.bytes();
        }
        let head = Head::find(&file, &specification)?;
        let features = specification.encoding.features();
        let trees = match specification.branch(BranchKind::Trees) {
            Some(_) => Some(Stored::open(&file, TREES, features)?),
            None => None,
        };
        let tables = Tables::open(&file, &specification.encoding.statistics)?;
        let grams = match &specification.grams {
            Some(input) => Some(grams::Stored::open(&file, GRAMS, input.view)?),
            None => None,
        };
        let text = match &specification.encoder {
            Some(reference) => Some(TextPart::open(&file, base, reference)?),
            None => None,
        };
        if text.as_ref().is_some_and(|t| t.layout.tokens() > t.encoder.shape().vocabulary) {
            return Err(damaged("its vocabulary is larger than its word embeddings".into()));
        }
        Ok(Model { specification, version, head, trees, tables, grams, text, bytes })
    }

    pub fn specification(&self) -> &Specification {
        &self.specification
    }

    /// Bytes of the version's file and of its specification in memory. The base encoder is shared
    /// and not counted; a [`Scorer`] has its own [`Scorer::bytes`].
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The encoder, if the version reads text.
    pub fn encoder(&self) -> Option<&Encoder> {
        self.text.as_ref().map(|text| &text.encoder)
    }

    /// The n-grams and the texts that they are of, if the version counts any.
    pub fn grams(&self) -> Option<(grams::Grams<'_>, &GramsInput)> {
        let input = self.specification.grams.as_ref()?;
        Some((self.grams?.of((*self.version).as_ref()), input))
    }

    /// Texts whose vectors count, ascending; none without an encoder.
    pub fn terms(&self) -> Vec<usize> {
        (0..self.specification.encoding.texts.len()).filter(|f| self.head.has_term(*f)).collect()
    }

    /// The vocabulary, if the version reads text.
    pub fn vocabulary(&self) -> Option<Vocabulary<'_>> {
        self.text.as_ref().map(TextPart::vocabulary)
    }
}

impl TextPart {
    fn open(
        version: &Artifact,
        base: Option<Storage>,
        reference: &EncoderReference,
    ) -> Result<Self> {
        let Some(base) = base else {
            return Err(Refusal::new(code::UNDEFINED_FILE, "base encoder of the model is missing")
                .detail(format!(
                    "The model needs \"{}\", digest {}.",
                    reference.base, reference.digest
                ))
                .hint("Restore riskft.blob and riskft.blob_chunk from a backup, or train again."));
        };
        let file = Artifact::open(base.clone())?;
        let encoder = Encoder::open(&file, Some(version), &reference.shape)?;
        let vocabulary = file.view_any::<u8>("vocabulary")?;
        let layout = Layout::check(vocabulary.of((*base).as_ref()))
            .ok_or_else(|| damaged("its vocabulary does not fit its header".into()))?;
        Ok(TextPart { encoder, base, vocabulary, layout })
    }

    fn vocabulary(&self) -> Vocabulary<'_> {
        self.layout.vocabulary(self.vocabulary.of((*self.base).as_ref()))
    }
}

/// The parts of a specification that tell whether the rest can be read.
#[derive(Deserialize)]
struct Formats {
    format: u32,
    numerics: u32,
}

fn read_specification(json: &str) -> Result<Specification> {
    let broken =
        |error: serde_json::Error| damaged(format!("its specification is broken: {error}"));
    let formats: Formats = serde_json::from_str(json).map_err(broken)?;
    if !(OLDEST..=FORMAT).contains(&formats.format) || formats.numerics != 1 {
        return Err(Refusal::new(code::NOT_SUPPORTED, "model is of another version of riskft")
            .detail(format!(
                "Its format is {} and its numerics {}; this version reads {OLDEST} to {FORMAT} and 1.",
                formats.format, formats.numerics
            ))
            .hint("Update the extension, or train the model again."));
    }
    serde_json::from_str(json).map_err(broken)
}

/// What every lie in a model file comes to.
pub(crate) fn damaged(what: String) -> Refusal {
    Refusal::new(code::DATA_CORRUPTED, "model file is damaged")
        .detail(format!("The model file cannot be used: {what}."))
        .hint("Restore it from a backup, or train the model again.")
}
