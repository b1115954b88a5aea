//! Eigenvectors of a correlation matrix, by LAPACK's divide and conquer in float8.

use riskft_core::reduce::Eigen;
use riskft_core::refusal::{code, Refusal, Result};
use tch::Tensor;

use crate::tensors::to_doubles;

/// All eigenvalues of a symmetric matrix, falling, with their unit vectors.
///
/// # Errors
/// 22000 where they do not converge.
pub fn solve(correlation: &Tensor) -> Result<Eigen> {
    let (values, vectors) = correlation.f_linalg_eigh("L").map_err(|_| {
        Refusal::new(code::DATA_EXCEPTION, "the components do not converge")
            .detail("The eigenvalues of the correlation matrix were not found.")
            .hint("Exclude columns of absurd values.")
    })?;
    let columns = correlation.size()[0] as usize;
    // They come rising, the vectors as columns.
    let vectors = to_doubles(&vectors.tr().flip([0]));
    Ok(Eigen {
        values: to_doubles(&values.flip([0])),
        vectors: vectors.chunks_exact(columns.max(1)).map(<[f64]>::to_vec).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_fall_and_fit() {
        let matrix = [1.0, 0.5, 0.2, 0.5, 1.0, -0.3, 0.2, -0.3, 1.0];
        let found = solve(&Tensor::from_slice(&matrix).view([3, 3])).expect("it converges");
        assert!(found.values.is_sorted_by(|a, b| a >= b));
        assert!((found.values.iter().sum::<f64>() - 3.0).abs() < 1e-12);
        for (value, vector) in found.values.iter().zip(&found.vectors) {
            for (row, own) in matrix.chunks(3).zip(vector) {
                let product: f64 = row.iter().zip(vector).map(|(a, b)| a * b).sum();
                assert!((product - value * own).abs() < 1e-12);
            }
        }
    }
}
