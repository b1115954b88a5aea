//! Mutations that keep lengths true: within JSON, within the header of a safetensors file, within a
//! frame, within an exported model. One in three mutations is libFuzzer's own, of the bytes as they
//! lie.

use libfuzzer_sys::fuzzer_mutate;
use serde_json::{json, Value};

use crate::targets::bundles::{parts, whole, Parts};
use crate::targets::{Form, MOST_INPUT};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }
}

/// Mutates `data[..size]` in place; gives the new size, at most `most`.
pub fn mutate(form: Form, data: &mut [u8], size: usize, most: usize, seed: u32) -> usize {
    let mut random = Random(u64::from(seed));
    if random.below(3) == 0 {
        return fuzzer_mutate(data, size, most);
    }
    let old = &data[..size];
    let new = match form {
        Form::One => file(old, &mut random),
        Form::Pair => pair(old, &mut random),
        Form::Frames => frames(old, &mut random),
        Form::Bundle => bundle(old, &mut random),
    };
    let Some(new) = new.filter(|new| new.len() <= most && new != old) else {
        return fuzzer_mutate(data, size, most);
    };
    data[..new.len()].copy_from_slice(&new);
    new.len()
}

/// JSON, or a safetensors file; None for anything else.
fn file(old: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    if let Ok(value) = serde_json::from_slice::<Value>(old) {
        return Some(json_of(value, random).into_bytes());
    }
    let (length, rest) = old.split_first_chunk()?;
    let (header, tensors) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
    let mut header = serde_json::from_slice::<Value>(header).ok()?;
    let inner = header.pointer("/__metadata__/specification").and_then(Value::as_str);
    let inner = inner.and_then(|text| serde_json::from_str::<Value>(text).ok());
    let text = match inner {
        Some(inner) if random.below(2) == 0 => {
            header["__metadata__"]["specification"] = json_of(inner, random).into();
            header.to_string()
        }
        _ => json_of(header, random),
    };
    let padding = " ".repeat(text.len().next_multiple_of(64) + 56 - text.len());
    let length = (text.len() + padding.len()) as u64;
    Some([&length.to_le_bytes(), text.as_bytes(), padding.as_bytes(), tensors].concat())
}

fn pair(old: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let (length, rest) = old.split_first_chunk()?;
    let (first, second) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let (first, second) = match random.below(2) {
        0 => (file(first, random)?, second.to_vec()),
        _ => (first.to_vec(), file(second, random)?),
    };
    Some([&(first.len() as u32).to_le_bytes(), &first[..], &second].concat())
}

/// One frame's payload changed, or a frame doubled, dropped or moved.
fn frames(old: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    if let Some(json) = file(old, random) {
        return Some(json);
    }
    let mut frames = Vec::new();
    let mut rest = old;
    while let Some((head, after)) = rest.split_first_chunk::<5>() {
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let (payload, after) = after.split_at_checked(length)?;
        frames.push((head[0], payload.to_vec()));
        rest = after;
    }
    if frames.is_empty() {
        return None;
    }
    let at = random.below(frames.len());
    match random.below(8) {
        0 => frames.push(frames[at].clone()),
        1 => drop(frames.remove(at)),
        2 => frames[at].0 = random.below(7) as u8,
        _ => {
            frames[at].1 = match file(&frames[at].1, random) {
                Some(payload) => payload,
                None => bytes(&frames[at].1, random),
            }
        }
    }
    let framed = frames.iter().flat_map(|(kind, payload)| {
        [&[*kind], &(payload.len() as u32).to_le_bytes()[..], payload].concat()
    });
    Some(framed.collect())
}

/// The manifest or a file changed, or a file doubled or dropped; the target mends the digests.
fn bundle(old: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let Parts { head, json, mut files, after } = parts(old)?;
    let mut manifest = serde_json::from_slice::<Value>(json).ok()?;
    if files.is_empty() || random.below(2) == 0 {
        let json = match random.below(4) {
            0 => bytes(json, random),
            _ => json_of(manifest, random).into_bytes(),
        };
        return Some(whole(head, &json, &files, after));
    }
    let at = random.below(files.len());
    let headers = manifest["files"].as_array_mut()?;
    let changed;
    match random.below(12) {
        0 => {
            headers.push(headers[at].clone());
            files.push(files[at]);
        }
        1 => {
            headers.remove(at);
            files.remove(at);
        }
        _ => {
            changed = match file(files[at], random) {
                Some(file) if random.below(4) > 0 => file,
                _ => bytes(files[at], random),
            };
            headers[at]["length"] = changed.len().into();
            files[at] = &changed;
        }
    }
    Some(whole(head, manifest.to_string().as_bytes(), &files, after))
}

/// libFuzzer's own mutation of a part.
fn bytes(old: &[u8], random: &mut Random) -> Vec<u8> {
    let mut new = old.to_vec();
    new.resize(old.len() + 1 + random.below(64), 0);
    let most = new.len();
    let size = fuzzer_mutate(&mut new, old.len(), most);
    new.truncate(size);
    new
}

fn json_of(mut value: Value, random: &mut Random) -> String {
    for _ in 0..1 + random.below(3) {
        let donor = nth(&mut value.clone(), random).clone();
        let node = nth(&mut value, random);
        change(node, donor, random);
    }
    value.to_string()
}

/// A node drawn at random.
fn nth<'a>(value: &'a mut Value, random: &mut Random) -> &'a mut Value {
    let count = match value {
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        _ => 0,
    };
    // Deeper nodes are as likely as those above them.
    if count == 0 || random.below(4) == 0 {
        return value;
    }
    let at = random.below(count);
    match value {
        Value::Array(items) => nth(&mut items[at], random),
        Value::Object(members) => match members.values_mut().nth(at) {
            Some(member) => nth(member, random),
            None => unreachable!("a member below their count"),
        },
        leaf => leaf,
    }
}

fn change(node: &mut Value, donor: Value, random: &mut Random) {
    match (random.below(6), node) {
        (0, node) => *node = donor,
        (1, Value::Array(items)) if !items.is_empty() => {
            let item = items[random.below(items.len())].clone();
            // No longer than an input may be, or repeats of repeats would take all memory.
            let room = MOST_INPUT / (1 + item.to_string().len());
            let times = [1, 2, 30, 300][random.below(4)];
            items.extend(std::iter::repeat_n(item, times.min(room)));
        }
        (2, Value::Array(items)) if !items.is_empty() => {
            items.remove(random.below(items.len()));
        }
        (1, Value::Object(members)) if !members.is_empty() => {
            let key = members.keys().nth(random.below(members.len())).cloned().unwrap_or_default();
            let value = members.remove(&key).unwrap_or_default();
            members.insert(format!("{key}{}", random.below(10)), value);
        }
        (2, Value::Object(members)) if !members.is_empty() => {
            let key = members.keys().nth(random.below(members.len())).cloned().unwrap_or_default();
            members.remove(&key);
        }
        (3, Value::Number(number)) => {
            let near = number.as_i64().unwrap_or(1);
            let new = [
                near.wrapping_add(1),
                near.wrapping_sub(1),
                near.wrapping_mul(2),
                near.wrapping_neg(),
            ];
            *number = new[random.below(4)].into();
        }
        (3, Value::String(text)) => {
            *text = String::from_utf8_lossy(&bytes(text.as_bytes(), random)).into_owned();
        }
        (_, node) => *node = extreme(random),
    }
}

fn extreme(random: &mut Random) -> Value {
    let deep = |depth| (0..depth).fold(Value::Null, |inner, _| json!([inner]));
    match random.below(18) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(0),
        3 => json!(-1),
        4 => json!(1e308),
        5 => json!(-1e-320),
        6 => json!(u64::MAX),
        7 => json!(i64::MIN),
        8 => json!(u32::MAX),
        9 => json!(0.5),
        10 => json!(""),
        11 => json!("NaN"),
        12 => json!("x".repeat(1 << random.below(14))),
        13 => json!([]),
        14 => json!({}),
        15 => deep(random.below(200)),
        16 => json!(vec![0; random.below(2000)]),
        _ => json!(random.below(1 << 16)),
    }
}
