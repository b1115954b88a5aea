//! A one-column decision tree: the thresholds that tell the classes apart best.

/// Thresholds of a tree, ascending, and its Gini gain.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tree {
    /// Row goes right when its value is above the threshold.
    pub thresholds: Vec<f64>,
    /// Sum over the splits of the decrease of `n p (1 - p)`.
    pub gain: f64,
}

/// Rows of one distinct value, with the counts of all lower ones.
struct Step {
    value: f64,
    rows: u64,
    positives: u64,
}

#[derive(Clone, Copy)]
struct Leaf {
    start: usize,
    end: usize,
    /// First step of the right side of the best split, and its gain.
    split: Option<(usize, f64)>,
}

/// Grows best-first by Gini gain to at most `leaves` leaves of at least `min_leaf` rows.
/// NaN values are left out. The result does not depend on the order of the rows.
pub fn grow(values: &[f64], labels: &[bool], leaves: usize, min_leaf: usize) -> Tree {
    let mut rows: Vec<(f64, bool)> = values
        .iter()
        .zip(labels)
        .filter(|(v, _)| !v.is_nan())
        .map(|(v, l)| (*v + 0.0, *l))
        .collect();
    rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let steps = steps(&rows);
    let mut tree = Tree::default();
    if steps.len() < 2 {
        return tree;
    }
    let min_leaf = min_leaf.max(1) as u64;
    let mut open = vec![Leaf::new(&steps, 0, steps.len() - 1, min_leaf)];
    while open.len() < leaves {
        // Of equal gains the leftmost: `open` is kept in order, and max_by takes the last.
        let best = open
            .iter()
            .enumerate()
            .rev()
            .filter_map(|(i, leaf)| leaf.split.map(|(at, gain)| (i, at, gain)))
            .max_by(|a, b| a.2.total_cmp(&b.2));
        let Some((index, at, gain)) = best else {
            break;
        };
        tree.gain += gain;
        let leaf = open[index];
        open[index] = Leaf::new(&steps, leaf.start, at, min_leaf);
        open.insert(index + 1, Leaf::new(&steps, at, leaf.end, min_leaf));
    }
    tree.thresholds = open.iter().skip(1).map(|leaf| between(&steps, leaf.start)).collect();
    tree
}

/// Distinct values with cumulative counts before them; the last step holds the totals.
fn steps(rows: &[(f64, bool)]) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut count, mut positives) = (0, 0);
    let mut last = None;
    for (value, label) in rows {
        if last != Some(*value) {
            steps.push(Step { value: *value, rows: count, positives });
            last = Some(*value);
        }
        count += 1;
        positives += u64::from(*label);
    }
    steps.push(Step { value: f64::INFINITY, rows: count, positives });
    steps
}

/// A threshold strictly above the left value wherever float8 has one.
fn between(steps: &[Step], right: usize) -> f64 {
    let (low, high) = (steps[right - 1].value, steps[right].value);
    let middle = low / 2.0 + high / 2.0;
    if middle > low && middle < high {
        middle
    } else {
        high
    }
}

impl Leaf {
    /// Steps `start..end`; `end` is the first step to the right (or the totals).
    fn new(steps: &[Step], start: usize, end: usize, min_leaf: u64) -> Self {
        let rows = (steps[end].rows - steps[start].rows) as f64;
        let positives = (steps[end].positives - steps[start].positives) as f64;
        let whole = positives * positives / rows;
        let mut split = None;
        let mut best = 1e-9;
        for at in start + 1..end {
            let left = steps[at].rows - steps[start].rows;
            let right = steps[end].rows - steps[at].rows;
            if left < min_leaf || right < min_leaf {
                continue;
            }
            let left_positives = (steps[at].positives - steps[start].positives) as f64;
            let right_positives = positives - left_positives;
            let gain = left_positives * left_positives / left as f64
                + right_positives * right_positives / right as f64
                - whole;
            if gain > best {
                (best, split) = (gain, Some((at, gain)));
            }
        }
        Leaf { start, end, split }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_step() {
        let values: Vec<f64> = (0..200).map(f64::from).collect();
        let labels: Vec<bool> = (0..200).map(|i| i >= 120).collect();
        let tree = grow(&values, &labels, 24, 10);
        assert_eq!(tree.thresholds, vec![119.5]);
        // n p (1 - p) of the root, as both leaves are pure.
        assert!((tree.gain - 200.0 * 0.4 * 0.6).abs() < 1e-9);
    }

    #[test]
    fn leaves_are_bounded_and_order_does_not_matter() {
        let values: Vec<f64> = (0..1000).map(|i| f64::from(i * 7919 % 1000)).collect();
        let labels: Vec<bool> = values.iter().map(|v| (*v as i64 * 37) % 11 < 4).collect();
        let tree = grow(&values, &labels, 24, 20);
        assert!(tree.thresholds.len() < 24 && tree.thresholds.len() > 3);
        assert!(tree.thresholds.windows(2).all(|w| w[0] < w[1]));
        let mut edges = vec![f64::NEG_INFINITY];
        edges.extend(&tree.thresholds);
        edges.push(f64::INFINITY);
        for pair in edges.windows(2) {
            assert!(values.iter().filter(|v| **v > pair[0] && **v <= pair[1]).count() >= 20);
        }
        let back: Vec<f64> = values.iter().rev().copied().collect();
        let back_labels: Vec<bool> = labels.iter().rev().copied().collect();
        assert_eq!(grow(&back, &back_labels, 24, 20), tree);
    }

    #[test]
    fn constants_missing_and_neighbours() {
        assert_eq!(grow(&[1.0; 50], &[true; 50], 24, 5), Tree::default());
        assert_eq!(grow(&[f64::NAN; 50], &[true; 50], 24, 5), Tree::default());
        assert_eq!(grow(&[], &[], 24, 5), Tree::default());
        let high = f64::from_bits(1.0f64.to_bits() + 1);
        let values: Vec<f64> = (0..40).map(|i| if i < 20 { 1.0 } else { high }).collect();
        let labels: Vec<bool> = (0..40).map(|i| i < 20).collect();
        assert_eq!(grow(&values, &labels, 24, 5).thresholds, vec![high]);
        let zeros: Vec<f64> = (0..40).map(|i| if i < 20 { -0.0 } else { 0.0 }).collect();
        assert_eq!(grow(&zeros, &labels, 24, 5), Tree::default());
    }
}
