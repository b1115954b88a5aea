//! Shapley values of a game of few players, and their estimates in one of many.
//!
//! Many players: the mean of what each adds on its way through random permutations (Castro, Gomez &
//! Tejada 2009), each with its reverse (antithetic sampling; Mitchell, Cooper, Frank & Holmes 2022),
//! so that what two players do together is shared evenly within each pair. Along every permutation
//! the additions sum to the whole, so their mean does.

/// Values of coalitions, appended in their order. A coalition is one flag for each player; the empty
/// one and that of all are never asked for.
pub(super) type Values<'a> = &'a mut dyn FnMut(&[bool], &mut Vec<f64>);

/// Each player's value, with squared errors of 0. `ends` are the values of no player and of all;
/// at most `chunk` coalitions are asked for at once. There are at most 16 players.
pub(super) fn exact(
    players: usize,
    ends: (f64, f64),
    chunk: usize,
    values: Values<'_>,
) -> Vec<(f64, f64)> {
    if players == 0 {
        return Vec::new();
    }
    let all = (1usize << players) - 1;
    let mut worth = Vec::with_capacity(all + 1);
    worth.push(ends.0);
    let mut coalitions = Vec::with_capacity(chunk * players);
    for first in (1..all).step_by(chunk) {
        coalitions.clear();
        for coalition in first..all.min(first + chunk) {
            coalitions.extend((0..players).map(|player| coalition >> player & 1 == 1));
        }
        values(&coalitions, &mut worth);
    }
    worth.push(ends.1);
    let weights = weights(players);
    let value = |player: usize| {
        let bit = 1 << player;
        let without = (0..=all).filter(|coalition| coalition & bit == 0);
        let added = without.map(|coalition| {
            let size = coalition.count_ones() as usize;
            weights[size] * (worth[coalition | bit] - worth[coalition])
        });
        (added.sum::<f64>(), 0.0)
    };
    (0..players).map(value).collect()
}

/// `size! (players - size - 1)! / players!` by the size of a coalition.
fn weights(players: usize) -> Vec<f64> {
    let mut weight = 1.0 / players as f64;
    let mut weights = Vec::with_capacity(players);
    for size in 0..players {
        weights.push(weight);
        weight *= (size + 1) as f64 / (players - size - 1).max(1) as f64;
    }
    weights
}

/// Each player's estimated value and its squared standard error, from permutations of all players
/// and their reverses. One permutation has no error that could be told: NaN.
pub(super) fn sampled(
    orders: &[Vec<usize>],
    ends: (f64, f64),
    chunk: usize,
    values: Values<'_>,
) -> Vec<(f64, f64)> {
    let players = orders.first().map_or(0, Vec::len);
    let rounds = orders.len() as f64;
    let (mut sums, mut squares) = (vec![0.0; players], vec![0.0; players]);
    let mut pair = vec![0.0; players];
    for order in orders {
        pair.fill(0.0);
        let reverse: Vec<usize> = order.iter().rev().copied().collect();
        for order in [order, &reverse] {
            walk(order, ends, chunk, values, &mut pair);
        }
        for (player, sum) in pair.iter().enumerate() {
            let mean = sum / 2.0;
            sums[player] += mean;
            squares[player] += mean * mean;
        }
    }
    let estimate = |(sum, square): (&f64, &f64)| {
        let mean = sum / rounds;
        let variance = (square / rounds - mean * mean).max(0.0) * rounds / (rounds - 1.0);
        (mean, variance / rounds)
    };
    sums.iter().zip(&squares).map(estimate).collect()
}

/// Adds what each player adds as they come in order.
fn walk(order: &[usize], ends: (f64, f64), chunk: usize, values: Values<'_>, added: &mut [f64]) {
    let mut worth = Vec::with_capacity(order.len());
    let mut coalition = vec![false; order.len()];
    let mut coalitions = Vec::new();
    // The last one completes them all.
    for players in order[..order.len().saturating_sub(1)].chunks(chunk) {
        coalitions.clear();
        for player in players {
            coalition[*player] = true;
            coalitions.extend_from_slice(&coalition);
        }
        values(&coalitions, &mut worth);
    }
    worth.push(ends.1);
    let mut before = ends.0;
    for (player, worth) in order.iter().zip(worth) {
        added[*player] += worth - before;
        before = worth;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A game with interactions of all orders.
    fn worth(coalition: &[bool]) -> f64 {
        let sum = coalition.iter().enumerate().map(|(i, is_in)| match is_in {
            true => (i as f64 + 1.0) * 0.3,
            false => -0.1,
        });
        let sum: f64 = sum.sum();
        sum.sin() + if coalition[0] && coalition[coalition.len() - 1] { 2.0 } else { 0.0 }
    }

    fn values(players: usize) -> impl FnMut(&[bool], &mut Vec<f64>) {
        move |coalitions, out| out.extend(coalitions.chunks_exact(players).map(worth))
    }

    fn ends(players: usize) -> (f64, f64) {
        (worth(&vec![false; players]), worth(&vec![true; players]))
    }

    fn permutations(players: usize) -> Vec<Vec<usize>> {
        if players == 0 {
            return vec![Vec::new()];
        }
        let shorter = permutations(players - 1);
        let insert = |order: &Vec<usize>, at: usize| {
            let mut order = order.clone();
            order.insert(at, players - 1);
            order
        };
        shorter.iter().flat_map(|o| (0..players).map(move |at| insert(o, at))).collect()
    }

    #[test]
    fn all_coalitions_agree_with_all_permutations() {
        for players in [1, 2, 5, 6] {
            let by_coalitions = exact(players, ends(players), 7, &mut values(players));
            let orders = permutations(players);
            let by_orders = sampled(&orders, ends(players), 3, &mut values(players));
            for (a, b) in by_coalitions.iter().zip(&by_orders) {
                assert!((a.0 - b.0).abs() < 1e-12, "{players}: {a:?} {b:?}");
                assert_eq!(a.1, 0.0);
            }
        }
        assert!(exact(0, (1.0, 1.0), 8, &mut values(1)).is_empty());
    }

    #[test]
    fn few_permutations_sum_to_the_whole_and_know_their_error() {
        let players = 12;
        let (none, all) = ends(players);
        let truth = exact(players, (none, all), 64, &mut values(players));
        let mut random = crate::random::Random::new(3);
        let orders: Vec<Vec<usize>> = (0..64)
            .map(|_| {
                let mut order: Vec<usize> = (0..players).collect();
                random.shuffle(&mut order);
                order
            })
            .collect();
        let found = sampled(&orders, (none, all), 64, &mut values(players));
        let sum: f64 = found.iter().map(|f| f.0).sum();
        assert!((sum - (all - none)).abs() < 1e-12);
        for (found, truth) in found.iter().zip(&truth) {
            assert!(
                (found.0 - truth.0).abs() < 5.0 * found.1.sqrt() + 1e-12,
                "{found:?} {truth:?}"
            );
        }
        assert!(found.iter().any(|f| f.1 > 0.0));
    }
}
