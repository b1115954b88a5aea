//! Eigenvectors of a correlation matrix, by LAPACK's divide and conquer in float8.

use riskft_core::reduce::Eigen;
use riskft_core::refusal::{code, Refusal, Result};
use tch::Tensor;

use crate::tensors::to_doubles;

/// All eigenvalues of a symmetric matrix, of which what is on and below the diagonal is read, falling,
/// and the unit vectors of as many of them as `needed` says.
///
/// # Errors
/// 22000 where they do not converge.
pub fn solve(correlation: Tensor, needed: impl FnOnce(&[f64]) -> usize) -> Result<Eigen> {
    let (values, vectors) = correlation.f_linalg_eigh("L").map_err(|_| {
        Refusal::new(code::DATA_EXCEPTION, "the components do not converge")
            .detail("The eigenvalues of the correlation matrix were not found.")
            .hint("Exclude columns of absurd values.")
    })?;
    let columns = correlation.size()[0];
    drop(correlation);
    // They come rising, the vectors as columns.
    let values = to_doubles(&values.flip([0]));
    let count = (needed(&values) as i64).min(columns);
    let vectors = to_doubles(&vectors.narrow(1, columns - count, count).tr().flip([0]));
    let vectors = vectors.chunks_exact(columns.max(1) as usize).map(<[f64]>::to_vec).collect();
    Ok(Eigen { values, vectors })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_fall_and_fit() {
        let matrix = [1.0, 0.5, 0.2, 0.5, 1.0, -0.3, 0.2, -0.3, 1.0];
        let of = |count| solve(Tensor::from_slice(&matrix).view([3, 3]), |_| count);
        let found = of(9).expect("it converges");
        assert_eq!(of(2).expect("it converges").vectors, found.vectors[..2]);
        assert!(found.vectors.len() == 3 && found.values.is_sorted_by(|a, b| a >= b));
        assert!((found.values.iter().sum::<f64>() - 3.0).abs() < 1e-12);
        for (value, vector) in found.values.iter().zip(&found.vectors) {
            for (row, own) in matrix.chunks(3).zip(vector) {
                let product: f64 = row.iter().zip(vector).map(|(a, b)| a * b).sum();
                assert!((product - value * own).abs() < 1e-12);
            }
        }
    }
}
