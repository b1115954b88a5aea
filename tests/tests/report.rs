//! riskft_report and riskft_plot: the model file of a version.

use std::process::{Command, Stdio};

use riskft_tests::fixture::{self, more_figures, small_loans, small_model, small_training};
use riskft_tests::{refuses, Database, Session};
use roxmltree::{Document, ParsingOptions};

const KINDS: [&str; 11] = [
    "roc",
    "precision_recall",
    "calibration",
    "ks",
    "scores",
    "lift",
    "importance",
    "effect",
    "drift",
    "ab",
    "cost",
];
const SECTIONS: [&str; 13] = [
    "version",
    "lineage",
    "performance",
    "branches",
    "inputs",
    "periods",
    "quantization",
    "drift",
    "versions",
    "comparison",
    "changes",
    "cost",
    "limits",
];

/// A name that would run in a page that did not escape it.
const HOSTILE: &str = "</td><script>alert(1)</script>\"é & 'x' onload=";

fn report(session: &mut Session, model: &str) -> String {
    session.value_of("SELECT riskft_report($1)", &[&model])
}

fn parsed(text: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Well formed, without script and address; the text of the cells of its tables.
fn checked(html: &str) -> Vec<String> {
    let document = parsed(html);
    for node in document.descendants().filter(|node| node.is_element()) {
        assert_ne!(node.tag_name().name(), "script");
        let handler = node.attributes().find(|a| a.name().starts_with("on") || a.name() == "src");
        assert!(handler.is_none(), "{handler:?}");
    }
    let rest = html.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "");
    assert!(!rest.contains("http") && !rest.contains("<script"), "a script or an address");
    let cells = document.descendants().filter(|node| node.tag_name().name() == "td");
    cells.map(|cell| cell.text().unwrap_or_default().to_owned()).collect()
}

fn ids(html: &str, element: &str) -> Vec<String> {
    let document = parsed(html);
    let found = document.descendants().filter(|node| node.tag_name().name() == element);
    found.filter_map(|node| node.attribute("id")).map(str::to_owned).collect()
}

fn pictures(html: &str) -> Vec<String> {
    let document = parsed(html);
    let drawn = document.descendants().filter(|node| node.tag_name().name() == "svg");
    let title = |svg: roxmltree::Node<'_, '_>| {
        assert_eq!(svg.attribute("role"), Some("img"));
        let title = svg.children().find(|node| node.tag_name().name() == "title");
        title.and_then(|title| title.text()).expect("a picture has a title").to_owned()
    };
    drawn.map(title).collect()
}

/// Model `loan_risk` on 2,000 loans, with a second version, a point of drift and outcomes.
fn loan_model() -> (Database<'static>, Session) {
    let database = Database::new();
    fixture::loans(&database, 2_000);
    let mut analyst = database.analyst();
    let train = "CALL riskft_train('loan_risk', 'loans', 'defaulted', exclude => '{loan_id}',
        method => 'none', time_column => 'approved_on',
        options => '{\"head_epochs\": 3, \"hidden\": 16, \"members\": 1,
            \"trees\": {\"rounds\": 40}, \"gate\": {\"auc_loss\": 1, \"flips\": 1}}')";
    analyst.run(train);
    analyst.run(&train.replace("\"head_epochs\": 3", "\"seed\": 5, \"head_epochs\": 2"));
    analyst.run(
        "SELECT riskft_monitor('loan_risk@1', 'loans', 'defaulted', 'approved_on');
         SELECT riskft_monitor('loan_risk@1', 'SELECT * FROM loans WHERE fiscal_year >= 2006');
         SELECT riskft_ab_start('loan_risk',
             (SELECT version::text FROM riskft.versions WHERE NOT deployed), 0.5, 'loan_id');
         SELECT riskft_ab_evaluate('loan_risk', 'loans', 'defaulted')",
    );
    (database, analyst)
}

#[test]
fn a_report_holds_what_a_validator_asks_for() {
    let (database, mut analyst) = loan_model();
    let html = report(&mut analyst, "loan_risk@1");
    let cells = checked(&html);
    assert_eq!(ids(&html, "h2"), SECTIONS);
    assert_eq!(pictures(&html).len(), KINDS.len(), "{:?}", pictures(&html));
    println!("the report of the loans takes {} bytes", html.len());
    assert!(html.len() < 1 << 20, "{} bytes", html.len());
    // What the views tell, in their own words.
    for query in [
        "SELECT digest FROM riskft.versions WHERE version = 1",
        "SELECT relation FROM riskft.versions WHERE version = 1",
        "SELECT rows::text FROM riskft.runs ORDER BY run LIMIT 1",
        "SELECT rows_test::text FROM riskft.runs ORDER BY run LIMIT 1",
        "SELECT options::text FROM riskft.runs ORDER BY run LIMIT 1",
        "SELECT reason FROM riskft.deployments WHERE version = 1",
        "SELECT round(value::numeric, 4) || ' [' || round(ci_low::numeric, 4) || ', '
             || round(ci_high::numeric, 4) || ']' FROM riskft.metrics
         WHERE version = 1 AND part = 'test' AND metric = 'auc'",
        "SELECT to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
         FROM riskft.versions WHERE version = 1",
        "SELECT why FROM riskft.branches WHERE version = 1 AND branch = 'baseline'",
        "SELECT key_column FROM riskft.ab_tests",
        "SELECT trim_scale(round(value::numeric, 6))::text FROM riskft.ab_results
         WHERE arm = 'challenger' AND metric = 'auc'",
        "SELECT trim_scale(round(seconds::numeric, 6))::text FROM riskft.cost_comparison
         WHERE version = 2 AND arm = 'trees alone'",
    ] {
        let told: String = analyst.value(query);
        assert!(cells.contains(&told), "{query}: {told} is not in the page");
    }
    // Classes of the test part, counted by the curve of its rows.
    let counts: Vec<i64> = analyst.values(
        "SELECT unnest(ARRAY[sum(rows), sum(positives), sum(rows - positives)]::bigint[])
         FROM riskft.curves WHERE version = 1",
    );
    let test: i64 = analyst.value("SELECT rows_test FROM riskft.runs ORDER BY run LIMIT 1");
    assert_eq!(counts[0], test);
    let expected: Vec<String> = counts.iter().map(i64::to_string).collect();
    let told = cells.windows(4).any(|cells| cells[0] == "test" && cells[1..] == expected[..]);
    assert!(told, "the class counts of the test part are {counts:?}");
    // One transaction makes one page, whatever the session's settings.
    analyst.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    let first = report(&mut analyst, "loan_risk@1");
    analyst.run(
        "SET LOCAL datestyle = 'German'; SET LOCAL timezone = 'Asia/Tokyo'; \
                 SET LOCAL extra_float_digits = -15; SET LOCAL search_path = 'nowhere', pg_catalog",
    );
    assert!(
        analyst.value_of::<String>("SELECT public.riskft_report($1)", &[&"loan_risk@1"]) == first
    );
    analyst.run("COMMIT");
    screenshot(&database, &html);
}

/// The curve that is kept has about the figures of the whole test part.
#[test]
fn the_kept_curve_has_nearly_the_figures_of_all_test_rows() {
    let (_database, mut analyst) = loan_model();
    let bins: i64 = analyst.value("SELECT count(*) FROM riskft.curves WHERE version = 1");
    assert!((30..=50).contains(&bins), "{bins}");
    let few: i64 = analyst.value("SELECT count(*) FROM riskft.curves WHERE rows < 10");
    assert_eq!(few, 0);
    // Mann-Whitney over the bins, ties within a bin counting half.
    let off: f64 = analyst.value(
        "SELECT abs(sum(a.positives * (b.rows - b.positives)
                 * CASE WHEN a.bin > b.bin THEN 1 WHEN a.bin = b.bin THEN 0.5 ELSE 0 END)::float8
             / sum(a.positives * (b.rows - b.positives))::float8
             - (SELECT value FROM riskft.metrics
                WHERE version = 1 AND part = 'test' AND metric = 'auc'))
         FROM riskft.curves a, riskft.curves b WHERE a.version = 1 AND b.version = 1",
    );
    assert!(off < 0.01, "{off}");
    let off: f64 = analyst.value(
        "SELECT abs(sum(mean_score * rows) / sum(rows) - (SELECT value FROM riskft.metrics
             WHERE version = 1 AND part = 'test' AND metric = 'mean_score'))
         FROM riskft.curves WHERE version = 1",
    );
    assert!(off < 1e-9, "{off}");
}

#[test]
fn each_kind_of_picture_is_drawn() {
    let (_database, mut analyst) = loan_model();
    for kind in KINDS {
        let svg: String = analyst.value_of("SELECT riskft_plot('loan_risk@1', $1)", &[&kind]);
        checked(&svg);
        assert_eq!(pictures(&svg).len(), 1, "{kind}");
    }
    let auc: String = analyst.value(
        "SELECT 'AUC ' || round(value::numeric, 3) FROM riskft.metrics
         WHERE version = 1 AND part = 'test' AND metric = 'auc'",
    );
    let svg: String = analyst.value("SELECT riskft_plot('loan_risk@1', 'roc')");
    assert!(svg.contains(&auc), "{auc}");
    let bars: i64 =
        analyst.value("SELECT least(count(*), 15) FROM riskft.importances WHERE version = 1");
    let svg: String = analyst.value("SELECT riskft_plot('loan_risk@1', 'importance')");
    // A background, and a bar for each column.
    let drawn = parsed(&svg).descendants().filter(|n| n.tag_name().name() == "rect").count();
    assert_eq!(drawn as i64, bars + 1);
    let error = refuses(&mut analyst, "SELECT riskft_plot('loan_risk', 'ROC')", "22023");
    for kind in KINDS {
        assert!(error.hint().is_some_and(|hint| hint.contains(kind)), "{kind}: {error:?}");
    }
    // Nobody has watched the second version.
    let error = refuses(&mut analyst, "SELECT riskft_plot('loan_risk@2', 'drift')", "55000");
    assert!(error.detail().is_some_and(|d| d.contains("riskft_monitor")), "{error:?}");
}

#[test]
fn names_and_values_are_shown_and_never_run() {
    let database = Database::new();
    let mut analyst = database.analyst();
    small_loans(&database, 400);
    let quoted = HOSTILE.replace('"', "\"\"");
    analyst.run(&format!(
        "CREATE TABLE \"{quoted}\" AS SELECT loan_id, amount AS \"{quoted}\",
             CASE grade WHEN 'a' THEN '{}' ELSE grade END AS grade, defaulted FROM loans",
        HOSTILE.replace('\'', "''")
    ));
    let relation = format!("SELECT * FROM \"{quoted}\"");
    analyst.run(&small_training(HOSTILE, &relation, ""));
    analyst
        .execute(
            "SELECT riskft_deploy($1, 1, $2), riskft_set_alias($1, 'next', 1, $2)",
            &[&HOSTILE, &HOSTILE],
        )
        .unwrap();
    let html = report(&mut analyst, HOSTILE);
    let cells = checked(&html);
    assert!(cells.iter().any(|cell| cell == &relation), "the query is told");
    assert!(cells.iter().filter(|cell| *cell == HOSTILE).count() >= 3, "{cells:?}");
    let svg: String = analyst.value_of("SELECT riskft_plot($1, 'effect')", &[&HOSTILE]);
    checked(&svg);
}

#[test]
fn a_report_tells_no_more_than_the_views() {
    let (database, mut analyst) = small_model();
    let role = database.role("low");
    let mut low = database.user(&role);
    let both = ["SELECT riskft_report('m')", "SELECT riskft_plot('m', 'roc')"];
    for sql in both {
        refuses(&mut low, sql, "42501");
        refuses(&mut low, &sql.replace("'m'", "'m@1'"), "42501");
    }
    let own = report(&mut analyst, "m");
    let hidden = ["rows read", "peak memory, bytes", "head_epochs"];
    for what in hidden {
        assert!(own.contains(what), "{what}");
    }
    for privilege in ["score", "train", "deploy"] {
        analyst.run(&format!("SELECT riskft_grant('m', '{role}', '{privilege}')"));
        let theirs = report(&mut low, "m");
        checked(&theirs);
        assert_eq!(ids(&theirs, "h2"), SECTIONS);
        for what in hidden {
            assert!(!theirs.contains(what), "{privilege}: {what} is of the run's owner");
        }
        low.run("SELECT riskft_plot('m', 'roc')");
        analyst.run(&format!("SELECT riskft_revoke('m', '{role}', '{privilege}')"));
    }
    refuses(&mut low, both[0], "42501");
    // Objects of the caller's own do not stand in for what the page reads.
    database.superuser().run(&format!("CREATE SCHEMA own AUTHORIZATION {role}"));
    analyst.run(&format!("SELECT riskft_grant('m', '{role}', 'score')"));
    low.run(
        "SET search_path = own, public, pg_catalog;
         CREATE FUNCTION own.to_char(timestamp, text) RETURNS text
             LANGUAGE sql AS $$ SELECT 'of my own making' $$;
         CREATE FUNCTION own.now() RETURNS timestamptz
             LANGUAGE sql AS $$ SELECT NULL::timestamptz $$",
    );
    assert!(!report(&mut low, "m").contains("of my own making"));
}

#[test]
fn what_is_not_there_is_refused_or_told() {
    let (database, mut analyst) = small_model();
    analyst.run("CALL riskft_reduce('pca', 'SELECT loan_id, amount FROM loans', 2)");
    for (call, code) in [
        ("riskft_report(NULL)", "22004"),
        ("riskft_report('none')", "42704"),
        ("riskft_report('m@7')", "42704"),
        ("riskft_report('m@none')", "42704"),
        ("riskft_report('pca')", "42809"),
        ("riskft_plot('pca', 'roc')", "42809"),
        ("riskft_plot('none', 'roc')", "42704"),
        ("riskft_plot(NULL, 'roc')", "22004"),
        ("riskft_plot('m', NULL)", "22004"),
        ("riskft_plot('m', '')", "22023"),
        ("riskft_plot('m', 'drift')", "55000"),
        ("riskft_plot('m', 'ab')", "55000"),
    ] {
        refuses(&mut analyst, &format!("SELECT {call}"), code);
    }
    // A damaged curve, and a version that is older than curves.
    let mut superuser = database.superuser();
    superuser.run("UPDATE riskft.curve SET positives = rows + 1 WHERE bin = 2");
    refuses(&mut analyst, "SELECT riskft_report('m')", "XX001");
    superuser.run("DELETE FROM riskft.curve");
    let html = report(&mut analyst, "m");
    checked(&html);
    assert!(html.contains("No picture of roc: The version keeps no scores of test rows"));
    assert_eq!(pictures(&html).len(), 3, "importance, effect and cost");
    refuses(&mut analyst, "SELECT riskft_plot('m', 'lift')", "55000");
    analyst.run("SELECT riskft_plot('m', 'importance')");
    // It goes with its model.
    analyst.run(&small_training("m", "loans", ""));
    assert!(superuser.value::<i64>("SELECT count(*) FROM riskft.curve") > 0);
    analyst.run("SELECT riskft_drop('m')");
    assert_eq!(superuser.value::<i64>("SELECT count(*) FROM riskft.curve"), 0);
}

#[test]
fn an_imported_version_has_its_pictures() {
    let (database, mut analyst) = small_model();
    more_figures(&database);
    let bytes: Vec<u8> = analyst.value("SELECT riskft_export_model('m')");
    let picture = "SELECT riskft_plot('m', 'calibration')";
    let drawn: String = analyst.value(picture);
    let elsewhere = Database::new();
    let mut there = elsewhere.analyst();
    there.value_of::<i32>("SELECT riskft_import_model('m', $1)", &[&bytes]);
    assert_eq!(there.value::<String>(picture), drawn);
    let html = report(&mut there, "m");
    let cells = checked(&html);
    assert!(cells.iter().any(|cell| cell.contains("imported from version 1 of model \"m\"")));
}

/// A picture of the page by a real browser, where one is installed: it must not be blank.
fn screenshot(database: &Database<'_>, html: &str) {
    let browsers = ["chromium", "google-chrome"];
    let found = browsers.iter().find(|browser| {
        let version = Command::new(browser).arg("--version").stdout(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    });
    let Some(browser) = found else {
        println!("skipped: no screenshot of the report, none of {browsers:?} is installed");
        return;
    };
    let folder = std::env::temp_dir().join(format!("{}.{}", database.name(), std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (page, shot) = (folder.join("report.html"), folder.join("report.png"));
    std::fs::write(&page, html).unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .args(["--window-size=1100,6000", "--virtual-time-budget=5000"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("--screenshot={}", shot.display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let bytes = std::fs::read(&shot).unwrap_or_default();
    // A blank page of this size takes about 20 kB.
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 100_000, "{}: {told}", bytes.len());
    match std::env::var_os("RISKFT_KEEP_SCREENSHOT") {
        Some(folder) => {
            drop(std::fs::copy(&shot, std::path::Path::new(&folder).join("report.png")))
        }
        None => println!("the screenshot of the report takes {} bytes", bytes.len()),
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
