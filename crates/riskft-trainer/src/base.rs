//! A base model's folder: `config.json`, `model.safetensors`, `tokenizer.json`. Core reads what is
//! in them; nothing in them can run code.

use std::fs;
use std::path::Path;

use riskft_core::network::base::{read_shape, read_tensors};
use riskft_core::network::{EncoderShape, TensorMap};
use riskft_core::refusal::{code, Refusal, Result};
use riskft_core::tokenize::compile_tokenizer_json;

use crate::words::Words;

/// Largest file read from the folder, bytes.
const MAX_FILE: u64 = 4 << 30;

/// A base model as read.
pub struct Base {
    pub name: String,
    pub shape: EncoderShape,
    /// f32, by canonical name.
    pub tensors: TensorMap,
    pub words: Words,
}

impl Base {
    /// Reads the folder.
    ///
    /// # Errors
    /// 58P01 for a missing file, 0A000 for a model that core does not read.
    pub fn read(name: &str, folder: &Path) -> Result<Self> {
        let shape = read_shape(&read_file(name, folder, "config.json")?)?;
        let tokenizer = read_file(name, folder, "tokenizer.json")?;
        let words = Words::new(compile_tokenizer_json(&tokenizer)?, &tokenizer)?;
        let tensors = read_tensors(&shape, &read_file(name, folder, "model.safetensors")?)?;
        Ok(Base { name: name.to_owned(), shape, tensors, words })
    }

    /// Number of values in all tensors.
    pub fn parameters(&self) -> usize {
        self.tensors.values().map(|t| t.data.len()).sum()
    }
}

fn read_file(name: &str, folder: &Path, file: &str) -> Result<Vec<u8>> {
    let missing = |why: String| {
        Refusal::new(code::UNDEFINED_FILE, "a file of the base model cannot be read")
            .detail(format!("The base model \"{name}\" has no readable {file}: {why}."))
            .hint("Install the base model, or train with method => 'none'.")
    };
    if folder.as_os_str().is_empty() {
        return Err(missing("no folder is set for it".to_owned()));
    }
    let path = folder.join(file);
    let length = fs::metadata(&path).map_err(|e| missing(e.to_string()))?.len();
    if length > MAX_FILE {
        return Err(missing(format!("it has {length} bytes, more than the {MAX_FILE} allowed")));
    }
    fs::read(&path).map_err(|e| missing(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_folder_names_the_file() {
        for folder in ["/nowhere", ""] {
            let refusal = Base::read("minilm-l6", Path::new(folder)).map(|_| ()).unwrap_err();
            assert_eq!(refusal.code, code::UNDEFINED_FILE);
            assert!(refusal.detail.contains("config.json"));
        }
    }
}
