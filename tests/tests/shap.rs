//! risk_explain beside the Python package shap: golden values of one version, kept with its bytes.
//!
//! tests/golden/by_shap.py computes them by asking PostgreSQL for scores. The version was trained on 80
//! rows split by time, so that its background, all 64 fitted rows, is known to the script.

use std::path::{Path, PathBuf};

use riskft_tests::{Database, Session};
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

/// Table `golden`: a number that matters, its ratio to another, months, labels and a flag.
fn table(session: &mut Session) {
    session.run(
        "CREATE TABLE golden AS SELECT date '2001-01-01' + i - 1 AS day,
             (1000 + i * 7919 % 1013 * 10)::integer AS amount, (2000 + i * 6101 % 997 * 5)::integer AS income,
             (12 + i * 31 % 48)::integer AS months,
             CASE WHEN i % 11 = 0 THEN NULL ELSE (ARRAY['a', 'b', 'c'])[1 + i * 17 % 3] END AS grade,
             (ARRAY['north', 'south', 'east', 'west'])[1 + i * 13 % 4] AS place,
             i * 29 % 7 < 3 AS owner,
             (1000 + i * 7919 % 1013 * 10)::float8 / (2000 + i * 6101 % 997 * 5)
                 + CASE i * 17 % 3 WHEN 0 THEN 1 ELSE 0 END + i * 613 % 101 / 100.0 > 2.4 AS bad
         FROM generate_series(1, 80) i",
    );
}

const TRAIN: &str = r#"CALL riskft_train('golden', 'golden', 'bad', time_column => 'day', method => 'none',
    options => '{"explain": {"background": 64, "rows": 16}, "folds": 2, "repeats": 1, "hidden": 8,
    "head_epochs": 20, "head_learning_rate": 0.01, "trees": {"rounds": 12, "min_rows": 5}, "roles": {"day": "ignored",
    "grade": "category", "place": "category"}, "gate": {"auc_loss": 1, "flips": 1, "change_q999": 1, "change_max": 1}}')"#;

/// With RISKFT_GOLDEN=make: trains the version anew and keeps its bytes; the script then has to be run
/// in the database that is named, which stays for an hour.
#[test]
fn contributions_agree_with_shap() {
    let database = Database::new();
    let mut analyst = database.analyst();
    if std::env::var_os("RISKFT_GOLDEN").is_some() {
        table(&mut analyst);
        analyst.run(TRAIN);
        let bytes: Vec<u8> = analyst.value("SELECT riskft_export_model('golden')");
        std::fs::write(golden("shap.model"), bytes).unwrap();
        println!("{} {}", database.cluster().socket_folder().display(), database.name());
        std::thread::sleep(std::time::Duration::from_secs(3600));
        return;
    }
    let bytes = std::fs::read(golden("shap.model")).unwrap();
    let _: i32 = analyst.value_of("SELECT riskft_import_model('golden', $1)", &[&bytes]);
    let told: Value = serde_json::from_slice(&std::fs::read(golden("shap.json")).unwrap()).unwrap();
    let names: Vec<&str> =
        told["columns"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let base = told["base"].as_f64().unwrap();
    let (mut ours, mut theirs, mut permuted) = (Vec::new(), Vec::new(), Vec::new());
    for (place, row) in told["rows"].as_array().unwrap().iter().enumerate() {
        let object: serde_json::Map<String, Value> = names
            .iter()
            .zip(row.as_array().unwrap())
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let sql = "SELECT e.column_name, e.contribution, e.base FROM jsonb_to_record($1::text::jsonb) AS r(amount integer,
                       income integer, months integer, grade text, place text, owner boolean),
                   risk_explain('golden', r) e";
        for found in analyst.query(sql, &[&Value::Object(object).to_string()]).unwrap() {
            let name: String = found.get(0);
            let column = names.iter().position(|known| *known == name).expect("a known column");
            ours.push(found.get::<_, f64>(1));
            theirs.push(told["exact"][place][column].as_f64().unwrap());
            permuted.push(told["permutation"][place][column].as_f64().unwrap());
            assert!((found.get::<_, f64>(2) - base).abs() < 1e-9, "base");
        }
    }
    assert!(ours.len() > 40, "{}", ours.len());
    let furthest = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!(
        "{} values, furthest {furthest:.1e}, rank correlation with shap's permutations {:.4}",
        ours.len(),
        rank_correlation(&ours, &permuted)
    );
    assert!(furthest < 1e-6, "{furthest}");
    assert!(rank_correlation(&ours, &permuted) > 0.95);
}

/// Spearman's.
fn rank_correlation(a: &[f64], b: &[f64]) -> f64 {
    let ranks = |values: &[f64]| -> Vec<f64> {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|x, y| values[*x].total_cmp(&values[*y]));
        let mut ranks = vec![0.0; values.len()];
        order.iter().enumerate().for_each(|(rank, at)| ranks[*at] = rank as f64);
        ranks
    };
    let (a, b, middle) = (ranks(a), ranks(b), (a.len() - 1) as f64 / 2.0);
    let sum = |x: &[f64], y: &[f64]| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - middle) * (y - middle)).sum()
    };
    sum(&a, &b) / (sum(&a, &a) * sum(&b, &b)).sqrt()
}
