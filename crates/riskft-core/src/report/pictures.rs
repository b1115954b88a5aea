//! The pictures: figures of a version in, SVG out, or why there is none.

use crate::curve::{wilson, Curve};
use crate::options::Role;
use crate::protocol::{EffectReport, FeatureReport, Figures};

use super::chart::{draw, lying_bars, style, Area, Axes, Drawn, Plot, BLUE, GREY, ORANGE};
use super::text::{figure, plain, short};
use super::{series, Beside, Kind};

/// Width and height, pixels.
pub(super) const SIZE: (u32, u32) = (480, 320);
/// Of several plots in one picture.
const WIDE: (u32, u32) = (720, 480);
/// Columns of the picture of importances, and of that of effects.
const MOST_COLUMNS: usize = 15;
const MOST_EFFECTS: usize = 6;
/// An import may bring any number of columns and values.
const MOST_LOOKED_AT: usize = 200;
const MOST_VALUES: usize = 40;
/// Stretches of the score in the picture of their distribution.
const CELLS: usize = 20;

const POSITIVE: &str = "positive rows";
const NEGATIVE: &str = "negative rows";

/// The picture of a kind; or, as a sentence, why there is none.
pub fn picture(kind: Kind, figures: &Figures, beside: &Beside) -> Result<String, String> {
    match kind {
        Kind::Roc => roc(figures),
        Kind::PrecisionRecall => precision_recall(figures),
        Kind::Calibration => calibration(figures),
        Kind::Ks => ks(figures),
        Kind::Scores => scores(figures),
        Kind::Lift => lift(figures),
        Kind::Importance => importance(figures),
        Kind::Effect => effect(figures),
        Kind::Drift => series::psi(&beside.drift),
        Kind::Ab => series::arms(&beside.arms),
        Kind::Cost => series::costs(&beside.costs),
    }
}

/// The test rows' curve, and the number of its bins in words.
fn curve(figures: &Figures) -> Result<(Curve<'_>, String), String> {
    if figures.curve.is_empty() {
        return Err(
            "The version keeps no scores of test rows: it has fewer than 10 of them, or is older \
             than riskft.curve; a version trained anew has them."
                .into(),
        );
    }
    let curve = Curve::of(&figures.curve).ok_or("The test rows are of one class.")?;
    let bins = format!("{} test rows, drawn from {} bins", curve.rows(), figures.curve.len());
    Ok((curve, bins))
}

/// A figure of the test rows, with its interval.
fn told(figures: &Figures, metric: &str) -> String {
    let found = figures.metrics.iter().find(|m| m.part == "test" && m.metric.metric == metric);
    let Some(found) = found.map(|m| &m.metric) else { return "–".to_owned() };
    match found.ci_low.zip(found.ci_high) {
        Some((low, high)) => format!("{} [{low:.3}, {high:.3}]", figure(found.value, 3)),
        None => figure(found.value, 3),
    }
}

fn roc(figures: &Figures) -> Result<String, String> {
    let (curve, bins) = curve(figures)?;
    let auc = told(figures, "auc");
    draw("ROC curve", &format!("{bins}; AUC {auc}."), SIZE, |area| {
        let axes = Axes { x: "false positive rate", y: "true positive rate", ..Axes::default() };
        let mut plot = Plot::new(area, &axes)?;
        plot.dashed(&[(0.0, 0.0), (1.0, 1.0)], GREY)?;
        plot.line(&curve.roc(), BLUE)?;
        plot.note((0.98, 0.16), &format!("AUC {auc}"), BLUE, true)?;
        plot.note((0.98, 0.08), &bins, GREY, true)
    })
}

fn precision_recall(figures: &Figures) -> Result<String, String> {
    let (curve, bins) = curve(figures)?;
    let average = told(figures, "average_precision");
    let description = format!("{bins}; average precision {average}.");
    draw("Precision and recall", &description, SIZE, |area| {
        let axes = Axes { x: "recall", y: "precision", ..Axes::default() };
        let mut plot = Plot::new(area, &axes)?;
        let base = curve.base_rate();
        plot.dashed(&[(0.0, base), (1.0, base)], GREY)?;
        plot.line(&curve.precision_recall(), BLUE)?;
        plot.note((0.98, 0.95), &format!("average precision {average}"), BLUE, true)?;
        plot.note((0.98, 0.87), &format!("base rate {base:.3}"), GREY, true)?;
        plot.note((0.98, 0.79), &bins, GREY, true)
    })
}

fn calibration(figures: &Figures) -> Result<String, String> {
    let (curve, bins) = curve(figures)?;
    let groups = curve.groups(10);
    let points: Vec<(f64, f64)> =
        groups.iter().map(|g| (g.mean_score, g.positives as f64 / g.rows as f64)).collect();
    let interval = |g: &crate::curve::CurveBin| {
        wilson(g.positives, g.rows).map(|(low, high)| (g.mean_score, low, high))
    };
    let whiskers: Vec<(f64, f64, f64)> = groups.iter().filter_map(interval).collect();
    let tops = whiskers.iter().map(|w| w.2).chain(points.iter().map(|p| p.0));
    let most = (tops.fold(0.0, f64::max) * 10.0).ceil() / 10.0;
    let ece = told(figures, "ece");
    let description = format!("{bins}; expected calibration error {ece}.");
    draw("Calibration", &description, SIZE, |area| {
        let axes = Axes {
            x: "mean score of a tenth of the rows",
            y: "share of positive rows",
            x_range: (0.0, most),
            y_range: (0.0, most),
            ..Axes::default()
        };
        let mut plot = Plot::new(area, &axes)?;
        plot.dashed(&[(0.0, 0.0), (most, most)], GREY)?;
        plot.whiskers(&whiskers, BLUE)?;
        plot.line(&points, BLUE)?;
        plot.dots(&points, BLUE)?;
        plot.note((0.02 * most, 0.96 * most), &format!("ECE {ece}"), BLUE, false)?;
        plot.note((0.02 * most, 0.88 * most), "whiskers: Wilson's 95% intervals", GREY, false)?;
        plot.note((0.02 * most, 0.80 * most), &bins, GREY, false)
    })
}

fn ks(figures: &Figures) -> Result<String, String> {
    let (curve, bins) = curve(figures)?;
    let steps = curve.cumulative();
    let ks = told(figures, "ks");
    let widest = steps.iter().max_by(|a, b| (a.1 - a.2).abs().total_cmp(&(b.1 - b.2).abs()));
    draw("Kolmogorov-Smirnov", &format!("{bins}; KS {ks}."), SIZE, |area| {
        let axes = Axes { x: "score", y: "share of rows at or below", ..Axes::default() };
        let mut plot = Plot::new(area, &axes)?;
        let of = |class: fn(&(f64, f64, f64)) -> f64| -> Vec<(f64, f64)> {
            let end = std::iter::once((1.0, 1.0));
            steps.iter().map(|step| (step.0, class(step))).chain(end).collect()
        };
        plot.line(&of(|step| step.1), BLUE)?;
        plot.line(&of(|step| step.2), ORANGE)?;
        if let Some((at, negative, positive)) = widest {
            plot.dashed(&[(*at, *positive), (*at, *negative)], GREY)?;
        }
        plot.note((0.98, 0.32), NEGATIVE, BLUE, true)?;
        plot.note((0.98, 0.24), POSITIVE, ORANGE, true)?;
        plot.note((0.98, 0.16), &format!("KS {ks}, dashed"), GREY, true)?;
        plot.note((0.98, 0.08), &bins, GREY, true)
    })
}

fn scores(figures: &Figures) -> Result<String, String> {
    let (curve, bins) = curve(figures)?;
    let shares = curve.spread(CELLS);
    let most = shares.iter().flat_map(|s| [s.0, s.1]).fold(0.0, f64::max) * 1.1;
    draw("Scores by outcome", &format!("{bins}."), SIZE, |area| {
        let axes = Axes {
            x: "score, in stretches of 0.05",
            y: "share of the class's rows",
            y_range: (0.0, most),
            ..Axes::default()
        };
        let mut plot = Plot::new(area, &axes)?;
        let width = 1.0 / CELLS as f64;
        let bars = |class: fn(&(f64, f64)) -> f64, from: f64| -> Vec<(f64, f64, f64)> {
            let bar = |(cell, share): (usize, &(f64, f64))| {
                let left = (cell as f64 + from) * width;
                (left, left + 0.4 * width, class(share))
            };
            shares.iter().enumerate().map(bar).collect()
        };
        plot.bars(&bars(|share| share.0, 0.1), BLUE)?;
        plot.bars(&bars(|share| share.1, 0.5), ORANGE)?;
        plot.note((0.98, 0.95 * most), NEGATIVE, BLUE, true)?;
        plot.note((0.98, 0.87 * most), POSITIVE, ORANGE, true)?;
        plot.note((0.98, 0.79 * most), &bins, GREY, true)
    })
}

fn lift(figures: &Figures) -> Result<String, String> {
    let (curve, bins) = curve(figures)?;
    let mut groups = curve.groups(10);
    groups.reverse();
    let base = curve.base_rate();
    let of = |g: &crate::curve::CurveBin| g.positives as f64 / g.rows as f64 / base;
    let lifts: Vec<f64> = groups.iter().map(of).collect();
    let most = lifts.iter().copied().fold(1.0, f64::max) * 1.15;
    draw("Lift by tenth of the scores", &format!("{bins}."), SIZE, |area| {
        let count = lifts.len() as f64;
        let whole = |value: f64| match value.fract() == 0.0 && (1.0..=count).contains(&value) {
            true => format!("{value}"),
            false => String::new(),
        };
        let axes = Axes {
            x: "tenth of the rows, highest scores first",
            y: "share of positives over the base rate",
            x_range: (0.5, count + 0.5),
            y_range: (0.0, most),
            x_names: Some(&whole),
            ticks: (12, 6),
        };
        let mut plot = Plot::new(area, &axes)?;
        let bar = |(lift, tenth): (&f64, usize)| {
            let middle = tenth as f64;
            (middle - 0.35, middle + 0.35, *lift)
        };
        let bars: Vec<(f64, f64, f64)> = lifts.iter().zip(1..).map(bar).collect();
        plot.bars(&bars, BLUE)?;
        plot.dashed(&[(0.5, 1.0), (count + 0.5, 1.0)], GREY)?;
        plot.note((count + 0.4, 0.95 * most), &bins, GREY, true)?;
        for (left, _, lift) in bars {
            plot.note((left, lift + 0.03 * most), &format!("{lift:.2}"), GREY, false)?;
        }
        Ok(())
    })
}

fn importance(figures: &Figures) -> Result<String, String> {
    if figures.importances.is_empty() {
        return Err("The version was trained with options.explain.rows = 0.".into());
    }
    let shown = &figures.importances[..figures.importances.len().min(MOST_COLUMNS)];
    let bars: Vec<(String, f64, String)> = shown
        .iter()
        .map(|i| (i.column_name.clone(), i.mean_abs_shap, format!("{:.3}", i.mean_abs_shap)))
        .collect();
    let description = format!("The {} columns that move scores most.", bars.len());
    let title = "Mean magnitude of contributions to the log odds";
    draw(title, &description, SIZE, |area| lying_bars(area, &bars))
}

fn effect(figures: &Figures) -> Result<String, String> {
    let of = |column: &str| -> Vec<&EffectReport> {
        let of = |effect: &&EffectReport| effect.column_name == column;
        figures.effects.iter().filter(of).take(MOST_VALUES).collect()
    };
    let named = figures.importances.iter().take(MOST_LOOKED_AT);
    let columns = named.map(|i| (i.column_name.as_str(), of(&i.column_name)));
    let columns: Vec<(&str, Vec<&EffectReport>)> =
        columns.filter(|(_, values)| !values.is_empty()).take(MOST_EFFECTS).collect();
    if columns.is_empty() {
        return Err(
            "The version has no effects: they are of test rows, and of columns that are no texts."
                .into(),
        );
    }
    let all = columns.iter().flat_map(|(_, values)| values.iter().map(|value| value.mean_score));
    let (low, high) = all.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    let room = (high - low).max(0.01) * 0.1;
    let range = ((low - room).max(0.0), (high + room).min(1.0));
    let rises = |name: &str| {
        let is = |feature: &&FeatureReport| feature.column_name == name;
        let role = figures.features.iter().find(is).map(|feature| feature.role);
        matches!(role, Some(Role::Number | Role::Date))
    };
    let title = "Mean score by the value of a column (partial dependence)";
    let description = format!("{} columns, the most important first.", columns.len());
    draw(title, &description, WIDE, |area| {
        let panels = area.split_evenly((2, 3));
        columns.iter().zip(&panels).try_for_each(|((name, values), panel)| {
            panel_of(panel, name, values, range, rises(name))
        })
    })
}

/// The effect of one column; its values are in an order of their own where it `rises`.
fn panel_of(
    area: &Area<'_>,
    name: &str,
    values: &[&EffectReport],
    range: (f64, f64),
    rises: bool,
) -> Drawn {
    let area = area.titled(&plain(&short(name, 28)), style(12, super::chart::BLUE))?;
    let count = values.len();
    // Names have room below three values.
    let named = |at: f64| -> String {
        let place = at.round();
        let shown = [1, count.div_ceil(2), count].contains(&(place as usize));
        if !shown || (at - place).abs() > 1e-6 || place < 1.0 {
            return String::new();
        }
        let value = values[place as usize - 1].value.as_deref().unwrap_or("missing");
        short(value, 10).into_owned()
    };
    let axes = Axes {
        x_range: (0.5, count as f64 + 0.5),
        y_range: range,
        x_names: Some(&named),
        ticks: (count + 2, 4),
        ..Axes::default()
    };
    let mut plot = Plot::new(&area, &axes)?;
    let at = |(place, value): (usize, &&EffectReport)| (place as f64 + 1.0, value.mean_score);
    let known = values.iter().take_while(|value| value.value.is_some()).count();
    let points: Vec<(f64, f64)> = values.iter().enumerate().map(at).collect();
    // Labels have no order that a line could follow.
    if rises {
        plot.line(&points[..known], BLUE)?;
    }
    plot.dots(&points[..known], BLUE)?;
    plot.dots(&points[known..], ORANGE)
}
