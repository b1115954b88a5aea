//! All decisions before encoding, in order: names, target, roles, split, leak check.
//!
//! Every decision looks at labelled rows only, so that rows without a label change nothing but
//! their own count, and none depends on the order of rows or columns.

use std::sync::Arc;

use super::dates::MICROS_PER_DAY;
use super::leak::{self, Alone, Groups, MISSING};
use super::names::listed;
use super::profile::Profile;
use super::roles::{self, Decision};
use super::{hash, names, split, target, Column, ColumnData, Dataset, Part};
use crate::cell::SourceColumn;
use crate::encode::value::{moment, numbers};
use crate::encode::{EncodedColumn, TextFormat};
use crate::options::{Method, Role};
use crate::protocol::{FeatureReport, JobHeader};
use crate::reduce::Reducer;
use crate::refusal::{code, Refusal, Result};

/// A data set with every decision taken.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// For each row; None = unlabelled.
    pub labels: Vec<Option<bool>>,
    pub parts: Vec<Part>,
    /// The seeded hash of each row over all columns but the target and the excluded ones.
    pub row_hashes: Vec<u64>,
    /// Days since 1970-01-01 of each labelled row by the time column, where that is a date.
    pub days: Option<Vec<Option<i32>>>,
    pub positive_label: String,
    pub negative_label: String,
    /// For each column of the data set, in its order.
    pub columns: Vec<ColumnPlan>,
    /// What condenses the columns that it names, fitted on the rows outside the test part.
    pub reducer: Option<Arc<Reducer>>,
    /// For each column of the relation, unread ones last.
    pub reports: Vec<FeatureReport>,
    pub notices: Vec<String>,
    /// (message, detail)
    pub warnings: Vec<(String, String)>,
}

/// How a column of the data set enters the model.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnPlan {
    /// Into [`Dataset::columns`].
    pub index: usize,
    pub decision: Decision,
    pub missing_share: f64,
    pub distinct: usize,
}

impl ColumnPlan {
    pub fn role(&self) -> Role {
        self.decision.role
    }
    /// Whether the column enters the model.
    pub fn is_used(&self) -> bool {
        !matches!(self.role(), Role::Identifier | Role::Ignored | Role::Target)
    }
    /// Whether a model of this method reads the column: without an encoder, texts are read for
    /// their frequent values only.
    pub fn is_read(&self, method: Method) -> bool {
        let words_only = self.role() == Role::Text && !self.decision.category;
        self.is_used() && !(words_only && method == Method::None)
    }
    pub fn encoded(&self, source: &SourceColumn) -> EncodedColumn {
        EncodedColumn {
            name: source.name.clone(),
            column_type: source.column_type,
            role: self.role(),
            format: self.decision.format,
        }
    }
}

impl Prepared {
    /// The labelled rows outside the test part, ascending: all that is fitted looks at them.
    pub fn fitted(&self) -> Vec<u32> {
        let fitted =
            |row: &u32| !matches!(self.parts[*row as usize], Part::Test | Part::Unlabelled);
        (0..self.parts.len() as u32).filter(fitted).collect()
    }

    /// The rows of a part, ascending.
    pub fn rows(&self, part: Part) -> Vec<u32> {
        (0..self.parts.len() as u32).filter(|row| self.parts[*row as usize] == part).collect()
    }
}

/// Rows of the leak check.
const LEAK_ROWS: usize = 200_000;

/// Takes all decisions. Refusals are 42703 for a name that is no column, else 22023.
pub fn prepare(data: &Dataset, header: &JobHeader) -> Result<Prepared> {
    let target_index = names::check(data, header)?;
    let target = target::read(&data.columns[target_index], header.positive.as_deref())?;
    let labelled: Vec<u32> =
        (0..data.rows as u32).filter(|row| target.labels[*row as usize].is_some()).collect();

    let columns = data
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| plan(index, column, header, &labelled))
        .collect::<Result<Vec<ColumnPlan>>>()?;
    if !columns.iter().any(|plan| plan.is_read(header.method)) {
        return Err(no_column(data, &columns));
    }

    let keep = |index: usize| {
        index != target_index && !header.exclude.contains(&data.columns[index].source.name)
    };
    let row_hashes = hash::row_hashes(data, header.options.seed, keep);
    let shares = header.options.split;
    let mut days = None;
    let parts = match header.time_column.as_deref().and_then(|n| names::position(data, n)) {
        Some(index) => {
            let column = &data.columns[index];
            let times = times(column, &labelled, header.reference_date)?;
            let dated = !matches!(column.data, ColumnData::Int(_) | ColumnData::Float(_));
            days = dated.then(|| times.iter().map(day_of).collect());
            split::by_time(&times, &target.labels, shares, &column.source.name)?
        }
        None => split::by_hash(&row_hashes, &target.labels, shares),
    };

    let mut prepared = Prepared {
        labels: target.labels,
        parts,
        row_hashes,
        days,
        positive_label: target.positive_label,
        negative_label: target.negative_label,
        columns,
        reducer: None,
        reports: Vec::new(),
        notices: target.notices,
        warnings: Vec::new(),
    };
    add_notices(&mut prepared, data, header);
    report(&mut prepared, data, header, labelled);
    Ok(prepared)
}

fn plan(index: usize, column: &Column, header: &JobHeader, labelled: &[u32]) -> Result<ColumnPlan> {
    let name = &column.source.name;
    let profile = Profile::of(column, labelled);
    let chosen = header.options.roles.get(name).copied();
    let decision = if *name == header.target {
        if let Some(role) = chosen.filter(|role| *role != Role::Target) {
            return Err(roles::impossible(column, role, Role::Target));
        }
        Decision::new(Role::Target, "the target")
    } else if header.exclude.contains(name) {
        Decision::new(Role::Ignored, "excluded by the caller")
    } else if let Some(role) = chosen {
        roles::force(column, &profile, role, header.reference_date)?
    } else {
        roles::decide(column, &profile, header.reference_date)
    };
    let missing = profile.missing + decision.bad_cells;
    Ok(ColumnPlan {
        index,
        decision,
        missing_share: missing as f64 / profile.rows.max(1) as f64,
        distinct: profile.distinct,
    })
}

fn no_column(data: &Dataset, columns: &[ColumnPlan]) -> Refusal {
    let named: Vec<String> = columns
        .iter()
        .filter(|plan| plan.role() != Role::Target)
        .map(|plan| {
            format!(
                "\"{}\" ({})",
                names::visible(&data.columns[plan.index].source.name),
                plan.decision.why
            )
        })
        .collect();
    let detail = if named.is_empty() {
        "The relation has no other column that is read than the target.".to_owned()
    } else {
        format!("The columns are {}.", listed(&named))
    };
    Refusal::new(code::INVALID_PARAMETER, "no column is left to train on").detail(detail).hint(
        "Exclude fewer columns, give roles in options.roles, or choose a method that reads texts.",
    )
}

fn day_of(micros: &Option<i64>) -> Option<i32> {
    micros.and_then(|micros| i32::try_from(micros.div_euclid(MICROS_PER_DAY)).ok())
}

/// Times of the labelled rows that have one; other numbers order rows as well.
fn times(column: &Column, labelled: &[u32], reference: i32) -> Result<Vec<Option<i64>>> {
    let mut format = TextFormat::Plain;
    if matches!(column.data, ColumnData::Text { .. }) {
        let decision = roles::decide(column, &Profile::of(column, labelled), reference);
        format = decision.format;
        if decision.role != Role::Date {
            return Err(untimely(column, "Its texts are no dates."));
        }
    }
    let of = |row: usize| match &column.data {
        ColumnData::Int(v) => column.present[row].then_some(v[row]),
        ColumnData::Float(v) => (column.present[row] && !v[row].is_nan()).then(|| ordered(v[row])),
        _ => moment(column.cell(row), format, reference),
    };
    if matches!(column.data, ColumnData::Bool(_)) {
        return Err(untimely(column, "It is true or false."));
    }
    Ok((0..column.present.len()).map(of).collect())
}

fn untimely(column: &Column, detail: &str) -> Refusal {
    let name = names::visible(&column.source.name);
    Refusal::new(code::INVALID_PARAMETER, format!("column \"{name}\" cannot be the time column"))
        .detail(detail)
        .hint("Use a date, a timestamp or a number that grows with time.")
}

/// An integer in the order of a float that is not NaN.
fn ordered(value: f64) -> i64 {
    let bits = (value + 0.0).to_bits() as i64;
    if bits < 0 {
        i64::MIN.wrapping_sub(bits)
    } else {
        bits
    }
}

fn add_notices(prepared: &mut Prepared, data: &Dataset, header: &JobHeader) {
    let mut identifiers = Vec::new();
    let mut ignored = Vec::new();
    for plan in &prepared.columns {
        let name = names::visible(&data.columns[plan.index].source.name);
        for notice in &plan.decision.notices {
            prepared.notices.push(format!("\"{name}\": {notice}"));
        }
        let chosen = header.exclude.contains(&data.columns[plan.index].source.name)
            || header.options.roles.contains_key(&data.columns[plan.index].source.name);
        match plan.role() {
            Role::Identifier if !chosen => {
                identifiers.push(format!("\"{name}\" ({})", plan.decision.why))
            }
            Role::Ignored if !chosen => ignored.push(format!("\"{name}\" ({})", plan.decision.why)),
            _ => {}
        }
    }
    let unread: Vec<String> = header
        .unread
        .iter()
        .filter(|(name, _)| !header.exclude.contains(name))
        .map(|(name, declared)| format!("\"{}\" ({declared})", names::visible(name)))
        .collect();
    for (what, of) in [
        ("left out as identifiers", identifiers),
        ("left out", ignored),
        ("left out, as their types are not read", unread),
    ] {
        if !of.is_empty() {
            prepared.notices.push(format!("{what}: {}", listed(&of)));
        }
    }
}

/// At most `most` of `rows`, those with the lowest mixed hashes: the same rows in any order.
pub fn sample(mut rows: Vec<u32>, hashes: &[u64], most: usize) -> Vec<u32> {
    if rows.len() > most {
        // The split has ordered rows by one mix of their hashes; another one is independent of it.
        rows.sort_by_cached_key(|row| hash::mix(hashes[*row as usize] ^ 0x5851_f42d_4c95_7f2d));
        rows.truncate(most);
        rows.sort_unstable();
    }
    rows
}

/// Judges each column alone, and writes the reports and the leak warnings.
fn report(prepared: &mut Prepared, data: &Dataset, header: &JobHeader, labelled: Vec<u32>) {
    let rows = sample(labelled, &prepared.row_hashes, LEAK_ROWS);
    let parts: Vec<Part> = rows.iter().map(|row| prepared.parts[*row as usize]).collect();
    let labels: Vec<bool> =
        rows.iter().map(|row| prepared.labels[*row as usize] == Some(true)).collect();
    for plan in &prepared.columns {
        let column = &data.columns[plan.index];
        let alone = match plan.role() {
            Role::Target | Role::Ignored => Alone::default(),
            _ => {
                let groups = groups(column, plan, header.reference_date, &rows, &labels, &parts);
                leak::judge(&groups, &labels, &parts)
            }
        };
        if let Some(detail) = alone.leak {
            let name = names::visible(&column.source.name);
            let left = if plan.is_used() { "" } else { ", an identifier that is left out," };
            prepared.warnings.push((
                format!("column \"{name}\"{left} may hold the answer"),
                format!("{detail} Exclude it if it is known only after the outcome."),
            ));
        }
        prepared.reports.push(FeatureReport {
            column_name: column.source.name.clone(),
            role: plan.role(),
            why: plan.decision.why.clone(),
            missing_share: plan.missing_share,
            distinct_values: plan.distinct as u64,
            alone_auc: alone.auc,
        });
    }
    prepared.reports.extend(header.unread.iter().map(|(name, declared)| FeatureReport {
        column_name: name.clone(),
        role: Role::Ignored,
        why: format!("the type {declared} is not read"),
        missing_share: 0.0,
        distinct_values: 0,
        alone_auc: None,
    }));
}

/// A column's groups for the leak check: labels for texts, leaves of a tree for the rest.
fn groups<'a>(
    column: &'a Column,
    plan: &ColumnPlan,
    reference: i32,
    rows: &[u32],
    labels: &[bool],
    parts: &[Part],
) -> Groups<'a> {
    match &column.data {
        ColumnData::Text { values, .. } if plan.role() == Role::Identifier => {
            let ranks = ranks(values);
            let of =
                |row: &u32| code_of(column, *row).map_or(f64::NAN, |code| ranks[code as usize]);
            let numbers: Vec<f64> = rows.iter().map(of).collect();
            let mut groups = leak::number_groups(&numbers, labels, parts);
            groups.name = Box::new(|group| format!("in the {}. stretch of its order", group + 1));
            groups
        }
        ColumnData::Text { values, .. }
            if matches!(plan.role(), Role::Category | Role::Text | Role::Flag) =>
        {
            Groups {
                of_row: rows.iter().map(|row| code_of(column, *row).unwrap_or(MISSING)).collect(),
                name: Box::new(move |group| {
                    let text = values.get(group as usize).map_or("", |text| text.trim());
                    format!("\"{}\"", crate::protocol::cut(text, 40))
                }),
            }
        }
        _ => {
            let values = numbers(column, &plan.encoded(&column.source), reference, rows);
            leak::number_groups(&values, labels, parts)
        }
    }
}

/// The code of a text cell; None if it is missing or empty.
fn code_of(column: &Column, row: u32) -> Option<u32> {
    match &column.data {
        ColumnData::Text { codes, values, .. } if column.present[row as usize] => {
            let code = codes[row as usize];
            (!values[code as usize].trim().is_empty()).then_some(code)
        }
        _ => None,
    }
}

/// The position of each text among the sorted ones.
fn ranks(values: &[String]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|a, b| values[*a].cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    order.iter().enumerate().for_each(|(rank, value)| ranks[*value] = rank as f64);
    ranks
}
