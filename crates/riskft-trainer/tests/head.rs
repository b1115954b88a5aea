//! The network and the text terms in libtorch against core's float network: they mean the same
//! function.

use riskft_core::encode::EncodedRow;
use riskft_trainer::fit::all_parameters;
use riskft_trainer::fold;
use riskft_trainer::head::{Batch, Head, Plan};
use riskft_trainer::landmarks::Near;
use riskft_trainer::terms::{normalise, Terms, TextBatch};
use tch::{Device, Kind, Tensor};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);
const ROWS: i64 = 7;
const WIDTH: i64 = 40;

fn plan(bins: &[usize], categories: &[(usize, usize)]) -> Plan {
    Plan {
        members: 3,
        hidden: 16,
        bins: bins.to_vec(),
        categories: categories.to_vec(),
        start: -1.25,
    }
}

/// A head whose every parameter differs from its start.
fn disturbed(plan: Plan) -> Head {
    let head = Head::new(plan, Device::Cpu);
    tch::no_grad(|| {
        for parameter in all_parameters(&head) {
            let noise = parameter.randn_like() * 0.3;
            let _ = parameter.shallow_clone().g_add_(&noise);
        }
    });
    head
}

fn positions(bins: &[usize]) -> Tensor {
    let tops: Vec<f32> = bins.iter().map(|b| *b as f32).collect();
    let mut x = Tensor::rand([ROWS, bins.len() as i64], CPU) * Tensor::from_slice(&tops);
    if !bins.is_empty() {
        let _ = x.get(2).narrow(0, 0, 1).fill_(f64::NAN);
        x.get(3).copy_(&Tensor::from_slice(&tops));
        let _ = x.get(4).fill_(0.0);
    }
    x = x.contiguous();
    x
}

fn compare(plan: Plan) {
    tch::manual_seed(11);
    let head = disturbed(plan.clone());
    let x = positions(&plan.bins);
    let codes: Vec<Vec<u32>> = (0..ROWS as usize)
        .map(|row| plan.categories.iter().map(|(n, _)| ((row * 5 + 1) % n) as u32).collect())
        .collect();
    let flat: Vec<i64> = codes.iter().flatten().map(|c| i64::from(*c)).collect();
    let batch = Batch {
        positions: x.shallow_clone(),
        codes: Tensor::from_slice(&flat).view([ROWS, plan.categories.len() as i64]),
    };
    let logits = tch::no_grad(|| head.forward(&batch, false));
    let network = fold::network(Some(&head), None);
    for (row, codes) in codes.into_iter().enumerate() {
        let encoded = EncodedRow {
            positions: Vec::try_from(x.get(row as i64)).expect("floats"),
            codes,
            ..EncodedRow::default()
        };
        for (m, member) in (0i64..).zip(&network.members) {
            let (ours, theirs) = (logits.double_value(&[m, row as i64]), member.logit(&encoded));
            assert!((ours - theirs).abs() < 2e-5, "row {row}: {ours} here, {theirs} in core");
        }
    }
}

#[test]
fn the_whole_network_equals_cores() {
    compare(plan(&[24, 1, 7], &[(4, 2), (30, 6), (9, 4)]));
}

#[test]
fn parts_may_be_missing() {
    compare(plan(&[24, 3], &[]));
    compare(plan(&[], &[(12, 6)]));
}

#[test]
fn members_differ_and_count_what_they_use() {
    let head = Head::new(plan(&[5], &[(8, 4)]), Device::Cpu);
    let network = fold::network(Some(&head), None);
    assert_ne!(network.members[0].hidden, network.members[1].hidden);
    assert_eq!(head.size(), 3 * (6 * 12 + 12 + 8 * 4 + 17 * 16 + 17 * 16 + 17));
}

/// Without numbers and categories there is no network.
#[test]
fn a_head_without_inputs_says_nothing() {
    let head = Head::new(plan(&[], &[]), Device::Cpu);
    let batch = Batch {
        positions: Tensor::zeros([2, 0], CPU),
        codes: Tensor::zeros([2, 0], (Kind::Int64, Device::Cpu)),
    };
    let logits = head.forward(&batch, false);
    assert_eq!(logits.size(), [3, 2]);
    assert_eq!(logits.abs().max().double_value(&[]), 0.0);
}

#[test]
fn text_terms_equal_cores() {
    tch::manual_seed(5);
    let mut terms = Terms::new(&Tensor::randn([2, WIDTH], CPU), Device::Cpu);
    terms.near.push(Near {
        field: 1,
        vectors: normalise(&Tensor::randn([7, WIDTH], CPU)),
        weights: Tensor::randn([7], CPU) * 3.0,
    });
    let pooled = Tensor::randn([2, ROWS, WIDTH], CPU) * 2.0 + 0.5;
    let present: Vec<f32> = (0..2 * ROWS).map(|i| if i % 4 == 3 { 0.0 } else { 1.0 }).collect();
    let batch = TextBatch {
        vectors: normalise(&pooled),
        present: Tensor::from_slice(&present).view([2, ROWS]),
    };
    let ours = tch::no_grad(|| terms.forward(&batch, false));
    let network = fold::network(None, Some(&terms));
    assert!(network.members.is_empty());
    for row in 0..ROWS as usize {
        let vectors: Vec<Option<Vec<f32>>> = (0..2)
            .map(|f| {
                let there = present[(f * ROWS) as usize + row] > 0.0;
                there.then(|| Vec::try_from(pooled.get(f).get(row as i64)).expect("floats"))
            })
            .collect();
        let (ours, theirs) = (ours.double_value(&[row as i64]), network.text(&vectors));
        assert!((ours - theirs).abs() < 1e-4, "row {row}: {ours} here, {theirs} in core");
    }
}

/// Codes that an update adds begin as copies of the rare one, and change no other.
#[test]
fn more_codes_change_no_other_row() {
    tch::manual_seed(13);
    let plan = plan(&[5], &[(4, 2), (6, 3)]);
    // Drawn once: libtorch's generator is the process's, and other tests draw from it meanwhile.
    let x = positions(&[5]);
    let batch = |codes: &[i64]| Batch {
        positions: x.shallow_clone(),
        codes: Tensor::from_slice(codes).view([ROWS, 2]),
    };
    let old: Vec<i64> = (0..ROWS).flat_map(|row| [row % 4, row % 6]).collect();
    let head = disturbed(plan);
    let before = head.forward(&batch(&old), false);
    let head = head.with_codes(&[1, 2]);
    assert_eq!(head.plan.categories, [(5, 2), (8, 3)]);
    assert_eq!(head.forward(&batch(&old), false), before);
    let rare = [0, 0].repeat(ROWS as usize);
    let known = head.forward(&batch(&rare), false);
    for new in [[4, 6], [4, 7], [0, 7]] {
        assert_eq!(head.forward(&batch(&new.repeat(ROWS as usize)), false), known, "{new:?}");
    }
    // They learn on as parameters of their own.
    let stored: Vec<(String, Vec<f32>)> = head
        .named()
        .into_iter()
        .map(|(name, tensor)| (name, riskft_trainer::tensors::to_floats(tensor)))
        .collect();
    let find = |name: &str| stored.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let again = Head::stored(head.plan.clone(), Device::Cpu, find).expect("all tensors");
    assert_eq!(again.forward(&batch(&old), false), before);
    assert!(Head::stored(head.plan.clone(), Device::Cpu, |_| None).is_none());
}
