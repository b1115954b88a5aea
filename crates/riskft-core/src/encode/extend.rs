//! New labels for an encoding that is fitted: codes behind those that it has.

use std::collections::HashMap;

use super::apply::prefix;
use super::value::{label, Scratch};
use super::{CategorySource, Encoding, MOST_ADDED};
use crate::dataset::profile::{frequent, MAX_LABEL};
use crate::dataset::Dataset;

/// The encoding with codes for the labels of its categories that it does not know and that are
/// frequent among some rows; for each category how many there are. The codes that it has stay.
pub fn extend(old: &Encoding, data: &Dataset, rows: &[u32]) -> (Encoding, Vec<usize>) {
    let mut encoding = old.clone();
    let least = frequent(rows.len());
    let mut scratch = Scratch::default();
    let mut added = vec![0; old.categories.len()];
    for (input, added) in encoding.categories.iter_mut().zip(&mut added) {
        let (index, length) = match input.source {
            CategorySource::Value(column) => (column, usize::MAX),
            CategorySource::Prefix(column, length) => (column, length),
            CategorySource::Equal(..) => continue,
        };
        let column = old.columns.get(index).and_then(|column| data.column(&column.name));
        let Some(column) = column else { continue };
        let mut counts: HashMap<String, usize> = HashMap::new();
        for row in rows {
            let text = label(column.cell(*row as usize), &mut scratch);
            let Some(text) = text.map(|text| prefix(text, length)) else { continue };
            if text.len() > MAX_LABEL || input.has(text) {
                continue;
            }
            match counts.get_mut(text) {
                Some(count) => *count += 1,
                None => drop(counts.insert(text.to_owned(), 1)),
            }
        }
        let mut found: Vec<(String, usize)> =
            counts.into_iter().filter(|(_, rows)| *rows >= least).collect();
        found.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        found.truncate(MOST_ADDED.saturating_sub(input.added.len()));
        *added = found.len();
        input.added.extend(found.into_iter().map(|(label, _)| label));
    }
    (encoding, added)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{Cell, ColumnType, SourceColumn, TypeHint};
    use crate::encode::{CategoryInput, EncodedColumn, EncodedRow, TextFormat};
    use crate::options::Role;

    fn known() -> Encoding {
        let category = |source, values: [&str; 2]| CategoryInput {
            name: "grade".into(),
            source,
            values: values.map(str::to_owned).to_vec(),
            added: Vec::new(),
        };
        Encoding {
            columns: vec![EncodedColumn {
                name: "grade".into(),
                column_type: ColumnType::Text,
                role: Role::Category,
                format: TextFormat::Plain,
            }],
            categories: vec![
                category(CategorySource::Value(0), ["A1", "C1"]),
                category(CategorySource::Prefix(0, 1), ["A", "C"]),
                category(CategorySource::Equal(0, 0), ["false", "true"]),
            ],
            ..Encoding::default()
        }
    }

    fn row(encoding: &Encoding, label: &str) -> EncodedRow {
        let mut row = EncodedRow::default();
        encoding.encode_row(&[Cell::Text(label)], &mut row);
        row
    }

    #[test]
    fn frequent_labels_come_behind_those_that_are_known() {
        let old = known();
        let mut data = Dataset::new(&[SourceColumn {
            name: "grade".into(),
            column_type: ColumnType::Text,
            hint: TypeHint::None,
            declared: "text".into(),
        }]);
        // Of 100 rows five make a label frequent; in the first places a label may be another's prefix.
        let labels = [(60, "A1"), (20, "B1"), (8, "B2"), (4, "D1"), (8, "C1")];
        for (rows, label) in labels {
            (0..rows).for_each(|_| data.columns[0].push(Cell::Text(label)));
        }
        data.rows = 100;
        let rows: Vec<u32> = (0..100).collect();
        let (new, added) = extend(&old, &data, &rows);
        assert_eq!(added, [2, 1, 0]);
        assert_eq!(new.categories[0].added, ["B1", "B2"]);
        assert_eq!(new.categories[1].added, ["B"]);
        for (label, codes) in [("A1", [2, 2]), ("C1", [3, 3]), ("B1", [4, 4]), ("B2", [5, 4])] {
            assert_eq!(row(&new, label).codes[..2], codes, "{label}");
        }
        assert_eq!(row(&new, "D1").codes[..2], [0, 0]);
        // The trees read what they read before; widths stay.
        for label in ["A1", "B1", "B2", "D1", "C1", ""] {
            assert_eq!(row(&new, label).features, row(&old, label).features, "{label}");
        }
        let widths = |e: &Encoding| e.categories.iter().map(|c| c.dimension()).collect::<Vec<_>>();
        assert_eq!(widths(&new), widths(&old));
        assert_eq!(extend(&new, &data, &rows), (new, vec![0, 0, 0]));
    }
}
