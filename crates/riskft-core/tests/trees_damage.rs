//! Damaged arrays and hostile texts of boosted trees: refused, or scored without a panic, a loop or
//! a read out of bounds.

mod forest;
mod targets;

use std::sync::Arc;

use forest::{Kind, Random};
use riskft_core::artifact::{self, Artifact, Tensor, TensorSet};
use riskft_core::protocol::BlobKind;
use riskft_core::refusal::Refusal;
use riskft_core::trees::{lightgbm, Stored};
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
    bits: Vec<u32>,
}

impl Arrays {
    fn file(&self) -> Artifact {
        let shape = [self.nodes.len() / 2, 2];
        let tensors = TensorSet::from([
            ("t.nodes".into(), Tensor::new(&shape, &self.nodes)),
            ("t.roots".into(), Tensor::new(&[self.roots.len()], &self.roots)),
            ("t.bits".into(), Tensor::new(&[self.bits.len()], &self.bits)),
        ]);
        Artifact::open(Arc::new(artifact::write(BlobKind::Version, "{}", &tensors))).unwrap()
    }
    fn open(&self) -> Result<(Artifact, Stored), Refusal> {
        let file = self.file();
        let stored = Stored::open(&file, "t", FEATURES)?;
        Ok((file, stored))
    }
    fn refused(&self, what: &str) {
        let refusal = self.open().err().unwrap_or_else(|| panic!("{what} is taken"));
        assert_eq!(refusal.code, "XX001", "{what}: {refusal:?}");
    }
}

fn arrays() -> Arrays {
    let kind = Kind { features: FEATURES, leaves: 6, category: 0.4, zero_missing: 0.2 };
    let trees = forest::trees(kind, 5, &mut Random(3));
    let mut tensors = TensorSet::new();
    forest::ensemble(kind, &trees).store("t", &mut tensors);
    let file = artifact::write(BlobKind::Version, "{}", &tensors);
    let file = Artifact::open(Arc::new(file)).unwrap();
    Arrays {
        nodes: file.slice("t.nodes").unwrap().to_vec(),
        roots: file.slice("t.roots").unwrap().to_vec(),
        bits: file.slice("t.bits").unwrap().to_vec(),
    }
}

#[test]
fn lies_about_the_trees_are_refused() {
    let sound = arrays();
    assert!(sound.open().is_ok());
    let refuse = |what: &str, change: &dyn Fn(&mut Arrays)| {
        let mut arrays = sound.clone();
        change(&mut arrays);
        arrays.refused(what);
    };
    refuse("a lost root", &|a| a.roots = a.roots[1..].to_vec());
    refuse("another first root", &|a| a.roots[0] = 1);
    refuse("a root twice", &|a| a.roots[2] = a.roots[1]);
    refuse("a root beyond the nodes", &|a| a.roots[4] = u32::MAX);
    refuse("falling roots", &|a| a.roots.swap(1, 2));
    refuse("no roots", &|a| a.roots.clear());
    refuse("no nodes", &|a| a.nodes.clear());
    refuse("a lost node", &|a| a.nodes.truncate(a.nodes.len() - 2));
    refuse("a node too many", &|a| a.nodes.extend([0, 55 << 32]));
    refuse("fewer words", &|a| a.bits.truncate(a.bits.len() - 1));
    for k in 0..sound.nodes.len() / 2 {
        let [value, what] = [sound.nodes[2 * k], sound.nodes[2 * k + 1]];
        let (kind, link) = ((what >> 24) as u8, what >> 32);
        let relink = |link: u64| what & 0xffff_ffff | link << 32;
        for other in [0, link.wrapping_sub(1), link + 1, k as u64 + 100, u64::from(u32::MAX)] {
            if other != link {
                refuse("another link", &|a| a.nodes[2 * k + 1] = relink(other));
            }
        }
        if kind != 0 {
            refuse("a link to itself", &|a| a.nodes[2 * k + 1] = relink(k as u64));
            refuse("a leaf in its place", &|a| {
                a.nodes[2 * k + 1] = (k as u64) << 32;
                a.nodes[2 * k] = 0;
            });
        }
        for feature in [FEATURES as u64, 0xff_ffff] {
            refuse("a feature", &|a| a.nodes[2 * k + 1] = what & !0xff_ffff | feature);
        }
        for flags in [2u64, 4, 6, 9, 16, 17, 128, 255] {
            refuse("flags", &|a| a.nodes[2 * k + 1] = what & !0xff00_0000 | flags << 24);
        }
        if kind == 8 {
            let words = sound.bits.len() as u64;
            for span in [words + 1, words | 1 << 32, u64::MAX, 1 | u64::MAX << 32] {
                refuse("a bitset", &|a| a.nodes[2 * k] = span);
            }
        } else {
            for float in [f64::NAN, f64::NEG_INFINITY] {
                assert_ne!(value, float.to_bits());
                refuse("no number", &|a| a.nodes[2 * k] = float.to_bits());
            }
        }
    }
}

#[test]
fn tensors_of_other_types_and_shapes_are_refused() {
    let sound = arrays();
    let empty = || Tensor::new::<u32>(&[0], &[]);
    let refuse = |name: &str, tensor: Option<Tensor>| {
        let shape = [sound.nodes.len() / 2, 2];
        let mut tensors = TensorSet::from([
            ("t.nodes".into(), Tensor::new(&shape, &sound.nodes)),
            ("t.roots".into(), Tensor::new(&[sound.roots.len()], &sound.roots)),
            ("t.bits".into(), Tensor::new(&[sound.bits.len()], &sound.bits)),
        ]);
        tensors.remove(name);
        tensors.extend(tensor.map(|tensor| (name.to_owned(), tensor)));
        let file = artifact::write(BlobKind::Version, "{}", &tensors);
        let file = Artifact::open(Arc::new(file)).unwrap();
        let refusal = Stored::open(&file, "t", FEATURES).unwrap_err();
        assert_eq!(refusal.code, "XX001", "{name}");
    };
    for name in ["t.nodes", "t.roots", "t.bits"] {
        refuse(name, None);
        refuse(name, Some(empty()));
        refuse(name, Some(Tensor::new(&[1, 1], &[0u32])));
        refuse(name, Some(Tensor::new(&[2, 1], &[0u64, 0])));
        refuse(name, Some(Tensor::new::<u64>(&[0, 2], &[])));
        refuse(name, Some(Tensor::new(&[1], &[0f32])));
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
    let mut judge = |arrays: &Arrays| match arrays.open() {
        Err(refusal) => {
            assert_eq!(refusal.code, "XX001");
            refused += 1;
        }
        Ok((file, stored)) => {
            let trees = stored.of((**file.storage()).as_ref());
            assert!(rows.iter().all(|row| trees.score(row).is_finite()));
            scored += 1;
        }
    };
    for bit in 0..64 * sound.nodes.len() {
        let mut arrays = sound.clone();
        arrays.nodes[bit / 64] ^= 1 << (bit % 64);
        judge(&arrays);
    }
    for bit in 0..32 * sound.roots.len() {
        let mut arrays = sound.clone();
        arrays.roots[bit / 32] ^= 1 << (bit % 32);
        arrays.refused("a flipped bit of the roots");
        judge(&arrays);
    }
    for bit in 0..32 * sound.bits.len() {
        let mut arrays = sound.clone();
        arrays.bits[bit / 32] ^= 1 << (bit % 32);
        judge(&arrays);
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
    for round in 0..300 {
        let words: Vec<u64> = (0..length.div_ceil(8)).map(|_| random.next()).collect();
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        if round % 3 == 0 {
            bytes.iter_mut().for_each(|byte| *byte &= 1);
        }
        bytes.truncate(random.below(length + 1));
        let _ = stored.of(&bytes).score(&[0.5, f64::NAN, 1.0]);
    }
    let _ = stored.of(&[]).score(&[]);
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
