//! Who may write a table of scores.

use super::*;

/// The caller needs `score`, SELECT on the relation and all four rights on the table; policies hold.
#[test]
fn rights_hold() {
    let (database, mut analyst) = small_model();
    let role = database.role("low");
    let mut low = database.user(&role);
    let sql = "CALL riskft_score_table('m', 'loans', 'scores', 'loan_id')";
    refresh(&mut analyst);
    refuses(&mut low, sql, "42501");
    analyst.run(&format!("SELECT riskft_grant('m', '{role}', 'score')"));
    for right in ["SELECT", "INSERT", "UPDATE", "DELETE"] {
        let error = refuses(&mut low, sql, "42501");
        assert!(error.message().contains("scores"), "{right}: {error:?}");
        analyst.run(&format!("GRANT {right} ON scores TO {role}"));
    }
    assert_eq!(refresh(&mut low), (0, 400, 0, 1));
    analyst.run("REVOKE SELECT ON loans FROM PUBLIC");
    fails(&mut low, sql, "42501");
    analyst.run(&format!(
        "GRANT SELECT ON loans TO {role}; ALTER TABLE loans ENABLE ROW LEVEL SECURITY;
         CREATE POLICY quarter ON loans FOR SELECT TO {role} USING (loan_id % 4 = 0)"
    ));
    // Of the table it sees the same quarter: it neither writes nor removes the others.
    analyst.run(&format!(
        "ALTER TABLE scores ENABLE ROW LEVEL SECURITY;
         CREATE POLICY quarter ON scores TO {role} USING (loan_id % 4 = 0);
         UPDATE loans SET amount = 3 WHERE loan_id IN (3, 4)"
    ));
    assert_eq!(refresh(&mut low), (1, 99, 0, 1));
    assert_eq!(refresh(&mut analyst), (1, 399, 0, 1));
    // What it sees of the relation and not of the table it cannot put there: that is told.
    analyst.run(&format!("DROP POLICY quarter ON loans; CREATE POLICY whole ON loans FOR SELECT TO {role} USING (true)"));
    fails(&mut low, sql, "42501");
    // A function of the relation writes nothing, with nobody's rights.
    fixture::bait(&mut analyst);
    for relation in ["SELECT l.* FROM bait l WHERE peeked > 0", "SELECT *, peek() AS k FROM loans"]
    {
        fails(
            &mut analyst,
            &format!("CALL riskft_score_table('m', '{relation}', 'scores', 'loan_id')"),
            "25006",
        );
    }
}
