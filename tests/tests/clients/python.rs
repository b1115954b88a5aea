//! psycopg 3 and SQLAlchemy 2.

use serde_json::Value;

use crate::report::Report;
use crate::stage::{python, skipped, stage};

/// Object identifier of float8.
const FLOAT8: u32 = 701;

#[test]
fn psycopg_gets_the_same() {
    if skipped("psycopg") {
        return;
    }
    let stage = stage();
    let float8 = Value::from(FLOAT8);
    let interpreter = python("psycopg", "python");
    let report = Report::of(stage.command(interpreter).args(["psycopg_client.py", "refusals.txt"]));
    report.check_scores(stage, 14, std::slice::from_ref(&float8));
    report.check_refusals(stage, 5);
    for way in ["simple", "extended", "prepared"] {
        assert_eq!(report.case(way)["type"], float8, "{way}");
    }
    assert!(report.case("explain")["plan"].to_string().contains("on loans l"));
    report.check_probe("probe limit 0", &float8);
    report.check_probe("probe where 1=0", &float8);
    assert_eq!(report.case("nothing written")["xid"], Value::Null);

    let training = report.case("training");
    assert_eq!(training["version"], 1);
    assert!(training["auc"].is_f64() && training["run"].is_i64(), "{training}");
    assert!(training["notices"].as_u64() > Some(2), "{training}");
    assert_eq!(report.case("rolled back")["models"], 0);
    report.check_cancelled();
    report.check_queued();
}

#[test]
fn sqlalchemy_gets_the_same() {
    if skipped("SQLAlchemy") {
        return;
    }
    let stage = stage();
    let float8 = Value::from(FLOAT8);
    let interpreter = python("SQLAlchemy", "python");
    let report =
        Report::of(stage.command(interpreter).args(["sqlalchemy_client.py", "refusals.txt"]));
    report.check_scores(stage, 2 * 8, std::slice::from_ref(&float8));
    report.check_refusals(stage, 2);
    for driver in ["psycopg", "psycopg2"] {
        report.check_probe(&format!("{driver}, probe limit 0"), &float8);
        let queued = report.case(&format!("{driver}, queued"));
        assert_eq!((&queued["before"], &queued["state"]), (&Value::from(0), &Value::from("done")));
        let likely = report.case(&format!("{driver}, filtered"))["risks"].clone();
        let expected: Vec<&String> = stage.bits.iter().filter(|bits| is_likely(bits)).collect();
        assert!(!expected.is_empty() && expected.len() < stage.bits.len());
        assert_eq!(likely, Value::from(expected.into_iter().cloned().collect::<Vec<_>>()));
    }
}

/// Whether the score is above the 0.3 of sqlalchemy_client.py.
fn is_likely(bits: &str) -> bool {
    u64::from_str_radix(bits, 16).is_ok_and(|bits| f64::from_bits(bits) > 0.3)
}
