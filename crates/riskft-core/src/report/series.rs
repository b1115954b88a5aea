//! Pictures of what is beside a version: drift over time, arms of A/B tests, costs of trainings.

use super::chart::{draw, lying_bars, Axes, Plot, BLUE, GREEN, GREY, ORANGE, PURPLE};
use super::pictures::SIZE;
use super::text::short;
use super::{ArmFigure, DriftPoint, TrainingCost};

/// Tests and trainings of one picture, the last ones.
const MOST_TESTS: usize = 8;
const MOST_TRAININGS: usize = 12;

pub(super) fn psi(points: &[DriftPoint]) -> Result<String, String> {
    if points.is_empty() {
        return Err("Nobody has called riskft_monitor for this version.".into());
    }
    let score: Vec<(f64, f64)> = points
        .iter()
        .zip(1..)
        .filter_map(|(point, place)| Some((f64::from(place), point.score?)))
        .collect();
    let worst: Vec<(f64, f64)> = points
        .iter()
        .zip(1..)
        .filter_map(|(point, place)| Some((f64::from(place), point.worst.as_ref()?.1)))
        .collect();
    let count = points.len();
    let highest = score.iter().chain(&worst).map(|p| p.1).filter(|v| v.is_finite());
    let most = highest.fold(0.3, f64::max) * 1.15;
    let day = |at: f64| -> String {
        let place = at.round();
        if (at - place).abs() > 1e-6 || place < 1.0 || place > count as f64 {
            return String::new();
        }
        points[place as usize - 1].day.clone()
    };
    let description = format!("Population stability index at {count} points.");
    draw("Drift over time", &description, SIZE, |area| {
        let axes = Axes {
            x: "call of riskft_monitor",
            y: "population stability index",
            x_range: (0.5, count as f64 + 0.5),
            y_range: (0.0, most),
            x_names: Some(&day),
            ticks: (5, 6),
        };
        let end = count as f64 + 0.5;
        let mut plot = Plot::new(area, &axes)?;
        for limit in [0.1, 0.25] {
            plot.dashed(&[(0.5, limit), (end, limit)], GREY)?;
        }
        plot.line(&worst, PURPLE)?;
        plot.dots(&worst, PURPLE)?;
        plot.line(&score, GREEN)?;
        plot.dots(&score, GREEN)?;
        let left = 0.5 + 0.02 * count as f64;
        let now = points.last().and_then(|point| point.worst.as_ref());
        let now =
            now.map_or(String::new(), |(column, _)| format!(", at last {}", short(column, 24)));
        plot.note((left, 0.96 * most), "score", GREEN, false)?;
        let worst = format!("the column that drifts most{now}");
        plot.note((left, 0.88 * most), &worst, PURPLE, false)?;
        plot.note((left, 0.80 * most), "dashed: moderate from 0.1, large from 0.25", GREY, false)
    })
}

/// The arms' AUC, test by test, with their intervals.
pub(super) fn arms(arms: &[ArmFigure]) -> Result<String, String> {
    let mut tests: Vec<i32> = arms.iter().map(|arm| arm.test).collect();
    tests.dedup();
    let tests = &tests[tests.len().saturating_sub(MOST_TESTS)..];
    if tests.is_empty() {
        return Err("No A/B test of the model was evaluated by riskft_ab_evaluate.".into());
    }
    let of = |challenger: bool| -> Vec<(f64, &ArmFigure)> {
        let side = if challenger { 0.12 } else { -0.12 };
        let place = |arm: &ArmFigure| tests.iter().position(|test| *test == arm.test);
        let own = arms.iter().filter(|arm| arm.is_challenger == challenger && arm.auc.is_finite());
        own.filter_map(|arm| Some((place(arm)? as f64 + 1.0 + side, arm))).collect()
    };
    let ends = |arm: &ArmFigure| match arm.interval {
        Some((low, high)) => [low, arm.auc, high],
        None => [arm.auc; 3],
    };
    let all = arms.iter().flat_map(ends).filter(|value| value.is_finite());
    let (low, high) = all.fold((1.0, 0.0), |(l, h): (f64, f64), v| (l.min(v), h.max(v)));
    let room = (high - low).clamp(0.02, 1.0);
    let range = ((low - 0.1 * room).max(0.0), high + 0.4 * room);
    let name = |at: f64| -> String {
        let place = at.round();
        match (at - place).abs() < 1e-6 && place >= 1.0 {
            true => {
                tests.get(place as usize - 1).map_or(String::new(), |test| format!("test {test}"))
            }
            false => String::new(),
        }
    };
    let description = format!("AUC of both arms of {} tests, 95% intervals.", tests.len());
    draw("A/B tests", &description, SIZE, |area| {
        let end = tests.len() as f64 + 0.5;
        let axes = Axes {
            x: "",
            y: "AUC of the arm's rows",
            x_range: (0.5, end),
            y_range: range,
            x_names: Some(&name),
            ticks: (MOST_TESTS + 1, 6),
        };
        let mut plot = Plot::new(area, &axes)?;
        for (challenger, colour) in [(false, BLUE), (true, ORANGE)] {
            let arms = of(challenger);
            let dots: Vec<(f64, f64)> = arms.iter().map(|(at, arm)| (*at, arm.auc)).collect();
            let whiskers: Vec<(f64, f64, f64)> = arms
                .iter()
                .filter_map(|(at, arm)| arm.interval.map(|(low, high)| (*at, low, high)))
                .collect();
            plot.whiskers(&whiskers, colour)?;
            plot.dots(&dots, colour)?;
            for (at, arm) in arms {
                let words = format!("v{}", arm.version);
                plot.note((at + 0.03, arm.auc), &words, colour, false)?;
            }
        }
        let height = range.1 - range.0;
        let left = 0.5 + 0.02 * tests.len() as f64;
        plot.note((left, range.1 - 0.05 * height), "champion", BLUE, false)?;
        plot.note((left, range.1 - 0.12 * height), "challenger", ORANGE, false)?;
        plot.note((left, range.1 - 0.19 * height), "whiskers: 95% intervals", GREY, false)
    })
}

/// Wall seconds of the model's trainings, and of their trees alone.
pub(super) fn costs(costs: &[TrainingCost]) -> Result<String, String> {
    let shown = &costs[costs.len().saturating_sub(MOST_TRAININGS)..];
    if shown.is_empty() {
        return Err("The costs of the model's trainings are shown to who asked for them.".into());
    }
    let bars: Vec<(String, f64, String)> = shown
        .iter()
        .map(|cost| (cost.name.clone(), cost.seconds, format!("{:.1} s", cost.seconds)))
        .collect();
    let description = format!("{} ways of training.", bars.len());
    draw("Wall seconds of trainings", &description, SIZE, |area| lying_bars(area, &bars))
}
