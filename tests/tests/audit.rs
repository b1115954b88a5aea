//! The audit: one entry for each change, which nobody changes, and which outlives its model.

use riskft_tests::fixture::{small_loans, small_model, small_training};
use riskft_tests::{fails, refuses, Database, Session};

/// What the audit holds, without its times.
fn entries(session: &mut Session) -> Vec<String> {
    session.values(
        "SELECT concat_ws(' ', action, model, version, login, role, owner,
                (detail - 'run' - 'digest')::text, reason)
         FROM riskft.audit ORDER BY entry",
    )
}

#[test]
fn each_change_has_an_entry() {
    let database = Database::new();
    small_loans(&database, 400);
    let mut analyst = database.analyst();
    let (heir, team) = (database.role("heir"), database.role("team"));
    database.superuser().run(&format!("GRANT {heir}, {team} TO analyst"));
    analyst.run(&small_training("m", "loans", ""));
    analyst.run(&small_training("m", "loans", "\"deploy\": \"never\", "));
    analyst.run(&format!(
        "SELECT riskft_grant('m', '{team}', 'deploy');
         SELECT riskft_grant('m', '{team}', 'deploy');
         SET ROLE {team};
         SELECT riskft_set_alias('m', 'challenger', 2, 'to be watched');
         SELECT riskft_deploy('m', 2, 'é \"quoted\"');
         SELECT riskft_deploy('m', 2, 'no change');
         SELECT riskft_rollback('m', 'worse');
         SELECT riskft_drop_alias('m', 'challenger');
         RESET ROLE;
         SELECT riskft_revoke('m', '{team}', 'deploy');
         SELECT riskft_revoke('m', '{team}', 'deploy');
         SELECT riskft_import_model('copy', riskft_export_model('m@2'));
         CALL riskft_reduce('pca', 'SELECT loan_id, amount FROM loans', 2);
         SELECT riskft_set_owner('m', '{heir}');
         SELECT riskft_drop('copy', 'not needed'); SELECT riskft_drop('pca')"
    ));
    let by = format!("analyst {team} analyst");
    let own = "analyst analyst analyst";
    let wanted = [
        format!("train m 1 {own} {{\"method\": \"none\"}}"),
        format!("deploy m 1 {own} {{\"before\": null}} no version was deployed before"),
        format!("train m 2 {own} {{\"method\": \"none\"}}"),
        format!("grant m {own} {{\"role\": \"{team}\", \"privilege\": \"deploy\"}}"),
        format!("set_alias m 2 {by} {{\"alias\": \"challenger\", \"before\": null}} to be watched"),
        format!("deploy m 2 {by} {{\"before\": 1}} é \"quoted\""),
        format!("rollback m 1 {by} {{\"before\": 2}} worse"),
        format!("drop_alias m 2 {by} {{\"alias\": \"challenger\"}}"),
        format!("revoke m {own} {{\"role\": \"{team}\", \"privilege\": \"deploy\"}}"),
        format!("export m 2 {own} {{}}"),
        format!("import copy 1 {own} {{\"from_model\": \"m\", \"from_version\": 2}}"),
        format!("deploy copy 1 {own} {{\"before\": null}} it is the first"),
        format!("reduce pca {own} {{}}"),
        format!("set_owner m analyst analyst {heir} {{\"before\": \"analyst\"}}"),
        format!("drop copy {own} {{\"kind\": \"model\"}} not needed"),
        format!("drop pca {own} {{\"kind\": \"reducer\"}}"),
    ];
    assert_eq!(entries(&mut analyst), wanted);
    // The digests are those of the files, the runs those of the ledger.
    let told: Vec<bool> = analyst.values(
        "SELECT a.detail ->> 'digest' = v.digest AND (a.detail ->> 'run')::bigint = v.run
         FROM riskft.audit a JOIN riskft.versions v USING (model, version) WHERE action = 'train'",
    );
    assert_eq!(told, [true, true]);
    let ordered: bool = analyst.value(
        "SELECT bool_and(at >= before) FROM
             (SELECT at, lag(at, 1, at) OVER (ORDER BY entry) AS before FROM riskft.audit) a",
    );
    assert!(ordered);
}

/// What did not happen is not in the audit: what was refused, and what was rolled back.
#[test]
fn only_what_happened_has_an_entry() {
    let (database, mut analyst) = small_model();
    let before = entries(&mut analyst);
    refuses(&mut analyst, "SELECT riskft_deploy('m', 7, 'why')", "42704");
    refuses(&mut analyst, "SELECT riskft_rollback('m')", "55000");
    let role = database.role("low");
    refuses(&mut database.user(&role), "SELECT riskft_drop('m')", "42501");
    analyst.run("BEGIN; SELECT riskft_grant('m', 'public', 'score'); SELECT riskft_drop('m')");
    assert_eq!(entries(&mut analyst).len(), before.len() + 2);
    analyst.run("ROLLBACK");
    analyst.run("SELECT 1 FROM riskft_evaluate('m', 'loans', 'defaulted')");
    assert_eq!(entries(&mut analyst), before);
    // Where nothing can be written, an export is in the server's log alone.
    analyst.run("BEGIN READ ONLY; SELECT riskft_export_model('m'); COMMIT");
    assert_eq!(entries(&mut analyst), before);
    let logged = database.cluster().log().text();
    assert!(logged.contains("version 1 of model \"m\" is exported by role \"analyst\""));
}

#[test]
fn nobody_changes_an_entry() {
    let (database, mut analyst) = small_model();
    let role = database.role("writer");
    let mut superuser = database.superuser();
    superuser.run(&format!("GRANT pg_write_all_data, pg_read_all_data TO {role}"));
    analyst.run(&format!("SELECT riskft_grant('m', '{role}', 'deploy')"));
    let kept: Vec<String> = superuser.values("SELECT e::text FROM riskft.audit_entry e ORDER BY 1");
    let mut writer = database.user(&role);
    assert_eq!(
        writer.values::<String>("SELECT e::text FROM riskft.audit_entry e ORDER BY 1"),
        kept
    );
    let forged = "INSERT INTO riskft.approval (model_id, version, role, login)
                  SELECT model_id, 1, 'boss', 'boss' FROM riskft.model";
    for sql in [
        "INSERT INTO riskft.audit_entry (login, role, action, model_id, model, owner)
             SELECT 'x', 'x', 'approve', model_id, name, owner FROM riskft.model",
        "UPDATE riskft.audit_entry SET reason = 'x'",
        "DELETE FROM riskft.audit_entry",
        "TRUNCATE riskft.audit_entry",
        "DROP TRIGGER guard ON riskft.audit_entry",
        "SET session_replication_role = replica",
        forged,
    ] {
        fails(&mut writer, sql, "42501");
    }
    for sql in ["INSERT INTO riskft.audit (entry) VALUES (1)", "DELETE FROM riskft.audit"] {
        for session in [&mut writer, &mut analyst] {
            let code =
                session.batch_execute(sql).expect_err(sql).code().map(|c| c.code().to_owned());
            assert!(matches!(code.as_deref(), Some("42501" | "55000")), "{sql}: {code:?}");
        }
    }
    for sql in ["SELECT FROM riskft.audit_entry", "DELETE FROM riskft.audit_entry"] {
        fails(&mut analyst, sql, "42501");
    }
    let now: Vec<String> = superuser.values("SELECT e::text FROM riskft.audit_entry e ORDER BY 1");
    assert_eq!(now, kept);
    // Such a role still changes models by the functions, and is named.
    writer.run("SELECT riskft_set_alias('m', 'a', 1)");
    let named = format!("SELECT count(*) FROM riskft.audit WHERE role = '{role}'");
    assert_eq!(analyst.value::<i64>(&named), 1);
}

/// Owners and holders of a privilege see a model's entries; once it is dropped, its last owner
/// does. A later model of the same name opens nothing.
#[test]
fn entries_are_seen_by_whom_they_concern() {
    let (database, mut analyst) = small_model();
    let role = database.role("low");
    let mut low = database.user(&role);
    assert_eq!(entries(&mut low).len(), 0);
    analyst.run(&format!("SELECT riskft_grant('m', '{role}', 'score')"));
    assert_eq!(entries(&mut low), entries(&mut analyst));
    assert_eq!(entries(&mut low).len(), 3);
    analyst.run("SELECT riskft_drop('m', 'end of life')");
    assert_eq!(entries(&mut low).len(), 0);
    assert_eq!(entries(&mut analyst).len(), 4);
    low.run(&small_training("m", "loans", ""));
    assert_eq!(entries(&mut low).len(), 2);
    assert_eq!(entries(&mut analyst).len(), 4);
    assert_eq!(entries(&mut database.superuser()).len(), 6);
    // A barrier: what a caller's function is given, the caller may see.
    let mut other = database.user(&database.role("other"));
    other.run(
        "CREATE FUNCTION pg_temp.shout(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
             $f$ BEGIN RAISE EXCEPTION 'seen: %', $1; END $f$;
         SELECT * FROM riskft.audit WHERE pg_temp.shout(model)",
    );
    low.run("SELECT riskft_set_owner('m', CURRENT_USER::text)");
    assert!(entries(&mut low)[2].starts_with("set_owner m"));
}
