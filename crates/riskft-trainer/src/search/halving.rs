//! The schedule of successive halving (Jamieson & Talwalkar 2016): how many models of the folds a
//! round trains for each setting, and how many settings go on.

use std::time::Duration;

/// Models in each round, ascending; the last round has all. With five folds: 1, 2, 5. With fewer
/// than a fifth of the models a round would judge by too few rows.
pub fn rungs(models: usize) -> Vec<usize> {
    let mut rungs = vec![models.div_ceil(5), (2 * models).div_ceil(5), models];
    rungs.dedup();
    rungs
}

/// How many of the settings tried beside the given ones go on: the better half.
pub fn survivors(challengers: usize) -> usize {
    challengers.div_ceil(2)
}

/// Settings tried in each round, the given ones included.
pub fn tried(challengers: usize, rungs: &[usize]) -> Vec<usize> {
    let mut left = challengers;
    rungs
        .iter()
        .map(|_| {
            let now = left + 1;
            left = survivors(left);
            now
        })
        .collect()
}

/// Most challengers, up to `wanted`, whose rounds take no longer than `left` if a model takes
/// `model`; at least one, which the clock may stop.
pub fn affordable(wanted: usize, rungs: &[usize], model: Duration, left: Duration) -> usize {
    let needs = |challengers: usize| -> f64 {
        let models = tried(challengers, rungs).into_iter().zip(rungs).map(|(n, m)| n * m);
        // The first round of the given settings has passed.
        (models.sum::<usize>() - rungs.first().unwrap_or(&0)) as f64 * model.as_secs_f64()
    };
    (1..=wanted).rev().find(|n| needs(*n) <= left.as_secs_f64()).unwrap_or(wanted.min(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_grow_to_all_models() {
        assert_eq!(rungs(5), [1, 2, 5]);
        assert_eq!(rungs(15), [3, 6, 15]);
        assert_eq!(rungs(3), [1, 2, 3]);
        assert_eq!(rungs(2), [1, 2]);
        assert_eq!(rungs(1), [1]);
    }

    #[test]
    fn half_go_on_and_the_given_settings_always() {
        assert_eq!(tried(11, &[1, 2, 5]), [12, 7, 4]);
        assert_eq!(tried(1, &[1, 2, 5]), [2, 2, 2]);
        assert_eq!(tried(0, &[1, 2]), [1, 1]);
    }

    #[test]
    fn short_time_affords_fewer_settings() {
        let of = |seconds| {
            affordable(11, &[1, 2, 5], Duration::from_secs(1), Duration::from_secs(seconds))
        };
        // 12 + 7 * 2 + 4 * 5 models, without the one that has been.
        assert_eq!(of(45), 11);
        assert_eq!(of(44), 10);
        assert_eq!(of(0), 1);
        assert_eq!(affordable(0, &[1, 2, 5], Duration::ZERO, Duration::ZERO), 0);
    }
}
