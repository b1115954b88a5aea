//! psql, and the probes of BI tools.

use std::io::Write;
use std::process::Stdio;

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

/// In LATIN1 the scores are the same and names are converted; a name that LATIN1 lacks is an error
/// of the conversion, in a training's NOTICE too, and the session goes on.
#[test]
fn another_encoding_gets_the_same() {
    let mut analyst = stage().database.analyst();
    analyst.run(
        "CREATE TABLE låneliste AS
             SELECT loan_id, employees AS \"collègues\", approved_gross, defaulted,
                    '{}'::json AS \"顧客\" FROM loans",
    );
    let train = |model: &str| {
        format!(
            "CALL riskft_train('{model}', 'låneliste', 'defaulted', method => 'none', options =>
                 '{{\"head_epochs\": 2, \"hidden\": 16, \"members\": 1,
                   \"gate\": {{\"auc_loss\": 1, \"flips\": 1}}}}');"
        )
    };
    analyst.run(&train("modèle"));
    let query = "SELECT risk_score('modèle', l) FROM låneliste l ORDER BY loan_id";
    let expected: Vec<String> = analyst.values(query).into_iter().map(hexadecimal).collect();
    assert_eq!(bits(&psql_in_latin1(query)), expected);

    let wrong = query.replace("låneliste", "loans");
    let told = psql_in_latin1(&format!("{wrong};\n\\echo :LAST_ERROR_MESSAGE\n"));
    assert_eq!(told.trim(), "column \"collègues\" does not exist in the row");
    // The training tells that it leaves out the column 顧客.
    let told = psql_in_latin1(&format!(
        "{}\n\\echo :LAST_ERROR_SQLSTATE\nSELECT count(*) FROM riskft.models WHERE model = 'liste';",
        train("liste")
    ));
    assert_eq!(told.trim(), "22P05\n0");
}

/// What psql prints for a script when both speak LATIN1.
fn psql_in_latin1(script: &str) -> String {
    let bytes: Vec<u8> = script.chars().map(|c| u8::try_from(c).expect("in LATIN1")).collect();
    let mut child = stage()
        .command(program("psql"))
        .env("PGCLIENTENCODING", "LATIN1")
        .arg("-XAtq")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("run psql");
    child.stdin.take().expect("psql's input").write_all(&bytes).expect("write to psql");
    let output = child.wait_with_output().expect("psql ends");
    output.stdout.into_iter().map(char::from).collect()
}
