//! riskft_update beside the version that it goes on from and a training on all rows, out of time.

use riskft_tests::{fixture, Cluster, Database, Session};

use crate::verdict;

const OLD: &str = "SELECT * FROM loans WHERE approved_on < ''2005-01-01''";
const NEW: &str =
    "SELECT * FROM loans WHERE approved_on >= ''2005-01-01'' AND approved_on < ''2007-01-01''";
const BOTH: &str = "SELECT * FROM loans WHERE approved_on < ''2007-01-01''";
const NEXT: &str = "loans WHERE approved_on >= '2007-01-01' AND approved_on < '2008-01-01'";
/// Of the update's processor seconds in those of a training.
const TARGET: f64 = 0.25;

pub fn measure() -> String {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    fixture::loans(&database, fixture::LOAN_ROWS);
    let mut session = database.analyst();
    let train = |relation: &str| {
        format!(
            "CALL riskft_train('m', '{relation}', 'defaulted', exclude => '{{loan_id}}', method => 'none',
                 options => '{{\"deploy\": \"never\", \"seed\": 1}}')"
        )
    };
    session.run(&train(OLD));
    session.run("SELECT riskft_deploy('m', 1)");
    session.run(&format!("CALL riskft_update('m', '{NEW}', options => '{{\"seed\": 1}}')"));
    session.run(&train(BOTH));
    let count = |session: &mut Session, of: &str| -> i64 {
        session.value(&format!("SELECT count(*) FROM ({}) t", of.replace("''", "'")))
    };
    let (old, new) = (count(&mut session, OLD), count(&mut session, NEW));
    let next: i64 = session.value(&format!("SELECT count(*) FROM {NEXT}"));
    let names = ["the version to 2004", "updated", "trained again"];
    let mut cpu = Vec::new();
    let mut lines = Vec::new();
    for (version, name) in (1..).zip(names) {
        let figures = Figures::of(&mut session, version);
        lines.push(figures.line(name));
        cpu.push(figures.cpu);
    }
    let told: String = session.value(
        "SELECT concat(CASE WHEN bool_or(v.deployed) THEN 'deployed' ELSE 'kept as challenger' END, ': ',
                    (SELECT n FROM riskft.runs r, unnest(r.notices) n WHERE r.kind = 'update' AND n LIKE 'version 2%'))
         FROM riskft.versions v WHERE v.version = 2",
    );
    let share = cpu[1] / cpu[2];
    format!(
        "## Updates: loans approved to 2004 ({old}), then those of 2005 and 2006 ({new}), tested on 2007 ({next})\n\n\
         | version, method none | AUC | log-loss | mean score / mean outcome | CPU s |\n|---|---|---|---|---|\n{}\n\n\
         * The update takes **{share:.2}** of the training's processor time (target: at most {TARGET}): {}\n\
         * It is {told}\n",
        lines.join("\n"),
        verdict(share <= TARGET)
    )
}

struct Figures {
    auc: f64,
    log_loss: f64,
    ratio: f64,
    cpu: f64,
}

impl Figures {
    fn of(session: &mut Session, version: i32) -> Self {
        let model = format!("m@{version}");
        let relation = format!("SELECT * FROM {NEXT}");
        let mut figure = |metric: &str| -> f64 {
            session.value_of(
                "SELECT value FROM riskft_evaluate($1, $2, 'defaulted') WHERE metric = $3",
                &[&model, &relation, &metric],
            )
        };
        let (auc, log_loss) = (figure("auc"), figure("log_loss"));
        let ratio = session.value_of(
            &format!(
                "SELECT avg(risk_score($1, t)) / avg(t.defaulted::integer)::float8
                 FROM (SELECT * FROM {NEXT}) t"
            ),
            &[&model],
        );
        let cpu = session
            .value(&format!("SELECT cpu_seconds FROM riskft.costs WHERE version = {version}"));
        Figures { auc, log_loss, ratio, cpu }
    }

    fn line(&self, name: &str) -> String {
        format!(
            "| {name} | {:.4} | {:.4} | {:.3} | {:.1} |",
            self.auc, self.log_loss, self.ratio, self.cpu
        )
    }
}
