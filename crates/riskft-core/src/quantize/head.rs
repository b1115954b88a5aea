//! The members of the network -> tensors `member.{m}.*`, and the texts' weights.
//!
//! | tensor | shape |
//! |---|---|
//! | `numbers` | f32 [numbers, MAX_BINS + 2, 2, NUMBER_WIDTH]: for each bin the sum up to its lower edge and its slope; last the missing value |
//! | `category.{k}` | f32 [codes, dimension] |
//! | `hidden.{i}` | a linear layer: `weight`, `scale`, `compensation`, `bias` |
//! | `output.weight`, `output.bias` | f32 [hidden, filled up to blocks], [1] |
//! | `text.{f}.weight`, `text.{f}.bias` | f32 [encoder width, filled up to blocks], [1] |
//! | `text.{f}.landmarks`, `text.{f}.landmark_weights` | f32 [landmarks, encoder width, filled up to blocks], [landmarks], of a text that has any |

use super::{checked, linear_weight, table, unusable};
use crate::artifact::{Tensor, TensorSet};
use crate::encode::{Encoding, MAX_BINS};
use crate::model::Specification;
use crate::network::{FloatLandmarks, FloatLinear, FloatMember, FloatNetwork, NUMBER_WIDTH};
use crate::refusal::Result;

/// What the names of the members' tensors begin with.
pub(super) const MEMBERS: &str = "member.";

/// Inputs of the first hidden layer.
pub(crate) fn tabular_inputs(encoding: &Encoding) -> usize {
    let categories: usize = encoding.categories.iter().map(|c| c.dimension()).sum();
    encoding.numbers.len() * NUMBER_WIDTH + categories
}

pub(super) fn network(
    specification: &Specification,
    network: &FloatNetwork,
    out: &mut TensorSet,
) -> Result<()> {
    members(specification, &network.members, out)?;
    texts(specification, &network.texts, out)?;
    landmarks(specification, &network.landmarks, out)
}

pub(super) fn members(
    specification: &Specification,
    members: &[FloatMember],
    out: &mut TensorSet,
) -> Result<()> {
    if members.len() != specification.members {
        return Err(unusable(format!(
            "The network has {} members, the specification says {}.",
            members.len(),
            specification.members
        )));
    }
    for (m, member) in members.iter().enumerate() {
        let name = format!("{MEMBERS}{m}");
        numbers(&name, &specification.encoding, member, out)?;
        categories(&name, &specification.encoding, member, out)?;
        layers(&name, specification, member, out)?;
    }
    Ok(())
}

fn numbers(
    name: &str,
    encoding: &Encoding,
    member: &FloatMember,
    out: &mut TensorSet,
) -> Result<()> {
    let count = encoding.numbers.len();
    let width = NUMBER_WIDTH;
    let weight = checked("number_weight", &member.number_weight, count * MAX_BINS * width)?;
    let missing = checked("number_missing", &member.number_missing, count * width)?;
    let bias = checked("number_bias", &member.number_bias, count * width)?;
    if count == 0 {
        return Ok(());
    }
    let mut values: Vec<f32> = Vec::with_capacity(count * (MAX_BINS + 2) * 2 * width);
    for j in 0..count {
        let slope = |t: usize, i: usize| weight[(j * MAX_BINS + t) * width + i];
        let mut sum: Vec<f64> = (0..width).map(|i| f64::from(bias[j * width + i])).collect();
        for t in 0..=MAX_BINS {
            values.extend(sum.iter().map(|v| *v as f32));
            for (i, sum) in sum.iter_mut().enumerate() {
                let slope = if t < MAX_BINS { slope(t, i) } else { 0.0 };
                values.push(slope);
                *sum += f64::from(slope);
            }
        }
        values.extend((0..width).map(|i| bias[j * width + i] + missing[j * width + i]));
        values.extend([0.0; NUMBER_WIDTH]);
    }
    let values = checked("numbers", &values, values.len())?;
    out.insert(format!("{name}.numbers"), Tensor::new(&[count, MAX_BINS + 2, 2, width], values));
    Ok(())
}

fn categories(
    name: &str,
    encoding: &Encoding,
    member: &FloatMember,
    out: &mut TensorSet,
) -> Result<()> {
    if member.embeddings.len() != encoding.categories.len() {
        return Err(unusable(format!("There are {} embeddings.", member.embeddings.len())));
    }
    for (k, (tensor, input)) in member.embeddings.iter().zip(&encoding.categories).enumerate() {
        let shape = [input.codes(), input.dimension()];
        let data = checked(&format!("embedding {k}"), &tensor.data, shape[0] * shape[1])?;
        out.insert(format!("{name}.category.{k}"), Tensor::new(&shape, data));
    }
    Ok(())
}

fn layers(
    name: &str,
    specification: &Specification,
    member: &FloatMember,
    out: &mut TensorSet,
) -> Result<()> {
    let (hidden, inputs) = (specification.hidden, tabular_inputs(&specification.encoding));
    let sizes = [(hidden, inputs), (hidden, hidden)];
    if member.hidden.len() != sizes.len() {
        return Err(unusable(format!("There are {} hidden layers.", member.hidden.len())));
    }
    for (i, (layer, size)) in member.hidden.iter().zip(&sizes).enumerate() {
        linear(&format!("{name}.hidden.{i}"), layer, *size, out)?;
    }
    let weight = checked("output weight", &member.output.weight, hidden)?;
    let bias = checked("output bias", &member.output.bias, 1)?;
    table(&format!("{name}.output.weight"), weight, &[hidden], out);
    out.insert(format!("{name}.output.bias"), Tensor::new(&[1], bias));
    Ok(())
}

fn linear(
    name: &str,
    layer: &FloatLinear,
    size: (usize, usize),
    out: &mut TensorSet,
) -> Result<()> {
    if (layer.outputs, layer.inputs) != size {
        return Err(unusable(format!(
            "The layer {name} is {} x {}, not {} x {}.",
            layer.outputs, layer.inputs, size.0, size.1
        )));
    }
    let weight = checked(name, &layer.weight, size.0 * size.1)?;
    let bias = checked(name, &layer.bias, size.0)?;
    linear_weight(name, weight, size.0, size.1, out)?;
    table(&format!("{name}.bias"), bias, &[size.0], out);
    Ok(())
}

/// A version without an encoder has no weights of texts.
fn texts(
    specification: &Specification,
    texts: &[(Vec<f32>, f32)],
    out: &mut TensorSet,
) -> Result<()> {
    let count = specification.encoder.as_ref().map_or(0, |_| specification.encoding.texts.len());
    if texts.len() != count {
        return Err(unusable(format!("There are weights of {} texts.", texts.len())));
    }
    for (f, (weight, bias)) in texts.iter().enumerate() {
        text(specification, f, weight, out)?;
        let bias = checked(&format!("text {f} bias"), std::slice::from_ref(bias), 1)?;
        out.insert(format!("text.{f}.bias"), Tensor::new(&[1], bias));
    }
    Ok(())
}

/// The linear weights of one text.
pub(super) fn text(
    specification: &Specification,
    f: usize,
    weight: &[f32],
    out: &mut TensorSet,
) -> Result<()> {
    let width = specification.encoder.as_ref().map_or(0, |encoder| encoder.shape.width);
    let weight = checked(&format!("text {f} weight"), weight, width)?;
    table(&format!("text.{f}.weight"), weight, &[width], out);
    Ok(())
}

fn landmarks(
    specification: &Specification,
    landmarks: &[FloatLandmarks],
    out: &mut TensorSet,
) -> Result<()> {
    let width = specification.encoder.as_ref().map_or(0, |encoder| encoder.shape.width);
    let counts: Vec<usize> = landmarks.iter().map(|own| own.weights.len()).collect();
    if counts != specification.landmarks {
        return Err(unusable(format!("There are landmarks of {} texts.", counts.len())));
    }
    for (f, own) in landmarks.iter().enumerate().filter(|(_, own)| !own.weights.is_empty()) {
        let count = own.weights.len();
        let vectors = checked(&format!("landmarks {f}"), &own.vectors, count * width)?;
        let weights = checked(&format!("landmark weights {f}"), &own.weights, count)?;
        table(&format!("text.{f}.landmarks"), vectors, &[count, width], out);
        out.insert(format!("text.{f}.landmark_weights"), Tensor::new(&[count], weights));
    }
    Ok(())
}
