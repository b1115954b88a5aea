//! The target: its labels, the positive class, the unlabelled rows.
//!
//! Which class is positive is never guessed from the alphabet, the order or the frequency:
//!
//! 1. `positive`, when given, is one label; all others are negative.
//! 2. A boolean: true.
//! 3. Exactly 0 and 1: 1. Exactly yes and no, y and n, t and f, true and false: yes.
//! 4. Two labels of which exactly one names a bad outcome (see [`BAD`]), not negated.
//!
//! Anything else is refused, naming the labels. A NULL, an empty text or a NaN is unlabelled.

use super::{Column, ColumnData};
use crate::encode::value::{label, truth, Scratch};
use crate::refusal::{code, Refusal, Result};

/// Fewest labelled rows of a training: with less, no part of the split holds a usable figure.
pub const MIN_ROWS: usize = 50;
/// Fewest rows of each class: each of four parts gets at least one, training about five.
pub const MIN_CLASS_ROWS: usize = 10;
/// Most labels that a refusal lists.
const LISTED: usize = 8;

/// Words of a bad outcome. A label is bad if it is one of them or has one among its words, unless
/// a word of [`NEGATIONS`] stands before it.
pub const BAD: &[&str] = &[
    "default",
    "defaulted",
    "bad",
    "chgoff",
    "chargeoff",
    "charged off",
    "charge off",
    "charged",
    "late",
    "delinquent",
    "delinquency",
    "fraud",
    "fraudulent",
    "bankrupt",
    "bankruptcy",
    "foreclosed",
    "foreclosure",
    "writeoff",
    "write off",
    "written off",
    "arrears",
    "overdue",
    "past due",
    "npl",
    "nonperforming",
    "loss",
    "repossessed",
    "insolvent",
];
/// Words that turn a bad word after them into a good one.
pub const NEGATIONS: &[&str] = &["no", "non", "not", "never", "without"];

/// The labels of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    pub positive: String,
    /// Where the target had more than two labels: `not` and the positive one.
    pub negative: String,
}

impl Classes {
    /// Whether a label is the positive one; None where it is neither.
    pub fn of(&self, label: &str) -> Option<bool> {
        if label == self.positive {
            return Some(true);
        }
        let others = self.negative.strip_prefix("not ").is_some_and(|name| name == self.positive);
        (label == self.negative || others).then_some(false)
    }
}

/// The target as read.
#[derive(Debug)]
pub struct Target {
    /// None = unlabelled.
    pub labels: Vec<Option<bool>>,
    pub positive_label: String,
    pub negative_label: String,
    pub notices: Vec<String>,
}

/// Reads the target column.
pub fn read(column: &Column, positive: Option<&str>) -> Result<Target> {
    let rows = codes(column);
    let name = &column.source.name;
    let mut notices = Vec::new();
    let unlabelled = rows.codes.iter().filter(|code| code.is_none()).count();
    if unlabelled > 0 {
        let empty =
            if rows.empty > 0 { format!(" ({} of them empty)", rows.empty) } else { String::new() };
        notices
            .push(format!("{unlabelled} rows without a label in \"{name}\"{empty} are left out"));
    }
    let counts = rows.counts();
    if rows.labels.is_empty() {
        return Err(refuse(format!("no row of \"{name}\" has a label"), &rows, &counts).hint(
            "Training needs rows with a label; check the relation and its row-level security.",
        ));
    }
    let chosen = choose(column, &rows, &counts, positive, &mut notices)?;
    let labels: Vec<Option<bool>> =
        rows.codes.iter().map(|code| code.map(|c| c == chosen)).collect();
    check_counts(name, &labels)?;
    let others: Vec<&String> =
        rows.labels.iter().enumerate().filter(|(i, _)| *i != chosen).map(|(_, l)| l).collect();
    let negative_label = match others.as_slice() {
        [one] => (*one).clone(),
        _ => format!("not {}", rows.labels[chosen]),
    };
    Ok(Target { labels, positive_label: rows.labels[chosen].clone(), negative_label, notices })
}

/// The target's rows as codes into its distinct labels, sorted.
struct Labels {
    labels: Vec<String>,
    codes: Vec<Option<usize>>,
    empty: usize,
}

impl Labels {
    fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.labels.len()];
        self.codes.iter().flatten().for_each(|code| counts[*code] += 1);
        counts
    }
}

fn codes(column: &Column) -> Labels {
    let mut index = std::collections::BTreeMap::new();
    let mut scratch = Scratch::default();
    let mut empty = 0;
    let mut rows = Vec::with_capacity(column.present.len());
    for row in 0..column.present.len() {
        let text = label(column.cell(row), &mut scratch);
        if text.is_none() && column.present[row] && matches!(column.data, ColumnData::Text { .. }) {
            empty += 1;
        }
        rows.push(text.map(|text| match index.get(text) {
            Some(code) => *code,
            None => {
                let code = index.len();
                index.insert(text.to_owned(), code);
                code
            }
        }));
    }
    // From the order of appearance to the order of the labels.
    let mut sorted = vec![0; index.len()];
    index.values().enumerate().for_each(|(position, code)| sorted[*code] = position);
    let codes = rows.into_iter().map(|code| code.map(|c| sorted[c])).collect();
    Labels { labels: index.into_keys().collect(), codes, empty }
}

fn choose(
    column: &Column,
    rows: &Labels,
    counts: &[usize],
    positive: Option<&str>,
    notices: &mut Vec<String>,
) -> Result<usize> {
    let name = &column.source.name;
    let labels = &rows.labels;
    if let Some(wanted) = positive {
        let chosen = named(labels, wanted).ok_or_else(|| {
            refuse(format!("\"{wanted}\" is no label of \"{name}\""), rows, counts)
                .hint(format!("{} Labels are compared letter by letter.", perhaps(labels, wanted)))
        })?;
        if labels.len() > 2 {
            notices.push(format!(
                "\"{}\" of \"{name}\" is positive, the other {} labels are negative",
                labels[chosen],
                labels.len() - 1
            ));
        }
        return Ok(chosen);
    }
    if labels.len() == 1 {
        return Err(refuse(format!("\"{name}\" has one label only"), rows, counts)
            .hint("Training needs rows of both classes."));
    }
    if labels.len() > 2 {
        return Err(refuse(format!("\"{name}\" has more than two labels"), rows, counts)
            .hint(format!("Name the positive one: {}.", suggestion(labels))));
    }
    if matches!(column.data, ColumnData::Bool(_)) {
        return Ok(usize::from(labels[1] == "true"));
    }
    let (chosen, why) = conventional(labels).ok_or_else(|| {
        refuse(format!("cannot tell which label of \"{name}\" is positive"), rows, counts)
            .hint(format!("Name it: {}.", suggestion(labels)))
    })?;
    notices.push(format!("\"{}\" of \"{name}\" is positive: {why}", labels[chosen]));
    Ok(chosen)
}

/// The label that `wanted` names: the same text, the same number, or the same boolean.
fn named(labels: &[String], wanted: &str) -> Option<usize> {
    let wanted = wanted.trim();
    let by = |same: &dyn Fn(&str) -> bool| labels.iter().position(|label| same(label));
    by(&|label| label == wanted)
        .or_else(|| {
            let number: f64 = wanted.parse().ok()?;
            by(&|label| label.parse() == Ok(number))
        })
        .or_else(|| {
            let truth_wanted = truth(wanted)?;
            let booleans = labels.iter().all(|label| label == "true" || label == "false");
            booleans.then(|| by(&|label| truth(label) == Some(truth_wanted)))?
        })
}

/// Rules 3 and 4 of the module, for two labels.
fn conventional(labels: &[String]) -> Option<(usize, &'static str)> {
    if labels[0] == "0" && labels[1] == "1" {
        return Some((1, "of 0 and 1 it is 1"));
    }
    if let (Some(first), Some(second)) = (truth(&labels[0]), truth(&labels[1])) {
        return (first != second).then_some((usize::from(second), "it says yes"));
    }
    match (is_bad(&labels[0]), is_bad(&labels[1])) {
        (true, false) => Some((0, "it names the bad outcome")),
        (false, true) => Some((1, "it names the bad outcome")),
        _ => None,
    }
}

fn is_bad(label: &str) -> bool {
    let words: Vec<String> = label
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    BAD.iter().any(|bad| {
        let bad: Vec<&str> = bad.split(' ').collect();
        words.windows(bad.len()).enumerate().any(|(at, window)| {
            window.iter().zip(&bad).all(|(a, b)| a == b)
                && !words[..at].iter().any(|word| NEGATIONS.contains(&word.as_str()))
        })
    })
}

fn check_counts(name: &str, labels: &[Option<bool>]) -> Result<()> {
    let rows = labels.iter().flatten().count();
    let positive = labels.iter().flatten().filter(|label| **label).count();
    let fewer = positive.min(rows - positive);
    if fewer == 0 {
        return Err(Refusal::new(
            code::INVALID_PARAMETER,
            format!("\"{name}\" has one class only"),
        )
        .detail(format!("{positive} rows are positive and {} are negative.", rows - positive))
        .hint("Training needs rows of both classes."));
    }
    if rows < MIN_ROWS || fewer < MIN_CLASS_ROWS {
        return Err(Refusal::new(code::INVALID_PARAMETER, "too few rows to train on")
            .detail(format!("{positive} rows are positive and {} are negative.", rows - positive))
            .hint(format!(
                "Training needs at least {MIN_ROWS} labelled rows and {MIN_CLASS_ROWS} of each class."
            )));
    }
    Ok(())
}

/// A refusal that lists the labels, the most frequent first.
fn refuse(message: String, rows: &Labels, counts: &[usize]) -> Refusal {
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(counts[*i]), *i));
    let mut listed: Vec<String> = order
        .iter()
        .take(LISTED)
        .map(|i| format!("\"{}\" ({} rows)", shortened(&rows.labels[*i]), counts[*i]))
        .collect();
    if order.len() > LISTED {
        listed.push(format!("{} more", order.len() - LISTED));
    }
    let detail = match listed.split_last() {
        None => "All rows are NULL or empty.".to_owned(),
        Some((one, [])) => format!("The label is {one}."),
        Some((last, rest)) => format!("The labels are {} and {last}.", rest.join(", ")),
    };
    Refusal::new(code::INVALID_PARAMETER, message).detail(detail)
}

fn suggestion(labels: &[String]) -> String {
    let quoted: Vec<String> = labels
        .iter()
        .take(3)
        .map(|label| format!("positive => '{}'", shortened(label).replace('\'', "''")))
        .collect();
    quoted.join(" or ")
}

fn perhaps(labels: &[String], wanted: &str) -> String {
    let near = labels.iter().max_by(|a, b| {
        let like = |l: &str| strsim::jaro_winkler(&l.to_lowercase(), &wanted.to_lowercase());
        like(a).total_cmp(&like(b))
    });
    near.map_or_else(String::new, |near| format!("Perhaps you meant '{}'.", shortened(near)))
}

fn shortened(label: &str) -> &str {
    crate::protocol::cut(label, 40)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_words_and_their_negations() {
        for label in
            ["CHGOFF", "Charged Off", "default", "BAD", "Late (31-120 days)", "past-due", "Fraud"]
        {
            assert!(is_bad(label), "{label}");
        }
        for label in [
            "P I F",
            "Fully Paid",
            "no default",
            "non-default",
            "Not Charged Off",
            "good",
            "later",
            "",
            "badge",
        ] {
            assert!(!is_bad(label), "{label}");
        }
    }

    #[test]
    fn conventions() {
        let two = |a: &str, b: &str| conventional(&[a.to_owned(), b.to_owned()]).map(|c| c.0);
        assert_eq!(two("CHGOFF", "P I F"), Some(0));
        assert_eq!(two("0", "1"), Some(1));
        assert_eq!(two("N", "Y"), Some(1));
        assert_eq!(two("1", "2"), None);
        assert_eq!(two("A", "B"), None);
        assert_eq!(two("bad", "late"), None);
        assert_eq!(two("default", "no default"), Some(0));
        assert_eq!(two("f", "t"), Some(1));
    }
}
