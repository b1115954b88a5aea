//! The publish gate: the float model against the int8 model on the test rows.

use riskft_core::metrics;
use riskft_core::options::Gate;
use riskft_core::protocol::GateReport;
use riskft_core::refusal::{code, Refusal};

/// Fewest rows for which AUC loss and flips are figures and not chance.
pub const MIN_ROWS: usize = 100;
/// Of rows whose change the limit `change_q999` is on.
const SHARE: f64 = 0.999;

/// Compares calibrated probabilities of the same rows; returns the figures and the limits that
/// they were held against: `gate` with [`room_for_chance`].
pub fn compare(
    float: &[f64],
    int8: &[f64],
    labels: &[bool],
    threshold: f64,
    gate: &Gate,
) -> (GateReport, Gate) {
    let error = metrics::auc_difference(float, int8, labels).map_or(0.0, |(_, error)| error);
    let mut changes: Vec<f64> = float.iter().zip(int8).map(|(f, q)| (f - q).abs()).collect();
    changes.sort_by(f64::total_cmp);
    let limits = room_for_chance(gate, &changes, error);
    let figures = labels.len() >= MIN_ROWS;
    let auc_loss = (metrics::auc(float, labels).zip(metrics::auc(int8, labels)))
        .filter(|_| figures)
        .map(|(float, int8)| float - int8);
    let flipped = float.iter().zip(int8).filter(|(f, q)| (**f >= threshold) != (**q >= threshold));
    let flips = auc_loss.map(|_| flipped.count() as f64 / labels.len() as f64);
    let mut report = GateReport {
        rows: labels.len() as u64,
        auc_loss,
        change_q999: quantile(&changes, SHARE),
        change_max: changes.last().copied().unwrap_or(0.0),
        flips,
        passed: false,
    };
    report.passed = failures(&report, &limits).is_empty();
    (report, limits)
}

/// The limits on AUC, decisions and the quantile are on what all future rows would show; some rows show it
/// with an error. A figure misses its limit when it lies above it by more than two standard errors: the
/// paired one of the AUC difference, the binomial one of the share at its limit, and for the quantile that
/// of the share of rows below it (of 180 rows the largest change is no 99.9% quantile: one in six such
/// samples holds a row beyond it). At 4,000 rows the limit of 0.5% flips becomes 0.72%, at 120 rows 1.8%:
/// two rows. `changes` are sorted.
fn room_for_chance(gate: &Gate, changes: &[f64], auc_error: f64) -> Gate {
    let error = |share: f64| (share * (1.0 - share) / changes.len().max(1) as f64).sqrt();
    let surely = quantile(changes, SHARE - 2.0 * error(SHARE));
    Gate {
        auc_loss: gate.auc_loss + 2.0 * auc_error,
        change_q999: gate.change_q999 + quantile(changes, SHARE) - surely,
        flips: gate.flips + 2.0 * error(gate.flips),
        ..*gate
    }
}

/// The smallest value that at least the share `q` of sorted values does not exceed; 0 of none.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// What is beyond its limit, in words. A NaN is beyond every limit.
fn failures(report: &GateReport, gate: &Gate) -> Vec<String> {
    let figures = [
        ("the AUC loss", report.auc_loss, gate.auc_loss),
        ("the 99.9% quantile of the score change", Some(report.change_q999), gate.change_q999),
        ("the largest score change", Some(report.change_max), gate.change_max),
        ("the share of changed decisions", report.flips, gate.flips),
    ];
    figures
        .into_iter()
        .filter_map(|(name, value, limit)| Some((name, value?, limit)))
        .filter(|(_, value, limit)| value.is_nan() || value > limit)
        .map(|(name, value, limit)| format!("{name} is {value:.5} (limit {limit:.5})"))
        .collect()
}

/// The refusal of a version that missed the gate.
pub fn refusal(report: &GateReport, limits: &Gate) -> Refusal {
    Refusal::new(code::DATA_EXCEPTION, "the int8 model differs too much from the float model")
        .detail(format!("On {} rows, {}.", report.rows, failures(report, limits).join(", ")))
        .hint("Set the limits in options.gate wider, or options.learning_rate or options.members lower; nothing was stored.")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATE: Gate = Gate { auc_loss: 0.001, change_q999: 0.03, change_max: 0.05, flips: 0.005 };

    fn rows(count: usize) -> (Vec<f64>, Vec<bool>) {
        let scores: Vec<f64> = (0..count).map(|i| (i as f64 + 0.5) / count as f64).collect();
        let labels = (0..count).map(|i| i % 3 == 0).collect();
        (scores, labels)
    }

    #[test]
    fn equal_scores_pass_with_figures_of_zero() {
        let (scores, labels) = rows(1000);
        let (report, _) = compare(&scores, &scores, &labels, 0.5, &GATE);
        assert_eq!((report.auc_loss, report.change_max, report.flips), (Some(0.0), 0.0, Some(0.0)));
        assert!(report.passed);
    }

    #[test]
    fn each_limit_is_told() {
        let (float, labels) = rows(1000);
        let mut int8 = float.clone();
        int8[500] -= 0.06;
        let (report, _) = compare(&float, &int8, &labels, 0.5, &GATE);
        assert!((report.change_max - 0.06).abs() < 1e-12 && report.change_q999 == 0.0);
        assert_eq!(report.flips, Some(0.001));
        assert!(!report.passed);
        let refusal = refusal(&report, &GATE);
        assert_eq!(refusal.code, code::DATA_EXCEPTION);
        assert!(refusal.detail.contains("largest score change is 0.06000 (limit 0.05000)"));
        assert!(!refusal.detail.contains("quantile"));
        let wide = Gate { change_max: 0.1, ..GATE };
        assert!(compare(&float, &int8, &labels, 0.5, &wide).0.passed);
        int8[0] = f64::NAN;
        assert!(!compare(&float, &int8, &labels, 0.5, &wide).0.passed);
    }

    #[test]
    fn few_rows_leave_room_for_chance_and_many_do_not() {
        // Every 100th row's decision changes: 1% against a limit of 0.5%.
        for (count, passes) in [(200, true), (20_000, false)] {
            let (float, labels) = rows(count);
            let float: Vec<f64> = float.iter().map(|s| 0.5 + 0.001 * (s - 0.5)).collect();
            let mut int8 = float.clone();
            for row in (0..count).step_by(100) {
                int8[row] = 1.0 - float[row];
            }
            let (report, limits) = compare(&float, &int8, &labels, 0.5, &GATE);
            assert!((report.flips.unwrap() - 0.01).abs() < 1e-9);
            assert_eq!(report.flips.unwrap() <= limits.flips, passes, "{count} rows");
        }
    }

    /// Rows that may lie beyond the limit of the quantile, and one more: 0.001 n + 2 sqrt(0.001 n), rounded down.
    #[test]
    fn the_quantile_of_few_rows_leaves_room_for_chance() {
        for (count, within) in [(180, 1), (1_000, 2), (20_000, 28)] {
            let (float, labels) = rows(count);
            let with = |beyond: usize| {
                let mut int8 = float.clone();
                int8[..beyond].iter_mut().for_each(|score| *score += 0.04);
                compare(&float, &int8, &labels, 2.0, &Gate { auc_loss: 1.0, ..GATE })
            };
            assert!(with(within).0.passed, "{count} rows");
            let (report, limits) = with(within + 1);
            assert!(!report.passed && report.change_q999 > limits.change_q999, "{count} rows");
        }
    }

    #[test]
    fn small_parts_and_one_class_have_change_limits_alone() {
        let (scores, labels) = rows(99);
        let (report, _) = compare(&scores, &scores, &labels, 0.5, &GATE);
        assert_eq!((report.auc_loss, report.flips, report.passed), (None, None, true));
        let (scores, _) = rows(200);
        let (report, _) = compare(&scores, &scores, &[false; 200], 0.5, &GATE);
        assert_eq!((report.auc_loss, report.flips, report.passed), (None, None, true));
        let (none, _) = compare(&[], &[], &[], 0.5, &GATE);
        assert!(none.passed && none.rows == 0);
    }
}
