//! Landmarks: texts of the training that a text is compared with.
//!
//! A term of an RBF kernel on the encoder's vectors, as features of a linear model: with the
//! kernel's values `K` of a text and the landmarks and their own `M`, the features `K M^-1/2` have
//! the products of the kernel (Nyström; Williams and Seeger 2001), exactly where all training texts
//! are landmarks. The square root is Cholesky's. Core's `model::nearness` is the same kernel.

use riskft_core::model::{MOST_LANDMARKS, SHARPNESS};
use riskft_core::refusal::{code, Refusal, Result};
use tch::{Kind, Tensor};

use crate::random::Random;
use crate::rows::Rows;

/// Added to the landmarks' own kernel: copies of a text would make it singular.
const JITTER: f64 = 1e-4;

/// The landmarks of a field, with the factor that makes features of their kernel.
pub struct Landmarks {
    pub field: usize,
    /// Normalised vectors [landmarks, width].
    pub vectors: Tensor,
    /// The lower factor of the landmarks' own kernel, f64.
    factor: Tensor,
}

/// What the landmarks of a field count in the term of a text.
pub struct Near {
    pub field: usize,
    /// Normalised vectors [landmarks, width].
    pub vectors: Tensor,
    /// [landmarks]
    pub weights: Tensor,
}

impl Landmarks {
    /// The distinct texts of a field in some rows, at most [`MOST_LANDMARKS`], drawn by the seed.
    /// `vectors` are normalised, by text number. None without texts.
    ///
    /// # Errors
    /// 22000 when the vectors are not finite.
    pub fn of(
        rows: &Rows,
        field: usize,
        places: &[u32],
        vectors: &Tensor,
        seed: u64,
    ) -> Result<Option<Self>> {
        let number = |place: &u32| rows.text_numbers[*place as usize * rows.texts + field];
        let mut numbers: Vec<i64> =
            places.iter().map(number).filter(|n| *n >= 0).map(i64::from).collect();
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.len() > MOST_LANDMARKS {
            Random::new(seed).shuffle(&mut numbers);
            numbers.truncate(MOST_LANDMARKS);
            numbers.sort_unstable();
        }
        if numbers.is_empty() {
            return Ok(None);
        }
        let index = Tensor::from_slice(&numbers).to_device(vectors.device());
        Landmarks::new(field, vectors.index_select(0, &index)).map(Some)
    }

    /// Normalised vectors as the landmarks of a field.
    ///
    /// # Errors
    /// As [`Landmarks::of`].
    pub fn new(field: usize, vectors: Tensor) -> Result<Self> {
        let own = nearness(&vectors, &vectors).to_kind(Kind::Double);
        let jitter = Tensor::full([own.size()[0]], JITTER, (Kind::Double, own.device()));
        let factor = (own + jitter.diag(0)).f_linalg_cholesky(false).map_err(unusable)?;
        Ok(Landmarks { field, vectors, factor })
    }

    /// The features [rows, landmarks] of normalised vectors [rows, width].
    ///
    /// # Errors
    /// As [`Landmarks::of`].
    pub fn features(&self, vectors: &Tensor) -> Result<Tensor> {
        let near = nearness(vectors, &self.vectors).to_kind(Kind::Double).transpose(0, 1);
        let solved = self.factor.f_linalg_solve_triangular(&near, false, true, false);
        Ok(solved.map_err(unusable)?.transpose(0, 1).to_kind(Kind::Float).contiguous())
    }

    /// What the landmarks count where the features have these weights.
    ///
    /// # Errors
    /// As [`Landmarks::of`].
    pub fn near(&self, weights: &Tensor) -> Result<Near> {
        let weights = weights.to_kind(Kind::Double).unsqueeze(1);
        let upper = self.factor.transpose(0, 1).contiguous();
        let solved = upper.f_linalg_solve_triangular(&weights, true, true, false);
        Ok(Near {
            field: self.field,
            vectors: self.vectors.shallow_clone(),
            weights: solved.map_err(unusable)?.squeeze_dim(1).to_kind(Kind::Float),
        })
    }
}

impl Near {
    /// The terms [rows] of normalised vectors [rows, width].
    pub fn terms(&self, vectors: &Tensor) -> Tensor {
        nearness(vectors, &self.vectors).mv(&self.weights)
    }
}

/// [rows, landmarks]
fn nearness(vectors: &Tensor, landmarks: &Tensor) -> Tensor {
    let width = vectors.size().last().copied().unwrap_or(1).max(1) as f64;
    let products = vectors.matmul(&landmarks.transpose(0, 1)) / width;
    ((products - 1.0) * SHARPNESS).exp()
}

fn unusable(error: tch::TchError) -> Refusal {
    Refusal::new(code::DATA_EXCEPTION, "the text terms cannot be fitted")
        .detail(format!("Their system has no solution: {error}."))
        .hint("Choose another base model, or set options.precision to \"f32\".")
}
