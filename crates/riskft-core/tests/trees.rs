//! Boosted trees: LightGBM's own raw scores to the bit, random trees against a plain reference, and
//! the way into a model file and out again. The golden numbers come from `golden/trees.py`.

mod forest;

use std::io::Read;
use std::sync::Arc;

use flate2::read::GzDecoder;
use forest::{ensemble, row, trees, Kind, Random};
use riskft_core::artifact::{self, Artifact, TensorSet};
use riskft_core::protocol::BlobKind;
use riskft_core::trees::{lightgbm, Ensemble, Node, Places, Side, Stored};
use riskft_core::trees::{MAX_LEAF, MAX_PLACES, MAX_TREE, ZERO};
use safetensors::SafeTensors;

const CASES: &[&str] = &[
    "loans",
    "missing_none",
    "missing_zero",
    "missing_nan",
    "categories",
    "single",
    "none",
    "edges",
];

fn golden() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/trees.safetensors.gz");
    let mut file = Vec::new();
    GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut file).unwrap();
    file
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Vec<f64> {
    let tensor = tensors.tensor(name).unwrap();
    tensor.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
}

/// A version's file that holds the trees, opened.
fn stored(ensemble: &Ensemble) -> (Artifact, Stored) {
    let mut tensors = TensorSet::new();
    ensemble.store("trees", &mut tensors).unwrap();
    let file = artifact::write(BlobKind::Version, "{}", &tensors);
    let file = Artifact::open(Arc::new(file)).unwrap();
    let stored = Stored::open(&file, "trees", ensemble.features()).unwrap();
    (file, stored)
}

#[test]
fn raw_scores_equal_lightgbm_to_the_bit() {
    let file = golden();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    assert_eq!(tensors.len(), 3 * CASES.len());
    let mut places = Places::default();
    for case in CASES {
        let text = tensors.tensor(&format!("{case}.model")).unwrap().data();
        let ensemble = lightgbm::read(std::str::from_utf8(text).unwrap()).unwrap();
        let (file, stored) = stored(&ensemble);
        let trees = stored.of((**file.storage()).as_ref());
        let rows = floats(&tensors, &format!("{case}.rows"));
        let scores = floats(&tensors, &format!("{case}.scores"));
        assert_eq!(rows.len(), scores.len() * ensemble.features());
        for (row, score) in rows.chunks_exact(ensemble.features()).zip(&scores) {
            assert_eq!(ensemble.score(row).to_bits(), score.to_bits(), "{case}: {row:?}");
            assert_eq!(trees.score(row, &mut places).to_bits(), score.to_bits(), "{case}: {row:?}");
        }
        println!("{case}: {} trees, {} rows", ensemble.len(), scores.len());
    }
}

const KINDS: &[Kind] = &[
    Kind { features: 1, leaves: 1, category: 0.0, zero_missing: 0.0 },
    Kind { features: 1, leaves: 2, category: 0.0, zero_missing: 0.0 },
    Kind { features: 3, leaves: 5, category: 1.0, zero_missing: 0.0 },
    Kind { features: 5, leaves: 31, category: 0.0, zero_missing: 0.0 },
    Kind { features: 5, leaves: 31, category: 0.0, zero_missing: 0.5 },
    Kind { features: 40, leaves: 31, category: 0.3, zero_missing: 0.1 },
    Kind { features: 7, leaves: 500, category: 0.5, zero_missing: 0.5 },
];

#[test]
fn random_trees_equal_the_reference_to_the_bit() {
    let mut random = Random(7);
    let mut places = Places::default();
    for kind in KINDS {
        for count in [0, 1, 15, 16, 17, 50] {
            let trees = forest::trees(*kind, count, &mut random);
            let ensemble = forest::ensemble(*kind, &trees);
            let (file, stored) = stored(&ensemble);
            for wild in [0.0, 0.3, 1.0] {
                for _ in 0..50 {
                    let mut row = forest::row(*kind, wild, &mut random);
                    // A row that is too short lacks its last features.
                    row.truncate(kind.features - random.below(2).min(kind.features - 1));
                    let wanted = forest::reference(&trees, &row).to_bits();
                    assert_eq!(ensemble.score(&row).to_bits(), wanted, "{row:?}");
                    let trees = stored.of((**file.storage()).as_ref());
                    assert_eq!(trees.score(&row, &mut places).to_bits(), wanted, "{row:?}");
                }
            }
        }
    }
}

/// A forest whose leaves are powers of two, so that a sum tells every leaf: stored arrays reach the
/// very leaves of the plain walk, at, beside and far from each threshold and code.
#[test]
fn every_row_reaches_the_leaves_of_the_plain_walk() {
    let mut random = Random(23);
    let mut places = Places::default();
    let kind = Kind { features: 4, leaves: 16, category: 0.4, zero_missing: 0.3 };
    for _ in 0..10 {
        let mut trees = forest::trees(kind, 12, &mut random);
        let values = beside(&mut trees, kind.features);
        for (k, tree) in trees.iter_mut().enumerate() {
            let leaves = tree.iter_mut().filter(|node| matches!(node, Node::Leaf(_)));
            leaves.zip(0u64..).for_each(|(leaf, i)| *leaf = Node::Leaf((i << (4 * k)) as f64));
        }
        let ensemble = forest::ensemble(kind, &trees);
        let (file, stored) = stored(&ensemble);
        let arrays = stored.of((**file.storage()).as_ref());
        for f in 0..kind.features {
            for value in &values[f] {
                let mut row = forest::row(kind, 0.3, &mut random);
                row[f] = *value;
                let [score, wanted] =
                    [arrays.score(&row, &mut places), forest::reference(&trees, &row)];
                assert_eq!(score as u64, wanted as u64, "{row:?}");
                assert_eq!(ensemble.score(&row) as u64, wanted as u64, "{row:?}");
            }
        }
    }
}

/// Values of each feature that its splits could take for others: the thresholds, some of them
/// changed to hostile ones, and the numbers beside them; codes at the ends of words.
fn beside(trees: &mut [Vec<Node>], features: usize) -> Vec<Vec<f64>> {
    let hostile = [0.0, -0.0, ZERO, -ZERO, f64::INFINITY, f64::MAX, f64::MIN, f64::MIN_POSITIVE];
    let codes = [-1.0, -0.5, 0.0, 0.5, 31.0, 31.9, 32.0, 127.0, 128.0, 4294967295.0, 4294967296.0];
    let known = [f64::NAN, f64::NEG_INFINITY, 1e-36, -1e-36, 2e-35].into_iter().chain(codes);
    let mut values = vec![known.collect::<Vec<_>>(); features];
    for (i, node) in trees.iter_mut().flatten().enumerate() {
        if let Node::Number { feature, threshold, .. } = node {
            *threshold = hostile.get(i % 24).copied().unwrap_or(*threshold);
            values[*feature as usize].extend([
                *threshold,
                threshold.next_up(),
                threshold.next_down(),
            ]);
        }
    }
    values
}

/// A tree of one split below the other.
fn chain(splits: u32, split: impl Fn(u32, [u32; 2]) -> Node) -> Vec<Node> {
    let pair = |k| [split(k, [2 * k + 1, 2 * k + 2]), Node::Leaf(0.5)];
    (0..splits).flat_map(pair).chain([Node::Leaf(0.5)]).collect()
}

/// What the arrays cannot hold is refused, and nothing is written.
#[test]
fn trees_beyond_the_arrays_are_refused() {
    let number = |feature, threshold: u32, children| Node::Number {
        feature,
        threshold: f64::from(threshold),
        missing: Side::Left,
        zero_missing: false,
        children,
    };
    let store = |trees: &[Vec<Node>]| {
        let mut ensemble = Ensemble::new(MAX_PLACES / 4).unwrap();
        trees.iter().for_each(|tree| ensemble.push(tree).unwrap());
        let mut tensors = TensorSet::new();
        let result = ensemble.store("trees", &mut tensors);
        assert_eq!(tensors.is_empty(), result.is_err());
        result.err().unwrap_or_default()
    };
    let longest = MAX_TREE as u32 / 2 - 1;
    let of = |tree: u32| chain(longest, |k, children| number(0, longest * tree + k, children));
    assert_eq!(store(&[of(0), of(1), of(0)]), "");
    assert!(store(&[of(0), of(1), of(2)]).contains("thresholds"));
    let longer = chain(longest + 1, |k, children| number(0, k, children));
    assert!(store(&[longer]).contains("nodes"));
    let wide = |tree: u32| chain(1 << 14, |k, children| number((tree << 14) + k, 0, children));
    let wide: Vec<_> = (0..MAX_PLACES as u32 >> 16).map(wide).collect();
    assert!(store(&wide).contains("places"));
    assert_eq!(store(&wide[1..]), "");
    // Two words for each of 16 million codes.
    let sets = chain(33, |k, children| {
        let codes = if k == 0 { [vec![0; (1 << 19) - 1], vec![1 << 31]].concat() } else { vec![k] };
        Node::Category { feature: 0, codes, children }
    });
    assert!(store(&[sets]).contains("words"));
}

#[test]
fn the_order_of_a_trees_nodes_does_not_count() {
    let mut random = Random(11);
    for kind in KINDS {
        let tree = forest::tree(*kind, &mut random);
        // All but the root, in the reverse order.
        let last = tree.len() as u32;
        let turned: Vec<Node> = (0..tree.len()).map(|i| turn(&tree, i, last)).collect();
        let two = [tree, turned].map(|tree| forest::ensemble(*kind, &[tree]));
        assert_eq!(two[0].nodes(), 2 * kind.leaves - 1);
        for _ in 0..100 {
            let row = forest::row(*kind, 0.2, &mut random);
            assert_eq!(two[0].score(&row), two[1].score(&row));
        }
    }
}

fn turn(tree: &[Node], index: usize, last: u32) -> Node {
    let other = |i: u32| if i == 0 { 0 } else { last - i };
    let mut node = tree[other(index as u32) as usize].clone();
    if let Node::Number { children, .. } | Node::Category { children, .. } = &mut node {
        *children = children.map(other);
    }
    node
}

#[test]
fn trees_that_are_none_are_left_out() {
    let number = |feature, threshold, children| Node::Number {
        feature,
        threshold,
        missing: Side::Left,
        zero_missing: false,
        children,
    };
    let leaf = || Node::Leaf(1.0);
    let category = |feature, children| Node::Category { feature, codes: vec![1, 2], children };
    let mut ensemble = Ensemble::new(2).unwrap();
    ensemble.push(&[number(1, 0.0, [2, 1]), leaf(), leaf()]).unwrap();
    let before = ensemble.clone();
    let faults: &[Vec<Node>] = &[
        vec![],
        vec![Node::Leaf(f64::NAN)],
        vec![Node::Leaf(f64::INFINITY)],
        vec![Node::Leaf(MAX_LEAF * 1.01)],
        vec![leaf(), leaf()],
        vec![number(0, 0.0, [0, 1]), leaf()],
        vec![number(0, 0.0, [1, 1]), leaf()],
        vec![number(0, 0.0, [1, 3]), leaf(), leaf()],
        vec![number(0, 0.0, [1, u32::MAX]), leaf(), leaf()],
        vec![number(0, 0.0, [1, 2]), number(0, 0.0, [0, 2]), leaf()],
        vec![number(0, 0.0, [1, 2]), category(0, [3, 2]), leaf(), leaf()],
        vec![number(2, 0.0, [1, 2]), leaf(), leaf()],
        vec![category(2, [1, 2]), leaf(), leaf()],
        vec![category(0, [1, 2]), Node::Leaf(f64::NAN), leaf()],
        vec![number(0, f64::NAN, [1, 2]), leaf(), leaf()],
        vec![number(0, f64::NEG_INFINITY, [1, 2]), leaf(), leaf()],
    ];
    for fault in faults {
        assert!(ensemble.push(fault).is_err(), "{fault:?}");
        assert_eq!(ensemble, before, "{fault:?}");
    }
    assert!(Ensemble::new((1 << 24) + 1).is_err());
    ensemble.push(&[Node::Leaf(-MAX_LEAF)]).unwrap();
    assert_eq!(ensemble.score(&[]), 1.0 - MAX_LEAF);
}

/// The trees of several ensembles, each leaf by its share: the mean of their sums.
#[test]
fn the_mean_of_ensembles_is_the_mean_of_their_scores() {
    let kind = Kind { features: 6, leaves: 12, category: 0.3, zero_missing: 0.2 };
    let mut random = Random(77);
    let parts: Vec<Ensemble> =
        (1..5).map(|n| ensemble(kind, &trees(kind, n, &mut random))).collect();
    let mean = Ensemble::mean(&parts).unwrap();
    assert_eq!(mean.len(), 10);
    for _ in 0..500 {
        let row = row(kind, 0.2, &mut random);
        let wanted = parts.iter().map(|part| part.score(&row)).sum::<f64>() / 4.0;
        assert!((mean.score(&row) - wanted).abs() < 1e-12);
    }
    let (file, stored) = stored(&mean);
    let one = row(kind, 0.2, &mut random);
    let score = stored.of((**file.storage()).as_ref()).score(&one, &mut Places::default());
    assert_eq!(score.to_bits(), mean.score(&one).to_bits());
    let mut shifted = mean.clone();
    shifted.shift(-1.5).unwrap();
    let mut none = Ensemble::new(6).unwrap();
    none.shift(0.25).unwrap();
    for _ in 0..50 {
        let row = row(kind, 0.2, &mut random);
        assert!((shifted.score(&row) - (mean.score(&row) - 1.5)).abs() < 1e-12);
        assert_eq!(none.score(&row), 0.25);
    }
    assert!(Ensemble::mean(&[]).unwrap().is_empty());
    assert!(Ensemble::mean(&[parts[0].clone(), Ensemble::new(3).unwrap()]).is_err());
}
