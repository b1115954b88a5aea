use super::*;
use crate::random::Random;

fn uniform(seed: u64, rows: usize) -> Vec<f64> {
    let mut random = Random::new(seed);
    (0..rows).map(|_| random.unit()).collect()
}

fn map(values: &[f64], of: impl Fn(usize, f64) -> f64) -> Said {
    Said::Numbers(values.iter().enumerate().map(|(row, value)| of(row, *value)).collect())
}

/// Names of the columns that stand for others, by column.
fn told(columns: &[(&'static str, Said)]) -> Vec<(&'static str, &'static str)> {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let said: Vec<Said> = columns.iter().map(|(_, said)| said.clone()).collect();
    let leaders = leaders(&names, &said);
    let of = |(column, leader): (usize, &usize)| (columns[column].0, columns[*leader].0);
    let mut told: Vec<_> = leaders.iter().enumerate().map(of).filter(|(a, b)| a != b).collect();
    told.sort_unstable();
    told
}

#[test]
fn numbers_of_equal_ranks_are_twins_in_any_order() {
    let (x, other) = (uniform(1, 3000), uniform(2, 3000));
    let gap = |share: usize| {
        move |row: usize, v: f64| if row.is_multiple_of(share) { f64::NAN } else { v }
    };
    let mut columns = vec![
        ("cents", map(&x, |_, v| (v * 1e4).round() / 1e4)),
        ("cube", map(&x, |_, v| v.powi(3) * 1e-9)),
        ("fall", map(&x, |_, v| 7.0 - v)),
        ("high", map(&x, |_, v| if v < 0.4 { f64::NAN } else { v.exp() })),
        ("half", map(&x, gap(2))),
        ("most", map(&x, gap(11))),
        ("near", map(&x, |row, v| v + 0.2 * other[row])),
        ("other", map(&other, |_, v| v)),
        ("whole", map(&x, |_, v| v)),
    ];
    let twins = ["cube", "fall", "half", "high", "most", "whole"];
    let wanted: Vec<_> = twins.into_iter().map(|twin| (twin, "cents")).collect();
    for _ in 0..columns.len() {
        columns.rotate_left(1);
        assert_eq!(told(&columns), wanted);
    }
    columns.retain(|(name, _)| ["half", "most", "other"].contains(name));
    assert_eq!(told(&columns), [("half", "most")], "the one with fewer missing values stands");
}

#[test]
fn labels_one_to_one_are_twins() {
    let of = |values: &dyn Fn(u64) -> u64| Said::Labels((0..2000).map(values).collect());
    let grade = |row: u64| 1 + mix(row) % 5;
    let columns = [
        ("grade", of(&|row| mix(grade(row)))),
        ("name", of(&|row| if row % 3 == 0 { MISSING } else { 100 - grade(row) })),
        ("coarse", of(&|row| grade(row).div_ceil(2))),
        ("unlike", of(&|row| 1 + mix(row ^ 77) % 5)),
        (
            "number",
            map(&vec![0.0; 2000], |row, _| {
                [9.0, 4.0, 5.0, 1.0, 7.0][grade(row as u64) as usize - 1]
            }),
        ),
        // Labels that never repeat go one to one with any others.
        ("key", of(&|row| row + 1)),
        ("key too", of(&|row| row + 1)),
        ("code", of(&|row| mix(row).max(1))),
    ];
    assert_eq!(told(&columns), [("key too", "key"), ("name", "grade"), ("number", "grade")]);
}

#[test]
fn few_rows_and_columns_that_do_not_vary_prove_nothing() {
    let few = map(&uniform(1, 12), |_, v| v);
    assert_eq!(told(&[("a", few.clone()), ("b", few)]), []);
    let constant = map(&[0.0; 500], |_, _| 3.0);
    let varies = map(&uniform(1, 500), |_, v| v);
    let none = map(&[0.0; 500], |_, _| f64::NAN);
    let columns = [
        ("a", constant.clone()),
        ("b", constant),
        ("c", varies),
        ("d", none.clone()),
        ("e", none),
        ("f", Said::Labels(vec![MISSING; 500])),
        ("g", Said::Labels(vec![5; 500])),
        ("h", Said::Labels(vec![5; 500])),
    ];
    assert_eq!(told(&columns), []);
    assert_eq!(told(&[]), []);
}

/// -0 and 0 are equal, as in every encoding.
#[test]
fn signs_of_zero_say_nothing() {
    let x = uniform(3, 400);
    let step = |low: f64| move |_: usize, v: f64| if v < 0.5 { low } else { 1.0 };
    assert_eq!(told(&[("a", map(&x, step(0.0))), ("b", map(&x, step(-0.0)))]), [("b", "a")]);
    let mixed = |row: usize, v: f64| if v < 0.5 { [0.0, -0.0][row % 2] } else { 1.0 };
    assert_eq!(told(&[("a", map(&x, step(0.0))), ("b", map(&x, mixed))]), [("b", "a")]);
}

#[test]
fn the_rows_go_down_as_columns_go_up() {
    assert_eq!(rows_of(0), MOST_ROWS);
    assert_eq!(rows_of(1000), MOST_CELLS / 1000);
}
