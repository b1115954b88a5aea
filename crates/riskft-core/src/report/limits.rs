//! What a version must not be used for, as far as its own figures tell.

use std::collections::HashSet;

use crate::dataset::dates::civil_from_days;
use crate::drift::{Kind, Reference};
use crate::metrics::Metric;
use crate::options::Role;
use crate::protocol::{FeatureReport, Figures};

use super::text::figure;
use super::Table;

/// Test rows below which figures say little.
const FEW_ROWS: f64 = 1_000.0;
/// Test rows of the rarer class, likewise: ten events per parameter is the rule of thumb of
/// logistic regression (Peduzzi et al. 1996), and an AUC of 100 has a standard error near 0.03.
const FEW_OF_A_CLASS: f64 = 100.0;

/// Sentences, the ones that the figures decide last.
pub(super) fn sentences(figures: &Figures) -> Vec<String> {
    let mut told = vec![
        "The figures hold for rows that are drawn as those of the relation above: another product, \
         country, channel or time asks for a validation of its own (riskft_evaluate, riskft_drift)."
            .to_owned(),
        "A score is a probability as often as the calibration picture says; contributions and \
         effects tell what moves the score, not what causes the outcome."
            .to_owned(),
        "Where a column lies outside the range below, or has a value that is not named, the \
         version has seen nothing like it: trees hold the score of the nearest rows."
            .to_owned(),
        "Columns that stand for a protected characteristic, or near one, are not told apart here: \
         fair lending is tested outside this page."
            .to_owned(),
    ];
    told.extend(sample(figures));
    told.extend(overfit(figures));
    told.extend(missing(figures));
    told
}

/// A figure of a part of the rows.
pub(super) fn metric<'a>(figures: &'a Figures, part: &str, metric: &str) -> Option<&'a Metric> {
    let found = figures.metrics.iter().find(|m| m.part == part && m.metric.metric == metric);
    found.map(|m| &m.metric)
}

fn value(figures: &Figures, part: &str, name: &str) -> Option<f64> {
    metric(figures, part, name).and_then(|m| m.value)
}

fn sample(figures: &Figures) -> Option<String> {
    let rows = value(figures, "test", "rows").unwrap_or(0.0);
    let Some(rate) = value(figures, "test", "base_rate") else {
        return Some(
            "There is no test part: every figure is of rows that the version, or a model \
                     fitted beside it, has learnt from."
                .to_owned(),
        );
    };
    let rarer = (rows * rate.min(1.0 - rate)).round();
    (rows < FEW_ROWS || rarer < FEW_OF_A_CLASS).then(|| {
        format!(
            "The test part is small: {rows} rows, {rarer} of the rarer class; read the intervals, \
             not the figures."
        )
    })
}

fn overfit(figures: &Figures) -> Option<String> {
    let train = value(figures, "train", "auc")?;
    let test = metric(figures, "test", "auc")?;
    let (auc, high) = (test.value?, test.ci_high?);
    (train > high).then(|| {
        format!(
            "On the rows that it learnt from the version has an AUC of {train:.3}, above the \
             interval of the test rows' {auc:.3}: figures of part train say nothing of new rows."
        )
    })
}

fn missing(figures: &Figures) -> Option<String> {
    let often = figures.features.iter().filter(|feature| {
        feature.missing_share > 0.5 && !matches!(feature.role, Role::Ignored | Role::Target)
    });
    let names: Vec<String> = often.map(|f| format!("\"{}\"", f.column_name)).collect();
    let more = names.len().saturating_sub(10);
    let shown = names[..names.len() - more].join(", ");
    match (names.len(), more) {
        (0, _) => None,
        (_, 0) => Some(format!("More than half of the cells are missing in {shown}.")),
        _ => Some(format!("More than half of the cells are missing in {shown} and {more} more.")),
    }
}

/// What values the version has seen in each column: between the outer deciles of numbers, names of
/// labels.
pub(super) fn ranges(figures: &Figures) -> Table {
    let is_date = |feature: &&FeatureReport| feature.role == Role::Date;
    let dates: HashSet<&str> =
        figures.features.iter().filter(is_date).map(|f| f.column_name.as_str()).collect();
    let row = |reference: &Reference| {
        let bins = &reference.bins;
        let rows = bins.rows();
        let seen = match (reference.kind, bins.edges.first().zip(bins.edges.last())) {
            (Kind::Label, _) => bins.values.join(", "),
            (_, Some((low, high))) => {
                let said = |edge: f64| said(dates.contains(reference.column_name.as_str()), edge);
                format!("outer deciles {} and {}", said(*low), said(*high))
            }
            _ => "one value".to_owned(),
        };
        let missing = bins.counts.get(bins.missing()).map(|n| *n as f64 / rows.max(1) as f64);
        vec![
            Some(reference.column_name.clone()),
            Some(reference.kind.name().to_owned()),
            Some(seen),
            Some(figure(missing, 3)),
        ]
    };
    let columns = figures.reference.iter().filter(|r| r.kind != Kind::Score);
    Table {
        heads: ["column", "kind", "seen", "missing share"].map(str::to_owned).to_vec(),
        rows: columns.map(row).collect(),
    }
}

/// An edge as people read it: of dates, which count days, the date.
fn said(is_date: bool, edge: f64) -> String {
    if is_date && edge.abs() < 1e8 {
        let (year, month, day) = civil_from_days(edge as i64);
        return format!("{year:04}-{month:02}-{day:02}");
    }
    let text = format!("{edge:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
