//! Field cases of data as people have it: labels, categories and dates in other clothes.

use riskft_tests::twin::{
    apart, database, odd_scores, roles, score, test_auc, told, train, QUICK, TIMED,
};
use riskft_tests::{refuses, Session};

/// F01: the positive class is named by a word of a bad outcome or by the caller, never by alphabet,
/// size or sign; the version says which it is.
#[test]
fn the_positive_class_is_never_guessed() {
    let (_database, mut analyst) = database();
    analyst.run(
        "CREATE TABLE status AS SELECT (u(1, n) + 3 * (n % 5 = 0)::int) * 10000 AS amount,
             CASE WHEN n % 5 = 0 THEN 'CHGOFF' ELSE 'P I F' END AS y FROM generate_series(1, 300) n;
         CREATE TABLE code AS SELECT (u(2, n) + 2 * (n % 10 < 3)::int) * 10000 AS amount,
             CASE WHEN n % 10 < 3 THEN 2 ELSE 1 END AS y FROM generate_series(1, 1000) n",
    );
    train(&mut analyst, "status", "status", QUICK);
    assert!(told(&mut analyst, "CHGOFF"), "no NOTICE names the class that was taken");
    let more = "SELECT avg(risk_score('status', s)) FILTER (WHERE y = 'CHGOFF')
                     - avg(risk_score('status', s)) FILTER (WHERE y = 'P I F') FROM status s";
    assert!(analyst.value::<f64>(more) > 0.3);

    let call = "CALL riskft_train('code', 'code', 'y', method => 'none')";
    let error = refuses(&mut analyst, call, "22023");
    let detail = error.detail().unwrap_or_default();
    assert!(detail.contains("\"1\" (700 rows)") && detail.contains("\"2\" (300 rows)"), "{detail}");
    for (model, positive, sign) in [("bad", "2", 1.0), ("good", "1", -1.0)] {
        train(&mut analyst, model, "code", &format!("positive => '{positive}', {QUICK}"));
        let more: f64 = analyst.value(&format!(
            "SELECT avg(risk_score('{model}', c)) FILTER (WHERE y = 2)
                  - avg(risk_score('{model}', c)) FILTER (WHERE y = 1) FROM code c"
        ));
        assert!(more * sign > 0.3, "{model}: {more}");
    }
    let labels: Vec<String> = analyst.values(
        "SELECT model || ' ' || positive_label || ' ' || negative_label FROM riskft.versions ORDER BY 1",
    );
    assert_eq!(labels, ["bad 2 1", "good 1 2", "status CHGOFF P I F"]);
}

/// F02: a NULL label, an empty text or a NaN is no label: such rows leave every part and figure,
/// and still have a score.
#[test]
fn missing_labels_are_no_class() {
    let (_database, mut analyst) = database();
    analyst.run(
        "CREATE TABLE labelled AS SELECT n, u(3, n) * 1000 + 4000 * (u(4, n) < 0.3)::int AS amount,
             u(4, n) < 0.3 AS bad FROM generate_series(1, 900) n;
         -- A hundred rows whose amounts look like defaulters.
         CREATE TABLE unlabelled AS SELECT n, 4500 + u(3, n) * 100 AS amount
             FROM generate_series(901, 1000) n",
    );
    let kinds = [
        ("boolean", "bad", "NULL::boolean"),
        ("empty", "CASE WHEN bad THEN 'default' ELSE 'paid' END", "''"),
        ("blank", "CASE WHEN bad THEN 'default' ELSE 'paid' END", "'  '"),
        ("nan", "bad::int::float8", "'NaN'::float8"),
    ];
    for (kind, label, missing) in kinds {
        analyst.run(&format!(
            "CREATE TABLE \"{kind}\" AS SELECT n, amount, {label} AS y FROM labelled
                 UNION ALL SELECT n, amount, {missing} FROM unlabelled;
             CREATE TABLE {kind}_twin AS SELECT n, amount, {label} AS y FROM labelled"
        ));
        analyst.notices();
        train(&mut analyst, kind, kind, &format!("exclude => '{{n}}', {QUICK}"));
        assert!(told(&mut analyst, "100 rows without a label"), "{kind}: no NOTICE");
        let twin = format!("{kind}_twin");
        train(&mut analyst, &twin, &twin, &format!("exclude => '{{n}}', {QUICK}"));
        let parts: i64 = analyst.value(&format!(
            "SELECT rows_validation + rows_test FROM riskft.runs
             WHERE model = '{kind}'"
        ));
        assert_eq!(parts, 900, "{kind}");
        let difference = apart(&mut analyst, (kind, kind), (&twin, kind));
        assert!(difference < 1e-6, "{kind}: {difference}");
        let figures: i64 = analyst.value(&format!(
            "SELECT count(*) FROM riskft.metrics a JOIN riskft.metrics b USING (part, metric)
             WHERE a.model = '{kind}' AND b.model = '{twin}'
               AND a.value IS DISTINCT FROM b.value AND abs(a.value - b.value) > 1e-6"
        ));
        assert_eq!(figures, 0, "{kind}");
        assert_eq!(odd_scores(&mut analyst, kind, kind), 0, "{kind}");
    }
}

/// F13: labels that were never seen score alike, within what the seen ones score.
#[test]
fn unseen_labels_score_between_the_seen() {
    let (_database, mut analyst) = database();
    analyst.run(
        "CREATE TABLE t AS SELECT n, chr(65 + n % 5) AS grade, round(u(16, n)::numeric, 3) AS dti,
             u(17, n) < (CASE n % 5 WHEN 4 THEN 0.7 ELSE 0.05 + 0.05 * (n % 5) END) AS y
         FROM generate_series(1, 2000) n",
    );
    train(&mut analyst, "t", "t", &format!("exclude => '{{n}}', {QUICK}"));
    let before: Vec<f64> = analyst.values("SELECT risk_score('t', t) FROM t ORDER BY n");
    let mut of = |grade: &str| score(&mut analyst, "t", "t", &format!("{{\"grade\": {grade}}}"));
    let seen = ["A", "B", "C", "D", "E"].map(|grade| of(&format!("\"{grade}\"")));
    let lowest = seen.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = seen.iter().copied().fold(0.0, f64::max);
    assert!(highest - lowest > 0.3 && highest == seen[4], "{seen:?}");
    let unseen = of("\"ZZ\"");
    for grade in ["\"QQ\"", "\"e\"", "\"A B\"", "\"😀\""] {
        assert_eq!(of(grade).to_bits(), unseen.to_bits(), "{grade} is unseen too");
    }
    let missing = of("null");
    for grade in ["\"\"", "\"   \""] {
        assert_eq!(of(grade).to_bits(), missing.to_bits(), "{grade} is missing");
    }
    for score in [unseen, missing] {
        assert!((lowest..=highest).contains(&score), "{score} is not within {seen:?}");
    }
    analyst.run("INSERT INTO t VALUES (0, 'ZZ', 0.5, false), (-1, NULL, 0.5, true)");
    assert_eq!(odd_scores(&mut analyst, "t", "t"), 0);
    let after: Vec<f64> = analyst.values("SELECT risk_score('t', t) FROM t WHERE n > 0 ORDER BY n");
    assert_eq!(after, before);
}

/// F13 for an enumerated type and for numbers: a label added later and a number beyond all seen
/// are no error, and score within what the seen ones do.
#[test]
fn later_labels_and_numbers_score() {
    let (_database, mut analyst) = database();
    analyst.run(
        "CREATE TYPE grade AS ENUM ('A', 'B', 'C');
         CREATE TABLE t AS SELECT n, (ARRAY['A', 'B', 'C'])[n % 3 + 1]::grade AS grade, n % 50 AS dti,
             u(29, n) < 0.1 + 0.3 * (n % 3) AS y FROM generate_series(1, 900) n;
         ALTER TABLE t ALTER COLUMN dti TYPE bigint",
    );
    train(&mut analyst, "t", "t", &format!("exclude => '{{n}}', {QUICK}"));
    let of = |session: &mut Session, changed: &str| score(session, "t", "t", changed);
    let seen = ["A", "B", "C"].map(|g| of(&mut analyst, &format!("{{\"grade\": \"{g}\"}}")));
    analyst.run("ALTER TYPE grade ADD VALUE 'AA' BEFORE 'B'");
    let later = of(&mut analyst, r#"{"grade": "AA"}"#);
    let (lowest, highest) = (seen[0].min(seen[1]).min(seen[2]), seen[0].max(seen[1]).max(seen[2]));
    assert!((lowest..=highest).contains(&later), "{later} is not within {seen:?}");
    let again = ["A", "B", "C"].map(|g| of(&mut analyst, &format!("{{\"grade\": \"{g}\"}}")));
    assert_eq!(seen.map(f64::to_bits), again.map(f64::to_bits));
    let last = of(&mut analyst, r#"{"dti": 49}"#);
    for beyond in ["1000", "9223372036854775807"] {
        let beyond = of(&mut analyst, &format!("{{\"dti\": {beyond}}}"));
        assert_eq!(beyond.to_bits(), last.to_bits(), "held at the last number seen");
    }
}

/// F14: flags as they are typed in are labels, each its own; one bad cell does not turn years into
/// labels.
#[test]
fn dirty_flags_are_labels() {
    let (_database, mut analyst) = database();
    // '0' and '1' are risky here, 'N' and 'Y' are not: merging them would be seen at once.
    analyst.run(
        "CREATE TABLE twin AS SELECT n, date '2010-01-01' + n AS day,
             (ARRAY['Y', 'N', '0', '1', 'T', '`', '', NULL])[n % 8 + 1] AS revline,
             CASE WHEN n <> 9 THEN (1997 + floor(u(18, n) * 16))::int END AS fy,
             (ARRAY[0, 1, 2, NULL])[floor(u(19, n) * 4)::int + 1] AS newexist,
             u(20, n) < 0.1 + 0.5 * (n % 8 IN (2, 3))::int + 0.3 * (u(18, n) > 0.5)::int AS y
         FROM generate_series(1, 2400) n;
         CREATE TABLE typed AS SELECT n, day, revline,
             CASE WHEN n = 9 THEN '1976A' ELSE fy::text END AS fy, newexist, y FROM twin",
    );
    train(&mut analyst, "twin", "twin", TIMED);
    analyst.notices();
    train(&mut analyst, "typed", "typed", TIMED);
    assert!(
        told(&mut analyst, "\"fy\": 1 of 2400 cells is no number"),
        "the bad cell is not counted"
    );
    assert_eq!(roles(&mut analyst, "typed", "number"), ["fy", "newexist"]);
    assert_eq!(roles(&mut analyst, "typed", "category"), ["revline"]);
    assert_eq!(apart(&mut analyst, ("typed", "typed"), ("twin", "twin")), 0.0);
    let (text, number) = (test_auc(&mut analyst, "typed"), test_auc(&mut analyst, "twin"));
    assert!((text - number).abs() < 0.01 && number > 0.65, "{text} and {number}");

    let mut of =
        |flag: &str| score(&mut analyst, "typed", "typed", &format!("{{\"revline\": {flag}}}"));
    assert!(of("\"0\"") - of("\"N\"") > 0.2 && of("\"1\"") - of("\"Y\"") > 0.2);
    assert_eq!(of("\"\"").to_bits(), of("null").to_bits());
    assert_eq!(odd_scores(&mut analyst, "typed", "typed"), 0);
}

/// F15: digits with leading zeros are labels, beside money that is a number.
#[test]
fn leading_zeros_make_labels() {
    let (_database, mut analyst) = database();
    analyst.run(
        "CREATE TABLE t AS SELECT (ARRAY['01221', '1221', '12334'])[n % 3 + 1] AS zip,
             to_char(round((u(21, n) * 90000)::numeric, 2), '\"$\"FM999,990.00') AS amt,
             u(22, n) < (ARRAY[0.9, 0.05, 0.3])[n % 3 + 1] AS y FROM generate_series(1, 1500) n",
    );
    train(&mut analyst, "t", "t", QUICK);
    assert_eq!(roles(&mut analyst, "t", "category"), ["zip"]);
    assert_eq!(roles(&mut analyst, "t", "number"), ["amt"]);
    let mut of = |changed: &str| score(&mut analyst, "t", "t", changed);
    let zeros = of(r#"{"zip": "01221"}"#) - of(r#"{"zip": "1221"}"#);
    assert!(zeros > 0.3, "{zeros}");
    let (text, plain) = (of(r#"{"amt": "$60,000.00"}"#), of(r#"{"amt": "60000"}"#));
    assert_eq!(text.to_bits(), plain.to_bits());
}

/// F18: a text date with a two-digit year is the date-typed twin's; a real far date stays far.
#[test]
fn two_digit_years_are_not_in_the_future() {
    let (_database, mut analyst) = database();
    analyst.run(
        "CREATE TABLE twin AS SELECT n, date '2010-01-01' + n AS day,
             date '1950-01-01' + floor(u(23, n) * 25000)::int AS opened,
             CASE WHEN n % 10 = 0 THEN date '2066-07-01' ELSE date '2020-01-01' + n % 900 END AS maturity,
             u(24, n) < 0.1 + 0.5 * (u(23, n) < 0.4)::int + 0.3 * (n % 10 = 0)::int AS y
         FROM generate_series(1, 2000) n;
         CREATE TABLE written AS SELECT n, day, to_char(opened, 'DD-Mon-YY') AS opened, maturity, y FROM twin",
    );
    train(&mut analyst, "twin", "twin", TIMED);
    analyst.notices();
    train(&mut analyst, "written", "written", TIMED);
    assert!(told(&mut analyst, "\"opened\": years of two digits"), "how they are read is not told");
    assert_eq!(roles(&mut analyst, "written", "date"), ["maturity", "opened"]);
    assert_eq!(apart(&mut analyst, ("written", "written"), ("twin", "twin")), 0.0);
    for (text, date) in
        [("01-Jul-66", "1966-07-01"), ("28-Feb-97", "1997-02-28"), ("03-Mar-14", "2014-03-03")]
    {
        let text =
            score(&mut analyst, "written", "written", &format!("{{\"opened\": \"{text}\"}}"));
        let date = score(&mut analyst, "twin", "twin", &format!("{{\"opened\": \"{date}\"}}"));
        assert_eq!(text.to_bits(), date.to_bits(), "{date}");
    }
    let mut of =
        |date: &str| score(&mut analyst, "twin", "twin", &format!("{{\"maturity\": \"{date}\"}}"));
    let (far, past) = (of("2066-07-01"), of("1966-07-01"));
    assert!(far - past > 0.1, "a maturity of 2066 is not read as 1966: {far} and {past}");
}

/// F18 and F20: each way to write a date gives the scores of the date-typed twin.
#[test]
fn written_dates_are_dates() {
    let (_database, mut analyst) = database();
    analyst.run(
        "CREATE TABLE twin AS SELECT n, date '2010-01-01' + n AS day,
             date '1950-01-01' + floor(u(30, n) * 25000)::int AS opened,
             u(31, n) < 0.1 + 0.6 * (u(30, n) < 0.4)::int AS y FROM generate_series(1, 1000) n;
         CREATE TABLE months AS SELECT n, day, date_trunc('month', opened)::date AS opened, y FROM twin",
    );
    train(&mut analyst, "twin", "twin", TIMED);
    train(&mut analyst, "months", "months", TIMED);
    for (number, (twin, format)) in [
        ("twin", "YYYY-MM-DD"),
        ("twin", "YYYY/MM/DD"),
        ("twin", "MM/DD/YYYY"),
        ("twin", "MM/DD/YY"),
        ("twin", "DD/MM/YYYY"),
        ("twin", "DD.MM.YYYY"),
        ("twin", "FMDD.FMMM.YY"),
        ("twin", "DD-MON-YY"),
        ("twin", "Mon FMDD, YYYY"),
        ("twin", "FMMonth FMDD, YYYY"),
        ("twin", "\" \"YYYY-MM-DD\"T00:00:00Z \""),
        ("twin", "YYYY-MM-DD HH24:MI:SS"),
        ("twin", "MM/DD/YYYY FMHH12:MI:SS AM"),
        ("months", "Mon-YY"),
        ("months", "Mon-YYYY"),
        ("months", "YYYY-MM"),
    ]
    .into_iter()
    .enumerate()
    {
        let model = format!("written_{number}");
        analyst.run(&format!(
            "CREATE TABLE {model} AS SELECT n, day, to_char(opened, '{format}') AS opened, y FROM {twin}"
        ));
        train(&mut analyst, &model, &model, TIMED);
        assert_eq!(roles(&mut analyst, &model, "date"), ["opened"], "{format}");
        let difference = apart(&mut analyst, (&model, &model), (twin, twin));
        assert_eq!(difference, 0.0, "{format}");
    }
}
