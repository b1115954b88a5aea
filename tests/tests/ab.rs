//! A/B tests: which version scores which row, by all functions on a row alike.

use riskft_tests::fixture::{
    second_version, small_loans, small_model, small_training, two_versions,
};
use riskft_tests::{fails, refuses, Cluster, Database, Session};

fn start(session: &mut Session, share: &str) -> i32 {
    session.value(&format!("SELECT riskft_ab_start('m', 'challenger', {share}, key => 'loan_id')"))
}

const ARMS: &str = "SELECT riskft_ab_arm('m', loan_id) FROM loans ORDER BY loan_id";
const SCORES: &str = "SELECT risk_score('m', l) FROM loans l ORDER BY loan_id";

fn arms(session: &mut Session) -> Vec<Option<String>> {
    session.values(ARMS)
}

fn challengers(session: &mut Session) -> Vec<i32> {
    session.values(
        "SELECT loan_id FROM loans WHERE riskft_ab_arm('m', loan_id) = 'challenger' ORDER BY 1",
    )
}

fn bits(session: &mut Session, query: &str) -> Vec<u64> {
    session.values::<f64>(query).into_iter().map(f64::to_bits).collect()
}

#[test]
fn each_function_on_a_row_asks_the_version_of_its_arm() {
    let (database, mut analyst) = two_versions("challenger");
    database.superuser().run("INSERT INTO riskft.grade (grade, at_least) VALUES ('A', 0), ('B', 0.3), ('C', 0.4), ('D', 0.5)");
    assert_eq!(start(&mut analyst, "0.5"), 1);
    let moved = challengers(&mut analyst).len();
    assert!((140..=260).contains(&moved), "{moved} of 400");
    let differ: bool =
        analyst.value("SELECT bool_and(risk_score('m@1', l) <> risk_score('m@2', l)) FROM loans l");
    assert!(differ);
    for call in [
        "risk_score(MODEL, l)",
        "risk_score_json(MODEL, to_jsonb(l))",
        "risk_points(MODEL, l)",
        "risk_grade(MODEL, l)",
        "(SELECT sum(contribution) + min(base) FROM risk_explain(MODEL, l))",
        "(SELECT string_agg(r::text, '') FROM risk_reasons(MODEL, l) r)",
    ] {
        let of = |name: &str| call.replace("MODEL", name);
        let rows: Vec<i32> = analyst.values(&format!(
            "SELECT loan_id FROM (SELECT *, loan_id % 7 = 0 OR {every} AS wanted FROM loans) l
             WHERE wanted AND {bare} IS DISTINCT FROM CASE riskft_ab_arm('m', loan_id)
                 WHEN 'challenger' THEN {second} WHEN 'champion' THEN {first} END",
            // Explanations take milliseconds.
            every = !call.contains("SELECT"),
            bare = of("'m'"),
            first = of("'m@champion'"),
            second = of("'m@2'"),
        ));
        assert_eq!(rows, Vec::<i32>::new(), "{call}");
    }
    let champion: bool = analyst
        .value("SELECT bool_and(risk_score('m@champion', l) = risk_score('m@1', l)) FROM loans l");
    assert!(champion);
    // What reads a relation means the champion.
    for call in ["riskft_evaluate(MODEL, 'loans', 'defaulted')", "riskft_drift(MODEL, 'loans')"] {
        let differ: i64 = analyst.value(&format!(
            "SELECT count(*) FROM (SELECT f::text FROM {} f EXCEPT SELECT f::text FROM {} f) d",
            call.replace("MODEL", "'m'"),
            call.replace("MODEL", "'m@1'")
        ));
        assert_eq!(differ, 0, "{call}");
    }
    let stopped: i32 = analyst.value("SELECT riskft_ab_stop('m', 'enough')");
    assert_eq!(stopped, 1);
    assert_eq!(bits(&mut analyst, SCORES), bits(&mut analyst, &SCORES.replace("'m'", "'m@1'")));
    assert!(arms(&mut analyst).iter().all(Option::is_none));
    let shown: Vec<String> = analyst.values(
        "SELECT concat_ws(' ', test, running, champion, challenger, key_column, mode, share, started_by,
                stopped_at > started_at, stopped_by, stop_reason) FROM riskft.ab_tests",
    );
    assert_eq!(shown, ["1 f 1 2 loan_id route 0.5 analyst t analyst enough"]);
}

#[test]
fn a_key_is_one_whatever_its_type() {
    let (_database, mut analyst) = two_versions("challenger");
    start(&mut analyst, "0.5");
    let several: Vec<i32> = analyst.values(
        "SELECT i FROM generate_series(-100, 100) i,
             LATERAL (VALUES (riskft_ab_arm('m', i)), (riskft_ab_arm('m', i::smallint)),
                 (riskft_ab_arm('m', i::bigint)), (riskft_ab_arm('m', i::numeric)),
                 (riskft_ab_arm('m', i::numeric(12, 2))), (riskft_ab_arm('m', i::real)),
                 (riskft_ab_arm('m', i::float8)), (riskft_ab_arm('m', i::text)),
                 (riskft_ab_arm('m', i::varchar(10))), (riskft_ab_arm('m', i::char(10))),
                 (riskft_ab_arm('m', i::text::name)), (riskft_ab_arm('m', to_jsonb(i))),
                 (riskft_ab_arm('m', to_jsonb(i::numeric(12, 2)))),
                 (riskft_ab_arm('m', to_jsonb(i::text)))) v(arm)
         GROUP BY i HAVING count(DISTINCT v.arm) <> 1 OR count(*) <> 14",
    );
    assert_eq!(several, Vec::<i32>::new());
    // A date is read alike whatever DateStyle, and so is a fraction whatever extra_float_digits.
    let arms = "SELECT string_agg(concat(riskft_ab_arm('m', d), riskft_ab_arm('m', to_jsonb(d)),
                    riskft_ab_arm('m', f), riskft_ab_arm('m', f::numeric), riskft_ab_arm('m', u)), '' ORDER BY i)
                FROM (SELECT i, date '2024-02-20' + i AS d, i / 8.0::float8 AS f, md5(i::text)::uuid AS u
                      FROM generate_series(1, 50) i) k";
    let before: String = analyst.value(arms);
    analyst.run(
        "SET datestyle = 'SQL, DMY'; SET extra_float_digits = -10; SET timezone = 'Asia/Tokyo'",
    );
    assert_eq!(analyst.value::<String>(arms), before);
    let same: bool = analyst.value(
        "SELECT bool_and(riskft_ab_arm('m', i) = riskft_ab_arm('m', i::text)
             AND riskft_ab_arm('m', date '2024-01-01' + i)
                 = riskft_ab_arm('m', to_char(date '2024-01-01' + i, 'YYYY-MM-DD'))
             AND riskft_ab_arm('m', i / 8.0::float8) = riskft_ab_arm('m', (i / 8.0::numeric(9, 3))))
         FROM generate_series(1, 200) i",
    );
    assert!(same);
    // A literal without a type is text.
    let literal: bool = analyst.value("SELECT riskft_ab_arm('m', '77') = riskft_ab_arm('m', 77)");
    assert!(literal);
    let none: bool = analyst.value(
        "SELECT riskft_ab_arm('m', NULL) IS NULL AND riskft_ab_arm('m', NULL::integer) IS NULL
            AND riskft_ab_arm('m', 'NaN'::float8) IS NULL AND riskft_ab_arm('m', 'Infinity'::numeric) IS NULL
            AND riskft_ab_arm('m', 'null'::jsonb) IS NULL",
    );
    assert!(none);
    for key in ["now()", "1::money", "'{1}'::integer[]", "(SELECT l FROM loans l LIMIT 1)"] {
        refuses(&mut analyst, &format!("SELECT riskft_ab_arm('m', {key})"), "42804");
    }
    refuses(&mut analyst, "SELECT riskft_ab_arm('m', '[1]'::jsonb)", "22023");
    refuses(&mut analyst, "SELECT riskft_ab_arm('m@1', 1)", "22023");
    refuses(&mut analyst, "SELECT riskft_ab_arm('none', 1)", "42704");
    refuses(&mut analyst, "SELECT riskft_ab_arm(NULL, 1)", "22004");
}

#[test]
fn a_row_without_a_key_is_the_champions() {
    let (_database, mut analyst) = two_versions("challenger");
    start(&mut analyst, "1");
    let like = |session: &mut Session, row: &str, version: i32| {
        let sql = format!(
            "SELECT bool_and(risk_score('m', l) = risk_score('m@{version}', l)
                 AND risk_score_json('m', to_jsonb(l)) = risk_score('m@{version}', l)) FROM ({row}) l"
        );
        assert!(session.value::<bool>(&sql), "{row}");
    };
    like(&mut analyst, "SELECT * FROM loans", 2);
    like(&mut analyst, "SELECT amount, grade FROM loans", 1);
    like(&mut analyst, "SELECT amount, grade, NULL::integer AS loan_id FROM loans", 1);
    like(&mut analyst, "SELECT amount, grade, NULL AS loan_id FROM loans", 1);
    like(&mut analyst, "SELECT amount, grade, loan_id::numeric FROM loans", 2);
    let nan = "SELECT amount, grade, 'NaN'::float8 AS loan_id FROM loans";
    assert!(analyst.value::<bool>(&format!(
        "SELECT bool_and(risk_score('m', l) = risk_score('m@1', l)) FROM ({nan}) l"
    )));
    let twice = "SELECT risk_score('m', l) FROM (SELECT *, 1 AS loan_id FROM loans) l";
    refuses(&mut analyst, twice, "42702");
    let time =
        "SELECT risk_score('m', l) FROM (SELECT amount, grade, now() AS loan_id FROM loans) l";
    refuses(&mut analyst, time, "42804");
    refuses(
        &mut analyst,
        "SELECT risk_score_json('m', '{\"loan_id\": [1], \"amount\": 1, \"grade\": \"a\"}')",
        "22023",
    );
    // With the share 0 nobody is the challenger's.
    start(&mut analyst, "0");
    like(&mut analyst, "SELECT * FROM loans", 1);
}

/// A challenger that reads more columns: rows of the champion do not need them.
#[test]
fn a_row_needs_the_columns_of_its_own_version() {
    let (_database, mut analyst) = small_model();
    let more = "SELECT *, amount * 2 AS income FROM loans";
    analyst.run(&small_training("m", more, "\"deploy\": \"never\", "));
    analyst.run("SELECT riskft_set_alias('m', 'challenger', 2)");
    analyst.notices();
    start(&mut analyst, "0.5");
    assert!(analyst.told().contains("version 2 reads columns that version 1 does not"));
    let of = |arm: &str| {
        format!(
            "SELECT sum(risk_score('m', l)) FROM (SELECT * FROM loans
                 WHERE riskft_ab_arm('m', loan_id) = '{arm}' OFFSET 0) l"
        )
    };
    analyst.run(&of("champion"));
    let error = refuses(&mut analyst, &of("challenger"), "42703");
    assert!(error.message().contains("income"), "{error:?}");
    analyst.run(&format!("SELECT sum(risk_score('m', l)) FROM ({more}) l"));
}

#[test]
fn raising_the_share_moves_rows_one_way() {
    let (_database, mut analyst) = two_versions("challenger");
    let mut before: Vec<i32> = Vec::new();
    for share in ["0", "0.1", "0.3", "1"] {
        assert_eq!(start(&mut analyst, share), 1);
        let now = challengers(&mut analyst);
        assert!(before.iter().all(|id| now.contains(id)), "{share}");
        assert!(now.len() > before.len() || share == "0", "{share}: {}", now.len());
        before = now;
    }
    assert_eq!(before.len(), 400);
    start(&mut analyst, "0.3");
    let first = challengers(&mut analyst);
    analyst.notices();
    start(&mut analyst, "0.3");
    assert!(analyst.told().contains("has this share already"));
    // Another test of the model divides the rows anew: 0.3 of 0.3 of 400 are 36 by chance.
    analyst.run("SELECT riskft_ab_stop('m')");
    assert_eq!(start(&mut analyst, "0.3"), 2);
    let both = challengers(&mut analyst).iter().filter(|id| first.contains(id)).count();
    assert!((12..=60).contains(&both), "{both}");
    let audit: Vec<String> = analyst.values(
        "SELECT concat_ws(' ', action, version, detail::text) FROM riskft.audit
         WHERE action LIKE 'ab_%' ORDER BY entry",
    );
    let begun = |test: i32, share: &str| {
        format!("ab_start 2 {{\"key\": \"loan_id\", \"mode\": \"route\", \"test\": {test}, \"share\": {share}, \"champion\": 1}}")
    };
    let moved = |share: &str, before: &str| {
        format!("ab_share 2 {{\"test\": 1, \"share\": {share}, \"before\": {before}}}")
    };
    let wanted = [
        begun(1, "0.0"),
        moved("0.1", "0.0"),
        moved("0.3", "0.1"),
        moved("1.0", "0.3"),
        moved("0.3", "1.0"),
        "ab_stop 2 {\"test\": 1}".to_owned(),
        begun(2, "0.3"),
    ];
    assert_eq!(audit, wanted);
}

#[test]
fn arms_stay_across_sessions_restarts_and_standbys() {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    small_loans(&database, 400);
    let mut analyst = database.analyst();
    analyst.run(&small_training("m", "loans", ""));
    second_version(&mut analyst, "challenger");
    start(&mut analyst, "0.5");
    let (arms_before, scores) = (arms(&mut analyst), bits(&mut analyst, SCORES));
    assert!(arms_before.iter().all(Option::is_some));
    let standby = cluster.standby(&[]);
    standby.await_replay(&cluster);
    let mut there = standby.connect(database.name(), "analyst");
    assert_eq!(arms(&mut there), arms_before);
    assert_eq!(bits(&mut there, SCORES), scores);
    there.run("SELECT risk_score_both('m', l) FROM loans l");
    fails(&mut there, "SELECT riskft_ab_stop('m')", "25006");
    fails(&mut there, "SELECT riskft_ab_start('m', '2', key => 'loan_id')", "25006");
    fails(&mut there, "SELECT riskft_ab_evaluate('m', 'loans', 'defaulted')", "25006");
    analyst.run("SELECT riskft_ab_stop('m')");
    standby.await_replay(&cluster);
    assert!(arms(&mut there).iter().all(Option::is_none));
    drop(there);
    start(&mut analyst, "0.5");
    let second = arms(&mut analyst);
    drop(analyst);
    cluster.restart();
    let mut analyst = database.analyst();
    assert_eq!(arms(&mut analyst), second);
}

#[test]
fn a_test_is_seen_as_its_transaction_is() {
    let (database, mut analyst) = two_versions("challenger");
    let mut other = database.analyst();
    let one = SCORES.replace("'m'", "'m@1'");
    let champion = bits(&mut analyst, &one);
    analyst.run("BEGIN");
    start(&mut analyst, "1");
    assert_ne!(bits(&mut analyst, SCORES), champion, "the transaction's next statement follows");
    assert_eq!(bits(&mut other, SCORES), champion);
    analyst.run("ROLLBACK");
    assert_eq!(bits(&mut analyst, SCORES), champion);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.ab_tests"), 0);
    other.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM riskft.ab_tests");
    other.run(&format!("PREPARE scored AS {SCORES}"));
    start(&mut analyst, "1");
    assert_eq!(bits(&mut other, SCORES), champion);
    assert_eq!(bits(&mut other, "EXECUTE scored"), champion);
    assert!(arms(&mut other).iter().all(Option::is_none));
    other.run("COMMIT");
    assert_eq!(
        bits(&mut other, "EXECUTE scored"),
        bits(&mut other, &SCORES.replace("'m'", "'m@2'"))
    );
}

#[test]
fn parallel_workers_agree_and_nothing_is_written() {
    let (_database, mut analyst) = two_versions("challenger");
    start(&mut analyst, "0.5");
    let query = "SELECT concat(riskft_ab_arm('m', loan_id), float8send(risk_score('m', l)),
                     float8send((b).champion), float8send((b).challenger), (b).arm)
                 FROM loans l, LATERAL risk_score_both('m', l) b ORDER BY loan_id";
    let serial: Vec<String> = analyst.values(query);
    analyst.run(
        "SET force_parallel_mode = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
         SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off",
    );
    let plan: Vec<String> = analyst.values(&format!("EXPLAIN {query}"));
    assert!(plan.join("\n").contains("Gather"), "no parallel plan: {plan:?}");
    analyst.run("BEGIN READ ONLY");
    assert_eq!(analyst.values::<String>(query), serial);
    let id: Option<String> = analyst.value("SELECT pg_current_xact_id_if_assigned()::text");
    assert_eq!(id, None);
}

#[test]
fn a_shadow_is_told_and_not_followed() {
    let (_database, mut analyst) = two_versions("challenger");
    let both = |session: &mut Session, arm: &str| {
        let wrong: i64 = session.value(&format!(
            "SELECT count(*) FROM loans l, LATERAL risk_score_both('m', l) b
             WHERE b.arm IS DISTINCT FROM {arm} OR b.champion <> risk_score('m@1', l)
                OR b.challenger IS DISTINCT FROM risk_score('m@2', l)"
        ));
        assert_eq!(wrong, 0);
    };
    let number: i32 = analyst
        .value("SELECT riskft_ab_start('m', '2', 0.5, 'loan_id', 'shadow', 'to be watched')");
    assert_eq!(bits(&mut analyst, SCORES), bits(&mut analyst, &SCORES.replace("'m'", "'m@1'")));
    let moved = challengers(&mut analyst).len();
    assert!((140..=260).contains(&moved), "{moved} of 400");
    both(&mut analyst, "riskft_ab_arm('m', l.loan_id)");
    // Its share is changed as a shadow; to route is another test.
    refuses(&mut analyst, "SELECT riskft_ab_start('m', '2', 0.5, 'loan_id')", "55000");
    let again: i32 = analyst.value("SELECT riskft_ab_start('m', '2', 0.6, 'loan_id', 'shadow')");
    assert_eq!(again, number);
    analyst.run("SELECT riskft_ab_stop('m')");
    let bare: i64 = analyst.value(
        "SELECT count(*) FROM loans l, LATERAL risk_score_both('m', l) b
         WHERE b.arm IS NULL AND b.champion = risk_score('m', l) AND b.challenger IS NULL",
    );
    assert_eq!(bare, 400);
    start(&mut analyst, "0.5");
    both(&mut analyst, "riskft_ab_arm('m', l.loan_id)");
    let keyless: bool = analyst.value(
        "SELECT bool_and((b).arm IS NULL AND (b).champion > 0 AND (b).challenger > 0)
         FROM (SELECT risk_score_both('m', l) AS b FROM (SELECT amount, grade FROM loans) l) x",
    );
    assert!(keyless);
    let null: bool = analyst.value("SELECT risk_score_both('m', NULL::loans) IS NULL");
    assert!(null);
    refuses(&mut analyst, "SELECT risk_score_both('m@1', l) FROM loans l", "22023");
    refuses(&mut analyst, "SELECT risk_score_both('m', 5)", "42804");
}
