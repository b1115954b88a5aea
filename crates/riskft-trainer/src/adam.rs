//! AdamW (Loshchilov and Hutter 2019) over named groups of parameters.
//!
//! tch binds libtorch's optimizer without its fused kernel and without a norm over several
//! groups; this one has a rate and a decay for each group and one clip over all.

use tch::{Kind, Tensor};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Parameters that share rate and decay.
pub struct Group {
    pub rate: f64,
    pub decay: f64,
    slots: Vec<Slot>,
}

struct Slot {
    parameter: Tensor,
    mean: Tensor,
    square: Tensor,
}

/// The optimizer; `groups` keep the order in which they were added.
#[derive(Default)]
pub struct AdamW {
    pub groups: Vec<Group>,
    steps: i32,
}

impl AdamW {
    /// Adds leaf tensors that require gradients; returns the group's index.
    pub fn add(&mut self, parameters: &[Tensor], rate: f64, decay: f64) -> usize {
        let slots = parameters
            .iter()
            .map(|p| Slot {
                parameter: p.shallow_clone(),
                mean: p.zeros_like(),
                square: p.zeros_like(),
            })
            .collect();
        self.groups.push(Group { rate, decay, slots });
        self.groups.len() - 1
    }

    /// One step from the gradients that are there, whose joint norm is first cut to `clip`;
    /// clears them. Parameters without a gradient stay.
    pub fn step(&mut self, clip: f64) {
        let _guard = tch::no_grad_guard();
        self.steps += 1;
        let Some(scale) = self.clip_scale(clip) else { return };
        let first = 1.0 - BETA1.powi(self.steps);
        let second = (1.0 - BETA2.powi(self.steps)).sqrt();
        for group in &mut self.groups {
            for slot in &mut group.slots {
                let gradient = slot.parameter.grad();
                if !gradient.defined() {
                    continue;
                }
                let gradient = gradient * &scale;
                let _ = slot.mean.lerp_(&gradient, 1.0 - BETA1);
                let _ = slot.square.g_mul_scalar_(BETA2);
                let _ = slot.square.addcmul_(&(&gradient * (1.0 - BETA2)), &gradient);
                let root = slot.square.sqrt() / second + EPSILON;
                let _ = slot.parameter.g_mul_scalar_(1.0 - group.rate * group.decay);
                let _ = slot.parameter.addcdiv_(&(&slot.mean * (-group.rate / first)), &root);
                slot.parameter.zero_grad();
            }
        }
    }

    /// min(1, clip / norm) as a tensor, so that a GPU need not be waited for.
    fn clip_scale(&self, clip: f64) -> Option<Tensor> {
        let norms: Vec<Tensor> = self
            .groups
            .iter()
            .flat_map(|group| &group.slots)
            .map(|slot| slot.parameter.grad())
            .filter(Tensor::defined)
            .map(|gradient| gradient.norm().to_kind(Kind::Float))
            .collect();
        if norms.is_empty() {
            return None;
        }
        let norm = Tensor::stack(&norms, 0).norm();
        Some(((norm + 1e-6).reciprocal() * clip).clamp_max(1.0))
    }
}

/// The rate's factor at `step` (from 0): rises linearly over `warm_up` steps, then follows half a
/// cosine to 0 at `total`.
pub fn warm_up_cosine(step: usize, warm_up: usize, total: usize) -> f64 {
    if step < warm_up {
        return (step + 1) as f64 / warm_up as f64;
    }
    let rest = total.saturating_sub(warm_up).max(1);
    let passed = (step - warm_up) as f64 / rest as f64;
    0.5 * (1.0 + (std::f64::consts::PI * passed.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_rises_and_falls() {
        let rates: Vec<f64> = (0..10).map(|step| warm_up_cosine(step, 2, 10)).collect();
        assert_eq!(rates[..3], [0.5, 1.0, 1.0]);
        assert!(rates.windows(2).skip(2).all(|w| w[1] < w[0]));
        assert!(warm_up_cosine(10, 2, 10) < 1e-12);
        assert_eq!(warm_up_cosine(0, 0, 0), 1.0);
    }
}
