//! The flat tokenizer against the `tokenizers` crate, id by id.

mod engine;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use engine::{golden, Random};
use riskft_core::protocol::{cut, MAX_TEXT};
use riskft_core::tokenize::{
    compile, compile_tokenizer_json, tokenizer_json, Layout, Normaliser, Tokenizer, Vocabulary,
};

/// A text column of the sample data, each value once.
fn values(file: &str, columns: &[&str], most: usize) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(file);
    let mut csv = String::new();
    let gzip = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    flate2::read::MultiGzDecoder::new(gzip).read_to_string(&mut csv).unwrap();
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let header = reader.headers().unwrap().clone();
    let at: Vec<usize> =
        columns.iter().map(|c| header.iter().position(|h| h == *c).unwrap()).collect();
    let mut found = BTreeSet::new();
    for record in reader.records() {
        let record = record.unwrap();
        found.extend(at.iter().map(|at| record[*at].to_owned()));
        if found.len() >= most {
            break;
        }
    }
    found
}

/// The texts of case F11, and what else normalisers stumble over.
fn nasties() -> Vec<String> {
    let mut texts: Vec<String> = (0..=600)
        .step_by(7)
        .map(|k| format!("{}😀", "é".repeat(k)))
        .chain([1, 98, 99, 100, 101, 102, 511].map(|k| "x".repeat(k)))
        .collect();
    texts.push("ﷺ".repeat(200));
    texts.push("e\u{301}".repeat(500));
    texts.push(format!("e{}", "\u{301}".repeat(500)));
    for text in [
        "",
        " ",
        "   ",
        "\t\n\r",
        "\0",
        "\u{fffd}",
        "\u{200b}\u{feff}\u{ad}",
        "a\u{0}b\u{7}c",
        "a\u{85}b\u{a0}c\u{2003}d\u{3000}e\u{2028}f",
        "ÀÉÎÕÜ ŞİŁØß ΑΣΣ ΐ ǅ ﬁ ﬃ",
        "İstanbul İİ",
        "Ω Å Å K ℃ № ½ ² ⁵ ㎏",
        "中文字 和 日本語の カタカナ 한국어 \u{2000b}\u{2f81a}",
        "नमस्ते สวัสดี שָׁלוֹם مَرْحَبًا",
        "[CLS] [SEP] [UNK] [MASK] [PAD] [unused3]",
        "##ing ##",
        "$60,000.00 (13.5%) #1 @x ^_`{|}~ <1 year",
        "don't-stop…«quoted» “smart” ‘single’ – — • · ¿¡ § ¶ † ‡ € £ ¥ ¢ © ® ™ ° ± × ÷ ¬ ´ ¨ ¸",
        "👩\u{200d}👩\u{200d}👧 👍🏽 🏳️\u{200d}🌈 e\u{200d}",
        "a\u{300}\u{301}\u{302}\u{327} q\u{323}\u{307} \u{1e9b}\u{323}",
        "\u{e000}private\u{f8ff}",
        "\u{1d400}\u{1d7ff} \u{10ffff}",
        "Ǆ ǈ ŉ ẖ ΐ և",
        "٣٤٥ ०१२ Ⅷ ⅷ",
        "a\u{34f}b\u{2060}c",
        "unaffable unaffably UNAFFABLE",
        "pneumonoultramicroscopicsilicovolcanoconiosis",
    ] {
        texts.push(text.to_owned());
    }
    texts.push("a ".repeat(40_000));
    texts.push("é".repeat(40_000));
    texts.push("word!".repeat(20_000));
    for text in [
        "I'll you've we're he'd I'm it's don't 'tis ''s 's' '' 'LL DON'T ’s",
        "a  b   c\t\td \n e\n\nf \u{a0}g\u{2003}\u{2003}h ",
        " leading and trailing  ",
        "x²y½z Ⅷ٣٤ 3rd 4x4 _under_score__ #$%^&*()",
        "<s> </s> <mask> <pad> <unk> <s></s>",
        "Ġthe Ċ ĉ \u{ad}\u{7f}\u{80}\u{9f}",
    ] {
        texts.push(text.to_owned());
    }
    texts
}

/// Random strings over characters of many scripts.
fn random(count: usize) -> Vec<String> {
    let mut random = Random(5);
    // Code points assigned since Unicode 6: all of these have the same properties in every table.
    let ranges = [
        (0x20, 0x7f),
        (0x20, 0x7f),
        (0x61, 0x7b),
        (0xa0, 0x180),
        (0x300, 0x370),
        (0x370, 0x400),
        (0x400, 0x500),
        (0x5d0, 0x5eb),
        (0x621, 0x660),
        (0x905, 0x93a),
        (0x1e00, 0x1f00),
        (0x2000, 0x2070),
        (0x2100, 0x2190),
        (0x3041, 0x3097),
        (0x4e00, 0x4f00),
        (0xac00, 0xad00),
        (0xff01, 0xff5f),
        (0x1f600, 0x1f640),
    ];
    let character = |random: &mut Random| loop {
        let (from, to) = ranges[random.below(ranges.len())];
        if let Some(c) = char::from_u32((from + random.below(to - from)) as u32) {
            return c;
        }
    };
    (0..count)
        .map(|_| {
            let length = random.below(60);
            (0..length).map(|_| character(&mut random)).collect()
        })
        .collect()
}

struct Pair<'a> {
    oracle: tokenizers::Tokenizer,
    vocabulary: Vocabulary<'a>,
    ours: Tokenizer,
    ids: Vec<u32>,
}

impl<'a> Pair<'a> {
    fn new(json: &[u8], flat: &'a [u8]) -> Self {
        let mut oracle = tokenizers::Tokenizer::from_bytes(json).unwrap();
        oracle.with_padding(None);
        oracle.with_truncation(None).unwrap();
        // Names of special tokens in a text are plain text here.
        oracle.set_encode_special_tokens(true);
        let vocabulary = Layout::check(flat).unwrap().vocabulary(flat);
        Pair { oracle, vocabulary, ours: Tokenizer::default(), ids: Vec::new() }
    }

    fn check(&mut self, text: &str) {
        let oracle = self.oracle.encode_fast(cut(text, MAX_TEXT), true).unwrap();
        let whole = oracle.get_ids();
        for max_tokens in [3, 32, 256, 100_000] {
            self.ours.encode(&self.vocabulary, text, max_tokens, &mut self.ids);
            let mut expected = whole.to_vec();
            if expected.len() > max_tokens {
                expected.drain(max_tokens - 1..expected.len() - 1);
            }
            if expected.len() == 2 || text.chars().all(char::is_whitespace) {
                // Blank, or no piece: no tokens at all.
                expected.clear();
            }
            let start: String = text.chars().take(80).collect();
            assert_eq!(self.ids, expected, "{start:?} at most {max_tokens}");
        }
    }
}

fn check_all(json: &[u8], rows: usize) {
    let flat = compile_tokenizer_json(json).unwrap();
    assert_eq!(flat, compile_tokenizer_json(json).unwrap(), "the same bytes each time");
    let mut pair = Pair::new(json, &flat);
    let mut count = 0;
    let texts = values("sba_loans.csv.gz", &["borrower", "city", "bank"], rows)
        .into_iter()
        .chain(values("cfpb_complaints.csv.gz", &["narrative", "company", "issue"], rows / 10))
        .chain(nasties())
        .chain(random(4000));
    for text in texts {
        pair.check(&text);
        count += 1;
    }
    println!("{count} texts have the ids of the tokenizers crate");
    assert!(count > 5000);
}

#[test]
fn ids_are_those_of_the_tokenizers_crate() {
    check_all(&golden("tokenizer_small.json"), 6000);
}

#[test]
fn ids_of_a_byte_level_bpe_are_those_of_the_tokenizers_crate() {
    let json = golden("tiny_roberta/tokenizer.json");
    check_all(&json, 6000);
    // A text as if it began with a space.
    let spaced = String::from_utf8(json).unwrap().replace(
        "\"ByteLevel\",\"add_prefix_space\":false",
        "\"ByteLevel\",\"add_prefix_space\":true",
    );
    check_all(spaced.as_bytes(), 1000);
}

#[test]
fn ids_of_a_word_list_are_those_of_the_tokenizers_crate() {
    let vocab = String::from_utf8(golden("tiny_finbert/vocab.txt")).unwrap();
    for settings in [
        r#"{"do_lower_case": false}"#,
        "{}",
        r#"{"do_lower_case": true, "strip_accents": false, "tokenize_chinese_chars": false}"#,
    ] {
        check_all(tokenizer_json(&vocab, settings.as_bytes()).unwrap().as_bytes(), 1000);
    }
    let twice = tokenizer_json(&format!("{vocab}the\n"), b"{}").unwrap_err();
    assert!(twice.detail.contains("twice"), "{}", twice.detail);
    let none = tokenizer_json(&vocab.replace("[SEP]", "[sep]"), b"{}").unwrap_err();
    assert!(none.detail.contains("[SEP]"), "{}", none.detail);
}

#[test]
fn ids_of_minilm_are_those_of_the_tokenizers_crate() {
    let Some(folder) = engine::base_dir("ids_of_minilm_are_those_of_the_tokenizers_crate") else {
        return;
    };
    check_all(&std::fs::read(folder.join("tokenizer.json")).unwrap(), 20_000);
}

fn encode(flat: &[u8], text: &str) -> Vec<u32> {
    let mut ids = vec![9];
    let vocabulary = Layout::check(flat).unwrap().vocabulary(flat);
    Tokenizer::default().encode(&vocabulary, text, 10, &mut ids);
    ids
}

#[test]
fn every_flag_of_the_normaliser_counts() {
    let tokens = ["[UNK]", "[CLS]", "[SEP]", "a", "A", "é", "e", "中", "##中", "b\u{7}"];
    let cased = Normaliser { lowercase: false, strip_accents: false, ..Normaliser::UNCASED };
    let flat = compile(&tokens, cased, 100).unwrap();
    assert_eq!(encode(&flat, "A é a 中中"), [1, 4, 5, 3, 7, 7, 2]);
    let flat = compile(&tokens, Normaliser::UNCASED, 100).unwrap();
    assert_eq!(encode(&flat, "A é a 中中"), [1, 3, 6, 3, 7, 7, 2]);
    let raw = Normaliser { ideographs: false, clean: false, ..cased };
    let flat = compile(&tokens, raw, 100).unwrap();
    assert_eq!(encode(&flat, "中中 b\u{7}"), [1, 7, 8, 9, 2]);
    let short = compile(&tokens, cased, 1).unwrap();
    assert_eq!(encode(&short, "a aa"), [1, 3, 0, 2]);
}

#[test]
fn a_token_listed_twice_has_its_later_id() {
    let flat = compile(&["[UNK]", "[CLS]", "[SEP]", "a", "a"], Normaliser::UNCASED, 100).unwrap();
    assert_eq!(encode(&flat, "a"), [1, 4, 2]);
}

#[test]
fn few_tokens_or_none() {
    let flat = engine::tiny_vocabulary();
    let vocabulary = Layout::check(&flat).unwrap().vocabulary(&flat);
    let mut ids = Vec::new();
    for (max, length) in [(0, 0), (1, 0), (2, 0), (3, 3), (4, 4)] {
        Tokenizer::default().encode(&vocabulary, "loan bank loan", max, &mut ids);
        assert_eq!(ids.len(), length, "at most {max}");
    }
}

#[test]
fn other_tokenizers_are_refused() {
    let json = String::from_utf8(golden("tokenizer_small.json")).unwrap();
    for (from, to) in [
        ("\"WordPiece\",\"unk", "\"BPE\",\"unk"),
        ("\"type\":\"WordPiece\",\"unk", "\"type\":\"WordLevel\",\"unk"),
        ("\"special\":true", "\"special\":false"),
        ("BertNormalizer", "NFC"),
        ("BertPreTokenizer", "Whitespace"),
        ("\"continuing_subword_prefix\":\"##\"", "\"continuing_subword_prefix\":\"_\""),
        ("\"[CLS]\":", "\"[cls]\":"),
        ("\"[PAD]\":0", "\"[PAD]\":1"),
        ("\"[PAD]\":0", "\"[PAD]\":-1"),
        ("\"vocab\":{", "\"words\":{"),
        ("{\"version\"", "{\"version"),
    ] {
        refused(&json, from, to);
    }
}

fn refused(json: &str, from: &str, to: &str) {
    let other = json.replace(from, to);
    assert_ne!(other, json, "{from}");
    let refusal = compile_tokenizer_json(other.as_bytes()).expect_err(from);
    assert_eq!(refusal.code, "0A000", "{from}");
    assert!(refusal.detail.len() < 300, "{}", refusal.detail);
}

#[test]
fn other_kinds_of_bpe_are_refused() {
    let json = String::from_utf8(golden("tiny_roberta/tokenizer.json")).unwrap();
    for (from, to) in [
        ("\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\"}"),
        ("\"pre_tokenizer\":{\"type\":\"ByteLevel\"", "\"pre_tokenizer\":{\"type\":\"Split\""),
        ("\"use_regex\":true", "\"use_regex\":false"),
        ("\"dropout\":null", "\"dropout\":0.1"),
        ("\"ignore_merges\":false", "\"ignore_merges\":true"),
        ("\"byte_fallback\":false", "\"byte_fallback\":true"),
        ("\"end_of_word_suffix\":null", "\"end_of_word_suffix\":\"</w>\""),
        ("\"continuing_subword_prefix\":null", "\"continuing_subword_prefix\":\"##\""),
        ("\"special\":true", "\"special\":false"),
        ("\"type\":\"RobertaProcessing\"", "\"type\":\"ByteLevel\""),
        ("\"cls\":[\"<s>\",0]", "\"cls\":[\"<s>\",-1]"),
        ("\"vocab\":{", "\"words\":{"),
        ("\"merges\":[", "\"joins\":["),
        ("\"merges\":[", "\"merges\":[[\"q\",\"qqqqq\"],"),
        ("\"merges\":[", "\"merges\":[\"qq\","),
        ("\"!\":", "\"nothing\":"),
    ] {
        refused(&json, from, to);
    }
}

/// The same special tokens, said in the other ways that files have.
#[test]
fn each_way_to_say_the_special_tokens_is_read() {
    let json = String::from_utf8(golden("tiny_roberta/tokenizer.json")).unwrap();
    let mut file: serde_json::Value = serde_json::from_str(&json).unwrap();
    let flat = compile_tokenizer_json(json.as_bytes()).unwrap();
    let template = serde_json::json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                   {"Sequence": {"id": "A", "type_id": 0}},
                   {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]},
                           "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}
    });
    let byte_level = serde_json::json!({"type": "ByteLevel", "trim_offsets": true});
    let sequence = serde_json::json!({"type": "Sequence", "processors": [byte_level, template]});
    for way in [template, sequence.clone()] {
        file["post_processor"] = way;
        assert_eq!(compile_tokenizer_json(file.to_string().as_bytes()).unwrap(), flat);
    }
    file["post_processor"] = serde_json::json!({"type": "Sequence", "processors": [sequence]});
    assert!(compile_tokenizer_json(file.to_string().as_bytes()).is_err());
    // Merges as text, as older files have them.
    let merges = file["model"]["merges"].as_array().unwrap();
    let merges: Vec<String> = merges
        .iter()
        .map(|m| format!("{} {}", m[0].as_str().unwrap(), m[1].as_str().unwrap()))
        .collect();
    file["model"]["merges"] = serde_json::json!(merges);
    file["post_processor"] = serde_json::json!(
        {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]});
    assert_eq!(compile_tokenizer_json(file.to_string().as_bytes()).unwrap(), flat);
}

/// Older files do not name the kind of their model.
#[test]
fn a_model_without_a_type_is_told_by_its_parts() {
    for (file, kind) in [("tiny_roberta", "BPE"), ("tiny_distilbert", "WordPiece")] {
        let json = String::from_utf8(golden(&format!("{file}/tokenizer.json"))).unwrap();
        let old = json.replace(&format!("\"model\":{{\"type\":\"{kind}\","), "\"model\":{");
        assert_ne!(old, json);
        let flat = compile_tokenizer_json(old.as_bytes()).unwrap();
        assert_eq!(flat, compile_tokenizer_json(json.as_bytes()).unwrap(), "{file}");
        Pair::new(old.as_bytes(), &flat).check("The crate reads it alike, doesn't it?");
    }
}

/// A word of the longest text costs little more than its length.
#[test]
fn an_endless_word_is_split_in_time() {
    let flat = compile_tokenizer_json(&golden("tiny_roberta/tokenizer.json")).unwrap();
    let vocabulary = Layout::check(&flat).unwrap().vocabulary(&flat);
    let (mut tokenizer, mut ids) = (Tokenizer::default(), Vec::new());
    let begun = std::time::Instant::now();
    for word in ["th", "e", "provide", "é", "00"] {
        tokenizer.encode(&vocabulary, &word.repeat(MAX_TEXT), 100_000, &mut ids);
        assert!(ids.len() > 2000, "{word}");
    }
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

/// Every header field with every small change, and every cut: an error, or ids within the range.
#[test]
fn a_damaged_vocabulary_is_refused_or_harmless() {
    damage(&engine::tiny_vocabulary(), 1);
    damage(&compile_tokenizer_json(&golden("tiny_roberta/tokenizer.json")).unwrap(), 7);
}

fn damage(flat: &[u8], step: usize) {
    let tokens = Layout::check(flat).unwrap().tokens() as u32;
    let mut tokenizer = Tokenizer::default();
    let mut ids = Vec::new();
    let mut refused = 0;
    for at in (0..flat.len().min(40)).chain((40..flat.len()).step_by(step)) {
        for change in [1, 0x80, 0xff] {
            let mut damaged = flat.to_vec();
            damaged[at] ^= change;
            let Some(layout) = Layout::check(&damaged) else {
                refused += 1;
                continue;
            };
            tokenizer.encode(&layout.vocabulary(&damaged), "new loans, a bank's", 50, &mut ids);
            assert!(ids.iter().all(|id| *id < tokens.max(layout.tokens() as u32)), "byte {at}");
        }
    }
    assert!(refused > 100);
    for length in (0..flat.len()).step_by(step) {
        assert!(Layout::check(&flat[..length]).is_none(), "{length} bytes");
    }
}
