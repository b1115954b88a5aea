//! The trained head as core's float network: text heads folded into one vector each.

use riskft_core::network::{FloatLinear, FloatMember, FloatNetwork, FloatTensor, NUMBER_WIDTH};
use tch::Tensor;

use crate::head::Head;
use crate::tensors::to_floats;

/// Copies all members off the device.
pub fn network(head: &Head) -> FloatNetwork {
    let _guard = tch::no_grad_guard();
    FloatNetwork { members: (0..head.plan.members).map(|m| member(head, m)).collect() }
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
        texts: (0..head.plan.texts).map(|f| text(head, f, m)).collect(),
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
fn text(head: &Head, f: i64, m: i64) -> (Vec<f32>, f32) {
    let pair = f * head.plan.members + m;
    let double = |t: Tensor| t.to_kind(tch::Kind::Double).view([-1]);
    let out = double(head.text_out.get(pair));
    let through = head.text_project.get(pair).to_kind(tch::Kind::Double).mv(&out);
    let gain = double(head.text_gain.get(f).get(m));
    let shift = double(head.text_shift.get(f).get(m));
    let bias = shift.dot(&through) + double(head.text_project_bias.get(pair)).dot(&out);
    (to_floats(&(gain * &through)), bias.double_value(&[]) as f32)
}
