//! How near a text is to texts of the training: an RBF term beside the linear one.

use super::head::Dot;
use crate::artifact::{Artifact, ArtifactError, View};
use crate::gemm::Kernel;
use crate::math::{blocks, Block};

/// Most landmarks of a text: 3 MB of a file at the width of 384.
pub const MOST: usize = 2048;

/// Twice the kernel's gamma of 2. On vectors of length 1, `exp(-gamma |u - v|^2)` is
/// `exp(SHARPNESS (u v - 1))`.
pub const SHARPNESS: f64 = 4.0;

/// How near two normalised vectors of `width` values with the product `dot` are: 1 where they are the
/// same, `exp(-SHARPNESS)` where they have nothing in common.
pub fn nearness(dot: f64, width: usize) -> f64 {
    libm::exp(SHARPNESS * (dot / width.max(1) as f64 - 1.0))
}

/// The landmarks of one text of a version's file.
pub(super) struct Landmarks {
    /// Normalised vectors [landmarks, width filled up to blocks].
    vectors: View<f32>,
    weights: View<f32>,
}

impl Landmarks {
    pub(super) fn find(
        file: &Artifact,
        text: usize,
        count: usize,
        width: usize,
    ) -> Result<Self, ArtifactError> {
        let shape = [count, blocks(width) * 16];
        Ok(Landmarks {
            vectors: file.finite(&format!("text.{text}.landmarks"), &shape)?,
            weights: file.finite(&format!("text.{text}.landmark_weights"), &[count])?,
        })
    }

    /// Sum of the landmarks' weights, each times its nearness to the normalised vector. They are
    /// summed in their order in f64, so that the bits are the same on every path.
    pub(super) fn term(&self, kernel: Kernel, file: &[u8], vector: &[Block], width: usize) -> f64 {
        let rows = self.vectors.of(file).as_chunks().0.chunks_exact(blocks(width).max(1));
        let near = |row: &[Block]| nearness(f64::from(kernel.run(Dot(vector, row))), width);
        let weighted = rows.zip(self.weights.of(file)).map(|(row, w)| f64::from(*w) * near(row));
        weighted.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearness_is_the_kernel_of_vectors_of_length_one() {
        let apart = |u: [f64; 2], v: [f64; 2]| (u[0] - v[0]).powi(2) + (u[1] - v[1]).powi(2);
        for degrees in [0.0f64, 10.0, 90.0, 180.0] {
            let (u, v) = ([1.0, 0.0], [degrees.to_radians().cos(), degrees.to_radians().sin()]);
            // Normalised vectors of width 2 have the length sqrt(2).
            let near = nearness(2.0 * (u[0] * v[0] + u[1] * v[1]), 2);
            assert!((near - (-2.0 * apart(u, v)).exp()).abs() < 1e-12, "{degrees}");
        }
    }
}
