//! The list of columns, the largest first.

use serde::{Deserialize, Serialize};

/// A column as it ranks: a row of riskft_select.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// 1.. by falling magnitude; a column that says what another one says has the rank of that one.
    pub rank: u32,
    pub column_name: String,
    /// Mean magnitude of its contributions to the log odds, its followers' included; None of a
    /// follower.
    pub mean_abs_shap: Option<f64>,
    /// Of the sum over all columns, 0..1.
    pub share: Option<f64>,
    /// The column that says the same and stands for both.
    pub twin_of: Option<String>,
}

/// Ranks columns by their mean magnitudes, ties by name. `leaders` has for each column the one that
/// stands for it, itself in most cases; the followers of a column come right behind it, by name.
pub fn rank(names: &[&str], leaders: &[usize], means: &[f64]) -> Vec<Ranked> {
    let mut by_name: Vec<usize> = (0..names.len()).collect();
    by_name.sort_by_key(|column| names[*column]);
    let mut followers: Vec<Vec<usize>> = vec![Vec::new(); names.len()];
    for column in by_name.iter().filter(|column| leaders[**column] != **column) {
        followers[leaders[*column]].push(*column);
    }
    let mut order: Vec<usize> =
        by_name.into_iter().filter(|column| leaders[*column] == *column).collect();
    order.sort_by(|a, b| means[*b].total_cmp(&means[*a]));
    let total: f64 = order.iter().map(|column| means[*column]).sum();
    let mut ranked = Vec::with_capacity(names.len());
    for (column, rank) in order.into_iter().zip(1..) {
        let mean = means[column];
        ranked.push(Ranked {
            rank,
            column_name: names[column].to_owned(),
            mean_abs_shap: Some(mean),
            share: Some(if total > 0.0 { mean / total } else { 0.0 }),
            twin_of: None,
        });
        ranked.extend(followers[column].iter().map(|follower| Ranked {
            rank,
            column_name: names[*follower].to_owned(),
            mean_abs_shap: None,
            share: None,
            twin_of: Some(names[column].to_owned()),
        }));
    }
    ranked
}

/// The first ranks of a list, followers included.
pub fn top(mut ranked: Vec<Ranked>, most: u32) -> Vec<Ranked> {
    ranked.retain(|column| column.rank <= most);
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn followers_stand_behind_their_leader_and_are_not_counted() {
        let names = ["d", "c", "b", "a", "e"];
        // "c" and "a" follow "e"; "b" and "d" tie.
        let ranked = rank(&names, &[0, 4, 2, 4, 4], &[1.0, 9.0, 1.0, 9.0, 2.0]);
        let told: Vec<(u32, &str, Option<f64>, Option<&str>)> = ranked
            .iter()
            .map(|r| (r.rank, r.column_name.as_str(), r.share, r.twin_of.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                (1, "e", Some(0.5), None),
                (1, "a", None, Some("e")),
                (1, "c", None, Some("e")),
                (2, "b", Some(0.25), None),
                (3, "d", Some(0.25), None),
            ]
        );
        assert_eq!(top(ranked.clone(), 1).len(), 3);
        assert_eq!(top(ranked.clone(), 2).len(), 4);
        assert_eq!(top(ranked.clone(), 100), ranked);
    }

    #[test]
    fn nothing_shares_nothing() {
        assert_eq!(rank(&[], &[], &[]), []);
        let ranked = rank(&["b", "a"], &[0, 1], &[0.0, 0.0]);
        let names: Vec<&str> = ranked.iter().map(|r| r.column_name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(ranked.iter().all(|r| r.share == Some(0.0) && r.mean_abs_shap == Some(0.0)));
    }
}
