//! The head in libtorch against core's float network: the batched forward pass and the folding
//! of the text heads mean the same function.

use riskft_core::encode::EncodedRow;
use riskft_trainer::fit::all_parameters;
use riskft_trainer::fold;
use riskft_trainer::head::{normalise, Batch, Head, Plan, TextBatch};
use tch::{Device, Kind, Tensor};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);
const ROWS: i64 = 7;
const WIDTH: i64 = 40;

fn plan(bins: &[usize], categories: &[(usize, usize)], texts: i64) -> Plan {
    Plan {
        members: 3,
        hidden: 16,
        bins: bins.to_vec(),
        categories: categories.to_vec(),
        texts,
        width: WIDTH,
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
    let pooled = Tensor::randn([plan.texts, ROWS, WIDTH], CPU) * 2.0 + 0.5;
    let present = (0..plan.texts * ROWS).map(|i| if i % 4 == 3 { 0.0 } else { 1.0 });
    let present: Vec<f32> = present.collect();
    let batch = Batch {
        positions: x.shallow_clone(),
        codes: Tensor::from_slice(&flat).view([ROWS, plan.categories.len() as i64]),
        texts: (plan.texts > 0).then(|| TextBatch {
            vectors: normalise(&pooled),
            present: Tensor::from_slice(&present).view([plan.texts, ROWS]),
        }),
    };
    let logits = tch::no_grad(|| head.forward(&batch, false));
    let tabular = !plan.bins.is_empty() || !plan.categories.is_empty();
    let network = fold::network(tabular.then_some(&head), (plan.texts > 0).then_some(&head));
    for row in 0..ROWS as usize {
        let encoded = EncodedRow {
            positions: Vec::try_from(x.get(row as i64)).expect("floats"),
            codes: codes[row].clone(),
            ..EncodedRow::default()
        };
        let vectors: Vec<Option<Vec<f32>>> = (0..plan.texts)
            .map(|f| {
                let there = present[(f * ROWS) as usize + row] > 0.0;
                there.then(|| Vec::try_from(pooled.get(f).get(row as i64)).expect("floats"))
            })
            .collect();
        // Members' tabular logits one by one; the texts' terms are means over the members.
        let tabular: Vec<f64> = network.members.iter().map(|m| m.logit(&encoded)).collect();
        let mean = tabular.iter().sum::<f64>() / tabular.len().max(1) as f64;
        let theirs = mean + network.text(&vectors);
        let ours: f64 =
            (0..plan.members).map(|m| logits.double_value(&[m, row as i64])).sum::<f64>()
                / plan.members as f64;
        assert!((ours - theirs).abs() < 2e-5, "row {row}: {ours} here, {theirs} in core");
    }
}

#[test]
fn the_whole_head_equals_cores_network() {
    compare(plan(&[24, 1, 7], &[(4, 2), (30, 6), (9, 4)], 2));
}

#[test]
fn parts_may_be_missing() {
    compare(plan(&[24, 3], &[], 0));
    compare(plan(&[], &[(12, 6)], 1));
    compare(plan(&[], &[], 1));
}

#[test]
fn texts_start_without_a_say_and_members_differ() {
    let plan = plan(&[5], &[(8, 4)], 1);
    let head = Head::new(plan, Device::Cpu);
    let network = fold::network(Some(&head), Some(&head));
    assert!(network.texts[0].0.iter().all(|w| *w == 0.0));
    assert_ne!(network.members[0].hidden, network.members[1].hidden);
    assert_eq!(
        head.size(),
        3 * (6 * 12 + 12 + 8 * 4 + 17 * 16 + 17 * 16 + 17) + 3 * (40 + 40 + 40 * 16 + 16 + 16)
    );
}

/// What tuning starts from is one member's text terms, as they stand.
#[test]
fn the_text_terms_of_one_member_stand_alone() {
    tch::manual_seed(5);
    let head = disturbed(plan(&[], &[], 2));
    for member in 0..3 {
        let one = head.text_of(member);
        let vectors = normalise(&Tensor::randn([2, ROWS, WIDTH], CPU));
        let batch = || Batch {
            positions: Tensor::zeros([ROWS, 0], CPU),
            codes: Tensor::zeros([ROWS, 0], (Kind::Int64, Device::Cpu)),
            texts: Some(TextBatch {
                vectors: vectors.shallow_clone(),
                present: Tensor::ones([2, ROWS], CPU),
            }),
        };
        let (all, one) = tch::no_grad(|| {
            (head.forward(&batch(), false).get(member), one.forward(&batch(), false).get(0))
        });
        assert!((&all - one).abs().max().double_value(&[]) < 1e-6);
        assert!(all.abs().max().double_value(&[]) > 0.1);
    }
}

/// Without numbers, categories and texts there is nothing to add to the offset.
#[test]
fn a_head_without_inputs_says_nothing() {
    let head = Head::new(plan(&[], &[], 1), Device::Cpu);
    let batch = Batch {
        positions: Tensor::zeros([2, 0], CPU),
        codes: Tensor::zeros([2, 0], (Kind::Int64, Device::Cpu)),
        texts: None,
    };
    let logits = head.forward(&batch, false);
    assert_eq!(logits.size(), [3, 2]);
    assert_eq!(logits.abs().max().double_value(&[]), 0.0);
}
