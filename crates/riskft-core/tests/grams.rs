//! N-grams: the buckets of a text, pinned; the same weights from a file as from memory; random texts
//! against a plain reference. The trainer's tests compare all of it with scikit-learn.

use std::collections::BTreeMap;
use std::sync::Arc;

use riskft_core::artifact::{self, Artifact, TensorSet};
use riskft_core::grams::{counted, Norm, Reader, Stored, Table, View, MAX_TEXT};
use riskft_core::protocol::{cut, BlobKind};

const VIEWS: &[View] = &[
    View { words: 2, characters: Some((3, 5)), bits: 18, sublinear: true, norm: Norm::Text },
    View { words: 4, characters: None, bits: 22, sublinear: false, norm: Norm::Text },
    View { words: 0, characters: Some((1, 8)), bits: 6, sublinear: true, norm: Norm::Kind },
    View { words: 1, characters: Some((2, 2)), bits: 10, sublinear: false, norm: Norm::Kind },
];

const TEXTS: &[&str] = &[
    "The fee was charged twice; the FEE of $1,400.00!",
    "a",
    "É e\u{301} Éclair",
    "Straße İstanbul ΣΊΣΥΦΟΣ 中文 हिन्दी \u{1F600} ﷺ",
    "don't\tre-pay_it\r\n\r\n",
    "\u{0}\u{7}\u{200b}x",
];

fn parts(view: &View, column: u32, text: &str) -> Vec<Vec<u32>> {
    let mut parts = Vec::new();
    Reader::default().read(view, column, text, |buckets| parts.push(buckets.to_vec()));
    parts
}

#[test]
fn buckets_never_change() {
    let view = View { words: 2, characters: None, bits: 16, ..View::default() };
    assert_eq!(parts(&view, 0, "Late fee"), [PINNED_WORDS]);
    let view = View { words: 0, characters: Some((3, 4)), bits: 16, ..View::default() };
    assert_eq!(parts(&view, 3, "Éa 中"), [PINNED_CHARACTERS]);
}

/// "late", "late fee", "fee", and the runs of " ea 中 ", as golden/grams.py hashes them too.
const PINNED_WORDS: [u32; 3] = [2052, 8684, 23734];
const PINNED_CHARACTERS: [u32; 7] = [688, 10190, 16786, 46374, 46648, 58943, 62085];

#[test]
fn spellings_that_read_alike_are_one() {
    for view in VIEWS {
        for (one, other) in [
            ("Éclair", "e\u{301}CLAIR"),
            (" late  fee\n", "late fee"),
            ("late\u{a0}fee", "late\u{0} fee"),
            ("中文", "中 文"),
        ] {
            assert_eq!(parts(view, 1, one), parts(view, 1, other), "{one:?} {other:?}");
            assert_ne!(parts(view, 1, one), parts(view, 2, other), "{one:?} in two columns");
        }
        for blank in ["", " ", "\n\t \u{a0}", "\u{0}\u{200b}", "\u{301}"] {
            assert!(parts(view, 0, blank).is_empty(), "{blank:?}");
        }
    }
}

#[test]
fn a_long_text_is_read_up_to_its_limit() {
    // Some characters become three when they are taken apart.
    for long in ["ab ".repeat(1 << 20), "각".repeat(1 << 16), "x".repeat(1 << 20)] {
        for view in VIEWS {
            let counted: usize = parts(view, 0, &long).iter().map(Vec::len).sum();
            assert!(counted > 0 && counted <= 12 * (MAX_TEXT + 1), "{counted}");
            let same = parts(view, 0, &long) == parts(view, 0, cut(&long, MAX_TEXT));
            assert!(same, "{view:?}");
        }
    }
}

/// A table that knows two buckets of three among those of the texts.
fn table(view: View) -> Table {
    let mut known: Vec<u32> =
        TEXTS.iter().flat_map(|text| parts(&view, 0, text).concat()).collect();
    known.sort_unstable();
    known.dedup();
    known.retain(|bucket| bucket % 3 > 0);
    let known: Vec<(u32, f32)> = known.iter().map(|b| (*b, 1.0 + (b % 7) as f32 / 3.0)).collect();
    let mut table = Table::new(view, &known).unwrap();
    let weights: Vec<f64> = (0..known.len()).map(|k| (k as f64 * 0.7).sin()).collect();
    table.set_weights(&weights, -0.25).unwrap();
    table
}

/// The same sums by a map.
fn reference(table: &Table, known: &BTreeMap<u32, (f64, f64)>, text: &str) -> f64 {
    let mut term = 0.0;
    for part in parts(table.view(), 0, text) {
        let (mut product, mut square) = (0.0, 0.0);
        for bucket in part.iter().collect::<std::collections::BTreeSet<_>>() {
            let count = part.iter().filter(|other| *other == bucket).count() as f64;
            let Some((frequency, weight)) = known.get(bucket) else { continue };
            let count = if table.view().sublinear { 1.0 + count.ln() } else { count };
            product += count * frequency * weight;
            square += (count * frequency).powi(2);
        }
        term += if square > 0.0 { product / square.sqrt() } else { 0.0 };
    }
    term
}

#[test]
fn terms_equal_the_reference_and_those_of_the_file() {
    for view in VIEWS {
        let table = table(*view);
        let mut tensors = TensorSet::new();
        table.store("grams", &mut tensors);
        let file = artifact::write(BlobKind::Version, "{}", &tensors);
        let file = Artifact::open(Arc::new(file)).unwrap();
        let stored = Stored::open(&file, "grams", *view).unwrap();
        let grams = stored.of((**file.storage()).as_ref());
        let known: BTreeMap<u32, (f64, f64)> = (0..view.buckets() as u32)
            .filter_map(|bucket| table.slot(bucket).map(|(slot, f)| (bucket, slot, f)))
            .map(|(b, slot, f)| (b, (f, f64::from((slot as f64 * 0.7).sin() as f32))))
            .collect();
        assert_eq!(known.len(), table.len());
        let mut reader = Reader::default();
        for text in TEXTS {
            let term = table.grams().term(0, text, &mut reader);
            assert!((term - reference(&table, &known, text)).abs() < 1e-12, "{text}");
            assert_eq!(term.to_bits(), grams.term(0, text, &mut reader).to_bits());
        }
        let score = grams.score([(7, ""), (1, TEXTS[0])], &mut reader);
        assert_eq!(score, -0.25 + 0.0 + grams.term(1, TEXTS[0], &mut reader));
        assert_eq!(grams.score([], &mut reader), -0.25);
    }
}

#[test]
fn weights_count_once_for_each_bucket() {
    let counts: Vec<(u32, usize)> = counted(&[1, 1, 1, 4, 9, 9]).collect();
    assert_eq!(counts, [(1, 3), (4, 1), (9, 2)]);
    let [raw, damped] = [false, true].map(|sublinear| View { sublinear, ..View::default() });
    assert_eq!([1, 2, 9].map(|count| raw.weight(count)), [1.0, 2.0, 9.0]);
    assert_eq!(damped.weight(1), 1.0);
    assert!((damped.weight(9) - 1.0 - 9f64.ln()).abs() < 1e-15);
}

#[test]
fn settings_and_tables_out_of_range_are_refused() {
    let view = View { bits: 6, ..View::default() };
    for wrong in [
        View { words: 5, ..view },
        View { words: 0, characters: None, ..view },
        View { characters: Some((0, 3)), ..view },
        View { characters: Some((4, 3)), ..view },
        View { characters: Some((3, 9)), ..view },
        View { bits: 5, ..view },
        View { bits: 23, ..view },
        View { bits: 255, ..view },
    ] {
        assert!(wrong.check().is_err(), "{wrong:?}");
        assert!(Table::new(wrong, &[]).is_err(), "{wrong:?}");
    }
    for known in [&[(3, 1.0), (3, 1.0)][..], &[(4, 1.0), (3, 1.0)], &[(64, 1.0)], &[(1, f32::NAN)]]
    {
        assert!(Table::new(view, known).is_err(), "{known:?}");
    }
    let mut table = Table::new(view, &[(1, 1.0), (63, 2.0)]).unwrap();
    for (weights, bias) in
        [(&[1.0][..], 0.0), (&[1.0, f64::NAN], 0.0), (&[1.0, 1e39], 0.0), (&[1.0, 1.0], f64::NAN)]
    {
        assert!(table.set_weights(weights, bias).is_err(), "{weights:?} {bias}");
    }
    assert_eq!(
        [0, 1, 62, 63, 64, u32::MAX].map(|bucket| table.slot(bucket).map(|(s, _)| s)),
        [None, Some(0), None, Some(1), None, None]
    );
}
