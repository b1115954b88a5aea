//! Field cases of data as people have it: labels, numbers, categories and dates in other clothes.
//!
//! A twin is the same data in another representation. It is split by time, so that both trainings
//! see the same rows in the same parts, and its scores are compared row by row.

use riskft_tests::{refuses, Database, Session};

/// Seconds each: the tests ask whether data is understood, not how good a model gets. The gate on
/// AUC and decisions is wide, for one row in a hundred is more than it allows.
const QUICK: &str = r#"method => 'none', options => '{"head_epochs": 12, "members": 1, "hidden": 32,
    "head_learning_rate": 0.01, "gate": {"auc_loss": 1, "flips": 1}}'"#;

/// The same, split by the order of column `day`, which the model does not see.
const TIMED: &str = r#"time_column => 'day', method => 'none', options => '{"head_epochs": 12,
    "members": 1, "hidden": 32, "head_learning_rate": 0.01, "roles": {"day": "ignored"},
    "gate": {"auc_loss": 1, "flips": 1}}'"#;

/// A database with `u(seed, i)`, uniform in 0..1 and the same on every machine.
fn database() -> (Database<'static>, Session) {
    let database = Database::new();
    let mut analyst = database.analyst();
    analyst.run(
        "CREATE FUNCTION u(seed integer, i bigint) RETURNS float8 IMMUTABLE PARALLEL SAFE
         RETURN ('x' || substr(md5(seed || ':' || i), 1, 8))::bit(32)::bigint / 4294967296.0",
    );
    (database, analyst)
}

fn train(session: &mut Session, model: &str, relation: &str, options: &str) {
    let relation = relation.replace('\'', "''");
    session.run(&format!("CALL riskft_train('{model}', '{relation}', 'y', {options})"));
}

fn told(session: &mut Session, part: &str) -> bool {
    session.notices().iter().any(|n| n.message.contains(part) || n.detail.contains(part))
}

/// Score of a row with some columns of the table's first row replaced.
fn score(session: &mut Session, model: &str, table: &str, changed: &str) -> f64 {
    session.value(&format!(
        "SELECT risk_score('{model}', jsonb_populate_record(t, '{changed}'))
         FROM (SELECT * FROM {table} LIMIT 1) t",
    ))
}

fn roles(session: &mut Session, model: &str, role: &str) -> Vec<String> {
    session.values(&format!(
        "SELECT column_name FROM riskft.features WHERE model = '{model}' AND role = '{role}'
         ORDER BY column_name"
    ))
}

fn test_auc(session: &mut Session, model: &str) -> f64 {
    session.value(&format!("SELECT test_auc FROM riskft.versions WHERE model = '{model}'"))
}

/// Scores of two tables with the same rows under column `n`, by two models: the largest difference.
fn apart(session: &mut Session, (model, table): (&str, &str), (other, twin): (&str, &str)) -> f64 {
    session.value(&format!(
        "SELECT max(abs(risk_score('{model}', a) - risk_score('{other}', b)))
         FROM {table} a JOIN {twin} b USING (n)"
    ))
}

/// Scores of a model on a table that are no probability.
fn odd_scores(session: &mut Session, model: &str, table: &str) -> i64 {
    session.value(&format!(
        "SELECT count(*) FROM {table} t
         WHERE NOT coalesce(risk_score('{model}', t) BETWEEN 0 AND 1, false)"
    ))
}

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
            "SELECT rows_train + rows_validation + rows_calibration + rows_test FROM riskft.runs
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

/// F06: money, percent, units and bounds written as text are the numbers that they mean.
#[test]
fn numbers_as_text_are_numbers() {
    let (_database, mut analyst) = database();
    analyst.run(
        "CREATE TABLE twin AS SELECT n, date '2010-01-01' + n AS day,
             CASE WHEN n <> 77 THEN round((u(5, n) * 70000 - 8000)::numeric, 2) END AS amt,
             round((5 + u(6, n) * 20)::numeric, 1) AS rate,
             CASE WHEN u(7, n) < 0.5 THEN 36 ELSE 60 END AS term,
             CASE WHEN u(8, n) < 0.15 THEN NULL WHEN u(8, n) < 0.3 THEN 0.5
                  ELSE ceil(u(8, n) * 13 - 3) END AS emp,
             1 / (1 + exp(2 - u(5, n) * 4 - (u(8, n) BETWEEN 0.15 AND 0.3)::int * 3 + u(6, n) * 2
                 + (u(7, n) < 0.5)::int)) > u(9, n) AS y
         FROM generate_series(1, 2000) n;
         CREATE TABLE written AS SELECT n, day,
             CASE WHEN n = 77 THEN '$12,0x' WHEN amt < 0 THEN to_char(-amt, '\"($\"FM999,990.00\")\"')
                  WHEN n % 3 = 0 THEN to_char(amt, '\"$ \"FM999,990.00')
                  ELSE to_char(amt, '\"$\"FM999,990.00') END AS amt,
             ' ' || rate || '%' AS rate, ' ' || term || ' months' AS term,
             CASE WHEN emp IS NULL THEN 'n/a' WHEN emp = 0.5 THEN '< 1 year' WHEN emp = 1 THEN '1 year'
                  WHEN emp = 10 THEN '10+ years' ELSE emp || ' years' END AS emp, y
         FROM twin",
    );
    let options = TIMED.replace("\"roles\": {", "\"roles\": {\"n\": \"ignored\", ");
    train(&mut analyst, "twin", "twin", &options);
    analyst.notices();
    train(&mut analyst, "written", "written", &options);
    assert!(told(&mut analyst, "1 of 2000 cells is no number"), "the junk cell is not told");
    assert_eq!(roles(&mut analyst, "written", "number"), ["amt", "emp", "rate", "term"]);
    assert_eq!(apart(&mut analyst, ("written", "written"), ("twin", "twin")), 0.0);
    let (text, number) = (test_auc(&mut analyst, "written"), test_auc(&mut analyst, "twin"));
    assert!(text >= number - 0.01 && number > 0.65, "{text} and {number}");

    let mut of = |changed: &str| score(&mut analyst, "written", "written", changed);
    for (a, b) in [
        (r#"{"amt": "$60,000.00"}"#, r#"{"amt": "60000"}"#),
        (r#"{"amt": "($1,250.00)"}"#, r#"{"amt": "-1250"}"#),
        (r#"{"amt": "$ 7,000"}"#, r#"{"amt": "7000.00"}"#),
        (r#"{"amt": "$12,0x"}"#, r#"{"amt": null}"#),
        (r#"{"rate": " 13.5%"}"#, r#"{"rate": "13.5"}"#),
        (r#"{"term": " 36 months"}"#, r#"{"term": "36"}"#),
        (r#"{"emp": "n/a"}"#, r#"{"emp": null}"#),
    ] {
        assert_eq!(of(a).to_bits(), of(b).to_bits(), "{a} is not {b}");
    }
    for (a, b) in [
        (r#"{"emp": "< 1 year"}"#, r#"{"emp": "1 year"}"#),
        (r#"{"emp": "10+ years"}"#, r#"{"emp": "1 year"}"#),
        (r#"{"amt": "$12,0x"}"#, r#"{"amt": "0"}"#),
        (r#"{"amt": "($1,250.00)"}"#, r#"{"amt": "1250"}"#),
    ] {
        assert_ne!(of(a).to_bits(), of(b).to_bits(), "{a} is {b}");
    }
}

/// F06 where the comma begins the fraction: a column that shows it is read so as a whole, for
/// `1.250` is 1250 beside `12,50`.
#[test]
fn decimal_commas_are_read_by_column() {
    let (_database, mut analyst) = database();
    analyst.run(
        "CREATE TABLE twin AS SELECT n, date '2010-01-01' + n AS day,
             CASE WHEN n <> 77 THEN CASE WHEN n % 3 = 0 THEN floor(u(25, n) * 5000)
                  ELSE round((u(25, n) * 5000 - 300)::numeric, 2) END END AS amt,
             round((u(26, n) * 20)::numeric, 2) AS rate, floor(u(27, n) * 9000)::int AS income,
             u(28, n) < 0.1 + 0.4 * (u(25, n) < 0.3)::int + 0.3 * (u(26, n) > 0.6)::int AS y
         FROM generate_series(1, 2000) n;
         CREATE TABLE written AS SELECT n, day,
             CASE WHEN n = 77 THEN '12,0x'
                  WHEN amt < 0 THEN '(' || translate(to_char(-amt, 'FM999,990.00'), ',.', '.,') || ' €)'
                  WHEN n % 3 = 0 THEN translate(to_char(amt, 'FM999,990'), ',', '.')
                  WHEN n % 3 = 1 THEN translate(to_char(amt, 'FM999,990.00'), ',.', U&'\\00A0,') || ' €'
                  ELSE translate(to_char(amt, 'FM999,990.00'), ',.', '.,') || ' €' END AS amt,
             translate(rate::text, '.', ',') || ' %' AS rate,
             to_char(income, 'FM999,990') AS income, y FROM twin",
    );
    let options = TIMED.replace("\"roles\": {", "\"roles\": {\"n\": \"ignored\", ");
    train(&mut analyst, "twin", "twin", &options);
    analyst.notices();
    train(&mut analyst, "written", "written", &options);
    let notices = analyst.notices();
    let told = |part: &str| notices.iter().any(|n| n.message.contains(part));
    assert!(told("\"amt\": numbers are read with a decimal comma"), "{notices:?}");
    assert!(told("\"rate\": numbers are read with a decimal comma"), "{notices:?}");
    assert!(told("\"amt\": 1 of 2000 cells is no number"), "{notices:?}");
    assert!(!told("\"income\""), "a comma that only groups is none: {notices:?}");
    assert_eq!(roles(&mut analyst, "written", "number"), ["amt", "income", "rate"]);
    assert_eq!(apart(&mut analyst, ("written", "written"), ("twin", "twin")), 0.0);
    let mut of = |changed: &str| score(&mut analyst, "written", "written", changed);
    assert_eq!(of(r#"{"amt": "1.250"}"#).to_bits(), of(r#"{"amt": "1250,00"}"#).to_bits());
    assert_ne!(of(r#"{"amt": "1.250"}"#).to_bits(), of(r#"{"amt": "1,250"}"#).to_bits());
}

/// F08: NaN, infinities and absurd values, in float8 and numeric, are missing or held at the end,
/// and disturb no other row.
#[test]
fn what_is_no_number_disturbs_nothing() {
    let (_database, mut analyst) = database();
    analyst.run(
        "CREATE TABLE clean AS SELECT n, u(10, n) * 90000 AS income, round((u(11, n) * 500)::numeric, 2) AS debt,
             1 / (1 + exp(u(10, n) * 4 - u(11, n) * 3)) > u(12, n) AS y FROM generate_series(1, 3000) n;
         CREATE TABLE odd AS SELECT n,
             CASE WHEN n % 100 = 0 THEN 'NaN' WHEN n IN (1, 2) THEN 'Infinity' WHEN n = 3 THEN '-Infinity'
                  WHEN n = 4 THEN 1e308 WHEN n = 5 THEN 1e-320 ELSE income END AS income,
             CASE WHEN n % 100 = 50 THEN 'NaN' WHEN n = 6 THEN 'Infinity' WHEN n = 7 THEN 1e200
                  ELSE debt END AS debt, y FROM clean;
         CREATE TABLE fresh AS SELECT u(13, n) * 90000 AS income, round((u(14, n) * 500)::numeric, 2) AS debt,
             1 / (1 + exp(u(13, n) * 4 - u(14, n) * 3)) > u(15, n) AS y FROM generate_series(1, 3000) n",
    );
    let mut figures = Vec::new();
    for (model, relation) in [
        ("odd", "odd"),
        (
            "clean",
            "SELECT * FROM odd WHERE abs(income) < 1e300 AND income > 1e-300 AND debt < 1e100",
        ),
    ] {
        train(&mut analyst, model, relation, &format!("exclude => '{{n}}', {QUICK}"));
        figures.push(analyst.value::<f64>(&format!(
            "SELECT value FROM riskft_evaluate('{model}', 'fresh', 'y') WHERE metric = 'auc'"
        )));
    }
    assert!((figures[0] - figures[1]).abs() < 0.02 && figures[1] > 0.65, "{figures:?}");
    let wild: i64 = analyst.value(
        "SELECT count(*) FROM riskft.metrics
         WHERE value IN ('NaN', 'Infinity', '-Infinity') OR ci_low = 'NaN' OR ci_high = 'NaN'",
    );
    assert_eq!(wild, 0, "a figure is not finite");
    assert_eq!(odd_scores(&mut analyst, "odd", "odd"), 0);
    let distinct: i64 = analyst.value(
        "SELECT count(DISTINCT risk_score('odd', jsonb_populate_record(o, jsonb_build_object('income', v))))
         FROM (SELECT * FROM odd WHERE n = 10) o,
              (VALUES ('NaN'), ('Infinity'), ('-Infinity'), (NULL)) AS v (v)",
    );
    assert_eq!(distinct, 1, "NaN, the infinities and NULL score alike");
    let weights: f64 = analyst.value(
        "SELECT max(risk_score('odd', o)) - min(risk_score('odd', o)) FROM odd o WHERE n > 10",
    );
    assert!(weights > 0.1, "the odd rows made the model flat: {weights}");
}

/// F09: big integers that differ by little stay apart.
#[test]
fn big_integers_stay_apart() {
    let (_database, mut analyst) = database();
    for (model, kind, value) in [
        ("eight", "bigint", "100000001 + 2 * (n % 2)"),
        ("billion", "bigint", "1000000000 + n % 2"),
        ("int4", "integer", "2147483646 + n % 2"),
        ("largest", "bigint", "9007199254740990 + n % 2"),
        ("exact", "numeric", "100000000000 + 0.01 * (n % 2)"),
        ("double", "float8", "1e9 + n % 2"),
    ] {
        analyst.run(&format!(
            "CREATE TABLE {model} AS SELECT ({value})::{kind} AS big, n % 2 = 1 AS y
             FROM generate_series(1, 1000) n"
        ));
        train(&mut analyst, model, model, QUICK);
        assert_eq!(test_auc(&mut analyst, model), 1.0, "{model}");
        let scores: Vec<f64> = analyst
            .values(&format!("SELECT DISTINCT risk_score('{model}', t) FROM {model} t ORDER BY 1"));
        assert_eq!(scores.len(), 2, "{model}: {scores:?}");
        assert!(scores[1] - scores[0] > 0.5, "{model}: {scores:?}");
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
    let options = TIMED.replace("\"roles\": {", "\"roles\": {\"n\": \"ignored\", ");
    train(&mut analyst, "twin", "twin", &options);
    analyst.notices();
    train(&mut analyst, "typed", "typed", &options);
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
    let options = TIMED.replace("\"roles\": {", "\"roles\": {\"n\": \"ignored\", ");
    train(&mut analyst, "twin", "twin", &options);
    analyst.notices();
    train(&mut analyst, "written", "written", &options);
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
