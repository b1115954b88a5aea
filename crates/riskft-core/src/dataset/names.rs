//! Column names that the caller gave: each must exist, and a near miss is shown.

use std::collections::HashSet;

use unicode_categories::UnicodeCategories;

use super::Dataset;
use crate::protocol::JobHeader;
use crate::refusal::{code, Refusal, Result};

/// Names that one notice lists.
const LISTED: usize = 10;

/// Checks every name of the header against the columns of the data; the target's index.
pub fn check(data: &Dataset, header: &JobHeader) -> Result<usize> {
    let mut seen = HashSet::new();
    for column in &data.columns {
        if !seen.insert(column.source.name.as_str()) {
            return Err(Refusal::new(code::INVALID_PARAMETER, "column names are not unique")
                .detail(format!(
                    "The relation has two columns \"{}\".",
                    visible(&column.source.name)
                ))
                .hint("Give each column of the query its own name with AS."));
        }
    }
    if let Some((_, declared)) = header.unread.iter().find(|(name, _)| *name == header.target) {
        return Err(Refusal::new(code::INVALID_PARAMETER, "unsupported type of the target column")
            .detail(format!("Column \"{}\" is of type {declared}.", visible(&header.target)))
            .hint("Use a boolean, or a column that holds two labels."));
    }
    find(data, header, &header.target, "target")?;
    for name in &header.exclude {
        find(data, header, name, "exclude")?;
        if *name == header.target {
            return Err(invalid("the target column cannot be excluded", name));
        }
    }
    if let Some(name) = &header.time_column {
        find(data, header, name, "time_column")?;
        if *name == header.target {
            return Err(invalid("the target column cannot be the time column", name));
        }
    }
    for name in header.options.roles.keys() {
        find(data, header, name, "options.roles")?;
    }
    position(data, &header.target).ok_or_else(|| missing(&header.target, "target", &[]))
}

/// The index of a column of the data.
pub fn position(data: &Dataset, name: &str) -> Option<usize> {
    data.columns.iter().position(|column| column.source.name == name)
}

fn invalid(message: &str, name: &str) -> Refusal {
    Refusal::new(code::INVALID_PARAMETER, message)
        .detail(format!("Both name column \"{}\".", visible(name)))
        .hint("Name another column; the target is never a feature.")
}

fn find(data: &Dataset, header: &JobHeader, name: &str, given_as: &str) -> Result<()> {
    let read = data.columns.iter().map(|c| c.source.name.as_str());
    let unread = header.unread.iter().map(|(name, _)| name.as_str());
    let names: Vec<&str> = read.chain(unread).collect();
    if names.contains(&name) {
        return Ok(());
    }
    Err(missing(name, given_as, &names))
}

/// The refusal of a name that is no column (42703).
pub fn missing(name: &str, given_as: &str, columns: &[&str]) -> Refusal {
    let refusal = Refusal::new(
        code::UNDEFINED_COLUMN,
        format!("column \"{}\" does not exist", visible(name)),
    )
    .detail(format!("It was given as {given_as}."));
    match nearest(name, columns) {
        Some(near) if folded(near) == folded(name) && visible(near) != near => {
            refusal.hint(format!(
                "There is a column \"{}\", whose name holds the invisible character {}.",
                visible(near),
                hidden(near)
            ))
        }
        Some(near) => refusal.hint(format!("Perhaps you meant \"{}\".", visible(near))),
        None => refusal,
    }
}

/// The known name most like `name`, hidden characters, blanks and case aside; ties by name.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let wanted = folded(name);
    known
        .iter()
        .map(|other| (strsim::jaro_winkler(&folded(other), &wanted), *other))
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1)))
        .map(|(_, other)| other)
}

fn folded(name: &str) -> String {
    name.chars()
        .filter(|c| !is_hidden(*c) && !c.is_whitespace())
        .flat_map(char::to_lowercase)
        .collect()
}

/// Whether a character does not show, or shows as a plain blank.
fn is_hidden(c: char) -> bool {
    c.is_control() || c.is_other_format() || (c.is_whitespace() && c != ' ')
}

/// The name with its hidden characters written as `<U+FEFF>`.
pub fn visible(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if is_hidden(c) {
            out.push_str(&format!("<U+{:04X}>", c as u32));
        } else {
            out.push(c);
        }
    }
    out
}

/// Names in one line, the first of them where there are many.
pub fn listed(names: &[String]) -> String {
    if names.len() <= LISTED {
        return names.join(", ");
    }
    format!("{} and {} more", names[..LISTED].join(", "), names.len() - LISTED)
}

fn hidden(name: &str) -> String {
    let first = name.chars().find(|c| is_hidden(*c)).unwrap_or(' ');
    format!("U+{:04X}", first as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_mark_is_shown() {
        let refusal = missing("id", "target", &["\u{feff}id", "idx", "amount"]);
        assert_eq!(refusal.code, "42703");
        assert!(refusal.hint.contains("<U+FEFF>id") && refusal.hint.contains("character U+FEFF"));
        let refusal = missing("defualted", "target", &["defaulted", "amount"]);
        assert_eq!(refusal.hint, "Perhaps you meant \"defaulted\".");
        let refusal = missing("loan status", "exclude", &["Loan\u{a0}Status", "loan"]);
        assert!(refusal.hint.contains("Loan<U+00A0>Status"), "{}", refusal.hint);
        assert_eq!(missing("a", "target", &[]).hint, "");
    }
}
