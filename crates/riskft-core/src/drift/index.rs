//! The population stability index (Siddiqi 2006; a column's is called its characteristic stability
//! index), and what of it chance alone makes (Yurdakul & Naranjo 2020).

/// From here on a change is moderate, and from there on large, by the rule of thumb of the field.
pub const MODERATE: f64 = 0.1;
pub const LARGE: f64 = 0.25;

/// `sum of (q - p) ln(q / p)` over the bins, p and q being the shares of two counts' rows. A bin
/// that is empty on one side counts as half a row there, so that it is finite; one that is empty on
/// both adds nothing. The shares are not divided by their sum again, so that equal shares give
/// exactly 0 whatever the numbers of rows. None where either side has no rows.
pub fn psi(reference: &[u64], now: &[u64]) -> Option<f64> {
    let (m, n) = (total(reference)?, total(now)?);
    let share = |count: u64, total: f64| (count as f64).max(0.5) / total;
    let bins = reference.iter().zip(now).filter(|(r, c)| **r + **c > 0);
    let term = |(r, c): (&u64, &u64)| {
        let (p, q) = (share(*r, m), share(*c, n));
        (q - p) * libm::log(q / p)
    };
    Some(bins.map(term).sum())
}

/// The index that counts of one distribution exceed in one case of twenty: the 95% quantile of
/// chi-squared with as many degrees of freedom as bins with rows, less one, times 1/m + 1/n.
pub fn by_chance(reference: &[u64], now: &[u64]) -> Option<f64> {
    let (m, n) = (total(reference)?, total(now)?);
    let bins = reference.iter().zip(now).filter(|(r, c)| **r + **c > 0).count();
    Some(chi_squared_95(bins.saturating_sub(1)) * (1.0 / m + 1.0 / n))
}

/// Wilson and Hilferty's approximation (1931), within 2% from one degree of freedom on.
fn chi_squared_95(freedom: usize) -> f64 {
    const Z95: f64 = 1.644_853_626_951_472_2;
    if freedom == 0 {
        return 0.0;
    }
    let k = freedom as f64;
    let spread = 2.0 / (9.0 * k);
    k * (1.0 - spread + Z95 * spread.sqrt()).powi(3)
}

/// Whether a bin's share has risen by more than one in a hundred rows, and by more than three
/// standard errors: (count, rows) before and now.
pub(super) fn rises((before, m): (u64, u64), (after, n): (u64, u64)) -> bool {
    const LEAST: f64 = 0.01;
    if m == 0 || n == 0 {
        return false;
    }
    let (m, n) = (m as f64, n as f64);
    let (before, after) = (before as f64, after as f64);
    let pooled = (before + after) / (m + n);
    let error = (pooled * (1.0 - pooled) * (1.0 / m + 1.0 / n)).sqrt();
    let rise = after / n - before / m;
    rise > LEAST && rise > 3.0 * error
}

fn total(counts: &[u64]) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    (total > 0).then_some(total as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables of chi-squared: 3.841, 5.991, 16.919, 31.410.
    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, known) in [(1, 3.841), (2, 5.991), (9, 16.919), (20, 31.410)] {
            let found = chi_squared_95(freedom);
            assert!((found / known - 1.0).abs() < 0.03, "{freedom}: {found}");
        }
        assert_eq!(chi_squared_95(0), 0.0);
    }

    #[test]
    fn a_rise_is_beyond_chance_and_worth_the_name() {
        assert!(rises((0, 1000), (300, 1000)));
        assert!(rises((0, 1000), (1, 1)));
        // One row in 500 more, of very many rows; and three rows more of a hundred, which is
        // chance.
        assert!(!rises((0, 10_000_000), (20_000, 10_000_000)));
        assert!(!rises((10, 100), (13, 100)));
        assert!(!rises((300, 1000), (0, 1000)));
        assert!(!rises((0, 0), (1, 1)) && !rises((0, 1), (0, 0)));
    }
}
