//! riskft_update beside the version that it goes on from and a training on all rows, out of time.

use riskft_tests::{fixture, Cluster, Database, Session};

use crate::verdict;

/// Of the update's processor seconds in those of a training.
const TARGET: f64 = 0.25;

/// Rows of three times.
struct Case {
    /// What it is about, for the heading.
    title: &'static str,
    table: &'static str,
    target: &'static str,
    /// The call's arguments after the target.
    arguments: &'static str,
    options: &'static str,
    /// The column of time, and where its second and third stretch begin, and the third ends.
    time: &'static str,
    begins: [&'static str; 3],
}

const LOANS: Case = Case {
    title: "loans approved to 2004, then those of 2005 and 2006, tested on 2007, method none",
    table: "loans",
    target: "defaulted",
    arguments: "exclude => '{loan_id}', method => 'none'",
    options: "{\"deploy\": \"never\", \"seed\": 1}",
    time: "approved_on",
    begins: ["2005-01-01", "2007-01-01", "2008-01-01"],
};

/// The encoder is not tuned, for adapters stay.
const COMPLAINTS: Case = Case {
    title: "complaints about fees of the first two thirds, then of the next fifth, tested on the last one, texts kept",
    table: "complaints",
    target: "fee_issue",
    arguments: "exclude => '{complaint_id,issue,sub_issue,relief}'",
    options: "{\"deploy\": \"never\", \"seed\": 1, \"epochs\": 0, \"keep_text\": \"always\"}",
    time: "received_on",
    begins: ["2023-05-24", "2023-07-09", "9999-01-01"],
};

pub fn measure() -> String {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    fixture::loans(&database, fixture::LOAN_ROWS);
    fixture::complaints(&database, fixture::COMPLAINT_ROWS);
    let mut session = database.analyst();
    [LOANS, COMPLAINTS].map(|case| case.measure(&mut session)).join("\n")
}

impl Case {
    fn measure(&self, session: &mut Session) -> String {
        let Case { table, target, arguments, options, time, begins, .. } = self;
        let [new, next, end] = begins;
        let rows = |from: &str, to: &str| {
            format!("SELECT * FROM {table} WHERE {time} >= '{from}' AND {time} < '{to}'")
        };
        let (old, new, both, next) =
            (rows("-infinity", new), rows(new, next), rows("-infinity", next), rows(next, end));
        let train = |relation: &str| {
            format!(
                "CALL riskft_train('{table}', '{}', '{target}', {arguments}, options => '{options}')",
                relation.replace('\'', "''")
            )
        };
        session.run(&train(&old));
        session.run(&format!("SELECT riskft_deploy('{table}', 1)"));
        session.run(&format!(
            "CALL riskft_update('{table}', '{}', options => '{{\"seed\": 1}}')",
            new.replace('\'', "''")
        ));
        session.run(&train(&both));
        let counts = [&old, &new, &next]
            .map(|of| -> i64 { session.value(&format!("SELECT count(*) FROM ({of}) t")) });
        let names = ["the version of old rows", "updated", "trained again"];
        let mut cpu = Vec::new();
        let mut lines = Vec::new();
        for (version, name) in (1..).zip(names) {
            let figures = Figures::of(session, (&format!("{table}@{version}"), &next, target));
            lines.push(figures.line(name));
            cpu.push(figures.cpu);
        }
        let told: String = session.value(&format!(
            "SELECT concat(CASE WHEN v.deployed THEN 'deployed' ELSE 'kept as challenger' END, ': ',
                        (SELECT n FROM unnest(r.notices) n WHERE n LIKE 'version 2%'))
             FROM riskft.versions v JOIN riskft.runs r USING (run) WHERE v.model = '{table}' AND v.version = 2"
        ));
        let changed: String = session.value(&format!(
            "SELECT coalesce(string_agg(branch, ', ' ORDER BY branch), 'none') FROM riskft.branches
             WHERE model = '{table}' AND version = 2 AND why LIKE '%continued'"
        ));
        let share = cpu[1] / cpu[2];
        format!(
            "## Updates: {}\n\n{}, {} and {} rows.\n\n\
             | version | AUC | log-loss | mean score / mean outcome | CPU s |\n|---|---|---|---|---|\n{}\n\n\
             * The update takes **{share:.2}** of the training's processor time (target: at most {TARGET}): {}\n\
             * It is {told}\n\
             * Branches of texts that it changed: {changed}\n",
            self.title,
            counts[0],
            counts[1],
            counts[2],
            lines.join("\n"),
            verdict(share <= TARGET)
        )
    }
}

struct Figures {
    auc: f64,
    log_loss: f64,
    ratio: f64,
    cpu: f64,
}

impl Figures {
    fn of(session: &mut Session, (model, relation, target): (&str, &str, &str)) -> Self {
        let mut figure = |metric: &str| -> f64 {
            session.value_of(
                "SELECT value FROM riskft_evaluate($1, $2, $3) WHERE metric = $4",
                &[&model, &relation, &target, &metric],
            )
        };
        let (auc, log_loss) = (figure("auc"), figure("log_loss"));
        let ratio = session.value_of(
            &format!(
                "SELECT avg(risk_score($1, t)) / avg(t.{target}::integer)::float8
                 FROM ({relation}) t"
            ),
            &[&model],
        );
        let cpu = session.value_of(
            "SELECT cpu_seconds FROM riskft.costs WHERE concat(model, '@', version) = $1",
            &[&model],
        );
        Figures { auc, log_loss, ratio, cpu }
    }

    fn line(&self, name: &str) -> String {
        format!(
            "| {name} | {:.4} | {:.4} | {:.3} | {:.1} |",
            self.auc, self.log_loss, self.ratio, self.cpu
        )
    }
}
