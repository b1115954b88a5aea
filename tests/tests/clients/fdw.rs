//! postgres_fdw: a scored view of another cluster, and another cluster's rows scored here.

use std::fs;

use riskft_tests::{refuses, Cluster, Session};

use crate::stage::{clients, hexadecimal, stage, statements, Stage, SCORES};

/// Lets the analyst of `superuser`'s database reach the stage's database as server `lending`.
fn link(superuser: &mut Session, stage: &Stage) {
    superuser.run(&format!(
        "CREATE EXTENSION postgres_fdw;
         CREATE SERVER lending FOREIGN DATA WRAPPER postgres_fdw
             OPTIONS (host '127.0.0.1', port '{}', dbname '{}');
         GRANT USAGE ON FOREIGN SERVER lending TO analyst;
         CREATE USER MAPPING FOR analyst SERVER lending
             OPTIONS (user 'analyst', password '{}')",
        stage.database.cluster().port(),
        stage.database.name(),
        stage.password
    ));
}

fn bits(session: &mut Session, sql: &str) -> Vec<String> {
    session.values::<f64>(sql).into_iter().map(hexadecimal).collect()
}

#[test]
fn a_scored_view_is_read_from_another_cluster() {
    let stage = stage();
    let mut here = stage.database.analyst();
    here.run(&fs::read_to_string(clients().join("scored_view.sql")).expect("read the view"));
    // A view's owner lends its rights on tables, not on models.
    stage.database.superuser().run(
        "CREATE VIEW lent (risk) AS SELECT risk_score('hidden', l) FROM loans l;
         GRANT SELECT ON lent TO analyst",
    );
    let scorings: Vec<(usize, String)> = statements()
        .enumerate()
        .filter(|(_, (_, sql))| sql.starts_with("SELECT risk_score"))
        .map(|(number, (_, sql))| (number, sql))
        .collect();
    assert!(scorings.len() >= 7);
    for (number, sql) in &scorings {
        here.run(&format!("CREATE VIEW refused_{number} (risk) AS {sql}"));
    }

    let cluster = Cluster::start();
    let mut superuser = cluster.superuser();
    superuser.run("GRANT CREATE ON SCHEMA public TO analyst");
    link(&mut superuser, stage);
    let mut there = cluster.connect("postgres", "analyst");
    there.run("IMPORT FOREIGN SCHEMA public FROM SERVER lending INTO public");

    assert_eq!(bits(&mut there, "SELECT risk FROM loans_with_risk ORDER BY loan_id"), stage.bits);
    let loan: i64 = there.value("SELECT min(loan_id) FROM loans_with_risk");
    for (filter, remote) in [
        (format!("loan_id = {loan}"), format!("WHERE ((loan_id = {loan}))")),
        ("risk > 0.3".to_owned(), "WHERE ((risk > 0.3::double precision))".to_owned()),
    ] {
        let query = format!("SELECT risk FROM loans_with_risk WHERE {filter} ORDER BY loan_id");
        let plan = there.values::<String>(&format!("EXPLAIN (VERBOSE) {query}")).join("\n");
        assert!(plan.contains(&remote), "{plan}");
        let local = here.values::<f64>(&query);
        assert!(!local.is_empty() && local.len() < stage.bits.len(), "{filter}");
        let local: Vec<String> = local.into_iter().map(hexadecimal).collect();
        assert_eq!(bits(&mut there, &query), local, "{filter}");
    }

    for (number, _) in scorings {
        let expected = &stage.refusals[number];
        let sql = format!("SELECT * FROM refused_{number}");
        let error = refuses(&mut there, &sql, expected.code().code());
        assert_eq!(error.message(), expected.message());
        assert_eq!(error.detail(), expected.detail());
        assert_eq!(error.hint(), expected.hint());
    }
    refuses(&mut there, "SELECT * FROM lent", "42501");
    assert_eq!(bits(&mut there, "SELECT risk FROM loans_with_risk ORDER BY loan_id"), stage.bits);
}

/// The rows travel, the score is computed here: postgres_fdw ships no STABLE function.
#[test]
fn rows_of_a_foreign_table_are_scored() {
    let stage = stage();
    link(&mut stage.database.superuser(), stage);
    let mut analyst = stage.database.analyst();
    analyst.run(
        "CREATE SCHEMA far; IMPORT FOREIGN SCHEMA public LIMIT TO (loans) FROM SERVER lending INTO far",
    );
    let query = SCORES.replace("FROM loans l", "FROM far.loans l");
    let plan = analyst.values::<String>(&format!("EXPLAIN (VERBOSE) {query}")).join("\n");
    assert!(plan.contains("Remote SQL") && plan.contains("Output: risk_score("), "{plan}");
    assert_eq!(bits(&mut analyst, &query), stage.bits);
}
