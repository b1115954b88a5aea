//! The model file: safetensors with a JSON specification.
//!
//! A riskft model file is a safetensors file (<https://github.com/huggingface/safetensors>, format
//! as of 0.6) whose `__metadata__` holds `riskft` = "1", `kind` = encoder | version | training | reducer and
//! `specification` = JSON text. Reading one runs no code, takes memory only for the header (at
//! most [`MAX_HEADER`] bytes) and hands out slices of the caller's bytes: usually a memory map
//! that all backends share.

mod write;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use safetensors::{Dtype, SafeTensorError, SafeTensors};
use sha2::{Digest as _, Sha256};

use crate::protocol::BlobKind;
use crate::refusal::{code, Refusal};

pub use write::{write, Tensor, TensorSet};

/// Bytes of a model file: a vector, or a memory map. `as_ref` must give the same bytes each time.
pub type Storage = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Largest header of a model file, bytes. Names and shapes take about 20 kB; the rest is the
/// specification, whose categories can hold thousands of labels. While it is read, it takes up to
/// twenty times as much memory.
pub const MAX_HEADER: usize = 4 << 20;
/// Value of `riskft` in a file's metadata.
pub const FORMAT: &str = "1";

/// Why bytes are no model file, or lack what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactError {
    #[error("it is {0}, which riskft never reads")]
    Foreign(&'static str),
    #[error("its header of {0} bytes is longer than {MAX_HEADER}")]
    HeaderTooLong(u64),
    #[error("it is no safetensors file: {0}")]
    Malformed(String),
    #[error("its metadata lacks \"{0}\" or gives an unknown value")]
    Metadata(&'static str),
    #[error("it has no tensor \"{0}\"")]
    Missing(String),
    #[error("tensor \"{name}\" is {found}, not {wanted}")]
    Type { name: String, found: String, wanted: &'static str },
    #[error("tensor \"{name}\" has the shape {found:?}, not {wanted:?}")]
    Shape { name: String, found: Vec<usize>, wanted: Vec<usize> },
    #[error("tensor \"{0}\" is not aligned to its elements")]
    Misaligned(String),
    #[error("tensor \"{0}\" holds a value that is not finite")]
    NotFinite(String),
}

impl From<ArtifactError> for Refusal {
    fn from(error: ArtifactError) -> Self {
        Refusal::new(code::DATA_CORRUPTED, "model file is damaged")
            .detail(format!("The model file cannot be used: {error}."))
            .hint("Restore it from a backup, or train the model again.")
    }
}

/// Why bytes are no safetensors file, in the same words each time: which of several faulty tensors
/// the parser meets first is up to its hash map.
pub(crate) fn malformed(error: &SafeTensorError) -> String {
    match error {
        SafeTensorError::InvalidOffset(_)
        | SafeTensorError::TensorInvalidInfo
        | SafeTensorError::ValidationOverflow
        | SafeTensorError::MisalignedSlice => {
            "the offsets, shapes and types of its tensors do not fit together".to_owned()
        }
        other => other.to_string(),
    }
}

/// An element type of a model file's tensors.
pub trait Element: bytemuck::Pod {
    const DTYPE: Dtype;
    const NAME: &'static str;
}
macro_rules! element {
    ($($type:ty, $dtype:ident;)*) => {$(
        impl Element for $type {
            const DTYPE: Dtype = Dtype::$dtype;
            const NAME: &'static str = stringify!($dtype);
        }
    )*};
}
element! { f32, F32; f64, F64; i32, I32; i8, I8; u8, U8; u32, U32; u64, U64; }

/// Where a tensor lies in a file: checked once, turned into a slice at each use.
#[derive(Debug)]
pub struct View<T> {
    start: usize,
    end: usize,
    element: PhantomData<fn() -> T>,
}
impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for View<T> {}

impl<T: Element> View<T> {
    /// The elements, out of the bytes of the file that the view was made for; of other bytes,
    /// whatever lies there, or nothing.
    #[inline]
    pub fn of(self, file: &[u8]) -> &[T] {
        file.get(self.start..self.end)
            .and_then(|bytes| bytemuck::try_cast_slice(bytes).ok())
            .unwrap_or(&[])
    }
}

struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Bytes of the file.
    range: Range<usize>,
}

/// An opened model file.
pub struct Artifact {
    storage: Storage,
    kind: BlobKind,
    specification: String,
    tensors: BTreeMap<String, Entry>,
}

impl Artifact {
    /// Reads and checks the header; the tensors' bytes are not touched.
    pub fn open(storage: Storage) -> Result<Self, ArtifactError> {
        let bytes: &[u8] = (*storage).as_ref();
        refuse_foreign(bytes)?;
        let length = bytes.first_chunk::<8>().map(|head| u64::from_le_bytes(*head));
        if let Some(length) = length.filter(|length| *length > MAX_HEADER as u64) {
            return Err(ArtifactError::HeaderTooLong(length));
        }
        let (header, metadata) = SafeTensors::read_metadata(bytes)
            .map_err(|error| ArtifactError::Malformed(malformed(&error)))?;
        let start = 8 + header;
        let tensors = metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| {
                let range = start + info.data_offsets.0..start + info.data_offsets.1;
                (name, Entry { dtype: info.dtype, shape: info.shape.clone(), range })
            })
            .collect();
        let known = metadata.metadata().as_ref().ok_or(ArtifactError::Metadata("riskft"))?;
        if known.get("riskft").map(String::as_str) != Some(FORMAT) {
            return Err(ArtifactError::Metadata("riskft"));
        }
        let kind = BlobKind::ALL
            .into_iter()
            .find(|kind| known.get("kind").map(String::as_str) == Some(kind.name()))
            .ok_or(ArtifactError::Metadata("kind"))?;
        let specification =
            known.get("specification").cloned().ok_or(ArtifactError::Metadata("specification"))?;
        Ok(Artifact { storage, kind, specification, tensors })
    }

    pub fn kind(&self) -> BlobKind {
        self.kind
    }
    /// JSON, not yet parsed.
    pub fn specification(&self) -> &str {
        &self.specification
    }
    /// The file's bytes, shared.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    /// The place of a tensor whose type and shape must be as given.
    pub fn view<T: Element>(&self, name: &str, shape: &[usize]) -> Result<View<T>, ArtifactError> {
        let entry = self.entry::<T>(name)?;
        if entry.shape != shape {
            return Err(ArtifactError::Shape {
                name: name.to_owned(),
                found: entry.shape.clone(),
                wanted: shape.to_vec(),
            });
        }
        self.place(name, entry)
    }

    /// The place of a tensor of any shape.
    pub fn view_any<T: Element>(&self, name: &str) -> Result<View<T>, ArtifactError> {
        let entry = self.entry::<T>(name)?;
        self.place(name, entry)
    }

    /// As [`Artifact::view`]; a NaN or an infinity among the values is an error.
    pub fn finite(&self, name: &str, shape: &[usize]) -> Result<View<f32>, ArtifactError> {
        let view = self.view::<f32>(name, shape)?;
        if view.of((*self.storage).as_ref()).iter().all(|v| v.is_finite()) {
            return Ok(view);
        }
        Err(ArtifactError::NotFinite(name.to_owned()))
    }

    /// The elements of a tensor, row-major, without copying.
    pub fn slice<T: Element>(&self, name: &str) -> Result<&[T], ArtifactError> {
        Ok(self.view_any::<T>(name)?.of((*self.storage).as_ref()))
    }

    /// All tensors as they lie in the file, for another one.
    pub fn tensors(&self) -> TensorSet {
        let file: &[u8] = (*self.storage).as_ref();
        let copy = |entry: &Entry| {
            let bytes = file.get(entry.range.clone()).unwrap_or_default();
            Tensor::raw(entry.dtype, &entry.shape, bytes)
        };
        self.tensors.iter().map(|(name, entry)| (name.clone(), copy(entry))).collect()
    }

    fn entry<T: Element>(&self, name: &str) -> Result<&Entry, ArtifactError> {
        let entry =
            self.tensors.get(name).ok_or_else(|| ArtifactError::Missing(name.to_owned()))?;
        if entry.dtype == T::DTYPE {
            return Ok(entry);
        }
        Err(ArtifactError::Type {
            name: name.to_owned(),
            found: format!("{:?}", entry.dtype),
            wanted: T::NAME,
        })
    }

    fn place<T: Element>(&self, name: &str, entry: &Entry) -> Result<View<T>, ArtifactError> {
        let bytes = (*self.storage).as_ref().get(entry.range.clone());
        let slice = bytes.and_then(|bytes| bytemuck::try_cast_slice::<u8, T>(bytes).ok());
        match slice {
            Some(_) => {
                Ok(View { start: entry.range.start, end: entry.range.end, element: PhantomData })
            }
            None => Err(ArtifactError::Misaligned(name.to_owned())),
        }
    }
}

/// Formats that run code when their usual reader opens them, or that are easily mistaken for a
/// model file: told apart by their first bytes, for a clear message.
fn refuse_foreign(bytes: &[u8]) -> Result<(), ArtifactError> {
    let foreign = match bytes {
        [b'P', b'K', 3 | 5 | 7, ..] => "a zip archive, as of torch.save",
        [0x80, 2..=5, ..] => "a Python pickle",
        [0x7f, b'E', b'L', b'F', ..] => "an executable",
        [b'G', b'G', b'U', b'F', ..] => "a GGUF file",
        [0x1f, 0x8b, ..] => "a gzip file",
        [0x89, b'H', b'D', b'F', ..] => "an HDF5 file",
        _ if bytes.starts_with(b"version https://git-lfs") => "a Git LFS pointer",
        _ => return Ok(()),
    };
    Err(ArtifactError::Foreign(foreign))
}

/// A running SHA-256.
#[derive(Default)]
pub struct Digest(Sha256);

impl Digest {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    /// 64 lower-case hex digits.
    pub fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// SHA-256 of some bytes, 64 lower-case hex digits.
pub fn digest(bytes: &[u8]) -> String {
    let mut digest = Digest::default();
    digest.update(bytes);
    digest.finish()
}
