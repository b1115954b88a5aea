//! Damaged arrays and hostile texts of boosted trees: refused, or scored without a panic, a loop or
//! a read out of bounds.

mod forest;
mod targets;

use std::sync::Arc;

use forest::{Kind, Random};
use riskft_core::artifact::{self, Artifact, Tensor, TensorSet};
use riskft_core::protocol::BlobKind;
use riskft_core::refusal::Refusal;
use riskft_core::trees::{lightgbm, Places, Stored};
use targets::memory::{self, Counting};
use targets::trees::MODEL;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FEATURES: usize = 3;

/// Arrays as they are stored.
#[derive(Clone)]
struct Arrays {
    nodes: Vec<u64>,
    roots: Vec<u32>,
    leaves: Vec<f64>,
    numbers: Vec<u32>,
    thresholds: Vec<f64>,
    categories: Vec<u32>,
    bits: Vec<u32>,
}

impl Arrays {
    fn tensors(&self) -> TensorSet {
        let rows = |values: &[u32], width| Tensor::new(&[values.len() / width, width], values);
        TensorSet::from([
            ("t.nodes".into(), Tensor::new(&[self.nodes.len()], &self.nodes)),
            ("t.roots".into(), Tensor::new(&[self.roots.len()], &self.roots)),
            ("t.leaves".into(), Tensor::new(&[self.leaves.len()], &self.leaves)),
            ("t.numbers".into(), rows(&self.numbers, 2)),
            ("t.thresholds".into(), Tensor::new(&[self.thresholds.len()], &self.thresholds)),
            ("t.categories".into(), rows(&self.categories, 3)),
            ("t.bits".into(), Tensor::new(&[self.bits.len()], &self.bits)),
        ])
    }
    fn open(&self) -> Result<(Artifact, Stored), Refusal> {
        let file = file(&self.tensors());
        let stored = Stored::open(&file, "t", FEATURES)?;
        Ok((file, stored))
    }
    fn refused(&self, what: &str) {
        let refusal = self.open().err().unwrap_or_else(|| panic!("{what} is taken"));
        assert_eq!(refusal.code, "XX001", "{what}: {refusal:?}");
    }
}

fn file(tensors: &TensorSet) -> Artifact {
    Artifact::open(Arc::new(artifact::write(BlobKind::Version, "{}", tensors))).unwrap()
}

fn arrays() -> Arrays {
    let kind = Kind { features: FEATURES, leaves: 6, category: 0.4, zero_missing: 0.2 };
    let trees = forest::trees(kind, 5, &mut Random(3));
    let mut tensors = TensorSet::new();
    forest::ensemble(kind, &trees).store("t", &mut tensors).unwrap();
    let file = file(&tensors);
    Arrays {
        nodes: file.slice("t.nodes").unwrap().to_vec(),
        roots: file.slice("t.roots").unwrap().to_vec(),
        leaves: file.slice("t.leaves").unwrap().to_vec(),
        numbers: file.slice("t.numbers").unwrap().to_vec(),
        thresholds: file.slice("t.thresholds").unwrap().to_vec(),
        categories: file.slice("t.categories").unwrap().to_vec(),
        bits: file.slice("t.bits").unwrap().to_vec(),
    }
}

fn refuse(what: &str, change: &dyn Fn(&mut Arrays)) {
    let mut arrays = arrays();
    change(&mut arrays);
    arrays.refused(what);
}

#[test]
fn lies_about_the_trees_are_refused() {
    let sound = arrays();
    assert!(sound.open().is_ok());
    refuse("a lost root", &|a| a.roots = a.roots[1..].to_vec());
    refuse("another first root", &|a| a.roots[0] = 1);
    refuse("a root twice", &|a| a.roots[2] = a.roots[1]);
    refuse("a root beyond the nodes", &|a| a.roots[4] = u32::MAX);
    refuse("falling roots", &|a| a.roots.swap(1, 2));
    refuse("no roots", &|a| a.roots.clear());
    refuse("no nodes", &|a| a.nodes.clear());
    refuse("a lost node", &|a| a.nodes.truncate(a.nodes.len() - 1));
    refuse("a node too many", &|a| a.nodes.push(0));
    refuse("a lost leaf", &|a| a.leaves.truncate(a.leaves.len() - 1));
    refuse("a leaf too many", &|a| a.leaves.push(0.0));
    let places = 1 + 4 * sound.numbers.len() / 2 + 32 * sound.categories.len() / 3;
    for (k, node) in sound.nodes.iter().enumerate() {
        let [place, rank, step] = [node & 0xffff_ffff, node >> 32 & 0xffff, node >> 48];
        let with = |what: &str, place: u64, rank: u64, step: u64| {
            refuse(what, &|a| a.nodes[k] = place | rank << 32 | step << 48);
        };
        for other in [0, step.wrapping_sub(1) & 0xffff, step + 1, 0xffff] {
            if other != step {
                with("another step", place, rank, other);
            }
        }
        for beyond in [places as u64, 0xffff_ffff] {
            with("a place that a row lacks", beyond, rank, step);
        }
        with("a rank of no threshold", place, 0xffff, step);
        match place {
            0 => with("the next leaf", place, rank + 1, step),
            _ => with("a leaf in its place", 0, 0, 0),
        }
    }
    for k in 0..sound.leaves.len() {
        for float in [f64::NAN, f64::INFINITY, -1.01e100] {
            refuse("a leaf", &|a| a.leaves[k] = float);
        }
    }
}

#[test]
fn lies_about_what_splits_compare_with_are_refused() {
    let sound = arrays();
    for k in 0..sound.numbers.len() / 2 {
        for feature in [FEATURES as u32, u32::MAX] {
            refuse("a feature", &|a| a.numbers[2 * k] = feature);
        }
        for end in [0, sound.thresholds.len() as u32 + 1, u32::MAX] {
            refuse("an end", &|a| a.numbers[2 * k + 1] = end);
        }
    }
    refuse("a lost number", &|a| a.numbers.truncate(a.numbers.len() - 2));
    refuse("a number without thresholds", &|a| a.numbers.extend_from_within(a.numbers.len() - 2..));
    refuse("a threshold too many", &|a| a.thresholds.push(f64::INFINITY));
    for k in 0..sound.thresholds.len() {
        for float in [f64::NAN, f64::NEG_INFINITY] {
            refuse("no number", &|a| a.thresholds[k] = float);
        }
        if k > 0 && !sound.numbers.contains(&(k as u32)) {
            refuse("a threshold twice", &|a| a.thresholds[k] = a.thresholds[k - 1]);
        }
    }
    for k in 0..sound.categories.len() / 3 {
        for feature in [FEATURES as u32, u32::MAX] {
            refuse("a feature", &|a| a.categories[3 * k] = feature);
        }
        for (part, known) in [(1, sound.categories[3 * k + 1]), (2, sound.categories[3 * k + 2])] {
            for count in [0, known + 1, known - 1, u32::MAX] {
                refuse("a count", &|a| a.categories[3 * k + part] = count);
            }
        }
        refuse("a product that overflows", &|a| a.categories[3 * k + 1..3 * k + 3].fill(u32::MAX));
    }
    refuse("fewer words", &|a| a.bits.truncate(a.bits.len() - 1));
    refuse("more words", &|a| a.bits.push(0));
}

#[test]
fn tensors_of_other_types_and_shapes_are_refused() {
    let sound = arrays();
    let refuse = |name: &str, tensor: Option<Tensor>| {
        let mut tensors = sound.tensors();
        tensors.remove(name);
        tensors.extend(tensor.map(|tensor| (name.to_owned(), tensor)));
        let refusal = Stored::open(&file(&tensors), "t", FEATURES).unwrap_err();
        assert_eq!(refusal.code, "XX001", "{name}");
    };
    for name in sound.tensors().keys() {
        refuse(name, None);
        refuse(name, Some(Tensor::new::<u32>(&[0], &[])));
        refuse(name, Some(Tensor::new(&[1, 1], &[0u32])));
        refuse(name, Some(Tensor::new(&[2, 1], &[0u64, 0])));
        refuse(name, Some(Tensor::new::<u64>(&[0, 2], &[])));
        refuse(name, Some(Tensor::new(&[1], &[0f32])));
        refuse(name, Some(Tensor::new::<f64>(&[], &[1.0])));
    }
}

/// Of every bit of every array: a refusal, or trees that still give a finite sum.
#[test]
fn every_flipped_bit_is_refused_or_scored() {
    let sound = arrays();
    let (mut refused, mut scored) = (0, 0);
    let mut random = Random(5);
    let kind = Kind { features: FEATURES, leaves: 6, category: 0.4, zero_missing: 0.2 };
    let rows: Vec<Vec<f64>> = (0..20).map(|_| forest::row(kind, 0.3, &mut random)).collect();
    let mut places = Places::default();
    let mut judge = |change: &dyn Fn(&mut Arrays)| {
        let mut arrays = sound.clone();
        change(&mut arrays);
        match arrays.open() {
            Err(refusal) => {
                assert_eq!(refusal.code, "XX001");
                refused += 1;
            }
            Ok((file, stored)) => {
                let trees = stored.of((**file.storage()).as_ref());
                assert!(rows.iter().all(|row| trees.score(row, &mut places).is_finite()));
                scored += 1;
            }
        }
    };
    for bit in 0..64 * sound.nodes.len() {
        judge(&|a| a.nodes[bit / 64] ^= 1 << (bit % 64));
    }
    let float =
        |value: &mut f64, bit: usize| *value = f64::from_bits(value.to_bits() ^ (1u64 << bit));
    for bit in 0..64 * sound.leaves.len() {
        judge(&|a| float(&mut a.leaves[bit / 64], bit % 64));
    }
    for bit in 0..64 * sound.thresholds.len() {
        judge(&|a| float(&mut a.thresholds[bit / 64], bit % 64));
    }
    for bit in 0..32 * sound.roots.len() {
        refuse("a flipped bit of the roots", &|a| a.roots[bit / 32] ^= 1 << (bit % 32));
    }
    for bit in 0..32 * sound.numbers.len() {
        judge(&|a| a.numbers[bit / 32] ^= 1 << (bit % 32));
    }
    for bit in 0..32 * sound.categories.len() {
        judge(&|a| a.categories[bit / 32] ^= 1 << (bit % 32));
    }
    for bit in 0..32 * sound.bits.len() {
        judge(&|a| a.bits[bit / 32] ^= 1 << (bit % 32));
    }
    println!("{refused} flipped bits were refused, {scored} scored");
    assert!(refused > 1000 && scored > 1000);
}

/// Bytes that change after the check (a page that rots) give a wrong sum at worst.
#[test]
fn unchecked_bytes_end_and_stay_in_bounds() {
    let (file, stored) = arrays().open().unwrap();
    let length = (**file.storage()).as_ref().len();
    let mut random = Random(9);
    let mut places = Places::default();
    for round in 0..300 {
        let words: Vec<u64> = (0..length.div_ceil(8)).map(|_| random.next()).collect();
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        if round % 3 == 0 {
            bytes.iter_mut().for_each(|byte| *byte &= 1);
        }
        bytes.truncate(random.below(length + 1));
        let _ = stored.of(&bytes).score(&[0.5, f64::NAN, 1.0], &mut places);
    }
    let _ = stored.of(&[]).score(&[], &mut places);
}

fn code(text: &str) -> Option<String> {
    lightgbm::read(text).err().map(|refusal| refusal.code)
}

#[test]
fn kinds_that_are_not_scored_are_named() {
    assert_eq!(code(MODEL), None);
    let changes = [
        ("version=v4", "version=v3", "0A000"),
        ("num_class=1", "num_class=3", "0A000"),
        ("num_tree_per_iteration=1", "num_tree_per_iteration=3", "0A000"),
        ("binary sigmoid:1", "binary sigmoid:2", "0A000"),
        ("binary sigmoid:1", "regression", "0A000"),
        ("objective=", "average_output\nobjective=", "0A000"),
        ("is_linear=0", "is_linear=1", "0A000"),
        ("tree\n", "", "22000"),
        ("max_feature_idx=1", "max_feature_idx=0", "22000"),
        ("max_feature_idx=1", "max_feature_idx=-1", "22000"),
        ("max_feature_idx=1", "max_feature_idx=18446744073709551615", "22000"),
        ("max_feature_idx=1", "max_feature_idx=16777216", "22000"),
        ("objective=", "objectives=", "22000"),
        ("num_class=1", "num_class=1\nnum_class=1", "22000"),
        ("tree_sizes=1 1", "tree_sizes=1", "22000"),
        ("tree_sizes=1 1", "tree_sizes=1 1 1", "22000"),
        ("Tree=1", "Tree=2", "22000"),
        ("end of trees", "", "22000"),
        ("num_leaves=3", "num_leaves=0", "22000"),
        ("num_leaves=3", "num_leaves=2", "22000"),
        ("num_leaves=3", "num_leaves=4", "22000"),
        ("num_leaves=3", "num_leaves=100000", "22000"),
        ("num_leaves=3", "num_leaves=18446744073709551615", "22000"),
        ("num_cat=1", "num_cat=0", "22000"),
        ("num_cat=1", "num_cat=2", "22000"),
        ("num_cat=1", "num_cat=18446744073709551615", "22000"),
        ("cat_boundaries=0 2", "cat_boundaries=0 4294967295", "22000"),
        ("cat_boundaries=0 2", "cat_boundaries=1 2", "22000"),
        ("cat_boundaries=0 2", "cat_boundaries=2 0", "22000"),
        ("cat_boundaries=0 2", "cat_boundaries=0", "22000"),
        ("cat_threshold=9 1", "cat_threshold=9 4294967296", "22000"),
        ("cat_threshold=9 1", "cat_threshold=9", "22000"),
        ("threshold=0 0.5", "threshold=1 0.5", "22000"),
        ("threshold=0 0.5", "threshold=nan 0.5", "22000"),
        ("threshold=0 0.5", "threshold=0 -inf", "22000"),
        ("threshold=0 0.5", "threshold=0 0.5 1", "22000"),
        ("threshold=0 0.5", "threshold=0 x", "22000"),
        ("decision_type=1 10", "decision_type=1 14", "22000"),
        ("decision_type=1 10", "decision_type=1 -2", "22000"),
        ("left_child=1 -1", "left_child=0 -1", "22000"),
        ("left_child=1 -1", "left_child=2 -1", "22000"),
        ("left_child=1 -1", "left_child=1 -4", "22000"),
        ("left_child=1 -1", "left_child=1 -2", "22000"),
        ("left_child=1 -1", "left_child=1 -2147483648", "22000"),
        ("split_feature=1 0", "split_feature=2 0", "22000"),
        ("split_feature=1 0", "split_feature=-1 0", "22000"),
        ("leaf_value=0.1 0.2 -0.3", "leaf_value=0.1 0.2", "22000"),
        ("leaf_value=0.1 0.2 -0.3", "leaf_value=0.1 nan -0.3", "22000"),
        ("leaf_value=0.1 0.2 -0.3", "leaf_value=0.1 1e101 -0.3", "22000"),
    ];
    for (from, to, wanted) in changes {
        assert!(MODEL.contains(from), "{from}");
        let changed = MODEL.replacen(from, to, 1);
        assert_eq!(code(&changed).as_deref(), Some(wanted), "{from} -> {to}");
    }
    // A header that breaks off may name another version or objective.
    let (first, ended) = (MODEL.find("Tree=0").unwrap(), MODEL.find("end of trees").unwrap());
    for length in 0..ended {
        let code = code(&MODEL[..length]).unwrap();
        assert!(code == "22000" || length < first && code == "0A000", "{length} bytes: {code}");
    }
}

/// Texts that ask for much with little: as many bytes of memory for each of theirs as a sound text.
#[test]
fn long_texts_take_memory_in_proportion() {
    let head = &MODEL[..MODEL.find("Tree=0").unwrap()];
    let section = |leaves: usize| {
        let many = |word: &str, count: usize| vec![word; count].join(" ");
        let chain = |from: i64| {
            let children = (0..leaves as i64 - 1).map(|i| match from + i + 1 < leaves as i64 - 1 {
                true => (from + i + 1).to_string(),
                false => format!("-{leaves}"),
            });
            children.collect::<Vec<_>>().join(" ")
        };
        let leaf: Vec<String> = (1..leaves).map(|i| format!("-{i}")).collect();
        let n = leaves - 1;
        format!(
            "Tree=0\nnum_leaves={leaves}\nnum_cat=0\nsplit_feature={}\nthreshold={}\n\
             decision_type={}\nleft_child={}\nright_child={}\nleaf_value={}\n",
            many("0", n),
            many("0", n),
            many("2", n),
            leaf.join(" "),
            chain(0),
            many("1", leaves),
        )
    };
    let head = head.replace("tree_sizes=1 1", "tree_sizes=1");
    let chain = format!("{head}{}end of trees\n", section(100_000));
    let read = || lightgbm::read(&chain).map(|ensemble| ensemble.score(&[1.0, 1.0]));
    memory::begin();
    assert_eq!(read().ok(), Some(1.0));
    let taken = memory::most();
    println!("a chain of {} bytes took {taken}", chain.len());
    assert!(taken < 20 * chain.len());
    let keys: String = (0..100_000).map(|i| format!("k{i}=1\n")).collect();
    let word = "9".repeat(1 << 20);
    for text in [
        format!("{head}{}", section(131_073)),
        format!("{head}{keys}"),
        head.replace("max_feature_idx=1", &format!("max_feature_idx={word}")),
        head.replace("=1", &format!("={}", "1 ".repeat(1 << 20))),
        "=\n".repeat(1 << 20),
        "\n".repeat(1 << 22),
        format!("{head}{}", "Tree=0\n".repeat(1 << 17)),
    ] {
        memory::begin();
        assert!(lightgbm::read(&text).is_err());
        let taken = memory::most();
        assert!(taken < 4 * text.len() + 4096, "{} bytes took {taken}", text.len());
    }
}
