//! Which columns are reduced.

use crate::cell::{ColumnType, SourceColumn};
use crate::dataset::names::{self, listed, visible};
use crate::refusal::{code, Refusal, Result};

/// The columns that are reduced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Indexes, in the relation's order.
    pub columns: Vec<usize>,
    /// What is left out unasked, in words.
    pub notices: Vec<String>,
}

/// Whether columns of this type hold numbers. Flags and dates do not, nor do texts, however they are
/// written.
pub fn is_number(column_type: ColumnType) -> bool {
    matches!(column_type, ColumnType::Int | ColumnType::Float)
}

/// Takes the number columns that are not excluded. `unread` are further columns (name, declared
/// type), whose types are not read.
///
/// # Errors
/// 42703 for an excluded name that is no column, 22023 where no number column is left.
pub fn plan(
    columns: &[SourceColumn],
    unread: &[(String, String)],
    exclude: &[String],
) -> Result<Plan> {
    let read = columns.iter().map(|column| column.name.as_str());
    let all: Vec<&str> = read.chain(unread.iter().map(|(name, _)| name.as_str())).collect();
    if let Some(name) = exclude.iter().find(|name| !all.contains(&name.as_str())) {
        return Err(names::missing(name, "exclude", &all));
    }
    let is_kept = |name: &String| !exclude.contains(name);
    let (mut used, mut others) = (Vec::new(), Vec::new());
    for (index, column) in columns.iter().enumerate().filter(|(_, c)| is_kept(&c.name)) {
        match is_number(column.column_type) {
            true => used.push(index),
            false => others.push(described(&column.name, &column.declared)),
        }
    }
    others.extend(
        unread.iter().filter(|(name, _)| is_kept(name)).map(|(n, declared)| described(n, declared)),
    );
    if used.is_empty() {
        return Err(no_number(&others));
    }
    let notices = match others.is_empty() {
        true => Vec::new(),
        false => vec![format!("left out, as they are no numbers: {}", listed(&others))],
    };
    Ok(Plan { columns: used, notices })
}

fn described(name: &str, declared: &str) -> String {
    format!("\"{}\" ({declared})", visible(name))
}

/// The refusal where no number column is left; `others` describes the columns that there are.
pub fn no_number(others: &[String]) -> Refusal {
    let detail = match others.is_empty() {
        true => "No column of the relation is left.".to_owned(),
        false => format!("The columns are {}.", listed(others)),
    };
    Refusal::new(code::INVALID_PARAMETER, "no number column is left to reduce")
        .detail(detail)
        .hint("Exclude fewer columns, or cast columns to a number in a SELECT.")
}
