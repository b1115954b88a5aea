//! Points of a scorecard: log odds on a scale that people know (Siddiqi, "Credit Risk Scorecards",
//! 2006, chapter 6).

use crate::refusal::{code, Refusal, Result};

/// `base` points stand for good:bad odds of `odds`, and `pdo` points more double the odds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    base: f64,
    odds: f64,
    pdo: f64,
}

impl Scale {
    /// # Errors
    /// 22023 unless base is finite, and odds and pdo are above 0 and finite.
    pub fn new(base: f64, odds: f64, pdo: f64) -> Result<Self> {
        let above = |value: f64| value > 0.0 && value.is_finite();
        let wrong = [
            ("base", base, base.is_finite()),
            ("odds", odds, above(odds)),
            ("pdo", pdo, above(pdo)),
        ];
        match wrong.into_iter().find(|(_, _, right)| !right) {
            None => Ok(Scale { base, odds, pdo }),
            Some((name, value, _)) => {
                Err(Refusal::new(code::INVALID_PARAMETER, "invalid scale of points")
                    .detail(format!("Argument \"{name}\" is {value}."))
                    .hint("Give a finite base, and odds and points to double them above 0."))
            }
        }
    }

    /// Points of a row by the log odds of its positive, that is bad, class.
    pub fn points(&self, log_odds: f64) -> f64 {
        self.base + self.pdo * (-log_odds - libm::log(self.odds)) / std::f64::consts::LN_2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odds_double_every_pdo_points() {
        let scale = Scale::new(600.0, 50.0, 20.0).unwrap();
        let of_odds = |odds: f64| scale.points(-odds.ln());
        for (odds, points) in [(50.0, 600.0), (100.0, 620.0), (25.0, 580.0), (50.0 / 8.0, 540.0)] {
            assert!((of_odds(odds) - points).abs() < 1e-9, "{odds}");
        }
        for (base, odds, pdo) in [
            (f64::NAN, 50.0, 20.0),
            (600.0, 0.0, 20.0),
            (600.0, -1.0, 20.0),
            (600.0, 50.0, 0.0),
            (600.0, f64::INFINITY, 20.0),
        ] {
            assert_eq!(Scale::new(base, odds, pdo).unwrap_err().code, "22023");
        }
    }
}
