//! Contributions of inputs -> mean magnitudes of source columns.

use crate::encode::{CategorySource, Encoding, NumberSource};

/// The source columns of each feature of the trees, in the order of the features; indexes are into
/// [`Encoding::columns`].
pub fn owners(encoding: &Encoding) -> Vec<Vec<usize>> {
    let condensed = || encoding.components.iter().flat_map(|c| &c.columns).copied().collect();
    let numbers = encoding.numbers.iter().map(|input| match input.source {
        NumberSource::Component(_) => condensed(),
        mut source => distinct(source.columns().map(|column| *column).collect()),
    });
    let categories = encoding.categories.iter().map(|input| match input.source {
        CategorySource::Value(c) | CategorySource::Prefix(c, _) => vec![c],
        CategorySource::Equal(a, b) => distinct(vec![a, b]),
    });
    // The estimate and its number of rows.
    let statistics = encoding.statistics.iter().flat_map(|input| {
        let columns = |part: &crate::encode::KeyPart| {
            let mut part = *part;
            part.columns().map(|column| *column).collect::<Vec<usize>>()
        };
        let columns = distinct(input.key.iter().flat_map(columns).collect());
        [columns.clone(), columns]
    });
    numbers.chain(categories).chain(statistics).collect()
}

fn distinct(mut columns: Vec<usize>) -> Vec<usize> {
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// Sums of contributions over rows. Within a row those of all inputs of a column are added with their
/// signs, an input of several columns in equal shares; the magnitudes of these sums are averaged.
#[derive(Debug, Clone)]
pub struct Sums {
    /// (input, column that is counted, share)
    parts: Vec<(usize, usize, f64)>,
    row: Vec<f64>,
    totals: Vec<f64>,
    rows: usize,
}

impl Sums {
    /// `owners` has the columns of each input, `leaders` for each column the one that stands for it.
    pub fn new(owners: &[Vec<usize>], leaders: &[usize]) -> Self {
        let of = |(input, columns): (usize, &Vec<usize>)| {
            let share = 1.0 / columns.len().max(1) as f64;
            columns.iter().map(move |column| (input, leaders[*column], share)).collect::<Vec<_>>()
        };
        Sums {
            parts: owners.iter().enumerate().flat_map(of).collect(),
            row: vec![0.0; leaders.len()],
            totals: vec![0.0; leaders.len()],
            rows: 0,
        }
    }

    /// Adds a row's contributions, one for each input; what stands behind them is not looked at.
    pub fn add(&mut self, contributions: &[f64]) {
        self.row.fill(0.0);
        for (input, column, share) in &self.parts {
            self.row[*column] += share * contributions.get(*input).copied().unwrap_or_default();
        }
        self.totals.iter_mut().zip(&self.row).for_each(|(total, sum)| *total += sum.abs());
        self.rows += 1;
    }

    /// Mean magnitudes by column; 0 of a column that another one stands for.
    pub fn means(&self) -> Vec<f64> {
        self.totals.iter().map(|total| total / self.rows.max(1) as f64).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{CategoryInput, KeyPart, NumberInput, StatisticInput};

    #[test]
    fn each_feature_has_its_columns() {
        let number = |source| NumberInput { name: String::new(), source, edges: vec![0.0, 1.0] };
        let category = |source| CategoryInput {
            name: String::new(),
            source,
            values: Vec::new(),
            added: Vec::new(),
        };
        let statistic = |key| StatisticInput { name: String::new(), key, parent: None };
        let encoding = Encoding {
            numbers: vec![
                number(NumberSource::Ratio(3, 1)),
                number(NumberSource::Month(2)),
                number(NumberSource::Component(0)),
            ],
            components: serde_json::from_str("{\"columns\": [5, 6, 4], \"count\": 1}").ok(),
            categories: vec![
                category(CategorySource::Prefix(0, 3)),
                category(CategorySource::Equal(0, 4)),
            ],
            statistics: vec![
                statistic(vec![KeyPart::Value(0)]),
                statistic(vec![KeyPart::Share(1, 3), KeyPart::Year(2), KeyPart::Value(1)]),
            ],
            ..Encoding::default()
        };
        let owners = owners(&encoding);
        assert_eq!(owners.len(), encoding.features());
        let wanted: [&[usize]; 9] =
            [&[1, 3], &[2], &[5, 6, 4], &[0], &[0, 4], &[0], &[0], &[1, 2, 3], &[1, 2, 3]];
        assert_eq!(owners, wanted);
    }

    #[test]
    fn signs_count_within_a_row_and_magnitudes_between_rows() {
        // Inputs: two of column 0, one of both, one of column 1; column 2 follows column 1.
        let mut sums = Sums::new(&[vec![0], vec![0], vec![0, 1], vec![1], vec![2]], &[0, 1, 1]);
        sums.add(&[3.0, -2.0, 1.0, -1.5, 0.0, 77.0]);
        sums.add(&[-3.0, 1.0, 0.0, 0.0, -4.0, 77.0]);
        assert_eq!(sums.means(), [(1.5 + 2.0) / 2.0, (1.0 + 4.0) / 2.0, 0.0]);
        assert_eq!(Sums::new(&[], &[0, 1]).means(), [0.0, 0.0]);
    }
}
