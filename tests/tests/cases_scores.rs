//! Field cases of the arithmetic: rows far from the training data, odd texts without an encoder.

use std::time::{Duration, Instant};

use riskft_tests::{process, Database, Session};

/// The bits of a query's scores; None where this processor lacks the kernel.
fn bits(session: &mut Session, kernel: &str, query: &str) -> Option<Vec<u64>> {
    session.run(&format!("SET riskft.kernel = '{kernel}'"));
    match session.query(query, &[]) {
        Ok(rows) => Some(rows.iter().map(|row| row.get::<_, f64>(0).to_bits()).collect()),
        Err(error) => {
            let code = error.as_db_error().map(|e| e.code().code().to_owned());
            assert_eq!(code.as_deref(), Some("0A000"), "{kernel}: {error:?}");
            println!("skipped: this processor has no {kernel}");
            None
        }
    }
}

/// F32: 1,000 rows with every feature 20 standard deviations from its mean, signs mixed. They are
/// the newest, so they are the test rows, on which the gate compares int8 with float; and each
/// kernel gives the same bits.
#[test]
fn rows_far_from_the_training_pass_the_gate() {
    let database = Database::new();
    let mut analyst = database.analyst();
    let features = 8;
    // Of mean i and standard deviation 1, or 20 to either side.
    let column = |i: u32| {
        format!(
            "{i} + CASE WHEN n <= 4000 THEN u(n, {i})
                 ELSE 20 * sign(hashint8(n * 10 + {i}) % 2 + 0.5) END AS f{i}"
        )
    };
    let columns: Vec<String> = (1..=features).map(column).collect();
    let names: Vec<String> = (1..=features).map(|i| format!("f{i}")).collect();
    let weights: Vec<String> = (1..=features)
        .map(|i| format!("{} * (f{i} - {i})", [0.9, -0.7, 0.5, -0.3][i as usize % 4]))
        .collect();
    analyst.run(&format!(
        "CREATE FUNCTION u(n bigint, i integer) RETURNS float8 IMMUTABLE PARALLEL SAFE
             RETURN sqrt(12) * (('x' || substr(md5(n || ':' || i), 1, 8))::bit(32)::bigint / 4294967296.0 - 0.5);
         CREATE TABLE features AS SELECT n, date '2000-01-01' + n::integer AS day, {columns}
             FROM generate_series(1::bigint, 5000) n;
         CREATE TABLE t AS SELECT day, {names},
             1 / (1 + exp(greatest(least(-({weights}) + 8 * u(n, 99) * (n > 4000)::int, 500), -500)))
                 > u(n, 100) / sqrt(12) + 0.5 AS y FROM features;
         CALL riskft_train('m', 't', 'y', time_column => 'day', method => 'none', options =>
             '{{\"head_epochs\": 15, \"hidden\": 64, \"roles\": {{\"day\": \"ignored\"}}}}');
         CREATE TABLE far AS SELECT * FROM t ORDER BY day DESC LIMIT 1000",
        columns = columns.join(", "),
        names = names.join(", "),
        weights = weights.join(" + "),
    ));
    let tested: i64 = analyst.value("SELECT rows_test FROM riskft.runs");
    assert_eq!(tested, 1000, "the far rows are the test rows");
    let distance: f64 = analyst.value(
        "SELECT min(abs(f.f1 - near.mean) / near.spread) FROM far f,
             (SELECT avg(f1) AS mean, stddev(f1) AS spread FROM t
              WHERE day <= date '2000-01-01' + 4000) near",
    );
    assert!(distance > 19.0, "{distance} standard deviations");
    let gate = analyst
        .query_one("SELECT passed, auc_loss, change_max, flips FROM riskft.gates", &[])
        .expect("the gate's figures");
    let figure = |i: usize| gate.get::<_, Option<f64>>(i).expect("a figure");
    println!("AUC loss {}, largest change {}, flips {}", figure(1), figure(2), figure(3));
    assert!(gate.get::<_, bool>(0) && figure(1) <= 0.005 && figure(2) <= 0.05);
    let auc: f64 = analyst.value("SELECT test_auc FROM riskft.versions");
    assert!((0.6..1.0).contains(&auc), "{auc} says nothing about a loss");

    let scores = "SELECT risk_score('m', f) FROM far f ORDER BY day";
    let portable = bits(&mut analyst, "portable", scores).expect("each processor has it");
    assert!(portable.iter().all(|b| (0.0..=1.0).contains(&f64::from_bits(*b))));
    for kernel in ["avx2", "avx512vnni", "auto"] {
        if let Some(other) = bits(&mut analyst, kernel, scores) {
            assert!(other == portable, "{kernel} differs from portable");
        }
    }
}

/// F11 without an encoder: odd texts in number, date, category and text columns train and score,
/// alike on every call, and a huge one takes neither long nor much memory.
#[test]
fn odd_texts_are_cells_like_others() {
    let database = Database::new();
    let mut analyst = database.analyst();
    analyst.run(
        "CREATE TABLE odd AS SELECT row_number() OVER () AS n, text FROM (
             SELECT repeat('é', k) || '😀' AS text FROM generate_series(0, 600) k
             UNION ALL SELECT repeat('ﷺ', 200) UNION ALL SELECT repeat('e' || U&'\\0301', 500)
             UNION ALL SELECT repeat('word ', 200000) UNION ALL SELECT repeat('9', 1000000)
             UNION ALL SELECT U&'\\FEFF' UNION ALL SELECT U&'\\202E\\200B42' UNION ALL SELECT U&'\\FFFF\\+10FFFF'
             UNION ALL SELECT chr(1) || chr(127) || chr(128) UNION ALL SELECT '٣٤' UNION ALL SELECT '\\x00'
             UNION ALL SELECT '' UNION ALL SELECT '   ' UNION ALL SELECT NULL) s;
         CREATE TABLE t AS SELECT n % 61 AS money, (n % 61)::text || '.50' AS amount,
             (date '2020-01-01' + n % 61)::text AS opened, chr(65 + n % 7) AS grade,
             'shop number ' || md5(n::text) AS note, n % 61 < 20 AS y FROM generate_series(1, 400) n;
         CREATE TABLE odd_rows AS SELECT o.n, 7 AS money, a.amount, a.opened, a.grade, a.note
             FROM odd o, LATERAL (VALUES (o.text, '2020-01-01', 'A', 'a'), ('1', o.text, 'A', 'a'),
                 ('1', '2020-01-01', o.text, 'a'), ('1', '2020-01-01', 'A', o.text),
                 (o.text, o.text, o.text, o.text)) a (amount, opened, grade, note);
         CALL riskft_train('m', 't', 'y', method => 'none', options =>
             '{\"head_epochs\": 5, \"members\": 1, \"hidden\": 16, \"gate\": {\"auc_loss\": 1, \"flips\": 1}}')",
    );
    let used: i64 = analyst.value(
        "SELECT count(*) FROM riskft.features
         WHERE role IN ('number', 'date', 'category') AND column_name <> 'note'",
    );
    assert_eq!(used, 4);
    let scores = "SELECT risk_score('m', o) FROM odd_rows o";
    let first: Vec<f64> = analyst.values(scores);
    assert_eq!(first.len(), 5 * 614);
    assert!(first.iter().all(|p| (0.0..=1.0).contains(p)));
    assert_eq!(first, analyst.values::<f64>(scores));
    assert_eq!(
        first,
        analyst.values::<f64>("SELECT risk_score_json('m', to_jsonb(o)) FROM odd_rows o")
    );
    let blank: i64 = analyst.value(
        "SELECT count(DISTINCT risk_score('m', o)) FROM odd_rows o
         WHERE coalesce(trim(grade), '') = '' AND amount = '1' AND opened = '2020-01-01'",
    );
    assert_eq!(blank, 1, "'', '   ' and NULL are one");

    // The odd texts as training rows, with a label that they do not tell.
    analyst.run(
        "CALL riskft_train('on_odd', 'SELECT n % 7 AS a, text, n % 3 = 0 AS y FROM odd', 'y', method => 'none',
             options => '{\"head_epochs\": 2, \"members\": 1, \"hidden\": 16, \"gate\": {\"auc_loss\": 1, \"flips\": 1}}')",
    );

    let backend = analyst.pid();
    let before = process::private_memory(backend).expect("the backend's memory");
    let begun = Instant::now();
    let huge: f64 = analyst.value(
        "SELECT risk_score('m', s) FROM (SELECT 7 AS money, repeat('1', 1 << 20) AS amount,
             repeat('é', 1 << 19) AS opened, repeat('word ', 200000) AS grade, repeat('😀', 1 << 18) AS note) s",
    );
    let took = begun.elapsed();
    let grown = process::private_memory(backend).unwrap_or(0).saturating_sub(before);
    assert!((0.0..=1.0).contains(&huge));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(grown < 50 << 20, "{grown} bytes more");
}
