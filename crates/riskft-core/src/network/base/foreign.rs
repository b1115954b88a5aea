//! Files that are something else than their name says, told by their first bytes.

use super::{unsupported, MAX_HEADER};
use crate::refusal::Refusal;

const CONVERT: &str = "Convert the model with Python: \
    AutoModel.from_pretrained('folder').save_pretrained('new', safe_serialization=True).";
const FETCH: &str = "Fetch the files themselves with git lfs pull.";
const SAVE: &str = "Copy the file again from where the model comes from.";

/// First bytes, what they are the sign of, and the way out.
const SIGNS: &[(&[u8], &str, &str)] = &[
    (b"version https://git-lfs", "a Git LFS pointer, not the file it stands for", FETCH),
    (b"PK\x03\x04", "a zip archive, as PyTorch packs pickled weights", CONVERT),
    (b"\x80\x02", "a pickle, which could run code", CONVERT),
    (b"\x80\x03", "a pickle, which could run code", CONVERT),
    (b"\x80\x04", "a pickle, which could run code", CONVERT),
    (b"\x80\x05", "a pickle, which could run code", CONVERT),
    (b"\x89HDF", "an HDF5 file", CONVERT),
    (b"GGUF", "a GGUF file", CONVERT),
    (b"\x7fELF", "an ELF program", SAVE),
    (b"\x1f\x8b", "a gzip archive", SAVE),
];

/// The refusal of a file whose first bytes are those of another format; None for any other file.
/// Needs no more than the first 64 bytes. `name` is the file's.
pub fn foreign(start: &[u8], name: &str) -> Option<Refusal> {
    if is_safetensors(start) {
        return None;
    }
    let (_, what, hint) = SIGNS.iter().find(|(sign, ..)| start.starts_with(sign))?;
    Some(unsupported(format!("Its {name} is {what}.")).hint(*hint))
}

/// The length of a safetensors header may begin with the bytes of a pickle.
fn is_safetensors(start: &[u8]) -> bool {
    let Some((length, rest)) = start.split_first_chunk::<8>() else { return false };
    u64::from_le_bytes(*length) <= MAX_HEADER && rest.first() == Some(&b'{')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_told_apart() {
        for (start, word) in [
            (&b"PK\x03\x04archive/data.pkl"[..], "zip"),
            (b"\x80\x02}q\x00(X\x01\x00", "pickle"),
            (b"\x80\x05\x95", "pickle"),
            (b"\x7fELF\x02\x01\x01", "ELF"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "LFS"),
            (b"GGUF\x03", "GGUF"),
        ] {
            let refusal = foreign(start, "model.safetensors").unwrap();
            assert!(refusal.detail.contains(word), "{}", refusal.detail);
            assert_eq!(refusal.code, "0A000");
        }
    }

    #[test]
    fn a_header_of_640_bytes_is_no_pickle() {
        assert!(foreign(b"\x80\x02\0\0\0\0\0\0{\"a\":", "model.safetensors").is_none());
        assert!(foreign(b"", "config.json").is_none());
        assert!(foreign(b"{}", "config.json").is_none());
    }
}
