//! The int8 text encoder.
