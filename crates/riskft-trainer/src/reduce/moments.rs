//! Means, deviations and correlations of columns in one pass over their rows.
//!
//! Each block of rows adds one matrix product; all but the last are full, so that how rows arrive has
//! no say. Before that a column is shifted by its mean in the first block that has a value of it, and
//! divided by a power of two near its spread: what is summed is of the size of the deviations, and
//! neither a large mean (1e9 + 0 or 1) nor a large unit cancels or overflows. Missing cells are zero
//! in the products, which puts them at the shift; that the mean lies elsewhere is made good at the
//! end, for pairs of columns by the sums over the rows that have both:
//!
//! `sum (y_j - m_j)(y_k - m_k) = sum y_j y_k - m_j sum y_k - m_k sum y_j + m_j m_k count`
//!
//! Products and counts are symmetric, so only what is on and below the diagonal is summed.

use riskft_core::reduce::Column;
use tch::{Device, Kind, Tensor};

use super::Block;
use crate::tensors::{index, to_doubles};

/// Columns that are multiplied with all before them at once: of 1,000 columns, 56% of the whole product.
const PANEL: i64 = 128;
/// Shifted values are held within this bound, so that sums of their products stay finite.
const MOST: f64 = 1e150;
/// Powers of two that a column is divided by, at most.
const MOST_EXPONENT: i32 = 1000;

/// Sums over the rows so far.
pub struct Moments {
    columns: Vec<Sums>,
    rows: u64,
    /// Sums of products [columns, columns], up to the diagonal.
    products: Tensor,
    /// Of blocks without a missing cell: their rows, and each column's sum.
    whole: (u64, Vec<f64>),
    gaps: Option<Gaps>,
}

/// Of blocks with missing cells.
struct Gaps {
    /// [j, k]: sum of column k over the rows that have a value of column j.
    sums: Tensor,
    /// [j, k]: rows that have both, up to the diagonal.
    counts: Tensor,
}

/// What is known of a column.
struct Sums {
    name: String,
    present: u64,
    low: f64,
    high: f64,
    /// Set by the first block with a value.
    shift: Option<f64>,
    /// Set by the first block with a value other than the shift: until then all are zero.
    factor: Option<f64>,
    /// Of shifted values.
    sum: f64,
}

/// What the rows come to.
pub struct Summary {
    pub rows: u64,
    pub columns: Vec<Column>,
    /// Sums of products of centred values, each column in a unit of its own, up to the diagonal.
    products: Tensor,
}

impl Moments {
    pub fn new(names: Vec<String>) -> Self {
        let count = names.len();
        let column = |name| Sums {
            name,
            present: 0,
            low: f64::INFINITY,
            high: f64::NEG_INFINITY,
            shift: None,
            factor: None,
            sum: 0.0,
        };
        Moments {
            columns: names.into_iter().map(column).collect(),
            rows: 0,
            products: square(count),
            whole: (0, vec![0.0; count]),
            gaps: None,
        }
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds a block's rows, and leaves it empty.
    pub fn absorb(&mut self, block: &mut Block) {
        let rows = block.rows();
        if rows == 0 {
            return;
        }
        let presence = block.presence();
        let sums: Vec<f64> = self
            .columns
            .iter_mut()
            .zip(block.columns_mut())
            .map(|(column, cells)| column.absorb(cells))
            .collect();
        let values = block.matrix();
        add_products(&self.products, values.tensor());
        match presence {
            None => {
                self.whole.0 += rows as u64;
                self.whole.1.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum);
            }
            Some(presence) => {
                let presence = presence.matrix();
                let count = self.columns.len();
                let gaps = self
                    .gaps
                    .get_or_insert_with(|| Gaps { sums: square(count), counts: square(count) });
                let _ = gaps.sums.addmm_(presence.tensor(), &values.tensor().tr());
                add_products(&gaps.counts, presence.tensor());
            }
        }
        self.rows += rows as u64;
        block.clear();
    }

    /// The moments of all rows.
    pub fn finish(self) -> Summary {
        let column = |tensor: &[f64]| Tensor::from_slice(tensor).view([-1, 1]);
        let means: Vec<f64> = self.columns.iter().map(Sums::shifted_mean).collect();
        let means = column(&means);
        let (rows, sums) = &self.whole;
        let sums = column(sums).tr();
        // In place: each of these matrices may take the memory of all else.
        let mut products = self.products;
        match self.gaps {
            // Every row has every value, so that one of the sums' products stands for all three.
            None => drop(products.addmm_(&means.neg(), &sums)),
            Some(Gaps { sums: mut cross, mut counts }) => {
                cross += &sums;
                cross *= &means;
                products -= &cross;
                products -= cross.tr();
                counts += *rows as f64;
                counts *= means.matmul(&means.tr());
                products += counts;
            }
        }
        let squares = to_doubles(&products.diagonal(0, 0, 1));
        let columns =
            self.columns.into_iter().zip(squares).map(|(c, square)| c.told(square, self.rows));
        Summary { rows: self.rows, columns: columns.collect(), products }
    }
}

impl Sums {
    /// Turns a block's values into shifted ones, missing ones into zeros; their sum.
    fn absorb(&mut self, values: &mut [f64]) -> f64 {
        let (low, high) = range(values);
        let count = values.len() - values.iter().filter(|v| v.is_nan()).count();
        if count > 0 {
            let shift = *self.shift.get_or_insert_with(|| mean(values, count).clamp(low, high));
            let spread = (low - shift).abs().max((high - shift).abs());
            if spread > 0.0 {
                self.factor.get_or_insert_with(|| power_below(spread));
            }
        }
        self.low = self.low.min(low);
        self.high = self.high.max(high);
        self.present += count as u64;
        let (shift, factor) = (self.shift.unwrap_or(0.0), self.factor.unwrap_or(1.0));
        for value in values.iter_mut() {
            let is_known = !value.is_nan();
            *value = if is_known { ((*value - shift) * factor).clamp(-MOST, MOST) } else { 0.0 };
        }
        let sum = sum(values);
        self.sum += sum;
        sum
    }

    fn shifted_mean(&self) -> f64 {
        self.sum / self.present.max(1) as f64
    }

    /// `square` is the sum of the centred values' squares.
    fn told(self, square: f64, rows: u64) -> Column {
        let factor = self.factor.unwrap_or(1.0);
        Column {
            mean: self.shift.unwrap_or(0.0) + self.shifted_mean() / factor,
            deviation: (square.max(0.0) / rows as f64).sqrt() / factor,
            name: self.name,
            present: self.present,
            low: self.low,
            high: self.high,
        }
    }
}

impl Summary {
    /// The correlation matrix of some columns, ascending, up to the diagonal.
    pub fn correlation(self, kept: &[usize]) -> Tensor {
        let mut products = self.products;
        if kept.len() < self.columns.len() {
            let kept = index(kept.iter().copied(), Device::Cpu);
            products = products.index_select(0, &kept).index_select(1, &kept);
        }
        let roots = products.diagonal(0, 0, 1).sqrt().view([-1, 1]);
        products /= &roots;
        products /= roots.tr();
        let _ = products.clamp_(-1.0, 1.0);
        products.fill_diagonal_(1.0, false)
    }
}

/// Adds what the rows of `values` [columns, rows] contribute to sums of products, up to the diagonal.
fn add_products(sums: &Tensor, values: &Tensor) {
    let columns = values.size()[0];
    for start in (0..columns).step_by(PANEL as usize) {
        let count = PANEL.min(columns - start);
        let before = values.narrow(0, 0, start + count);
        let mut panel = sums.narrow(0, start, count).narrow(1, 0, start + count);
        let _ = panel.addmm_(&values.narrow(0, start, count), &before.tr());
    }
}

/// Each value is divided before it is added, so that large ones do not overflow.
fn mean(values: &[f64], count: usize) -> f64 {
    values.iter().filter(|v| !v.is_nan()).map(|v| v / count as f64).sum()
}

/// The least and the largest; NaN is passed over.
fn range(values: &[f64]) -> (f64, f64) {
    let (eights, rest) = values.as_chunks::<8>();
    let (mut low, mut high) = ([f64::INFINITY; 8], [f64::NEG_INFINITY; 8]);
    let mut widen = |lane: usize, value: f64| {
        low[lane] = if value < low[lane] { value } else { low[lane] };
        high[lane] = if value > high[lane] { value } else { high[lane] };
    };
    for eight in eights {
        eight.iter().enumerate().for_each(|(lane, value)| widen(lane, *value));
    }
    rest.iter().for_each(|value| widen(0, *value));
    (
        low.into_iter().fold(f64::INFINITY, f64::min),
        high.into_iter().fold(f64::NEG_INFINITY, f64::max),
    )
}

/// In eight lanes, whose order is fixed.
fn sum(values: &[f64]) -> f64 {
    let (eights, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for eight in eights {
        lanes.iter_mut().zip(eight).for_each(|(lane, value)| *lane += value);
    }
    lanes.iter().chain(rest).sum()
}

fn square(columns: usize) -> Tensor {
    Tensor::zeros([columns as i64, columns as i64], (Kind::Double, Device::Cpu))
}

/// `2^-e` where `2^e` is the largest power of two that is not above a positive number.
fn power_below(number: f64) -> f64 {
    let exponent = (number.to_bits() >> 52) as i32 - 1023;
    2f64.powi(-exponent.clamp(-MOST_EXPONENT, MOST_EXPONENT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reduce::ROWS;
    use riskft_core::dataset::hash::mix;

    fn uniform(seed: u64, at: usize) -> f64 {
        mix(seed << 32 | at as u64) as f64 / u64::MAX as f64
    }

    fn of(columns: &[Vec<f64>]) -> Summary {
        let names = (0..columns.len()).map(|at| format!("c{at}")).collect();
        let (mut moments, mut block) = (Moments::new(names), Block::new(columns.len()));
        let rows = columns[0].len();
        for start in (0..rows).step_by(ROWS) {
            let end = (start + ROWS).min(rows);
            let fill = |column: usize, cells: &mut [f64]| {
                cells.copy_from_slice(&columns[column][start..end]);
            };
            block.add(end - start, fill);
            moments.absorb(&mut block);
        }
        moments.finish()
    }

    /// Columns that the sums could trip over: far from zero, tiny, sorted, empty at first, constant at
    /// first, full of gaps.
    fn columns(rows: usize) -> Vec<Vec<f64>> {
        let column = |of: &dyn Fn(usize) -> f64| (0..rows).map(of).collect::<Vec<f64>>();
        let a = |at: usize| uniform(1, at);
        vec![
            column(&a),
            column(&|at| 1e9 + 3.0 * a(at) + uniform(2, at)),
            column(&|at| 1e-200 * (a(at) - 2.0 * uniform(3, at))),
            column(&|at| at as f64 - 5.0 * a(at)),
            column(&|at| if at < 700 { f64::NAN } else { 7.0 * uniform(4, at) + a(at) }),
            column(&|at| if at < 700 { 0.1 } else { a(at) }),
            column(&|at| if at % 3 == 0 { f64::NAN } else { 1e5 - a(at) * uniform(5, at) }),
        ]
    }

    /// Mean, deviation over all rows with missing cells at the mean, and standardised values.
    fn plainly(column: &[f64]) -> (f64, f64, Vec<f64>) {
        let known: Vec<f64> = column.iter().copied().filter(|v| !v.is_nan()).collect();
        let first = known[0];
        let mean = first + known.iter().map(|v| v - first).sum::<f64>() / known.len() as f64;
        let centred: Vec<f64> =
            column.iter().map(|v| if v.is_nan() { 0.0 } else { v - mean }).collect();
        // Values of 1e-200 would lose their squares.
        let unit = centred.iter().fold(0.0, |top: f64, v| top.max(v.abs()));
        let square: f64 = centred.iter().map(|v| (v / unit) * (v / unit)).sum();
        let deviation = unit * (square / column.len() as f64).sqrt();
        (mean, deviation, centred.iter().map(|v| v / deviation).collect())
    }

    /// What one pass comes to is what two come to.
    fn check(columns: &[Vec<f64>]) {
        let rows = columns[0].len();
        let summary = of(columns);
        let all: Vec<usize> = (0..columns.len()).collect();
        let told = summary.columns.clone();
        let correlation = to_doubles(&summary.correlation(&all));
        let plain: Vec<_> = columns.iter().map(|c| plainly(c)).collect();
        for (j, (mean, deviation, z)) in plain.iter().enumerate() {
            let told = &told[j];
            assert!(
                (told.mean - mean).abs() <= 1e-12 * deviation + 2.0 * mean.abs() * 1e-16,
                "{rows} rows, mean of {j}: {} and {mean}",
                told.mean
            );
            assert!(
                (told.deviation / deviation - 1.0).abs() < 1e-11,
                "{rows} rows, deviation of {j}: {} and {deviation}",
                told.deviation
            );
            for (k, (_, _, other)) in plain.iter().enumerate().take(j + 1) {
                let sum: f64 = z.iter().zip(other).map(|(a, b)| a * b).sum();
                let found = correlation[j * columns.len() + k];
                assert!(
                    (found - sum / rows as f64).abs() < 1e-11,
                    "{rows} rows, {j} and {k}: {found} and {}",
                    sum / rows as f64
                );
            }
        }
    }

    #[test]
    fn one_pass_equals_two() {
        for rows in [2_000, 3 * ROWS, 40] {
            // The columns that are missing or constant at first need more rows than that.
            let columns: Vec<Vec<f64>> = columns(rows)
                .into_iter()
                .filter(|c| c.iter().any(|v| *v != c[0] && !v.is_nan()))
                .collect();
            check(&columns);
        }
    }

    #[test]
    fn panels_hold_every_pair() {
        let panel = PANEL as usize;
        for count in [panel, panel + 1, 2 * panel + 44] {
            let column = |seed: usize| (0..30).map(|at| uniform(seed as u64, at)).collect();
            let mut columns: Vec<Vec<f64>> = (0..count).map(column).collect();
            check(&columns);
            columns[count / 2][7] = f64::NAN;
            check(&columns);
        }
    }

    #[test]
    fn powers_of_two() {
        for (number, power) in
            [(1.0, 1.0), (1.9, 1.0), (2.0, 0.5), (0.3, 4.0), (1e9, 2f64.powi(-29))]
        {
            assert_eq!(power_below(number), power);
        }
        assert!((1e-320 * power_below(1e-320)).is_finite() && power_below(f64::MAX) > 0.0);
    }
}
