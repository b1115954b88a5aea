//! Files that are no model, or that lie about their sizes: each refused with its code, in little
//! memory; and a small model cut at every length and with a thousand of its bits flipped.

mod targets;

use std::sync::Arc;

use riskft_core::artifact::MAX_HEADER;
use riskft_core::cell::Cell;
use riskft_core::gemm::Kernel;
use riskft_core::model::{Model, Scorer};
use riskft_core::network::base::{foreign, read_shape, read_tensors};
use riskft_core::refusal::Refusal;
use riskft_core::tokenize::Layout;
use targets::dwarf::{base, dwarf, shape};
use targets::memory::{self, Counting};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Of a header as long as it may be, full of tensors or of dimensions: 88 MB were measured, two copies
/// of the file among them.
const MOST_MEMORY: usize = 96 << 20;

fn open(version: &[u8], encoder: &[u8]) -> Result<Model, Refusal> {
    Model::open(Arc::new(version.to_vec()), Some(Arc::new(encoder.to_vec())))
}

/// A safetensors file with this header.
fn headed(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn every_truncation_is_refused() {
    let (version, encoder) = (&dwarf().version, &dwarf().base);
    for length in 0..version.len() {
        let refusal = open(&version[..length], encoder).err().unwrap();
        assert_eq!(refusal.code, "XX001", "version of {length} bytes: {refusal:?}");
    }
    for length in 0..encoder.len() {
        let refusal = open(version, &encoder[..length]).err().unwrap();
        assert_eq!(refusal.code, "XX001", "encoder of {length} bytes: {refusal:?}");
    }
    println!("{} truncations were refused", version.len() + encoder.len());
}

/// A flipped bit of the header is refused or changes nothing that counts; one of the weights gives
/// another model, whose scores are probabilities, or NaN, which the server refuses.
#[test]
fn flipped_bits_never_give_anything_but_a_probability() {
    let files = [(&dwarf().version, 0), (&dwarf().base, 1)];
    for (file, which) in files {
        let (mut refused, mut scored, mut no_number) = (0, 0, 0);
        let bits = 8 * file.len();
        for flip in 0..1000 {
            // Spread over the file: 1,000 is coprime to a prime's multiples.
            let bit = flip * 7919 % bits;
            let mut damaged = file.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let model = match which {
                0 => open(&damaged, &dwarf().base),
                _ => open(&dwarf().version, &damaged),
            };
            match model {
                Err(refusal) => {
                    assert!(["XX001", "0A000"].contains(&refusal.code.as_str()), "{refusal:?}");
                    refused += 1;
                }
                Ok(model) => {
                    let mut scorer = Scorer::new(Arc::new(model), Kernel::detect(), 0);
                    let row = [
                        Cell::Float(2.5),
                        Cell::Text("CA"),
                        Cell::Text("new banks"),
                        Cell::Float(-9.5),
                        Cell::Int(4),
                    ];
                    let score = scorer.score(&row);
                    assert!(score.is_nan() || (0.0..=1.0).contains(&score), "bit {bit}: {score}");
                    scored += 1;
                    no_number += usize::from(score.is_nan());
                }
            }
        }
        println!("of 1,000 flipped bits {refused} were refused, {scored} scored, {no_number} NaN");
        assert!(refused > 50 && scored > 50);
    }
}

/// First bytes of other formats, and a word of the refusal.
const FOREIGN: &[(&[u8], &str)] = &[
    (b"PK\x03\x04\x14\0archive/data.pkl", "zip"),
    (b"\x80\x02}q\0(X\x06\0\0\0", "pickle"),
    (b"\x80\x04\x95\x10\0\0\0\0\0\0\0", "pickle"),
    (b"\x80\x05\x95\x10\0\0\0\0\0\0\0", "pickle"),
    (b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0", "executable"),
    (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "gzip"),
    (b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0", "GGUF"),
    (b"\x89HDF\r\n\x1a\n\0\0\0\0\0\0\0\0", "HDF5"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n", "LFS"),
];

#[test]
fn other_formats_are_named() {
    for (start, word) in FOREIGN {
        let file = [*start, &[0; 4096]].concat();
        let refusal = open(&file, &dwarf().base).err().unwrap();
        assert_eq!(refusal.code, "XX001");
        assert!(refusal.detail.contains(word), "{word}: {}", refusal.detail);
        let refusal = open(&dwarf().version, &file).err().unwrap();
        assert!(refusal.detail.contains(word), "{word}: {}", refusal.detail);
        let refusal = read_tensors(&shape(), &file).unwrap_err();
        assert_eq!(refusal.code, "0A000");
        assert_eq!(read_shape(&file).unwrap_err().code, "0A000");
        assert!(foreign(&file, "model.safetensors").is_some(), "{word}");
    }
}

#[test]
fn lying_headers_are_refused_in_little_memory() {
    let meta = r#""__metadata__":{"riskft":"1","kind":"version","specification":"{}"}"#;
    let tensor = |text: &str| headed(&format!("{{{meta},{text}}}"), 64);
    let length = |length: u64| [&length.to_le_bytes()[..], b"{}", &[b' '; 100]].concat();
    let most = MAX_HEADER;
    let empty = r#"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
    let many: Vec<String> = (0..most / 64).map(|i| format!("\"t{i}\":{empty}")).collect();
    let dimensions = "0,".repeat(most / 2 - 200);
    let files = [
        Vec::new(),
        vec![0; 7],
        vec![0; 8],
        vec![b'{'; 8],
        length(0),
        length(103),
        length(most as u64 + 1),
        length(1 << 40),
        length(u64::MAX),
        length(u64::MAX - 7),
        headed("", 0),
        headed("null", 0),
        headed("[]", 0),
        headed("{}", 0),
        headed("{\"__metadata__\":{}}", 0),
        headed("{\"__metadata__\":{\"riskft\":1}}", 0),
        headed("{\"__metadata__\":{\"riskft\":\"2\"}}", 0),
        headed(&format!("{{{meta}}}"), 0),
        headed(&"[".repeat(most), 0),
        headed(&"{\"a\":".repeat(most / 5), 0),
        headed(&format!("{{{}{meta}}}", "\"a\":{},".repeat(400_000)), 0),
        headed(&format!("{{\"__metadata__\":{{{}\"b\":\"\"}}}}", "\"a\":\"\",".repeat(500_000)), 0),
        headed(&format!("{{{meta}}}").replace("{}", &"[".repeat(1_000_000)), 0),
        headed(&format!("{{{meta},{}}}", many.join(",")), 0),
        headed(
            &format!("{{{meta},\"a\":{}}}", empty.replace("[0]", &format!("[{dimensions}0]"))),
            0,
        ),
        tensor(r#""a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,64]}"#),
        tensor(r#""a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,64]}"#),
        tensor(r#""a":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,64]}"#),
        tensor(r#""a":{"dtype":"F32","shape":[4611686018427387920],"data_offsets":[0,64]}"#),
        tensor(r#""a":{"dtype":"F32","shape":[-16],"data_offsets":[0,64]}"#),
        tensor(r#""a":{"dtype":"F32","shape":[16.0],"data_offsets":[0,64]}"#),
        tensor(r#""a":{"dtype":"F32","shape":[16],"data_offsets":[64,0]}"#),
        tensor(r#""a":{"dtype":"F32","shape":[16],"data_offsets":[64,128]}"#),
        tensor(r#""a":{"dtype":"F32","shape":[15],"data_offsets":[4,64]}"#),
        tensor(r#""a":{"dtype":"F32","shape":[15],"data_offsets":[0,60]}"#),
        tensor(r#""a":{"dtype":"F32","shape":[],"data_offsets":[0,64]}"#),
        tensor(r#""a":{"dtype":"F33","shape":[16],"data_offsets":[0,64]}"#),
        tensor(r#""a":{"dtype":"F32","shape":[16],"data_offsets":[0,18446744073709551615]}"#),
        tensor(
            r#""a":{"dtype":"F32","shape":[16],"data_offsets":[0,64]},
               "b":{"dtype":"F32","shape":[16],"data_offsets":[0,64]}"#,
        ),
        tensor(r#""a":{"dtype":"F32","shape":[16],"data_offsets":[0,64]}"#),
    ];
    let mut largest = 0;
    for file in &files {
        let start = String::from_utf8_lossy(&file[..file.len().min(150)]).into_owned();
        memory::begin();
        for outcome in [
            Model::open(Arc::new(file.clone()), Some(base())),
            Model::open(Arc::new(dwarf().version.clone()), Some(Arc::new(file.clone()))),
        ] {
            assert_eq!(
                outcome.err().map(|refusal| refusal.code).as_deref(),
                Some("XX001"),
                "{start}"
            );
        }
        let refusal = read_tensors(&shape(), file).unwrap_err();
        assert_eq!(refusal.code, "0A000", "{start}");
        let taken = memory::most();
        largest = largest.max(taken);
        assert!(taken < MOST_MEMORY, "{start}: {taken} bytes");
    }
    println!("{} lying headers were refused in at most {largest} bytes", files.len());
}

/// A table without a free slot would make each lookup read all of it.
#[test]
fn a_crowded_vocabulary_is_refused() {
    let (tokens, slots) = (100_000u32, 1u32 << 17);
    let fields = [0, tokens, slots, 1, 2, 3, 1024, 1024, 0];
    let mut file = b"RFV1".to_vec();
    let mut put = |value: u32| file.extend_from_slice(&value.to_le_bytes());
    fields.into_iter().for_each(&mut put);
    (0..tokens).for_each(|_| put(0));
    (0..slots).for_each(|slot| put(u32::from(slot % 300 != 0)));
    assert!(Layout::check(&file).is_none());
    let free = 40 + 4 * tokens as usize..file.len();
    file[free].as_chunks_mut::<4>().0.iter_mut().step_by(200).for_each(|slot| *slot = [0; 4]);
    assert!(Layout::check(&file).is_some());
}
