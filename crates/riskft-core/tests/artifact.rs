//! Model files: what is written is read; what is damaged is refused, never a panic.

mod engine;

use std::sync::Arc;

use engine::Random;
use riskft_core::artifact::{
    digest, write, Artifact, ArtifactError, Tensor, TensorSet, MAX_HEADER,
};
use riskft_core::protocol::BlobKind;
use riskft_core::refusal::{code, Refusal};

fn tensors() -> TensorSet {
    let mut set = TensorSet::new();
    set.insert("weights".into(), Tensor::new(&[2, 64], &[3i8; 128]));
    set.insert("floats".into(), Tensor::new(&[3], &[1.0f32, -2.5, 1e-9]));
    set.insert("sums".into(), Tensor::new(&[2], &[i32::MIN, 7]));
    set.insert("bytes".into(), Tensor::new(&[5], b"hello"));
    set.insert("odd name \"\\\u{1}é".into(), Tensor::new(&[1], &[1u8]));
    set.insert("none".into(), Tensor::new(&[0, 4], &[] as &[f32]));
    set
}

fn file() -> Vec<u8> {
    write(BlobKind::Version, "{\"a\":\"é\\\"\"}", &tensors())
}

fn open(bytes: &[u8]) -> Result<Artifact, ArtifactError> {
    Artifact::open(Arc::new(bytes.to_vec()))
}

#[test]
fn what_is_written_is_read() {
    let file = open(&file()).unwrap();
    assert_eq!(file.kind(), BlobKind::Version);
    assert_eq!(file.specification(), "{\"a\":\"é\\\"\"}");
    assert_eq!(file.slice::<i8>("weights").unwrap(), [3; 128]);
    assert_eq!(file.slice::<f32>("floats").unwrap(), [1.0, -2.5, 1e-9]);
    assert_eq!(file.slice::<i32>("sums").unwrap(), [i32::MIN, 7]);
    assert_eq!(file.slice::<u8>("bytes").unwrap(), b"hello");
    assert_eq!(file.slice::<u8>("odd name \"\\\u{1}é").unwrap(), [1]);
    assert!(file.slice::<f32>("none").unwrap().is_empty());
    assert_eq!(file.shape("weights"), Some(&[2, 64][..]));
    assert_eq!(file.names().count(), 6);
    assert!(file.contains("sums") && !file.contains("sum"));
}

#[test]
fn the_same_tensors_give_the_same_bytes() {
    assert_eq!(file(), file());
    assert_eq!(digest(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/// The `safetensors` crate itself reads the file.
#[test]
fn the_format_is_safetensors() {
    let file = file();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    assert_eq!(tensors.tensor("bytes").unwrap().data(), b"hello");
    let start = 8 + u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
    assert_eq!(start % 64, 0, "data begin at a cache line");
}

#[test]
fn wrong_requests_are_errors() {
    let file = open(&file()).unwrap();
    assert_eq!(file.slice::<f32>("gone"), Err(ArtifactError::Missing("gone".into())));
    assert!(matches!(file.slice::<f32>("sums"), Err(ArtifactError::Type { .. })));
    assert!(matches!(file.view::<f32>("floats", &[3, 1]), Err(ArtifactError::Shape { .. })));
    assert!(file.view::<f32>("floats", &[3]).is_ok());
    let mut set = TensorSet::new();
    set.insert("x".into(), Tensor::new(&[2], &[1.0, f32::NAN]));
    let file = open(&write(BlobKind::Version, "", &set)).unwrap();
    assert_eq!(file.finite("x", &[2]).unwrap_err(), ArtifactError::NotFinite("x".into()));
    let refusal: Refusal = file.finite("x", &[2]).unwrap_err().into();
    assert_eq!(refusal.code, code::DATA_CORRUPTED);
}

/// A view of one file, used on other bytes, reads nothing beyond them.
#[test]
fn a_view_of_other_bytes_is_harmless() {
    let bytes = file();
    let view = open(&bytes).unwrap().view_any::<f32>("floats").unwrap();
    assert_eq!(view.of(&bytes), [1.0, -2.5, 1e-9]);
    assert!(view.of(&bytes[..20]).is_empty());
    assert!(view.of(&[]).is_empty());
}

#[test]
fn foreign_files_are_named() {
    for (bytes, what) in [
        (&b"PK\x03\x04rest of a zip archive"[..], "zip"),
        (b"\x80\x04\x95pickle......", "pickle"),
        (b"\x7fELF\x02\x01\x01...", "executable"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gzip"),
    ] {
        let refusal: Refusal = open(bytes).err().unwrap().into();
        assert_eq!(refusal.code, code::DATA_CORRUPTED);
        assert!(refusal.detail.contains(what), "{}", refusal.detail);
    }
}

fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

#[test]
fn lying_headers_are_refused() {
    let meta = r#""__metadata__":{"riskft":"1","kind":"version","specification":""}"#;
    for (header, why) in [
        (format!(r#"{{{meta},"x":{{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}}}"#), "size"),
        (format!(r#"{{{meta},"x":{{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}}}"#), "hole"),
        (format!(r#"{{{meta},"x":{{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}}}"#), "end"),
        (
            format!(r#"{{{meta},"x":{{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}}}"#),
            "overflow",
        ),
        (
            format!(r#"{{{meta},"x":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}},"y":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#),
            "overlap",
        ),
        (format!(r#"{{{meta},"x":{{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}}}"#), "type"),
        (format!(r#"{{{meta},"x":{{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}}}"#), "shape"),
        (r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#.into(), "no metadata"),
        (
            r#"{"__metadata__":{"riskft":"2","kind":"version","specification":""},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#.into(),
            "format",
        ),
        (
            r#"{"__metadata__":{"riskft":"1","kind":"code","specification":""},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#.into(),
            "kind",
        ),
        (
            r#"{"__metadata__":{"riskft":"1","kind":"version"},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#.into(),
            "specification",
        ),
        ("[".repeat(100_000), "depth"),
        (String::new(), "empty"),
    ] {
        assert!(open(&with_header(&header, &[0; 8])).is_err(), "{why}");
    }
    let long = ((MAX_HEADER + 1) as u64).to_le_bytes();
    assert_eq!(open(&long).err(), Some(ArtifactError::HeaderTooLong(MAX_HEADER as u64 + 1)));
    assert!(open(&u64::MAX.to_le_bytes()).is_err());
}

#[test]
fn a_misaligned_tensor_is_an_error() {
    let header = r#"{"__metadata__":{"riskft":"1","kind":"version","specification":""},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"x":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}"#;
    let padding = " ".repeat((64 - (8 + header.len()) % 64) % 64);
    let file = open(&with_header(&(header.to_owned() + &padding), &[0; 5])).unwrap();
    assert_eq!(file.slice::<f32>("x"), Err(ArtifactError::Misaligned("x".into())));
}

#[test]
fn every_cut_and_any_damage_is_refused_or_harmless() {
    let whole = file();
    for length in 0..whole.len() {
        assert!(open(&whole[..length]).is_err(), "{length} bytes");
    }
    let mut random = Random(99);
    for _ in 0..20_000 {
        let mut damaged = whole.clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(damaged.len());
            damaged[at] = random.next() as u8;
        }
        if let Ok(file) = open(&damaged) {
            let names: Vec<String> = file.names().map(str::to_owned).collect();
            for name in names {
                let _ = file.slice::<f32>(&name).map(<[f32]>::len);
                let _ = file.slice::<i8>(&name).map(<[i8]>::len);
            }
        }
    }
}
