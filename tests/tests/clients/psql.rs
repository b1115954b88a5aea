//! psql, and the probes of BI tools.

use postgres::types::Type;
use riskft_tests::{program, Session};

use crate::stage::{hexadecimal, stage, SCORES};

/// What psql prints, unaligned and without heads.
fn psql(commands: &str) -> String {
    let output = stage()
        .command(program("psql"))
        .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", commands])
        .output()
        .expect("run psql");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{commands}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Bits of scores that were printed one a line.
fn bits(text: &str) -> Vec<String> {
    let parse = |line: &str| line.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
    text.lines().map(|line| hexadecimal(parse(line))).collect()
}

#[test]
fn psql_gets_the_same() {
    assert_eq!(bits(&psql(SCORES)), stage().bits);
    assert_eq!(bits(&psql(&format!("\\copy ({SCORES}) TO STDOUT"))), stage().bits);
    assert_eq!(bits(&psql(&format!("COPY ({SCORES}) TO STDOUT WITH (FORMAT csv)"))), stage().bits);
}

/// A backslash command ends with its line, and one -c takes one of them.
#[test]
fn psql_describes_a_score() {
    let output = stage()
        .command("/bin/sh")
        .args(["-c", "printf '%s\\n' \"$1 \\\\gdesc\" | \"$0\" -XAtq"])
        .arg(program("psql"))
        .arg("SELECT loan_id, risk_score('loan_risk', l) AS risk FROM loans l")
        .output()
        .expect("run psql");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.trim(), "loan_id|bigint\nrisk|double precision", "{output:?}");
}

#[test]
fn probes_know_the_type_and_write_nothing() {
    let mut analyst = stage().database.analyst();
    analyst.run("BEGIN");
    for probe in [
        SCORES.to_owned(),
        format!("{SCORES} LIMIT 0"),
        format!("SELECT * FROM ({SCORES}) q(risk) WHERE 1=0"),
        "SELECT risk_score($1, l) FROM loans l WHERE loan_id = $2".to_owned(),
    ] {
        let described = analyst.prepare(&probe).unwrap_or_else(|e| panic!("{probe}: {e}"));
        assert_eq!(*described.columns()[0].type_(), Type::FLOAT8, "{probe}");
    }
    assert_eq!(analyst.values::<f64>(&format!("{SCORES} LIMIT 0")).len(), 0);
    for explain in ["EXPLAIN", "EXPLAIN (ANALYZE, VERBOSE, BUFFERS)", "EXPLAIN (FORMAT json)"] {
        let plan = analyst.simple_query(&format!("{explain} {SCORES}"));
        assert!(plan.is_ok(), "{explain}: {plan:?}");
    }
    assert!(unwritten(&mut analyst), "a probe has taken a transaction number");
    // The whole scan writes nothing either.
    assert_eq!(analyst.values::<f64>(SCORES).len(), stage().bits.len());
    assert!(unwritten(&mut analyst), "scoring has taken a transaction number");
    analyst.run("ROLLBACK");
    analyst.run("BEGIN READ ONLY");
    assert_eq!(analyst.values::<f64>(SCORES).len(), stage().bits.len());
    analyst.run("COMMIT");
}

/// No row is scored, so even an unknown model is no error: the columns can be looked at first.
#[test]
fn a_probe_scores_no_row() {
    let mut analyst = stage().database.analyst();
    let probe = "SELECT risk_score('none', l) FROM loans l";
    for empty in [format!("{probe} LIMIT 0"), format!("{probe} WHERE 1=0")] {
        assert_eq!(analyst.values::<f64>(&empty).len(), 0, "{empty}");
    }
    analyst.run(&format!("EXPLAIN {probe}"));
}

fn unwritten(session: &mut Session) -> bool {
    session.value::<Option<String>>("SELECT pg_current_xact_id_if_assigned()::text").is_none()
}

/// SQL's own cursors, forward and backward, and one that outlives its transaction.
#[test]
fn cursors_get_the_same() {
    let mut analyst = stage().database.analyst();
    let hex = |scores: Vec<f64>| scores.into_iter().map(hexadecimal).collect::<Vec<_>>();
    analyst.run(&format!("BEGIN; DECLARE risks SCROLL CURSOR FOR {SCORES}"));
    assert_eq!(hex(analyst.values("FETCH ALL FROM risks")), stage().bits);
    let mut backward = hex(analyst.values("FETCH BACKWARD ALL FROM risks"));
    backward.reverse();
    assert_eq!(backward, stage().bits);
    analyst.run(&format!("DECLARE held CURSOR WITH HOLD FOR {SCORES}; COMMIT"));
    assert_eq!(hex(analyst.values("FETCH ALL FROM held")), stage().bits);
}
