//! Where an encoder's tensors lie: in the version if it has them, else in the base.

use crate::artifact::{Artifact, ArtifactError, Element, View};
use crate::gemm::{packed_shape, Weights, MAX_INPUTS};
use crate::math::Block;
use crate::network::EncoderShape;

/// The bytes of both files.
#[derive(Clone, Copy)]
pub(crate) struct Files<'a> {
    pub base: &'a [u8],
    /// The base's again, if there is no version.
    pub version: &'a [u8],
}

/// A tensor in one of the two files.
pub(crate) struct Place<T> {
    in_version: bool,
    view: View<T>,
}
impl<T> Clone for Place<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Place<T> {}

impl<T: Element> Place<T> {
    #[inline]
    pub(crate) fn of<'a>(&self, files: Files<'a>) -> &'a [T] {
        self.view.of(if self.in_version { files.version } else { files.base })
    }
}
impl Place<f32> {
    #[inline]
    pub(crate) fn blocks<'a>(&self, files: Files<'a>) -> &'a [Block] {
        self.of(files).as_chunks().0
    }
}

/// Looks tensors up.
#[derive(Clone, Copy)]
pub(crate) struct Finder<'a> {
    pub base: &'a Artifact,
    pub version: Option<&'a Artifact>,
}

impl Finder<'_> {
    fn file(&self, name: &str) -> (bool, &Artifact) {
        match self.version {
            Some(version) if version.contains(name) => (true, version),
            _ => (false, self.base),
        }
    }
    pub(crate) fn floats(&self, name: &str, shape: &[usize]) -> Result<Place<f32>, ArtifactError> {
        let (in_version, file) = self.file(name);
        Ok(Place { in_version, view: file.finite(name, shape)? })
    }
    fn linear(&self, name: &str, outputs: usize, inputs: usize) -> Result<Linear, ArtifactError> {
        let weight = format!("{name}.weight");
        let (in_version, file) = self.file(&weight);
        let padded = [outputs.div_ceil(16) * 16];
        let shape = packed_shape(outputs, inputs);
        if inputs > MAX_INPUTS {
            return Err(ArtifactError::Metadata("specification"));
        }
        // Weight, scale and compensation belong together; the bias may be another file's.
        Ok(Linear {
            outputs,
            inputs,
            weight: Place { in_version, view: file.view(&weight, &shape)? },
            scale: Place { in_version, view: file.finite(&format!("{name}.scale"), &padded)? },
            compensation: Place {
                in_version,
                view: file.view(&format!("{name}.compensation"), &padded)?,
            },
            bias: self.floats(&format!("{name}.bias"), &padded)?,
        })
    }
    fn norm(&self, name: &str, width: usize) -> Result<Norm, ArtifactError> {
        let shape = [width.div_ceil(16) * 16];
        Ok(Norm {
            gain: self.floats(&format!("{name}.weight"), &shape)?,
            shift: self.floats(&format!("{name}.bias"), &shape)?,
        })
    }
}

/// An int8 layer.
pub(crate) struct Linear {
    pub outputs: usize,
    pub inputs: usize,
    weight: Place<i8>,
    scale: Place<f32>,
    compensation: Place<i32>,
    bias: Place<f32>,
}

/// An int8 layer's values.
#[derive(Clone, Copy)]
pub(crate) struct LinearValues<'a> {
    pub weights: Weights<'a>,
    pub scale: &'a [Block],
    pub bias: &'a [Block],
}

impl Linear {
    pub(crate) fn find(
        file: &Artifact,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, ArtifactError> {
        Finder { base: file, version: None }.linear(name, outputs, inputs)
    }

    /// None only for other bytes than those that the layer was found in.
    #[inline]
    pub(crate) fn of<'a>(&self, files: Files<'a>) -> Option<LinearValues<'a>> {
        let (weight, compensation) = (self.weight.of(files), self.compensation.of(files));
        let weights = Weights::new(weight, compensation, self.outputs, self.inputs)?;
        Some(LinearValues {
            weights,
            scale: self.scale.blocks(files),
            bias: self.bias.blocks(files),
        })
    }
}

pub(crate) struct Norm {
    pub gain: Place<f32>,
    pub shift: Place<f32>,
}

/// A bottleneck adapter (Houlsby et al. 2019): `x + up(relu(down(x)))`.
pub(crate) struct Adapter {
    pub down: Linear,
    pub up: Linear,
}

pub(crate) struct Layer {
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub attention_output: Linear,
    pub attention_adapter: Option<Adapter>,
    pub attention_norm: Norm,
    pub intermediate: Linear,
    pub output: Linear,
    pub output_adapter: Option<Adapter>,
    pub output_norm: Norm,
}

pub(crate) struct Plan {
    pub word: Place<i8>,
    pub word_scale: Place<f32>,
    pub position: Place<f32>,
    pub token_type: Place<f32>,
    pub norm: Norm,
    pub layers: Vec<Layer>,
}

impl Plan {
    pub(crate) fn find(
        base: &Artifact,
        version: Option<&Artifact>,
        shape: &EncoderShape,
    ) -> Result<Self, ArtifactError> {
        let find = Finder { base, version };
        let padded = shape.width.div_ceil(16) * 16;
        let (in_version, words) = find.file("embeddings.word");
        let scale = words.finite("embeddings.word.scale", &[shape.vocabulary])?;
        let word = words.view("embeddings.word", &[shape.vocabulary, padded])?;
        Ok(Plan {
            word: Place { in_version, view: word },
            word_scale: Place { in_version, view: scale },
            position: find.floats("embeddings.position", &[shape.positions, padded])?,
            token_type: find.floats("embeddings.token_type", &[shape.token_types, padded])?,
            norm: find.norm("embeddings.norm", shape.width)?,
            layers: (0..shape.layers)
                .map(|l| find.layer(l, shape))
                .collect::<Result<_, ArtifactError>>()?,
        })
    }
}

impl Finder<'_> {
    fn layer(&self, l: usize, shape: &EncoderShape) -> Result<Layer, ArtifactError> {
        let (width, inner) = (shape.width, shape.intermediate);
        let linear = |name: &str, outputs, inputs| {
            self.linear(&format!("layer.{l}.{name}"), outputs, inputs)
        };
        let adapter = |name: &str| -> Result<Option<Adapter>, ArtifactError> {
            if shape.adapter == 0 {
                return Ok(None);
            }
            let down = linear(&format!("{name}.down"), shape.adapter, width)?;
            Ok(Some(Adapter { down, up: linear(&format!("{name}.up"), width, shape.adapter)? }))
        };
        Ok(Layer {
            query: linear("query", width, width)?,
            key: linear("key", width, width)?,
            value: linear("value", width, width)?,
            attention_output: linear("attention_output", width, width)?,
            attention_adapter: adapter("attention_adapter")?,
            attention_norm: self.norm(&format!("layer.{l}.attention_norm"), width)?,
            intermediate: linear("intermediate", inner, width)?,
            output: linear("output", width, inner)?,
            output_adapter: adapter("output_adapter")?,
            output_norm: self.norm(&format!("layer.{l}.output_norm"), width)?,
        })
    }
}
