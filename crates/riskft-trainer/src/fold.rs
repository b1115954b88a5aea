//! The trained network and text terms as core's float network.

use riskft_core::network::{
    FloatLandmarks, FloatLinear, FloatMember, FloatNetwork, FloatTensor, NUMBER_WIDTH,
};
use tch::Tensor;

use crate::head::Head;
use crate::tensors::to_floats;
use crate::terms::Terms;

/// Copies both branches off the device.
pub fn network(tabular: Option<&Head>, text: Option<&Terms>) -> FloatNetwork {
    let _guard = tch::no_grad_guard();
    let members = |head: &Head| (0..head.plan.members).map(|m| member(head, m)).collect();
    FloatNetwork {
        members: tabular.map_or_else(Vec::new, members),
        texts: text.map_or_else(Vec::new, texts),
        landmarks: text.map_or_else(Vec::new, landmarks),
    }
}

fn texts(terms: &Terms) -> Vec<(Vec<f32>, f32)> {
    (0..terms.weight.size()[0]).map(|f| (to_floats(&terms.weight.get(f)), 0.0)).collect()
}

fn landmarks(terms: &Terms) -> Vec<FloatLandmarks> {
    let count = terms.near.iter().map(|near| near.field + 1).max().unwrap_or(0);
    let mut all = vec![FloatLandmarks::default(); count];
    for near in &terms.near {
        all[near.field] =
            FloatLandmarks { vectors: to_floats(&near.vectors), weights: to_floats(&near.weights) };
    }
    all
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
