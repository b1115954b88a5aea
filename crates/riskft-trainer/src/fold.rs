//! The trained heads as core's float network: text terms folded into one vector each, the mean of
//! the members, which is exact because they are linear.

use riskft_core::network::{FloatLinear, FloatMember, FloatNetwork, FloatTensor, NUMBER_WIDTH};
use tch::Tensor;

use crate::head::Head;
use crate::tensors::to_floats;

/// Copies both branches off the device.
pub fn network(tabular: Option<&Head>, text: Option<&Head>) -> FloatNetwork {
    let _guard = tch::no_grad_guard();
    let members = |head: &Head| (0..head.plan.members).map(|m| member(head, m)).collect();
    FloatNetwork {
        members: tabular.map_or_else(Vec::new, members),
        texts: text.map_or_else(Vec::new, texts),
    }
}

/// The mean over the members of each text's weight and bias.
fn texts(head: &Head) -> Vec<(Vec<f32>, f32)> {
    let members = head.plan.members;
    let mean = |f: i64| {
        let all: Vec<(Tensor, f64)> = (0..members).map(|m| text(head, f, m)).collect();
        let bias = all.iter().map(|(_, bias)| bias).sum::<f64>() / members as f64;
        let weights: Vec<Tensor> = all.into_iter().map(|(weight, _)| weight).collect();
        let weight = Tensor::stack(&weights, 0).mean_dim(0, false, tch::Kind::Double);
        (to_floats(&weight), bias as f32)
    };
    (0..head.plan.texts).map(mean).collect()
}

fn member(head: &Head, m: i64) -> FloatMember {
    let numbers =
        |table: &Tensor| to_floats(&table.narrow(2, m * NUMBER_WIDTH as i64, NUMBER_WIDTH as i64));
    let last = head.layers.len() - 1;
    let mut layers: Vec<FloatLinear> =
        head.layers.iter().map(|(weight, bias)| linear(&weight.get(m), &bias.get(m))).collect();
    let output = layers.remove(last);
    FloatMember {
        number_weight: numbers(&head.number_weight),
        number_missing: numbers(&head.number_missing),
        number_bias: numbers(&head.number_bias),
        embeddings: embeddings(head, m),
        hidden: layers,
        output,
    }
}

/// libtorch's [inputs, outputs] -> core's [outputs, inputs]
fn linear(weight: &Tensor, bias: &Tensor) -> FloatLinear {
    let size = weight.size();
    FloatLinear {
        outputs: size[1] as usize,
        inputs: size[0] as usize,
        weight: to_floats(&weight.transpose(0, 1)),
        bias: to_floats(bias),
    }
}

fn embeddings(head: &Head, m: i64) -> Vec<FloatTensor> {
    let (starts, _) = head.plan.offsets();
    let width = head.embedding.size()[1] / head.plan.members;
    let own = head.embedding.narrow(1, m * width, width);
    starts
        .iter()
        .zip(&head.plan.categories)
        .map(|(start, (codes, dimension))| FloatTensor {
            shape: vec![*codes, *dimension],
            data: to_floats(&own.narrow(0, *start, *codes as i64).narrow(1, 0, *dimension as i64)),
        })
        .collect()
}

/// `u . (P' (g * x + s) + p)` = `(g * P u) . x + (s . P u + p . u)`
fn text(head: &Head, f: i64, m: i64) -> (Tensor, f64) {
    let pair = f * head.plan.members + m;
    let double = |t: Tensor| t.to_kind(tch::Kind::Double).view([-1]);
    let out = double(head.text_out.get(pair));
    let through = head.text_project.get(pair).to_kind(tch::Kind::Double).mv(&out);
    let gain = double(head.text_gain.get(f).get(m));
    let shift = double(head.text_shift.get(f).get(m));
    let bias = shift.dot(&through) + double(head.text_project_bias.get(pair)).dot(&out);
    (gain * &through, bias.double_value(&[]))
}
