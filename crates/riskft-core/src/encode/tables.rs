//! The estimates of the statistics, in a model file.

use super::statistic::{Estimates, Keys, StatisticInput};
use super::EncodedRow;
use crate::artifact::{Artifact, ArtifactError, Tensor, TensorSet, View};

/// Most keys of one statistic that are stored; those with the most rows stay.
const MOST_KEYS: usize = 1 << 18;

/// Estimates by the hash of a key: opened once, read at each use.
#[derive(Debug)]
pub struct Tables {
    prior: f64,
    tables: Vec<Table>,
}

#[derive(Debug)]
struct Table {
    /// Ascending.
    keys: View<u64>,
    /// [keys, 2]: what the key adds to its parent's estimate, and the logarithm of its rows.
    values: View<f64>,
    parent: Option<usize>,
}

fn name(statistic: usize, part: &str) -> String {
    format!("statistic.{statistic}.{part}")
}

/// The tensors that [`Tables::open`] finds: `statistic.prior` [1], and for each statistic
/// `statistic.{i}.keys` U64 [keys] and `statistic.{i}.values` F64 [keys, 2].
pub fn tensors(keys: &Keys, estimates: &Estimates) -> TensorSet {
    let mut tensors = TensorSet::new();
    tensors.insert("statistic.prior".into(), Tensor::new(&[1], &[estimates.prior]));
    for s in 0..keys.len() {
        let hashes = keys.hashes(s);
        let mut entries: Vec<(u64, [f64; 2])> =
            estimates.entries(s).map(|(k, step, rows)| (hashes[k], [step, rows])).collect();
        if entries.len() > MOST_KEYS {
            entries.sort_by(|a, b| b.1[1].total_cmp(&a.1[1]).then(a.0.cmp(&b.0)));
            entries.truncate(MOST_KEYS);
        }
        entries.sort_unstable_by_key(|(hash, _)| *hash);
        let (keys, values): (Vec<u64>, Vec<[f64; 2]>) = entries.into_iter().unzip();
        tensors.insert(name(s, "keys"), Tensor::new(&[keys.len()], &keys));
        tensors.insert(name(s, "values"), Tensor::new(&[keys.len(), 2], values.as_flattened()));
    }
    tensors
}

impl Tables {
    /// Finds the tables of some statistics. Keys out of order and values that are not finite are
    /// refused.
    pub fn open(file: &Artifact, inputs: &[StatisticInput]) -> Result<Self, ArtifactError> {
        let bytes: &[u8] = (**file.storage()).as_ref();
        if inputs.is_empty() {
            return Ok(Tables { prior: 0.0, tables: Vec::new() });
        }
        let prior = file.view::<f64>("statistic.prior", &[1])?.of(bytes).first().copied();
        let prior = prior.filter(|p| p.is_finite()).ok_or(ArtifactError::Metadata("prior"))?;
        let table = |(s, input): (usize, &StatisticInput)| {
            let count = file.shape(&name(s, "keys")).map_or(0, |shape| shape.iter().product());
            let keys: View<u64> = file.view(&name(s, "keys"), &[count])?;
            let values: View<f64> = file.view(&name(s, "values"), &[count, 2])?;
            let rising = keys.of(bytes).windows(2).all(|pair| pair[0] < pair[1]);
            if !rising || !values.of(bytes).iter().all(|v| v.is_finite()) {
                return Err(ArtifactError::Metadata("statistics"));
            }
            Ok(Table { keys, values, parent: input.parent })
        };
        let tables = inputs.iter().enumerate().map(table).collect::<Result<_, _>>()?;
        Ok(Tables { prior, tables })
    }

    /// A row's features: those of the row itself, then an estimate and a logarithm of rows for
    /// each statistic.
    pub fn fill(&self, file: &[u8], row: &EncodedRow, out: &mut Vec<f64>) {
        out.clear();
        out.extend_from_slice(&row.features);
        let first = out.len();
        for (s, table) in self.tables.iter().enumerate() {
            let found = row.keys.get(s).and_then(|key| table.find(file, *key));
            let [step, rows] = found.unwrap_or_default();
            let base = table.parent.and_then(|parent| out.get(first + 2 * parent).copied());
            out.push(base.unwrap_or(self.prior) + step);
            out.push(rows);
        }
    }
}

impl Table {
    fn find(&self, file: &[u8], key: u64) -> Option<[f64; 2]> {
        let at = self.keys.of(file).binary_search(&key).ok()?;
        self.values.of(file).as_chunks().0.get(at).copied()
    }
}
