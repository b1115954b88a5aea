//! Files of reducers that lie or are damaged: refused, or finite components.

mod targets;

use std::sync::Arc;

use riskft_core::artifact::{write, Artifact, Tensor, TensorSet};
use riskft_core::cell::Cell;
use riskft_core::gemm::Kernel;
use riskft_core::protocol::BlobKind;
use riskft_core::reduce::{Projector, Reducer, MOST_COLUMNS};
use riskft_core::refusal::Refusal;
use serde_json::{json, Value};
use targets::memory::{self, Counting};
use targets::reducers::{small, MOST};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn refused(bytes: Vec<u8>) -> Option<Refusal> {
    Reducer::open(Arc::new(bytes)).err()
}

/// A file of these tensors and this specification.
fn file(specification: &Value, tensors: &TensorSet) -> Vec<u8> {
    write(BlobKind::Reducer, &specification.to_string(), tensors)
}

#[test]
fn files_that_lie_are_refused() {
    let fit = small(3, 2);
    let bytes = fit.write().expect("a file");
    let whole = Artifact::open(Arc::new(bytes.clone())).expect("a file");
    let specification: Value = serde_json::from_str(whole.specification()).expect("JSON");
    let slice = |name: &str| whole.slice::<f64>(name).expect("a tensor").to_vec();
    let lanes = slice("components");
    let tensors = |change: &dyn Fn(&mut [Vec<f64>; 4])| {
        let mut all = [slice("means"), slice("scales"), slice("variances"), lanes.clone()];
        change(&mut all);
        let [means, scales, variances, lanes] = all;
        let rows = lanes.len() / 16;
        TensorSet::from([
            ("means".to_owned(), Tensor::new(&[means.len()], &means)),
            ("scales".to_owned(), Tensor::new(&[scales.len()], &scales)),
            ("variances".to_owned(), Tensor::new(&[variances.len()], &variances)),
            ("components".to_owned(), Tensor::new(&[rows / 3, 3, 16], &lanes)),
        ])
    };
    assert!(refused(file(&specification, &tensors(&|_| ()))).is_none());
    let lie = |what: &str, change: &dyn Fn(&mut [Vec<f64>; 4])| {
        let refusal = refused(file(&specification, &tensors(change)));
        assert_eq!(refusal.map(|r| r.code).as_deref(), Some("XX001"), "{what}");
    };
    for float in [f64::NAN, f64::INFINITY] {
        lie("a mean", &|t| t[0][1] = float);
        lie("a scale", &|t| t[1][2] = float);
        lie("a variance", &|t| t[2][0] = float);
        lie("a loading", &|t| t[3][5] = float);
    }
    for scale in [0.0, -1.0, 1e-300, 1e300] {
        lie("a scale", &|t| t[1][0] = scale);
    }
    lie("rising variances", &|t| t[2].reverse());
    lie("a negative variance", &|t| t[2][1] = -0.1);
    lie("a loading above 1", &|t| t[3][0] = 1.1);
    lie("a loading of no component", &|t| t[3][2] = 0.1);
    lie("no components", &|t| t[2].clear());
    lie("more components than columns", &|t| t[2] = vec![0.1; 4]);
    lie("a mean too many", &|t| t[0].push(0.0));
    lie("a block too many", &|t| t[3] = vec![0.0; 96]);
    lie("a block too few", &|t| t[3].clear());
    let respecified = |path: &str, value: Value| {
        let mut changed = specification.clone();
        *changed.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
        refused(file(&changed, &tensors(&|_| ()))).map(|refusal| refusal.code)
    };
    for (path, value, code) in [
        ("/format", json!(2), "0A000"),
        ("/numerics", json!(0), "0A000"),
        ("/rows", json!(1), "XX001"),
        ("/rows", json!(-1), "XX001"),
        ("/columns", json!([]), "XX001"),
        ("/columns", json!(["a", "b"]), "XX001"),
        ("/columns", json!(["a", "a", "b"]), "XX001"),
        ("/columns", json!(["b", "a", "c"]), "XX001"),
        ("/columns", json!(["", "a", "b"]), "XX001"),
        ("/columns", json!(["a\u{0}", "b", "c"]), "XX001"),
        ("/columns", json!(["a", "b", "c".repeat(2000)]), "XX001"),
        ("/columns", json!(vec!["a"; MOST_COLUMNS + 1]), "XX001"),
        ("/columns/0", json!(7), "XX001"),
    ] {
        assert_eq!(respecified(path, value.clone()).as_deref(), Some(code), "{path} = {value}");
    }
    for kind in [BlobKind::Version, BlobKind::Encoder, BlobKind::Training] {
        let other = write(kind, &specification.to_string(), &tensors(&|_| ()));
        assert_eq!(refused(other).map(|refusal| refusal.code).as_deref(), Some("XX001"));
    }
}

/// Cut at each length, and with a thousand of its bits flipped: refused, or finite components.
#[test]
fn damaged_files_are_refused_or_project() {
    let bytes = small(20, 18).write().expect("a file");
    memory::begin();
    for length in 0..bytes.len() {
        let refusal = refused(bytes[..length].to_vec()).expect("a file cut short");
        assert_eq!(refusal.code, "XX001", "{length} bytes: {refusal:?}");
    }
    let (mut gone, mut projected) = (0, 0);
    for flip in 0..1000 {
        let bit = flip * 7919 % (8 * bytes.len());
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        match Reducer::open(Arc::new(damaged)) {
            Err(refusal) => {
                assert!(["XX001", "0A000"].contains(&refusal.code.as_str()), "{refusal:?}");
                gone += 1;
            }
            Ok(reducer) => {
                let mut projector = Projector::new(Arc::new(reducer), Kernel::detect());
                let row = vec![Cell::Float(1e9); 20];
                assert!(projector.project(&row).iter().all(|v| v.is_finite()), "bit {bit}");
                projected += 1;
            }
        }
    }
    println!("of 1,000 flipped bits {gone} were refused, {projected} projected");
    assert!(gone > 50 && projected > 50);
    assert!(memory::most() < MOST, "{} bytes of memory were taken", memory::most());
}
