//! Hostile options, features and names: a clean refusal in good time, and the session goes on.

use std::time::{Duration, Instant};

use riskft_tests::{fixture, refuses, Database, Session};

/// Refusals take milliseconds; the bound allows for a machine that is busy otherwise.
const IN_GOOD_TIME: Duration = Duration::from_secs(5);
/// Longest part of an error, bytes.
const MAX_WORDS: usize = 1200;

/// Options as an SQL expression, the SQLSTATE, and a word that the error must hold. 54001 is the
/// server's own refusal of a value that its stack cannot hold.
const OPTIONS: &[(&str, &str, &str)] = &[
    // Not an object.
    ("'[]'", "22023", "JSON object"),
    ("'3'", "22023", "JSON object"),
    ("'\"rank\"'", "22023", "JSON object"),
    ("'true'", "22023", "JSON object"),
    ("('[' || repeat('1,', 1000000) || '1]')::jsonb", "22023", "JSON object"),
    ("to_jsonb(repeat('x', 1000000))", "22023", "JSON object"),
    // Deep, wide and long.
    ("(repeat('[', 128) || repeat(']', 128))::jsonb", "22023", "127 levels"),
    ("(repeat('{\"a\":', 1000) || '1' || repeat('}', 1000))::jsonb", "22023", "127 levels"),
    ("(repeat('[', 5000) || repeat(']', 5000))::jsonb", "22023", "127 levels"),
    ("(repeat('[', 10000000) || repeat(']', 10000000))::jsonb", "54001", "stack depth"),
    (
        "('{\"rank\": ' || repeat('[', 100) || repeat(']', 100) || '}')::jsonb",
        "22023",
        "\"rank\" is [[[",
    ),
    ("('{\"rank\": [' || repeat('1,', 1000000) || '1]}')::jsonb", "22023", "\"rank\""),
    ("jsonb_build_object(repeat('rank', 250000), 1)", "22023", "rankrank"),
    ("jsonb_build_object('rank', repeat('9', 1000000))", "22023", "999"),
    ("jsonb_build_object('text', repeat('fields', 100000))", "22023", "fields"),
    (
        "jsonb_build_object('roles', jsonb_build_object(repeat('c', 1000000), 'text'))",
        "42703",
        "ccc",
    ),
    (
        "jsonb_build_object('roles', jsonb_build_object('state', repeat('c', 1000000)))",
        "22023",
        "ccc",
    ),
    // Numbers.
    ("'{\"rank\": -1}'", "22023", "rank"),
    ("'{\"rank\": 1.5}'", "22023", "1.5"),
    ("'{\"rank\": 16.0}'", "22023", "16"),
    ("'{\"rank\": 1e308}'", "22023", "1e"),
    ("'{\"rank\": 1e400}'", "22023", "float8"),
    ("'{\"rank\": -1e400}'", "22023", "float8"),
    ("('{\"rank\": 1' || repeat('0', 100000) || '}')::jsonb", "22023", "float8"),
    ("'{\"rank\": 18446744073709551615}'", "22023", "rank"),
    ("'{\"rank\": 18446744073709551616}'", "22023", "1.8446744073709552e"),
    ("'{\"seed\": -1}'", "22023", "-1"),
    ("'{\"seed\": 18446744073709551616}'", "22023", "1.8446744073709552e"),
    ("'{\"alpha\": 1e308}'", "22023", "alpha"),
    ("'{\"alpha\": -0.0}'", "22023", "alpha"),
    ("'{\"learning_rate\": 1e-320}'", "22023", "learning_rate"),
    ("'{\"dropout\": 0.99999999}'", "22023", "dropout"),
    ("'{\"head_epochs\": 1001}'", "22023", "head_epochs"),
    ("'{\"members\": 17}'", "22023", "members"),
    ("'{\"hidden\": 4294967296}'", "22023", "hidden"),
    ("'{\"batch_size\": 9007199254740993}'", "22023", "batch_size"),
    ("'{\"max_tokens\": 5000}'", "22023", "max_tokens"),
    ("'{\"threads\": 100000}'", "22023", "threads"),
    ("'{\"split\": {\"train\": 1e308, \"test\": -1e308}}'", "22023", "split"),
    (
        "'{\"split\": {\"train\": 0, \"validation\": 0.5, \"calibration\": 0.3, \"test\": 0.2}}'",
        "22023",
        "train",
    ),
    ("'{\"gate\": {\"auc_loss\": -1e-9}}'", "22023", "gate.auc_loss"),
    // Texts for numbers, and other kinds.
    ("'{\"rank\": \"16\"}'", "22023", "whole number"),
    ("'{\"alpha\": \"NaN\"}'", "22023", "NaN"),
    ("'{\"alpha\": \"Infinity\"}'", "22023", "Infinity"),
    ("'{\"alpha\": null}'", "22023", "null"),
    ("'{\"rank\": true}'", "22023", "\"rank\" is true"),
    ("'{\"rank\": {}}'", "22023", "\"rank\" is {}"),
    ("'{\"gate\": []}'", "22023", "gate"),
    ("'{\"gate\": null}'", "22023", "\"gate\" is null"),
    ("'{\"gate\": [1, 1, 1, 1]}'", "22023", "gate"),
    ("'{\"split\": \"0.5\"}'", "22023", "split"),
    ("'{\"split\": [0.5, 0.2, 0.2, 0.1]}'", "22023", "split"),
    ("'{\"roles\": []}'", "22023", "\"roles\" is []"),
    ("'{\"roles\": {\"state\": null}}'", "22023", "\"state\""),
    ("'{\"roles\": {\"state\": {\"text\": null}}}'", "22023", "state"),
    ("'{\"deploy\": {\"always\": null}}'", "22023", "deploy"),
    ("'{\"deploy\": \"Always\"}'", "22023", "always"),
    ("'{\"device\": \"cuda; rm -rf /\"}'", "22023", "cuda; rm"),
    ("'{\"precision\": \"f\\u0131\"}'", "22023", "fı"),
    // Keys.
    ("'{\"rnak\": 8}'", "22023", "\"rank\""),
    ("'{\"Rank\": 8}'", "22023", "\"rank\""),
    ("'{\"rank \": 8}'", "22023", "\"rank\""),
    ("'{\"\": 8}'", "22023", "\"\""),
    ("'{\"gate.flips\": 1}'", "22023", "gate.flips"),
    ("'{\"gate\": {\"flip\": 1}}'", "22023", "gate.flips"),
    ("'{\"ｒａｎｋ\": 8}'", "22023", "ｒａｎｋ"),
    ("'{\"rank\": 8, \"rank\": 0}'", "22023", "rank"),
    ("'{\"__proto__\": {}}'", "22023", "__proto__"),
    ("'{\"roles\": {\"\": \"text\"}}'", "42703", "options.roles"),
    ("'{\"roles\": {\"sta\\nte\": \"text\"}}'", "42703", "<U+000A>"),
    ("'{\"roles\": {\"defaulted\": \"text\"}}'", "22023", "defaulted"),
    ("'{\"roles\": {\"state\": \"target\"}}'", "22023", "state"),
];

/// The error's words, and that it came in time and is short.
fn refused(session: &mut Session, sql: &str, code: &str) -> Result<(String, Duration), String> {
    let begun = Instant::now();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match code {
        "54001" => riskft_tests::fails(session, sql, code),
        _ => refuses(session, sql, code),
    }));
    let taken = begun.elapsed();
    let error = outcome.map_err(|fault| {
        let told = fault.downcast_ref::<String>().cloned().unwrap_or_default();
        told.chars().take(600).collect::<String>()
    })?;
    let parts = [Some(error.message()), error.detail(), error.hint()];
    if parts.iter().flatten().any(|part| part.len() > MAX_WORDS) {
        let start: String = error.message().chars().take(60).collect();
        return Err(format!("{start} ...: the error is too long"));
    }
    if taken > IN_GOOD_TIME {
        return Err(format!("{}: the refusal took {taken:?}", error.message()));
    }
    let words: Vec<&str> = parts.into_iter().flatten().collect();
    Ok((words.join(" "), taken))
}

/// Runs a table of statements; each must be refused with its code and word.
fn all_refused(
    session: &mut Session,
    cases: impl Iterator<Item = (String, &'static str, &'static str)>,
) {
    let (mut faults, mut count, mut slowest) = (Vec::new(), 0, Duration::ZERO);
    for (sql, code, word) in cases {
        count += 1;
        let shown: String = sql.chars().take(200).collect();
        match refused(session, &sql, code) {
            Err(fault) => faults.push(format!("{shown}: {fault}")),
            Ok((words, _)) if !words.contains(word) => {
                faults.push(format!("{shown}: \"{word}\" is not in: {words}"));
            }
            Ok((_, taken)) => slowest = slowest.max(taken),
        }
    }
    println!("{count} refusals, the slowest after {slowest:?}");
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn hostile_options_are_refused() {
    let database = Database::new();
    fixture::loans(&database, 200);
    let mut analyst = database.analyst();
    let statement = |(options, code, word): &(&str, &'static str, &'static str)| {
        let sql = format!(
            "CALL riskft_train('m', 'loans', 'defaulted', method => 'none', options => {options})"
        );
        (sql, *code, *word)
    };
    all_refused(&mut analyst, OPTIONS.iter().map(statement));
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.models"), 0);
}

#[test]
fn hostile_names_are_refused() {
    let database = Database::new();
    fixture::loans(&database, 200);
    let mut analyst = database.analyst();
    let train = |arguments: &str| {
        format!("CALL riskft_train('m', 'loans', 'defaulted', method => 'none', {arguments})")
    };
    let cases = [
        ("exclude => '{\"\"}'", "42703", "exclude"),
        ("exclude => '{\"state\\\"; DROP TABLE loans; --\"}'", "42703", "DROP TABLE"),
        ("exclude => '{\"STATE\"}'", "42703", "\"state\""),
        ("exclude => '{\"state \"}'", "42703", "\"state\""),
        ("exclude => '{ѕtate}'", "42703", "exclude"),
        ("exclude => ARRAY[E'\\u202Estate']", "42703", "<U+202E>"),
        ("exclude => ARRAY[repeat('x', 1000000)]", "42703", "xxx"),
        ("exclude => '{defaulted}'", "22023", "defaulted"),
        ("time_column => ''", "42703", "time_column"),
        ("time_column => E'approved\\non'", "42703", "<U+000A>"),
        ("positive => repeat('x', 1000000)", "22023", "xxx"),
        ("base => repeat('x', 1000000), options => '{\"rank\": 0}'", "22023", "rank"),
    ];
    let cases = cases.into_iter().map(|(arguments, code, word)| (train(arguments), code, word));
    let names = [
        ("repeat('x', 1000000)", "22023", "xxx"),
        ("E'a\\nb'", "22023", "model name"),
        ("E'\\u2003'", "22023", "model name"),
        ("'m@1'", "22023", "m@1"),
        ("repeat('é', 32)", "22023", "é"),
    ];
    let names = names.into_iter().map(|(name, code, word)| {
        let call = "'loans', 'defaulted', method => 'none'";
        (format!("CALL riskft_train({name}, {call})"), code, word)
    });
    let methods = [("repeat('x', 1000000)", "22023", "xxx"), ("'LORA'", "22023", "lora")].map(
        |(method, code, word)| {
            (
                format!("CALL riskft_train('m', 'loans', 'defaulted', method => {method})"),
                code,
                word,
            )
        },
    );
    all_refused(&mut analyst, cases.chain(names).chain(methods));
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.models"), 0);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM loans"), 200);
}

/// Names that look hostile and are plain names: quoted wherever they go.
#[test]
fn odd_names_are_names() {
    let database = Database::new();
    let mut analyst = database.analyst();
    analyst.run(
        r#"CREATE TABLE odd AS
             SELECT i % 3 = 0 AS "de""faulted; --", i * 7 % 11 AS "a'b", i % 5 AS "{x,y}",
                    (i % 4)::text AS "$1", i::float8 AS "é 中😀"
             FROM generate_series(1, 400) i"#,
    );
    let options = r#"{"head_epochs": 2, "hidden": 16, "members": 1, "roles": {"$1": "category"},
                      "gate": {"auc_loss": 1, "flips": 1}}"#;
    for model in ["m'; DROP TABLE odd; --", "../../m", "模型 \"x\"", "$body$", "a.b"] {
        analyst
            .execute(
                "CALL riskft_train($1, 'odd', 'de\"faulted; --', exclude => ARRAY['{x,y}'],
                     method => 'none', options => ($2::text)::jsonb)",
                &[&model, &options],
            )
            .unwrap_or_else(|error| panic!("{model}: {error}"));
        let equal: bool = analyst.value_of(
            "SELECT bool_and(risk_score($1, o) BETWEEN 0 AND 1
                    AND risk_score($1, o) = risk_score_json($1, to_jsonb(o))) FROM odd o",
            &[&model],
        );
        assert!(equal, "{model}");
    }
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.models"), 5);
}

#[test]
fn hostile_features_are_refused_or_scored() {
    let database = Database::new();
    let mut analyst = database.analyst();
    analyst.run(
        r#"CREATE TABLE t AS SELECT i % 3 = 0 AS y, (i * 7 % 11)::numeric AS n, (i % 4)::text AS k
             FROM generate_series(1, 400) i;
           CALL riskft_train('m', 't', 'y', method => 'none', options => '{"head_epochs": 2,
             "hidden": 16, "members": 1, "roles": {"k": "category"},
             "gate": {"auc_loss": 1, "flips": 1}}')"#,
    );
    let refusals = [
        ("'[1]'", "22023", "JSON object"),
        ("'1'", "22023", "JSON object"),
        ("'null'", "22023", "JSON object"),
        ("('[' || repeat('1,', 1000000) || '1]')::jsonb", "22023", "JSON object"),
        ("'{}'", "42703", "does not exist"),
        ("'{\"N\": 1, \"k\": \"1\"}'", "42703", "\"n\""),
        ("'{\"n\": [1], \"k\": \"1\"}'", "22023", "\"n\""),
        ("'{\"n\": {}, \"k\": \"1\"}'", "22023", "\"n\""),
        ("(repeat('{\"n\":', 5000) || '1' || repeat('}', 5000))::jsonb", "22023", "\"n\""),
        ("(repeat('[', 10000000) || repeat(']', 10000000))::jsonb", "54001", "stack depth"),
    ];
    let statement = |features: &str| format!("SELECT risk_score_json('m', {features})");
    all_refused(
        &mut analyst,
        refusals.into_iter().map(|(f, code, word)| (statement(f), code, word)),
    );
    // As a row with the same values, to the bit.
    for (features, n, k) in [
        ("'{\"n\": 3, \"k\": \"1\"}'", "3", "'1'"),
        ("'{\"n\": 3.50, \"k\": \"1\", \"n2\": [[[]]]}'", "3.5", "'1'"),
        ("'{\"n\": 1e400, \"k\": \"1\"}'", "1e400", "'1'"),
        ("'{\"n\": -1e400, \"k\": \"1\"}'", "-1e400", "'1'"),
        ("'{\"n\": 9223372036854775808, \"k\": null}'", "9223372036854775808", "NULL"),
        ("'{\"n\": null, \"k\": \"\\u00e9\"}'", "NULL", "'é'"),
        ("'{\"n\": 1, \"k\": \"0\", \"n\": 2}'", "2", "'0'"),
        ("jsonb_build_object('n', 1, 'k', repeat('1', 1000000))", "1", "repeat('1', 1000000)"),
        ("jsonb_build_object('n', 1, 'k', '1', 'x', repeat('[', 10))", "1", "'1'"),
        (
            "jsonb_build_object('n', 1, 'k', '1', 'x', (repeat('[', 5000) || repeat(']', 5000))::jsonb)",
            "1",
            "'1'",
        ),
    ] {
        let sql = format!(
            "SELECT risk_score_json('m', {features}) = risk_score('m', r)
               AND risk_score('m', r) BETWEEN 0 AND 1
             FROM (SELECT {n}::numeric AS n, {k}::text AS k) r"
        );
        assert!(analyst.value::<bool>(&sql), "{features}");
    }
}
