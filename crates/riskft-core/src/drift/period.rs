//! Rows by stretches of a time column: months, quarters or years. Of loans by the day of their
//! grant these are their vintages.

use crate::dataset::dates;

/// Fewest rows of a period; shorter ones would tell noise.
pub const LEAST_ROWS: usize = 50;
/// Periods of a table, about.
const MOST_PERIODS: i64 = 24;

/// How long a table's periods are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calendar {
    /// 1, 3 or 12
    months: i64,
}

/// A period with at least [`LEAST_ROWS`] rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    /// First day, days since 1970-01-01.
    pub begins: i32,
    /// `2006`, `2006-Q1` or `2006-01`
    pub name: String,
    /// Places of its rows, ascending.
    pub rows: Vec<usize>,
}

impl Calendar {
    /// The shortest that makes few periods of these days, days since 1970-01-01; None without any.
    pub fn of(days: impl Iterator<Item = i32> + Clone) -> Option<Self> {
        let (first, last) = (days.clone().min()?, days.max()?);
        let span = month(last) - month(first) + 1;
        let months = [1, 3, 12].into_iter().find(|months| span / months <= MOST_PERIODS);
        Some(Calendar { months: months.unwrap_or(12) })
    }

    /// The rows with a day, oldest period first.
    pub fn periods(self, days: impl Iterator<Item = Option<i32>>) -> Vec<Period> {
        let of_row = |(row, day): (usize, Option<i32>)| {
            day.map(|day| (month(day).div_euclid(self.months), row))
        };
        let mut rows: Vec<(i64, usize)> = days.enumerate().filter_map(of_row).collect();
        rows.sort_unstable();
        let periods = rows.chunk_by(|a, b| a.0 == b.0).filter(|rows| rows.len() >= LEAST_ROWS);
        periods.map(|rows| self.period(rows)).collect()
    }

    fn period(self, rows: &[(i64, usize)]) -> Period {
        let month = rows[0].0 * self.months;
        let (year, month) = (month.div_euclid(12), month.rem_euclid(12));
        Period {
            begins: dates::days_from_civil(year as i32, month as u32 + 1, 1).unwrap_or_default(),
            name: match self.months {
                1 => format!("{year:04}-{:02}", month + 1),
                3 => format!("{year:04}-Q{}", month / 3 + 1),
                _ => format!("{year:04}"),
            },
            rows: rows.iter().map(|(_, row)| *row).collect(),
        }
    }
}

/// Months since the year 0.
fn month(day: i32) -> i64 {
    let (year, month, _) = dates::civil_from_days(i64::from(day));
    year * 12 + i64::from(month) - 1
}
