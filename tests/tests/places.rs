//! Places in a database where a score is computed, whose rights count there, and under which names.

use riskft_tests::fixture::{small_loans, small_model, small_training};
use riskft_tests::{fails, refuses, Database, Session};

const SCORE: &str = "SELECT risk_score('m', l) FROM loans l WHERE loan_id = 7";
const ALL: &str = "SELECT risk_score('m', l) FROM loans l ORDER BY loan_id";
/// The score of a row's columns, where no whole row can be named.
const OF_COLUMNS: &str =
    "risk_score_json('m', jsonb_build_object('amount', amount, 'grade', grade))";

fn role(database: &Database, name: &str) -> (String, Session) {
    let role = database.role(name);
    database.superuser().run(&format!("GRANT CREATE ON SCHEMA public TO {role}"));
    let session = database.user(&role);
    (role, session)
}

#[test]
fn a_security_definer_function_has_its_owners_rights_and_only_those() {
    let (database, mut analyst) = small_model();
    let (_, mut low) = role(&database, "low");
    let wrapper = |name: &str, language: &str, body: &str| {
        format!(
            "CREATE FUNCTION {name}(l loans) RETURNS float8 LANGUAGE {language} STABLE SECURITY DEFINER
             SET search_path = public, pg_temp AS $f$ {body} $f$"
        )
    };
    analyst.run(&wrapper("scored", "sql", "SELECT risk_score('m', l)"));
    analyst.run(&wrapper("scored_too", "plpgsql", "BEGIN RETURN risk_score('m', l); END"));
    let kept: Vec<f64> = analyst.values(ALL);
    for name in ["scored", "scored_too"] {
        let scores = format!("SELECT {name}(l) FROM loans l ORDER BY loan_id");
        assert_eq!(low.values::<f64>(&scores), kept);
        // The right ends with the function, in the same statement and for the same model.
        let both = format!("SELECT {name}(l), risk_score('m', l) FROM loans l");
        refuses(&mut low, &both, "42501");
        let other_order = format!("SELECT risk_score('m', l), {name}(l) FROM loans l");
        refuses(&mut low, &other_order, "42501");
        refuses(&mut low, SCORE, "42501");
    }
    // The other way round: who calls lends nothing to the function's owner.
    low.run(&wrapper("borrowed", "sql", "SELECT risk_score('m', l)"));
    refuses(&mut analyst, "SELECT borrowed(l) FROM loans l", "42501");
    analyst.run(SCORE);
    // A training within one reads as its owner, and the model is its owner's.
    analyst.run(&format!(
        "REVOKE SELECT ON loans FROM PUBLIC;
         CREATE PROCEDURE retrain() LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
         AS $f$ DECLARE v integer; a float8; k float8; r bigint; BEGIN {}; END $f$",
        small_training("made", "loans", "").replace(
            "method =>",
            "version => v, auc => a, ks => k, run => r, method =>"
        )
    ));
    fails(&mut low, &small_training("n", "loans", ""), "42501");
    low.run("CALL retrain()");
    assert_eq!(low.value::<i64>("SELECT count(*) FROM riskft.models"), 0);
    let owner: String = analyst.value("SELECT owner FROM riskft.models WHERE model = 'made'");
    assert_eq!(owner, "analyst");
}

/// A function in a view runs as whoever reads the view: the model's privilege is asked of the
/// reader, SELECT on the table of the view's owner.
#[test]
fn a_view_of_scores_needs_the_privilege_of_its_reader() {
    let (database, mut analyst) = small_model();
    let (name, mut low) = role(&database, "low");
    let kept: Vec<f64> = analyst.values(ALL);
    analyst.run(&format!(
        "REVOKE SELECT ON loans FROM PUBLIC;
         CREATE VIEW scored AS SELECT loan_id, risk_score('m', l) AS risk FROM loans l;
         CREATE MATERIALIZED VIEW kept AS SELECT loan_id, risk_score('m', l) AS risk FROM loans l;
         GRANT SELECT ON scored, kept TO {name}"
    ));
    let read = "SELECT risk FROM scored ORDER BY loan_id";
    refuses(&mut low, read, "42501");
    // What is stored is data, for those who may read it.
    assert_eq!(low.values::<f64>("SELECT risk FROM kept ORDER BY loan_id"), kept);
    analyst.run(&format!("SELECT riskft_grant('m', '{name}', 'score')"));
    assert_eq!(low.values::<f64>(read), kept);
    fails(&mut low, SCORE, "42501");
    // Whoever refreshes, it is done as the view's owner.
    database.superuser().run("REFRESH MATERIALIZED VIEW kept");
    analyst.run("SELECT riskft_set_owner('m', 'analyst'); REFRESH MATERIALIZED VIEW kept");
    low.run(&format!("CREATE MATERIALIZED VIEW theirs AS {read}"));
    analyst.run(&format!("SELECT riskft_revoke('m', '{name}', 'score')"));
    refuses(&mut database.superuser(), "REFRESH MATERIALIZED VIEW theirs", "42501");
    // Training and evaluation read the view as its reader, who needs no right on the table.
    analyst.run("CREATE VIEW clean AS SELECT amount, grade, defaulted FROM loans");
    let training = small_training("own", "clean", "").replace("exclude => '{loan_id}',", "");
    fails(&mut low, &training, "42501");
    analyst.run(&format!("GRANT SELECT ON clean TO {name}"));
    low.run(&training);
    assert_eq!(low.value::<i64>("SELECT rows FROM riskft.runs"), 400);
}

/// A score changes when a version is deployed, so nothing may keep it as if it did not.
#[test]
fn a_score_is_no_index_and_no_generated_column() {
    let (_database, mut analyst) = small_model();
    for sql in [
        "CREATE INDEX ON loans (SCORE)",
        "CREATE INDEX ON loans (amount) WHERE SCORE > 0.5",
        "ALTER TABLE loans ADD COLUMN risk float8 GENERATED ALWAYS AS (SCORE) STORED",
        "CREATE TABLE p (amount float8, grade text) PARTITION BY RANGE ((SCORE))",
        "CREATE INDEX ON loans (risk_score('m', loans))",
    ] {
        fails(&mut analyst, &sql.replace("SCORE", &format!("({OF_COLUMNS})")), "42P17");
    }
    // A CHECK constraint is asked once, when a row is written; PostgreSQL takes any function.
    analyst.run(&format!("ALTER TABLE loans ADD CONSTRAINT sane CHECK ({OF_COLUMNS} <= 1)"));
    analyst.run("INSERT INTO loans VALUES (1000, 5, 'a', false)");
    analyst.run(&format!(
        "ALTER TABLE loans DROP CONSTRAINT sane;
         ALTER TABLE loans ADD CONSTRAINT never CHECK ({OF_COLUMNS} > 1) NOT VALID"
    ));
    fails(&mut analyst, "INSERT INTO loans VALUES (1001, 5, 'a', false)", "23514");
}

#[test]
fn a_policy_and_a_trigger_score_as_the_role_at_work() {
    let (database, mut analyst) = small_model();
    let (name, mut low) = role(&database, "low");
    let expected: Vec<i32> =
        analyst.values(&format!("SELECT loan_id FROM loans WHERE {OF_COLUMNS} < 0.3 ORDER BY 1"));
    assert!(!expected.is_empty() && expected.len() < 400, "{}", expected.len());
    analyst.run(&format!(
        "ALTER TABLE loans ENABLE ROW LEVEL SECURITY;
         CREATE POLICY calm ON loans FOR SELECT TO {name} USING (risk_score('m', loans) < 0.3)"
    ));
    refuses(&mut low, "SELECT loan_id FROM loans", "42501");
    analyst.run(&format!("SELECT riskft_grant('m', '{name}', 'score')"));
    assert_eq!(low.values::<i32>("SELECT loan_id FROM loans ORDER BY 1"), expected);
    low.run(&small_training("own", "loans", ""));
    let rows: i64 = low.value("SELECT rows FROM riskft.runs");
    assert_eq!(rows, expected.len() as i64);

    analyst.run(&format!(
        "CREATE TABLE applications (amount float8, grade text, risk float8);
         GRANT INSERT, SELECT ON applications TO {name};
         CREATE FUNCTION rate() RETURNS trigger LANGUAGE plpgsql AS
             $f$ BEGIN NEW.risk := risk_score('m', NEW); RETURN NEW; END $f$;
         CREATE TRIGGER rating BEFORE INSERT ON applications FOR EACH ROW EXECUTE FUNCTION rate()"
    ));
    let insert = "INSERT INTO applications VALUES (5, 'a'), (900, 'c')";
    low.run(insert);
    let wrong: i64 = analyst.value(
        "SELECT count(*) FROM applications a WHERE risk IS DISTINCT FROM risk_score('m', a)",
    );
    assert_eq!(wrong, 0);
    analyst.run(&format!("SELECT riskft_revoke('m', '{name}', 'score')"));
    refuses(&mut low, insert, "42501");
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM applications"), 2);
}

/// F25, for models: a name is data wherever it goes.
#[test]
fn odd_model_names_are_names() {
    let database = Database::new();
    small_loans(&database, 300);
    let mut analyst = database.analyst();
    let (name, mut low) = role(&database, "low");
    let longest = "я".repeat(31);
    for model in [
        "it's",
        "a \"b\" c",
        "100%s %n",
        "$1",
        "модель 😀",
        "x'; DROP TABLE loans --",
        "\\'",
        "a.b",
        "{m}",
        "select",
        longest.as_str(),
    ] {
        let quoted = model.replace('\'', "''");
        analyst.run(&small_training(model, "loans", ""));
        let score =
            format!("SELECT risk_score_json('{quoted}', '{{\"amount\": 5, \"grade\": \"a\"}}')");
        let error = refuses(&mut low, &score, "42501");
        assert_eq!(error.message(), format!("permission denied for model {model}"));
        // The hint can be run as it stands.
        let hint = error.hint().unwrap_or_default().to_owned();
        let (_, statement) = hint.split_once(" for ").unwrap_or_default();
        analyst.run(statement.trim_end_matches('.'));
        let pinned = score.replace("', '{", "@1', '{");
        assert_eq!(low.value::<f64>(&score), analyst.value::<f64>(&pinned), "{model}");
        let seen: String = low.value("SELECT model FROM riskft.privileges");
        assert_eq!(seen, model);
        refuses(&mut low, &format!("SELECT riskft_drop('{quoted}')"), "42501");
        analyst
            .run(&format!("SELECT riskft_deploy('{quoted}', 1); SELECT riskft_drop('{quoted}')"));
        refuses(&mut analyst, &score, "42704");
    }
    let long = "n".repeat(64);
    for model in ["", "  ", "a\nb", "tab\there", "bell\u{7}", "a@b", "m@1", long.as_str()] {
        refuses(&mut analyst, &small_training(model, "loans", ""), "22023");
        let quoted = model.replace('\'', "''");
        fails(
            &mut analyst,
            &format!("SELECT riskft_grant('{quoted}', '{name}', 'score')"),
            "42704",
        );
    }
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM loans"), 300);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.models"), 0);
}
