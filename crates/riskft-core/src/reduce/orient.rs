//! One basis out of many: eigenvectors are known but for their sign, and those of one eigenvalue but
//! for a rotation among themselves.

/// Eigenvalues nearer than this share of the largest are one. At that distance rounding, about 1e-15,
/// turns eigenvectors by up to 1e-6.
const EQUAL: f64 = 1e-9;
/// Loadings whose sizes differ by less than this share are of one size.
const TIED: f64 = 1e-9;

/// Turns unit eigenvectors, the rows of `vectors` [values][columns], into the ones that the matrix
/// and the order of its columns alone decide.
///
/// Within equal eigenvalues the basis is chosen by columns: the first vector lies as close as any in
/// their span to a column's axis, the next likewise within what is left. Then each vector's largest
/// loading is positive, the first of these in the columns' order where several are of one size.
///
/// `values` fall, and `vectors` holds one row of the same length for each.
pub fn orient(values: &[f64], vectors: &mut [Vec<f64>]) {
    let values = &values[..vectors.len()];
    let mut start = 0;
    while start < vectors.len() {
        let end = end_of_equal(values, start);
        if end - start > 1 {
            settle(&mut vectors[start..end]);
        }
        start = end;
    }
    for vector in vectors {
        if largest(vector.iter().copied()).is_some_and(|at| vector[at] < 0.0) {
            vector.iter_mut().for_each(|loading| *loading = 0.0 - *loading);
        }
    }
}

/// The end of the eigenvalues that equal the one at a place, through those between.
pub(super) fn end_of_equal(values: &[f64], at: usize) -> usize {
    let near = EQUAL * values.first().copied().unwrap_or(0.0);
    let is_equal = |at: &usize| values[*at - 1] - values[*at] < near;
    (at + 1..values.len()).take_while(is_equal).last().unwrap_or(at) + 1
}

/// Replaces vectors of one eigenvalue by the basis of their span that follows from the span alone.
///
/// The projection of a column's axis into the span has the coordinates `shares[column]` in the old
/// basis, and their length is how close the span comes to that axis.
fn settle(vectors: &mut [Vec<f64>]) {
    let (count, columns) = (vectors.len(), vectors[0].len());
    let mut shares: Vec<Vec<f64>> =
        (0..columns).map(|column| vectors.iter().map(|v| v[column]).collect()).collect();
    let mut settled = Vec::with_capacity(count);
    for _ in 0..count {
        let lengths = shares.iter().map(|share| dot(share, share).sqrt());
        let Some(at) = largest(lengths) else { return };
        let length = dot(&shares[at], &shares[at]).sqrt();
        let direction: Vec<f64> = shares[at].iter().map(|share| share / length).collect();
        let along = |column: usize| -> f64 {
            vectors.iter().zip(&direction).map(|(v, d)| v[column] * d).sum()
        };
        settled.push((0..columns).map(along).collect::<Vec<f64>>());
        for share in &mut shares {
            let part = dot(share, &direction);
            share.iter_mut().zip(&direction).for_each(|(s, d)| *s -= part * d);
        }
    }
    for (vector, settled) in vectors.iter_mut().zip(settled) {
        *vector = settled;
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Place of the value of the largest size, the first of several; None where all are zero.
fn largest(values: impl Iterator<Item = f64> + Clone) -> Option<usize> {
    let top = values.clone().fold(0.0, |top: f64, v| top.max(v.abs()));
    let mut places = values.enumerate().filter(|(_, v)| v.abs() >= top * (1.0 - TIED));
    places.next().map(|(at, _)| at).filter(|_| top > 0.0)
}
