//! Files of reducers.

use std::sync::Arc;

use riskft_core::cell::Cell;
use riskft_core::gemm::Kernel;
use riskft_core::reduce::{Fit, Projector, Reducer};
use riskft_core::refusal::code;

use super::sound;

/// Most bytes that the files of the tests may take while they are read.
pub const MOST: usize = 4 << 20;

/// A made-up reducer of so many columns and components, its loadings those of a discrete cosine
/// transform.
pub fn small(columns: usize, count: usize) -> Fit {
    let mut names: Vec<String> = (0..columns).map(|at| format!("c{at}")).collect();
    names.sort_unstable();
    let loading = |component: usize, column: usize| {
        let angle = std::f64::consts::PI * component as f64 * (column as f64 + 0.5);
        let length = if component == 0 { 1.0 } else { 2.0f64 };
        (angle / columns as f64).cos() * (length / columns as f64).sqrt()
    };
    Fit {
        columns: names,
        means: (0..columns).map(|at| at as f64 - 3.5).collect(),
        scales: (0..columns).map(|at| 0.5 + at as f64).collect(),
        variances: (0..count).map(|at| 1.0 / (at as f64 + 1.0)).collect(),
        components: (0..count).map(|k| (0..columns).map(|at| loading(k, at)).collect()).collect(),
        rows: 100,
    }
}

/// Bytes as a reducer's file; what opens projects rows and tells its loadings.
pub fn reducer(input: &[u8]) {
    let reducer = match Reducer::open(Arc::new(input.to_vec())) {
        Ok(reducer) => Arc::new(reducer),
        Err(refusal) => {
            return sound(&refusal, &[code::DATA_CORRUPTED, code::NOT_SUPPORTED]);
        }
    };
    let (columns, count) = (reducer.columns().len(), reducer.count());
    assert_eq!(reducer.components().len(), count);
    for at in 0..columns * count {
        assert!(reducer.axes().loading(at / columns, at % columns).abs() < 1.1);
    }
    let mut projector = Projector::new(reducer, Kernel::detect());
    for cell in [Cell::Null, Cell::Float(1.5), Cell::Float(1e308), Cell::Int(i64::MIN)] {
        let row = vec![cell; columns];
        assert!(projector.project(&row).iter().all(|v| v.is_finite()));
    }
}

pub fn files() -> Vec<Vec<u8>> {
    [(1, 1), (3, 2), (20, 18)]
        .iter()
        .map(|(columns, count)| small(*columns, *count).write().unwrap_or_default())
        .collect()
}
