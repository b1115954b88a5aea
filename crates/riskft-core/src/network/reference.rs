//! The float network, computed in f64 as its formulas read: the measure of the int8 network.

use super::{FloatLandmarks, FloatLinear, FloatMember, FloatNetwork, NUMBER_WIDTH};
use crate::encode::{EncodedRow, MAX_BINS};
use crate::math::{logistic, logit};

impl FloatNetwork {
    /// Logit of the members' mean probability.
    pub fn tabular(&self, row: &EncodedRow) -> f64 {
        let sum: f64 = self.members.iter().map(|member| logistic(member.logit(row))).sum();
        logit(sum / self.members.len() as f64)
    }

    /// The sum of the texts' terms. `pooled` has for each text the encoder's pooled vector, or
    /// None where the text is empty.
    pub fn text(&self, pooled: &[Option<Vec<f32>>]) -> f64 {
        let terms = self.texts.iter().zip(pooled).enumerate();
        let terms = terms.filter_map(|(f, ((weight, bias), pooled))| {
            let v = normalised(pooled.as_ref()?);
            let near = self.landmarks.get(f).map_or(0.0, |landmarks| landmarks.term(&v));
            Some(dot(weight, &v) + f64::from(*bias) + near)
        });
        terms.sum()
    }
}

impl FloatLandmarks {
    /// `sum of weight * exp(-2 |u - v|^2)`, u and v being the vectors scaled to length 1.
    fn term(&self, v: &[f64]) -> f64 {
        let length = (v.len() as f64).sqrt();
        let rows = self.vectors.chunks_exact(v.len().max(1)).zip(&self.weights);
        let near = |row: &[f32]| {
            let apart =
                row.iter().zip(v).map(|(u, v)| (f64::from(*u) / length - v / length).powi(2));
            (-2.0 * apart.sum::<f64>()).exp()
        };
        rows.map(|(row, weight)| f64::from(*weight) * near(row)).sum()
    }
}

fn dot(weight: &[f32], v: &[f64]) -> f64 {
    weight.iter().zip(v).map(|(w, v)| f64::from(*w) * v).sum()
}

impl FloatMember {
    pub fn logit(&self, row: &EncodedRow) -> f64 {
        let mut x: Vec<f64> = Vec::new();
        for (j, z) in row.positions.iter().enumerate() {
            x.extend(self.number(j, *z));
        }
        for (table, code) in self.embeddings.iter().zip(&row.codes) {
            let width = table.shape[1];
            let start = *code as usize * width;
            x.extend(table.data[start..start + width].iter().map(|v| f64::from(*v)));
        }
        for layer in &self.hidden {
            x = linear(layer, &x).into_iter().map(|v| v.max(0.0)).collect();
        }
        linear(&self.output, &x).iter().sum()
    }

    fn number(&self, j: usize, z: f32) -> [f64; NUMBER_WIDTH] {
        std::array::from_fn(|i| {
            let mut h = f64::from(self.number_bias[j * NUMBER_WIDTH + i]);
            if z.is_nan() {
                h += f64::from(self.number_missing[j * NUMBER_WIDTH + i]);
            } else {
                for t in 0..MAX_BINS {
                    let share = (f64::from(z) - t as f64).clamp(0.0, 1.0);
                    let slot = (j * MAX_BINS + t) * NUMBER_WIDTH + i;
                    h += share * f64::from(self.number_weight[slot]);
                }
            }
            h.max(0.0)
        })
    }
}

fn linear(layer: &FloatLinear, x: &[f64]) -> Vec<f64> {
    let rows = layer.weight.chunks_exact(layer.inputs).zip(&layer.bias);
    rows.map(|(row, bias)| {
        row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>() + f64::from(*bias)
    })
    .collect()
}

fn normalised(v: &[f32]) -> Vec<f64> {
    let n = v.len() as f64;
    let mean = v.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let variance = v.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
    v.iter().map(|v| (f64::from(*v) - mean) / (variance + 1e-5).sqrt()).collect()
}
