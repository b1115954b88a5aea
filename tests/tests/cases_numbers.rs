//! Field cases of numbers: written as text, not a number, too big for a float32.

use riskft_tests::twin::{
    apart, database, odd_scores, roles, score, test_auc, told, train, QUICK, TIMED,
};

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
    train(&mut analyst, "twin", "twin", TIMED);
    analyst.notices();
    train(&mut analyst, "written", "written", TIMED);
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
    train(&mut analyst, "twin", "twin", TIMED);
    analyst.notices();
    train(&mut analyst, "written", "written", TIMED);
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
