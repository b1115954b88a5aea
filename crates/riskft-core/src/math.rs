//! Elementary functions with the same bits on every processor.
//!
//! The standard library's `exp`, `ln` and `tanh` call the system's libm, which picks FMA variants
//! by processor; scoring therefore uses the `libm` crate (software, one path) for scalars in f64
//! and polynomials over fixed lanes, without FMA, for vectors in f32.

/// `1 / (1 + exp(-x))`; 0 and 1 at the infinities, NaN for NaN.
pub fn logistic(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + libm::exp(-x))
    } else {
        let e = libm::exp(x);
        e / (1.0 + e)
    }
}

/// `ln(p / (1 - p))` with p held within [1e-15, 1 - 1e-15].
pub fn logit(p: f64) -> f64 {
    let p = p.clamp(1e-15, 1.0 - 1e-15);
    libm::log(p / (1.0 - p))
}
