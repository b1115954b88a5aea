//! Four eyes: under riskft.require_approval nobody deploys what nobody else has approved.

use riskft_tests::fixture::{small_loans, small_training};
use riskft_tests::{fails, refuses, Database, Session};

const SCORE: &str = "SELECT risk_score('m', l) FROM loans l WHERE loan_id = 7";
const DEPLOYED: &str = "SELECT deployed_version FROM riskft.models WHERE model = 'm'";

/// A database that requires approvals, the analyst's open `loans`, and a role that may log in.
fn required() -> (Database<'static>, Session, String) {
    let database = Database::new();
    small_loans(&database, 400);
    database
        .superuser()
        .run(&format!("ALTER DATABASE {} SET riskft.require_approval = on", database.name()));
    let mut analyst = database.analyst();
    analyst.run("GRANT SELECT ON loans TO PUBLIC");
    let role = database.role("validator");
    (database, analyst, role)
}

fn train(options: &str) -> String {
    small_training("m", "loans", options)
}

#[test]
fn a_version_is_deployed_when_somebody_else_has_approved_it() {
    let (database, mut analyst, validator) = required();
    analyst.run(&train("\"deploy\": \"always\", "));
    let said = analyst.told();
    assert!(said.contains("is stored but not deployed"), "{said}");
    assert!(said.contains("SELECT riskft_approve('m', 1)"), "{said}");
    assert_eq!(analyst.value::<Option<i32>>(DEPLOYED), None);
    let error = refuses(&mut analyst, SCORE, "55000");
    assert_eq!(error.message(), "model \"m\" has no deployed version");
    assert!(error.hint().is_some_and(|h| h.contains("riskft_approve")), "{error:?}");
    refuses(&mut analyst, &SCORE.replace("'m'", "'m@champion'"), "55000");
    analyst.run(&SCORE.replace("'m'", "'m@1'"));
    let error = refuses(&mut analyst, "SELECT riskft_deploy('m', 1)", "55000");
    assert_eq!(error.message(), "version 1 of model \"m\" is not approved");

    refuses(&mut analyst, "SELECT riskft_approve('m', 1)", "42501");
    let mut session = database.user(&validator);
    refuses(&mut session, "SELECT riskft_approve('m', 1)", "42501");
    analyst.run(&format!("SELECT riskft_grant('m', '{validator}', 'deploy')"));
    session.run("BEGIN; SELECT riskft_approve('m', 1); ROLLBACK");
    refuses(&mut analyst, "SELECT riskft_deploy('m', 1)", "55000");
    session.run("SELECT riskft_approve('m', 1, 'validated, report 7')");
    session.notices();
    session.run("SELECT riskft_approve('m', 1, 'again')");
    assert!(session.told().contains("is approved already"));
    let shown = "SELECT concat_ws(' ', version, trained_by, approved_by, approved_at IS NOT NULL)
                 FROM riskft.versions";
    assert_eq!(analyst.value::<String>(shown), format!("1 analyst {validator} t"));
    analyst.run("SELECT riskft_deploy('m', 1)");
    analyst.run(SCORE);

    // The next one is not worse, and stays where it is; the deployed one goes on.
    analyst.notices();
    analyst.run(&train(""));
    assert!(analyst.told().contains("is stored but not deployed"));
    assert_eq!(analyst.value::<i32>(DEPLOYED), 1);
    session.run("SELECT riskft_approve('m', 2); SELECT riskft_deploy('m', 2)");
    assert_eq!(session.value::<i32>("SELECT riskft_rollback('m')"), 1);
    let audit: Vec<String> = analyst.values(
        "SELECT concat_ws(' ', action, version, split_part(role, '_', 1), reason)
         FROM riskft.audit WHERE action IN ('approve', 'deploy', 'rollback') ORDER BY entry",
    );
    assert_eq!(
        audit,
        [
            "approve 1 validator validated, report 7",
            "deploy 1 analyst",
            "approve 2 validator",
            "deploy 2 validator",
            "rollback 1 validator"
        ]
    );
}

/// No role that a trainer can take on approves, however the two roles of a session are mixed.
#[test]
fn a_trainer_does_not_approve_as_another_role() {
    let (database, mut analyst, boss) = required();
    let team = database.role("team");
    let mut superuser = database.superuser();
    superuser.run(&format!("GRANT {boss}, {team} TO analyst; GRANT {team} TO {boss}"));
    // Trained as the team, by the analyst.
    analyst.run(&format!("SET ROLE {team}; {}; RESET ROLE", train("")));
    let approve = "SELECT riskft_approve('m', 1)";
    for role in [&team, &boss, &"analyst".to_owned()] {
        analyst.run(&format!("SET ROLE {role}"));
        let error = refuses(&mut analyst, approve, "42501");
        assert_eq!(
            error.message(),
            "version 1 of model \"m\" cannot be approved by its trainer",
            "{role}"
        );
    }
    analyst.run("RESET ROLE");
    // Nor as the owner of a SECURITY DEFINER function.
    let mut session = database.user(&boss);
    superuser.run(&format!("GRANT CREATE ON SCHEMA public TO {boss}"));
    session.run(
        "CREATE FUNCTION wave_through() RETURNS void LANGUAGE sql SECURITY DEFINER
             SET search_path = public AS 'SELECT riskft_approve(''m'', 1)'",
    );
    refuses(&mut analyst, "SELECT wave_through()", "42501");
    // Nor by code of theirs that the server runs as another role for a superuser.
    analyst.run(&format!(
        "CREATE FUNCTION seen(amount float8) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS $f$
         BEGIN
             IF session_user = 'postgres' THEN PERFORM public.riskft_approve('m', 1); END IF;
             RETURN amount;
         END $f$;
         CREATE TABLE bait AS SELECT 1.0::float8 AS amount;
         CREATE INDEX ON bait (seen(amount));
         ALTER TABLE bait OWNER TO {boss}"
    ));
    let error = fails(&mut superuser, "ANALYZE bait", "42501");
    assert!(error.message().contains("security-restricted"), "{error:?}");
    // Somebody else, who acts as the team: the role is the trainer's.
    session.run(&format!("SET ROLE {team}"));
    refuses(&mut session, approve, "42501");
    session.run("RESET ROLE");
    session.run(approve);
    assert_eq!(analyst.value::<String>("SELECT approved_by FROM riskft.versions"), boss);
}

/// A queued run's trainer is whoever queued it; an import's, whoever imports.
#[test]
fn queued_runs_and_imports_have_trainers() {
    let (database, mut analyst, validator) = required();
    let queued = train("").replace("method =>", "wait => false, method =>");
    let run: i64 = analyst.query_one(&queued, &[]).expect("queue").get("run");
    assert_eq!(analyst.value::<String>(&format!("SELECT riskft_wait({run})")), "done");
    assert_eq!(analyst.value::<Option<i32>>(DEPLOYED), None);
    let said: String = analyst
        .value(&format!("SELECT array_to_string(notices, ' ') FROM riskft.runs WHERE run = {run}"));
    assert!(said.contains("riskft_approve('m', 1)"), "{said}");
    refuses(&mut analyst, "SELECT riskft_approve('m', 1)", "42501");
    analyst.notices();
    analyst.run("SELECT riskft_import_model('copy', riskft_export_model('m@1'))");
    assert!(analyst.told().contains("riskft_approve('copy', 1)"));
    let deployed = "SELECT deployed_version FROM riskft.models WHERE model = 'copy'";
    assert_eq!(analyst.value::<Option<i32>>(deployed), None);
    refuses(&mut analyst, "SELECT riskft_approve('copy', 1)", "42501");
    analyst.run(&format!("SELECT riskft_grant('copy', '{validator}', 'deploy')"));
    database
        .user(&validator)
        .run("SELECT riskft_approve('copy', 1); SELECT riskft_deploy('copy', 1)");
    assert_eq!(analyst.value::<Option<i32>>(deployed), Some(1));
}

/// The setting is a superuser's; turned on later, it holds for rollbacks as for deployments.
#[test]
fn the_setting_is_the_superusers() {
    let database = Database::new();
    small_loans(&database, 400);
    let mut analyst = database.analyst();
    let mut superuser = database.superuser();
    analyst.run(&train(""));
    analyst.run(&train("\"deploy\": \"always\", "));
    assert_eq!(analyst.value::<i32>(DEPLOYED), 2);
    let name = database.name().to_owned();
    superuser.run(&format!("ALTER DATABASE {name} SET riskft.require_approval = on"));
    for before in ["", "SELECT count(*) FROM riskft.progress;"] {
        let mut session = database.analyst();
        session.run(before);
        let _ = session.batch_execute("SET riskft.require_approval = off");
        refuses(&mut session, "SELECT riskft_rollback('m')", "55000");
        fails(&mut session, "SET riskft.require_approval = off", "42501");
        fails(&mut session, "ALTER ROLE analyst SET riskft.require_approval = off", "42501");
    }
    // A connection's options would take the place of the database's setting.
    for name in ["riskft.require_approval", "RiskFT.Require_Approval"] {
        let mut psql = database.cluster().client("psql");
        psql.env("PGUSER", "analyst").env("PGOPTIONS", format!("-c {name}=off"));
        psql.args(["--no-psqlrc", "--set", "VERBOSITY=verbose", "--dbname", database.name()]);
        psql.args(["--command", "SELECT riskft_rollback('m')"]);
        let output = psql.output().expect("run psql");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("ERROR:  42501: permission denied to set parameter"), "{told}");
    }
    assert_eq!(analyst.value::<i32>(DEPLOYED), 2);
    let history = "SELECT count(*) FROM riskft.deployments";
    assert_eq!(analyst.value::<i64>(history), 2, "a refused rollback is no deployment");
    let mut superuser = database.superuser();
    superuser.run("SELECT riskft_approve('m', 1)");
    let mut session = database.analyst();
    assert_eq!(session.value::<i32>("SELECT riskft_rollback('m')"), 1);
    superuser.run(&format!("ALTER DATABASE {name} RESET riskft.require_approval"));
    database.analyst().run("SELECT riskft_deploy('m', 2)");
}
