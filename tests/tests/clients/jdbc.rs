//! PostgreSQL's JDBC driver.

use std::path::PathBuf;

use serde_json::Value;

use crate::report::Report;
use crate::stage::{installed, skipped, stage};

#[test]
fn jdbc_gets_the_same() {
    if skipped("JDBC") {
        return;
    }
    let stage = stage();
    let java = installed("Java", PathBuf::from("/usr/bin/java"));
    let driver = installed("JDBC", PathBuf::from("/usr/share/java/postgresql.jar"));
    let report = Report::of(
        stage
            .command(java)
            // Short-lived: the first compiler is enough, and leaves the other cores alone.
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"])
            .arg(driver)
            .args(["JdbcClient.java", "refusals.txt"]),
    );
    let float8 = Value::from("float8");
    // 4 query modes x 3 prepare thresholds x 4 ways, and COPY.
    report.check_scores(stage, 4 * 3 * 4 + 1, std::slice::from_ref(&float8));
    // 4 query modes x (autocommit, savepoint), and the driver's own savepoints.
    report.check_refusals(stage, 4 * 2 + 1);
    assert_eq!(report.case("probe metadata")["type"], float8);
    report.check_probe("probe limit 0", &float8);
    report.check_probe("probe where 1=0", &float8);
    assert_eq!(report.case("nothing written")["xid"], Value::Null);

    let training = report.case("training");
    assert_eq!(training["version"], 1);
    assert!(training["auc"].as_f64() > Some(0.0), "{training}");
    assert!(training["notices"].as_u64() > Some(2), "{training}");
    let callable = report.case("callable");
    assert_eq!(callable["version"], 1);
    assert!(callable["run"].as_u64() > Some(0), "{callable}");
    report.check_cancelled();
    report.check_queued();
}
