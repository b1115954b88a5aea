//! Fitting an encoding: edges, values and inputs, from the rows outside the test part.

use std::collections::HashMap;

use super::apply::{month, prefix, ratio, weekday, year};
use super::edges::{edges, money_median, quantiles};
use super::groups::Groups;
use super::value::{label, numbers, Numbers, Scratch};
use super::{
    tree, CategoryInput, CategorySource, Components, EncodedColumn, Encoding, NumberInput,
    NumberSource, StatisticInput, TextInput, TextSource, MAX_BINS, MOST_TOKENS,
};
use crate::dataset::profile::{frequent, MAX_LABEL};
use crate::dataset::{sample, Column, ColumnData, ColumnPlan, Dataset, Prepared};
use crate::options::{Method, Role, TextMode, SMALL};
use crate::protocol::JobHeader;

/// Training rows that the trees look at.
const TREE_ROWS: usize = 100_000;
/// Columns that ratios are built from, at most: 8 give 28 ratios.
const RATIO_COLUMNS: usize = 8;
/// Values of one category, at most; the most frequent ones are kept.
const MAX_VALUES: usize = 4096;
/// Categories that are compared in pairs, and pairs kept, at most.
const PAIR_COLUMNS: usize = 64;
const PAIRS: usize = 8;
/// Share of common values that makes two categories comparable.
const COMMON_VALUES: f64 = 0.8;
/// Tokens of a name, and of a long text or a whole row.
const NAME_TOKENS: usize = 32;
/// Rows of a number's bin in a small sample.
const SMALL_BIN: usize = 40;
/// Four windows.
const LONG_TOKENS: usize = 1024;
/// Fits the encoding of the prepared data.
pub fn fit(data: &Dataset, prepared: &Prepared, header: &JobHeader) -> Encoding {
    let texts = header.method != Method::None;
    let plans: Vec<&ColumnPlan> =
        prepared.columns.iter().filter(|plan| plan.is_read(header.method)).collect();
    let columns: Vec<EncodedColumn> =
        plans.iter().map(|plan| plan.encoded(&data.columns[plan.index].source)).collect();
    let mut encoding =
        Encoding { columns, reference_date: header.reference_date, ..Encoding::default() };
    if texts && header.options.text == TextMode::Row {
        encoding.texts = vec![TextInput {
            name: "row".to_owned(),
            source: TextSource::Row,
            max_tokens: tokens(header, true),
        }];
        return encoding;
    }
    let reducer = prepared.reducer.as_ref();
    encoding.components = reducer.and_then(|reducer| Components::of(reducer, &encoding.columns));
    let fitter = Fitter {
        components: encoding.components.as_ref(),
        ..Fitter::new(data, prepared, plans, &encoding.columns, header.reference_date)
    };
    encoding.numbers = fitter.number_inputs();
    encoding.categories = fitter.category_inputs();
    encoding.statistics = fitter.statistics(&encoding);
    if texts {
        encoding.texts = fitter.text_inputs(header);
    }
    encoding.without_unused_columns()
}

fn tokens(header: &JobHeader, long: bool) -> usize {
    match (header.options.max_tokens, long) {
        (0, false) => NAME_TOKENS,
        (0, true) => LONG_TOKENS,
        (given, _) => given.clamp(3, MOST_TOKENS),
    }
}

struct Fitter<'a> {
    data: &'a Dataset,
    plans: Vec<&'a ColumnPlan>,
    columns: &'a [EncodedColumn],
    /// Columns that are no inputs of their own.
    components: Option<&'a Components>,
    reference: i32,
    /// The rows outside the test part.
    rows: Vec<u32>,
    /// The rows of the trees, and their labels.
    sample: Vec<u32>,
    labels: Vec<bool>,
}

/// The numbers of a column on the sample, and how much they tell.
struct Amounts {
    column: usize,
    values: Vec<f64>,
    gain: f64,
    median: f64,
}

impl<'a> Fitter<'a> {
    fn new(
        data: &'a Dataset,
        prepared: &'a Prepared,
        plans: Vec<&'a ColumnPlan>,
        columns: &'a [EncodedColumn],
        reference: i32,
    ) -> Self {
        let rows = prepared.fitted();
        let sample = sample(rows.clone(), &prepared.row_hashes, TREE_ROWS);
        let labels =
            sample.iter().map(|row| prepared.labels[*row as usize] == Some(true)).collect();
        Fitter { data, plans, columns, components: None, reference, rows, sample, labels }
    }

    fn column(&self, index: usize) -> &'a Column {
        &self.data.columns[self.plans[index].index]
    }

    /// The columns that are read themselves.
    fn plans(&self) -> impl Iterator<Item = (usize, &'a ColumnPlan)> + '_ {
        let mut condensed = vec![false; self.plans.len()];
        let columns = self.components.iter().flat_map(|components| &components.columns);
        columns.for_each(|column| condensed[*column] = true);
        let plans = self.plans.iter().copied().enumerate();
        plans.filter(move |(index, _)| !condensed[*index])
    }

    fn number_inputs(&self) -> Vec<NumberInput> {
        let mut inputs = Vec::new();
        let mut amounts = Vec::new();
        for (index, plan) in self.plans() {
            let role = plan.role();
            let name = &self.columns[index].name;
            if !plan.decision.prefixes.is_empty() && role != Role::Number {
                // Neighbouring codes are alike: zip codes lie beside each other, industries too.
                let values =
                    numbers(self.column(index), &self.columns[index], self.reference, &self.sample);
                let name = format!("{name} (as a number)");
                self.add(&mut inputs, name, NumberSource::Value(index), &values);
            }
            if !matches!(role, Role::Number | Role::Flag | Role::Date) {
                continue;
            }
            let values =
                numbers(self.column(index), &self.columns[index], self.reference, &self.sample);
            let gain = self.add(&mut inputs, name.clone(), NumberSource::Value(index), &values);
            if role == Role::Date {
                let of =
                    |part: fn(f64) -> f64| values.iter().map(|v| part(*v)).collect::<Vec<f64>>();
                self.add(
                    &mut inputs,
                    format!("{name} (year)"),
                    NumberSource::Year(index),
                    &of(year),
                );
                self.add(
                    &mut inputs,
                    format!("{name} (month)"),
                    NumberSource::Month(index),
                    &of(month),
                );
                self.add(
                    &mut inputs,
                    format!("{name} (weekday)"),
                    NumberSource::Weekday(index),
                    &of(weekday),
                );
            } else if let Some(median) = money_median(plan, &values) {
                amounts.push(Amounts { column: index, values, gain, median });
            }
        }
        self.add_ratios(&mut inputs, amounts);
        self.add_components(&mut inputs);
        inputs
    }

    fn add_components(&self, inputs: &mut Vec<NumberInput>) {
        let Some(components) = self.components else { return };
        let reader = |index: &usize| {
            Numbers::new(self.column(*index), &self.columns[*index], self.reference)
        };
        let readers: Vec<Numbers<'_>> = components.columns.iter().map(reader).collect();
        let mut values = vec![Vec::with_capacity(self.sample.len()); components.count];
        let mut row_values = Vec::new();
        for row in &self.sample {
            let numbers = readers.iter().map(|reader| reader.at(*row as usize));
            components.fill(numbers, &mut row_values);
            values.iter_mut().zip(&row_values).for_each(|(all, value)| all.push(*value));
        }
        for (number, values) in values.iter().enumerate() {
            let name = format!("component {}", number + 1);
            self.add(inputs, name, NumberSource::Component(number), values);
        }
    }

    /// Adds the number unless it is constant; its tree's gain.
    fn add(
        &self,
        inputs: &mut Vec<NumberInput>,
        name: String,
        source: NumberSource,
        values: &[f64],
    ) -> f64 {
        let tree = tree::grow(values, &self.labels, MAX_BINS, min_leaf(values.len()));
        let thresholds = match values.len() < SMALL {
            true => quantiles(values, MAX_BINS.min(values.len() / SMALL_BIN)),
            false => tree.thresholds,
        };
        if let Some(edges) = edges(values, &thresholds) {
            inputs.push(NumberInput { name, source, edges });
        }
        tree.gain
    }

    /// Ratios of all pairs of the most telling amounts; the larger median is below the line.
    fn add_ratios(&self, inputs: &mut Vec<NumberInput>, mut amounts: Vec<Amounts>) {
        let name = |a: &Amounts| &self.columns[a.column].name;
        amounts.sort_by(|a, b| b.gain.total_cmp(&a.gain).then_with(|| name(a).cmp(name(b))));
        amounts.truncate(RATIO_COLUMNS);
        amounts.sort_by(|a, b| a.median.total_cmp(&b.median).then_with(|| name(a).cmp(name(b))));
        for (place, over) in amounts.iter().enumerate() {
            for under in &amounts[place + 1..] {
                let values: Vec<f64> =
                    over.values.iter().zip(&under.values).map(|(a, b)| ratio(*a, *b)).collect();
                let source = NumberSource::Ratio(over.column, under.column);
                self.add(inputs, format!("{} / {}", name(over), name(under)), source, &values);
            }
        }
    }

    fn category_inputs(&self) -> Vec<CategoryInput> {
        let mut inputs = Vec::new();
        for (index, plan) in self.plans() {
            if !plan.decision.category {
                continue;
            }
            let name = &self.columns[index].name;
            self.add_category(&mut inputs, name.clone(), CategorySource::Value(index));
            for length in &plan.decision.prefixes {
                let source = CategorySource::Prefix(index, *length);
                self.add_category(&mut inputs, format!("{name} (first {length})"), source);
            }
        }
        self.add_pairs(&mut inputs);
        inputs
    }

    /// Adds the category unless all rows would have one code.
    fn add_category(&self, inputs: &mut Vec<CategoryInput>, name: String, source: CategorySource) {
        let (CategorySource::Value(index) | CategorySource::Prefix(index, _)) = source else {
            return;
        };
        let counts = self.label_counts(index, |text| match source {
            CategorySource::Prefix(_, length) => prefix(text, length),
            _ => text,
        });
        let least = frequent(self.rows.len());
        let mut kept: Vec<(String, usize)> = counts
            .into_iter()
            .filter(|(text, rows)| *rows >= least && text.len() <= MAX_LABEL)
            .collect();
        kept.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        kept.truncate(MAX_VALUES);
        let constant = kept.len() == 1 && kept[0].1 == self.rows.len();
        if kept.is_empty() || constant {
            return;
        }
        let mut values: Vec<String> = kept.into_iter().map(|(text, _)| text).collect();
        values.sort_unstable();
        inputs.push(CategoryInput { name, source, values, added: Vec::new() });
    }

    /// Rows of each label of a column, after `cut`.
    fn label_counts(&self, index: usize, cut: impl Fn(&str) -> &str) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        let mut count = |text: &str, rows: usize| match counts.get_mut(text) {
            Some(seen) => *seen += rows,
            None => drop(counts.insert(text.to_owned(), rows)),
        };
        let column = self.column(index);
        if let ColumnData::Text { codes, values, .. } = &column.data {
            let mut rows_of = vec![0; values.len()];
            let present = self.rows.iter().filter(|row| column.present[**row as usize]);
            present.for_each(|row| rows_of[codes[*row as usize] as usize] += 1);
            for (value, rows) in values.iter().zip(rows_of).filter(|(_, rows)| *rows > 0) {
                let text = cut(value.trim());
                if !text.is_empty() {
                    count(text, rows);
                }
            }
            return counts;
        }
        let mut scratch = Scratch::default();
        for row in &self.rows {
            if let Some(text) = label(column.cell(*row as usize), &mut scratch) {
                count(cut(text), 1);
            }
        }
        counts
    }

    /// Adds the equality of columns that hold the same labels, such as two states.
    fn add_pairs(&self, inputs: &mut Vec<CategoryInput>) {
        let wholes: Vec<(usize, &CategoryInput)> = inputs
            .iter()
            .filter_map(|input| match input.source {
                CategorySource::Value(index) => Some((index, input)),
                _ => None,
            })
            .take(PAIR_COLUMNS)
            .collect();
        let mut pairs = Vec::new();
        for (place, (a, first)) in wholes.iter().enumerate() {
            for (b, second) in &wholes[place + 1..] {
                if alike(&first.values, &second.values) && self.equality_varies(*a, *b) {
                    pairs.push(CategoryInput {
                        name: format!("{} = {}", first.name, second.name),
                        source: CategorySource::Equal(*a, *b),
                        values: vec!["false".to_owned(), "true".to_owned()],
                        added: Vec::new(),
                    });
                }
            }
        }
        pairs.truncate(PAIRS);
        inputs.extend(pairs);
    }

    /// Whether both "equal" and "not equal" are frequent enough for a code.
    fn equality_varies(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.column(a), self.column(b));
        let (mut first, mut second) = (Scratch::default(), Scratch::default());
        let mut counts = [0, 0];
        for row in &self.sample {
            let row = *row as usize;
            if let (Some(a), Some(b)) =
                (label(a.cell(row), &mut first), label(b.cell(row), &mut second))
            {
                counts[usize::from(a == b)] += 1;
            }
        }
        counts.iter().all(|rows| *rows >= frequent(self.rows.len()))
    }

    fn statistics(&self, encoding: &Encoding) -> Vec<StatisticInput> {
        let columns: Vec<usize> = self.plans.iter().map(|plan| plan.index).collect();
        let (rows, labels) = (&self.sample[..], &self.labels[..]);
        Groups { data: self.data, columns: &columns, rows, labels }.fit(encoding)
    }

    fn text_inputs(&self, header: &JobHeader) -> Vec<TextInput> {
        self.plans
            .iter()
            .enumerate()
            .filter(|(_, plan)| plan.role() == Role::Text)
            .map(|(index, plan)| TextInput {
                name: self.columns[index].name.clone(),
                source: TextSource::Column(index),
                max_tokens: tokens(header, plan.decision.long_text),
            })
            .collect()
    }
}

/// Rows of a leaf: 40 from 2,000 rows on, one in 50 in small samples, never below 5.
fn min_leaf(rows: usize) -> usize {
    (rows / 50).clamp(5, 40)
}

/// Whether most values of two sorted lists are common to both, and there are at least three.
fn alike(a: &[String], b: &[String]) -> bool {
    let common = a.iter().filter(|value| b.binary_search(value).is_ok()).count();
    common >= 3 && common as f64 >= COMMON_VALUES * (a.len() + b.len() - common) as f64
}
