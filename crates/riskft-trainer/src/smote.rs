//! Made-up rows between rare rows and their neighbours: SMOTE-NC (Chawla et al. 2002, "SMOTE:
//! synthetic minority over-sampling technique", section 6.1).
//!
//! A made-up row lies on the line from a rare row to one of its [`NEIGHBOURS`] nearest rare rows, at
//! one random share for all its numbers; its categories are those of the majority of these
//! neighbours. Numbers are compared in standard deviations of all training rows. Categories that
//! differ cost the median of the rare rows' standard deviations of the numbers, and so does a number
//! that one of two rows lacks. A number that the row or its neighbour lacks is the row's own.
//!
//! Numbers that are computed from others (ratios, years, months) are drawn like all others: a
//! made-up row need not be a row that could stand in the table. Flags count as categories.

use riskft_core::dataset::hash::mix;
use riskft_core::encode::{Encoding, NumberSource};
use riskft_core::options::Role;

use crate::random::Random;
use crate::rows::sample;

/// Neighbours of a row, as in the paper.
pub const NEIGHBOURS: usize = 5;
/// Most rare rows among which neighbours are sought, every one with every other.
pub const MOST_POINTS: usize = 5000;

/// Which of a row's features are numbers, and which take the majority's value: categories and
/// flags.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    pub numbers: Vec<usize>,
    pub nominal: Vec<usize>,
}

impl Layout {
    pub fn of(encoding: &Encoding) -> Self {
        let flag = |source: &NumberSource| match source {
            NumberSource::Value(column) => encoding.columns[*column].role == Role::Flag,
            _ => false,
        };
        let mut layout = Layout::default();
        for (feature, number) in encoding.numbers.iter().enumerate() {
            match flag(&number.source) {
                true => layout.nominal.push(feature),
                false => layout.numbers.push(feature),
            }
        }
        let first = encoding.numbers.len();
        layout.nominal.extend(first..first + encoding.categories.len());
        layout
    }
}

/// The rare rows of one model, and the neighbours of each.
pub struct Smote<'a> {
    layout: &'a Layout,
    /// Their places.
    places: Vec<u32>,
    /// Their features as they are.
    features: Vec<&'a [f64]>,
    /// By row: its neighbours, nearest first.
    neighbours: Vec<Vec<usize>>,
    random: Random,
}

impl<'a> Smote<'a> {
    /// Finds the neighbours of the rare rows (places), at most [`MOST_POINTS`] of them, drawn by the
    /// seed. `train` are all training rows of the model. None with fewer than two rare rows.
    pub fn new(
        layout: &'a Layout,
        features: impl Fn(u32) -> &'a [f64],
        train: &[u32],
        rare: Vec<u32>,
        (model, seed): (usize, u64),
    ) -> Option<Self> {
        let seed = mix(seed ^ mix(model as u64 ^ 0x0053_4d4f_5445));
        let places = sample(rare, MOST_POINTS, seed);
        if places.len() < 2 {
            return None;
        }
        let own: Vec<&[f64]> = places.iter().map(|place| features(*place)).collect();
        let scale: Vec<f64> = layout
            .numbers
            .iter()
            .map(|n| 1.0 / deviation(train.iter().map(|place| features(*place)[*n])))
            .map(|scale| if scale.is_finite() { scale } else { 0.0 })
            .collect();
        let space = Space::new(layout, &own, &scale);
        let neighbours = (0..own.len()).map(|point| space.nearest(point)).collect();
        Some(Smote { layout, places, features: own, neighbours, random: Random::new(seed) })
    }

    /// `count` made-up rows, each with the place of the row that it starts from. Rows take turns in a
    /// random order.
    pub fn rows(mut self, count: usize) -> Vec<(u32, Vec<f64>)> {
        let mut order: Vec<usize> = (0..self.places.len()).collect();
        self.random.shuffle(&mut order);
        (0..count).map(|turn| self.row(order[turn % order.len()])).collect()
    }

    fn row(&mut self, point: usize) -> (u32, Vec<f64>) {
        let neighbours = &self.neighbours[point];
        let drawn = neighbours.get(self.random.below(neighbours.len()));
        let (own, share) = (self.features[point], self.random.unit());
        let other = drawn.map_or(own, |other| self.features[*other]);
        let mut made = own.to_vec();
        for n in &self.layout.numbers {
            let (from, to) = (own[*n], other[*n]);
            if !from.is_nan() && !to.is_nan() {
                // Between them, whatever rounding does.
                made[*n] = (from + share * (to - from)).clamp(from.min(to), from.max(to));
            }
        }
        for n in &self.layout.nominal {
            made[*n] = majority(own[*n], neighbours.iter().map(|other| self.features[*other][*n]));
        }
        (self.places[point], made)
    }
}

/// The value that most of the neighbours have; of equally frequent ones the row's own, else that of
/// the nearest neighbour.
fn majority(own: f64, others: impl Iterator<Item = f64>) -> f64 {
    let mut counts: Vec<(f64, usize)> = vec![(own, 0)];
    for value in others {
        match counts.iter_mut().find(|(known, _)| same(*known, value)) {
            Some((_, count)) => *count += 1,
            None => counts.push((value, 1)),
        }
    }
    let mut best = counts[0];
    for other in &counts[1..] {
        if other.1 > best.1 {
            best = *other;
        }
    }
    best.0
}

fn same(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}

/// Standard deviation of the values that are not missing; 0 without any.
fn deviation(values: impl Iterator<Item = f64>) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for value in values.filter(|value| !value.is_nan()) {
        count += 1.0;
        let step = value - mean;
        mean += step / count;
        squares += step * (value - mean);
    }
    if count > 0.0 {
        f64::sqrt(squares / count)
    } else {
        0.0
    }
}

/// Rows as they are compared.
struct Space {
    /// [points, numbers], in standard deviations; NaN = missing
    numbers: Vec<f32>,
    /// [points, nominal], as bits, so that missing equals missing
    nominal: Vec<u64>,
    widths: (usize, usize),
    points: usize,
    /// Square of what a difference of categories costs.
    cost: f32,
}

impl Space {
    fn new(layout: &Layout, rows: &[&[f64]], scale: &[f64]) -> Self {
        let scaled = |row: &&[f64]| -> Vec<f32> {
            let of = |(n, scale): (&usize, &f64)| (row[*n] * scale) as f32;
            layout.numbers.iter().zip(scale).map(of).collect()
        };
        let numbers: Vec<f32> = rows.iter().flat_map(scaled).collect();
        let bits = |value: f64| if value.is_nan() { u64::MAX } else { (value + 0.0).to_bits() };
        let nominal = rows.iter().flat_map(|row| layout.nominal.iter().map(|n| bits(row[*n])));
        let width = layout.numbers.len();
        let spread = |n| deviation(numbers.iter().skip(n).step_by(width).map(|v| f64::from(*v)));
        let cost = median((0..width).map(spread).collect()).unwrap_or(1.0);
        Space {
            nominal: nominal.collect(),
            widths: (width, layout.nominal.len()),
            points: rows.len(),
            cost: (cost * cost) as f32,
            numbers,
        }
    }

    /// The nearest other points, nearest first; of equally near ones the first.
    fn nearest(&self, point: usize) -> Vec<usize> {
        let mut best: Vec<(f32, usize)> = Vec::with_capacity(NEIGHBOURS + 1);
        for other in (0..self.points).filter(|other| *other != point) {
            let bound = match best.len() {
                NEIGHBOURS => best[NEIGHBOURS - 1].0,
                _ => f32::INFINITY,
            };
            let Some(distance) = self.distance(point, other, bound) else { continue };
            let at = best.partition_point(|(near, _)| *near <= distance);
            best.insert(at, (distance, other));
            best.truncate(NEIGHBOURS);
        }
        best.into_iter().map(|(_, other)| other).collect()
    }

    /// Squared distance; None where it is not below the bound.
    fn distance(&self, a: usize, b: usize, bound: f32) -> Option<f32> {
        fn row<T>(all: &[T], width: usize, point: usize) -> &[T] {
            &all[point * width..(point + 1) * width]
        }
        let (numbers, nominal) = self.widths;
        let (one, two) = (row(&self.nominal, nominal, a), row(&self.nominal, nominal, b));
        let mut sum = self.cost * one.iter().zip(two).filter(|(a, b)| a != b).count() as f32;
        for (a, b) in row(&self.numbers, numbers, a).iter().zip(row(&self.numbers, numbers, b)) {
            let step = a - b;
            sum += match step.is_nan() {
                false => step * step,
                true if a.is_nan() && b.is_nan() => 0.0,
                true => self.cost,
            };
            if sum >= bound {
                return None;
            }
        }
        (sum < bound).then_some(sum)
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAN: f64 = f64::NAN;

    fn layout() -> Layout {
        Layout { numbers: vec![0, 1], nominal: vec![2, 3] }
    }

    /// Rare rows in two clouds, one of label 4 and one of label 7; every seventh lacks a number.
    fn table() -> Vec<Vec<f64>> {
        let row = |i: usize| {
            let right = f64::from(u8::from(i % 2 == 1));
            let noise = |k: u64| (mix(i as u64 * 31 + k) >> 11) as f64 / 2f64.powi(53);
            let second = if i % 7 == 3 { NAN } else { 50.0 * right + noise(2) };
            vec![1e6 * (right + 0.1 * noise(1)), second, 4.0 + 3.0 * right, right]
        };
        (0..120).map(row).collect()
    }

    fn smote<'a>(layout: &'a Layout, table: &'a [Vec<f64>], seed: u64) -> Smote<'a> {
        let all: Vec<u32> = (0..table.len() as u32).collect();
        let features = |place: u32| table[place as usize].as_slice();
        Smote::new(layout, features, &all, all[..60].to_vec(), (1, seed)).expect("rare rows")
    }

    #[test]
    fn a_made_up_row_lies_between_a_row_and_one_of_its_neighbours() {
        let (layout, table) = (layout(), table());
        let one = smote(&layout, &table, 5);
        let near: Vec<Vec<usize>> = one.neighbours.clone();
        let of = |point: usize| one.places[point] as usize;
        for (point, others) in near.iter().enumerate() {
            assert_eq!(others.len(), NEIGHBOURS);
            assert!(others.iter().all(|other| *other != point));
            assert!(others.iter().all(|o| table[of(*o)][2] == table[of(point)][2]), "one cloud");
        }
        let places = one.places.clone();
        let made = one.rows(600);
        assert_eq!(made.len(), 600);
        for (own, row) in &made {
            let from = &table[*own as usize];
            assert!(*own < 60, "the rare rows alone");
            let point = places.iter().position(|place| place == own).expect("a rare row");
            let between = near[point].iter().any(|other| {
                let to = &table[places[*other] as usize];
                let share = (row[0] - from[0]) / (to[0] - from[0]);
                let second = match from[1].is_nan() || to[1].is_nan() {
                    true => same(row[1], from[1]),
                    false => (row[1] - from[1] - share * (to[1] - from[1])).abs() < 1e-6,
                };
                (0.0..=1.0).contains(&share) && second
            });
            assert!(between, "{row:?} from {from:?}");
            assert_eq!(row[2..], from[2..], "the majority of a cloud of one label");
        }
        let moved = made.iter().filter(|(own, row)| row[0] != table[*own as usize][0]).count();
        assert!(moved > 590, "{moved}");
    }

    #[test]
    fn the_same_seed_makes_the_same_rows() {
        let (layout, table) = (layout(), table());
        let bits = |seed| -> Vec<Vec<u64>> {
            let made = smote(&layout, &table, seed).rows(50).into_iter();
            made.map(|(_, row)| row.iter().map(|v| v.to_bits()).collect()).collect()
        };
        assert_eq!(bits(5), bits(5));
        assert_ne!(bits(5), bits(6));
    }

    #[test]
    fn categories_are_the_majoritys_and_cost_the_median_deviation() {
        assert_eq!(majority(1.0, [2.0, 3.0, 3.0, 2.0, 3.0].into_iter()), 3.0);
        assert_eq!(majority(1.0, [2.0, 1.0, 1.0, 2.0, 5.0].into_iter()), 1.0);
        assert_eq!(majority(1.0, [2.0, 3.0, 3.0, 2.0, 5.0].into_iter()), 2.0);
        assert!(majority(1.0, [NAN, NAN, 3.0].into_iter()).is_nan());
        let layout = Layout { numbers: vec![0], nominal: vec![1] };
        let rows = [[0.0, 1.0], [2.0, 1.0], [NAN, 1.0], [0.0, 9.0]];
        let rows: Vec<&[f64]> = rows.iter().map(|row| row.as_slice()).collect();
        let space = Space::new(&layout, &rows, &[2.0]);
        // Values 0, 4 and 0 in deviations: their variance is 32 / 9.
        let far = |a, b| space.distance(a, b, f32::INFINITY).expect("no bound");
        assert_eq!(far(0, 1), 16.0);
        assert!((far(0, 2) - 32.0 / 9.0).abs() < 1e-5, "a lacking number costs as much");
        assert!((far(0, 3) - 32.0 / 9.0).abs() < 1e-5);
        assert_eq!(far(2, 2), 0.0, "both lack it");
        assert!(space.distance(0, 1, 16.0).is_none());
    }

    #[test]
    fn few_rows_and_rows_of_no_number_do() {
        let layout = Layout { numbers: Vec::new(), nominal: vec![0] };
        let table = [vec![1.0], vec![2.0]];
        let features = |place: u32| table[place as usize].as_slice();
        assert!(Smote::new(&layout, features, &[0, 1], vec![0], (0, 0)).is_none());
        let two = Smote::new(&layout, features, &[0, 1], vec![0, 1], (0, 0)).expect("two");
        let made = two.rows(4);
        // The other row is the only neighbour, and so the majority.
        assert!(made.iter().all(|(own, row)| row[0] == 2.0 - f64::from(*own)));
    }
}
