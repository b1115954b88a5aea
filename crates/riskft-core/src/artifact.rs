//! The model file: safetensors with a JSON specification.
