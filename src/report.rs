//! riskft_report and riskft_plot: what the catalogue keeps of a version, as a page and as pictures.
//!
//! Rows come through the views, with the current role's rights: a page never tells more than they
//! do.

use pgrx::pg_extern;
use riskft_core::protocol::Figures;
use riskft_core::refusal::{code, Refusal, Result};
use riskft_core::report::{page, picture, DriftPoint, Kind, Report, Table};

use crate::alias::ModelName;
use crate::argument::given;
use crate::catalog;
use crate::error::or_raise;
use crate::figures;
use crate::spi::{self, Param};

const CALL: &str = "SELECT riskft_report('model'), riskft_plot('model', 'roc').";

#[pg_extern(sql = false)]
fn riskft_report(model: Option<&str>) -> String {
    or_raise(given("model", model, CALL).and_then(report))
}

#[pg_extern(sql = false)]
fn riskft_plot(model: Option<&str>, kind: Option<&str>) -> String {
    or_raise(given("model", model, CALL).and_then(|m| plot(m, given("kind", kind, CALL)?)))
}

/// A version that the current role may read the figures of.
struct Version<'a> {
    model: &'a str,
    version: i32,
}

fn plot(model: &str, kind: &str) -> Result<String> {
    let kind = Kind::of(kind).ok_or_else(|| unknown_kind(kind))?;
    let of = Version::find(model)?;
    let drift = match kind {
        Kind::Drift => of.drift()?,
        _ => Vec::new(),
    };
    picture(kind, &of.figures()?, &drift).map_err(|why| {
        Refusal::new(
            code::NOT_IN_STATE,
            format!("version {} of model \"{}\" has no such picture", of.version, of.model),
        )
        .detail(why)
        .hint("SELECT riskft_report('model') shows the pictures that there are.")
    })
}

fn unknown_kind(kind: &str) -> Refusal {
    let known = Kind::ALL.map(Kind::name).join(", ");
    Refusal::new(code::INVALID_PARAMETER, "unknown kind of picture")
        .detail(format!("There is no picture \"{kind}\"."))
        .hint(format!("Use one of: {known}."))
}

fn report(model: &str) -> Result<String> {
    let of = Version::find(model)?;
    let table = |shown: &Shown| of.table(shown);
    Ok(page(&Report {
        model: of.model.to_owned(),
        version: of.version,
        made_at: of.made_at()?,
        version_facts: table(&VERSION)?,
        run_facts: table(&RUN)?,
        cost: table(&COST)?,
        phases: table(&PHASES)?,
        figures: of.figures()?,
        gate: table(&GATE)?,
        drift: of.drift()?,
        outcomes: table(&OUTCOMES)?,
        versions: table(&VERSIONS)?,
        deployments: table(&DEPLOYMENTS)?,
        aliases: table(&ALIASES)?,
        privileges: table(&PRIVILEGES)?,
        audit: table(&AUDIT)?,
    }))
}

impl<'a> Version<'a> {
    fn find(text: &'a str) -> Result<Self> {
        let wanted = ModelName::parse(text);
        let version = catalog::readable(&wanted)?;
        Ok(Version { model: wanted.name, version })
    }

    fn figures(&self) -> Result<Figures> {
        spi::as_owner(|| figures::read(self.model, self.version))
    }

    /// The transaction's time, so that one transaction makes one page.
    fn made_at(&self) -> Result<String> {
        let sql = format!("SELECT {}", time("now()"));
        let rows = spi::as_caller(|| {
            spi::query(&sql, &[], true, |row| row.get::<String>(1).unwrap_or_default())
        })?;
        Ok(rows.into_iter().next().unwrap_or_default())
    }

    fn table(&self, shown: &Shown) -> Result<Table> {
        let columns: Vec<String> = shown.columns.iter().map(|(_, sql)| sql.text()).collect();
        let sql = format!("SELECT ARRAY[{}]::text[] FROM {}", columns.join(", "), shown.from);
        let rows = spi::as_caller(|| {
            spi::query(&sql, &[Param::Text(self.model), Param::Int4(self.version)], true, |row| {
                row.get::<Vec<Option<String>>>(1).unwrap_or_default()
            })
        })?;
        Ok(Table {
            heads: shown.columns.iter().map(|(head, _)| (*head).to_owned()).collect(),
            rows,
        })
    }

    /// The last 50 points, the oldest first.
    fn drift(&self) -> Result<Vec<DriftPoint>> {
        spi::as_caller(|| {
            spi::query(
                "SELECT day, score, worst, psi FROM (
                     SELECT point,
                         to_char(min(measured_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day,
                         min(psi) FILTER (WHERE kind = 'score') AS score,
                         (array_agg(column_name ORDER BY psi DESC, column_name COLLATE \"C\")
                             FILTER (WHERE kind <> 'score' AND psi IS NOT NULL))[1] AS worst,
                         max(psi) FILTER (WHERE kind <> 'score') AS psi
                     FROM riskft.drift_history WHERE model = $1 AND version = $2
                     GROUP BY point ORDER BY point DESC LIMIT 50) p
                 ORDER BY point",
                &[Param::Text(self.model), Param::Int4(self.version)],
                true,
                |row| DriftPoint {
                    day: row.get(1).unwrap_or_default(),
                    score: row.get(2),
                    worst: row.get::<String>(3).zip(row.get(4)),
                },
            )
        })
    }
}

/// A time in UTC, whatever the session's settings.
fn time(sql: &str) -> String {
    format!("to_char({sql} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'")
}

/// How a column of a view is read as text.
enum Sql {
    Plain(&'static str),
    /// A float8, to six decimals.
    Figure(&'static str),
    Time(&'static str),
}

impl Sql {
    fn text(&self) -> String {
        match self {
            Sql::Plain(sql) => format!("({sql})::text"),
            Sql::Figure(sql) => format!("trim_scale(round(({sql})::numeric, 6))::text"),
            Sql::Time(sql) => time(sql),
        }
    }
}

/// Rows of views: `$1` is the model, `$2` the version.
struct Shown {
    columns: &'static [(&'static str, Sql)],
    from: &'static str,
}

use Sql::{Figure, Plain, Time};

const VERSION: Shown = Shown {
    columns: &[
        ("model", Plain("v.model")),
        ("owner", Plain("m.owner")),
        ("version", Plain("v.version")),
        ("deployed", Plain("v.deployed")),
        ("method", Plain("v.method")),
        ("base model", Plain("v.base")),
        ("positive label", Plain("v.positive_label")),
        ("negative label", Plain("v.negative_label")),
        ("decision threshold", Figure("v.threshold")),
        ("trained by", Plain("v.trained_by")),
        ("stored at", Time("v.created_at")),
        ("approved by", Plain("v.approved_by")),
        ("approved at", Time("v.approved_at")),
        ("SHA-256 of its file", Plain("v.digest")),
        ("bytes of its file", Plain("v.bytes")),
        ("relation", Plain("v.relation")),
        ("target", Plain("v.target")),
    ],
    from: "riskft.versions v JOIN riskft.models m USING (model)
           WHERE v.model = $1 AND v.version = $2",
};

const RUN: Shown = Shown {
    columns: &[
        ("run", Plain("r.run")),
        ("relation or query", Plain("r.relation")),
        ("target", Plain("r.target")),
        ("rows read", Plain("r.rows")),
        ("rows without a target", Plain("r.rows_unlabelled")),
        ("rows outside the test part", Plain("r.rows_train")),
        ("calibration rows", Plain("r.rows_calibration")),
        ("test rows", Plain("r.rows_test")),
        ("options", Plain("r.options")),
        ("started at", Time("r.started_at")),
        ("ended at", Time("r.ended_at")),
        ("notices", Plain("array_to_string(r.notices, E'\\n')")),
    ],
    from: "riskft.versions v JOIN riskft.runs r USING (run)
           WHERE v.model = $1 AND v.version = $2",
};

const COST: Shown = Shown {
    columns: &[
        ("device", Plain("c.device")),
        ("precision", Plain("c.\"precision\"")),
        ("threads", Plain("c.threads")),
        ("parameters", Plain("c.parameters")),
        ("trainable parameters", Plain("c.parameters_trainable")),
        ("wall seconds", Figure("c.wall_seconds")),
        ("device seconds", Figure("c.device_seconds")),
        ("CPU seconds", Figure("c.cpu_seconds")),
        ("peak memory, bytes", Plain("c.peak_memory_bytes")),
        ("price of a device hour", Figure("c.device_hour_price")),
        ("cost", Figure("c.cost")),
    ],
    from: "riskft.versions v JOIN riskft.costs c USING (run)
           WHERE v.model = $1 AND v.version = $2",
};

const PHASES: Shown = Shown {
    columns: &[("phase", Plain("p.phase")), ("wall seconds", Figure("p.seconds"))],
    from: "riskft.versions v JOIN riskft.phases p USING (run)
           WHERE v.model = $1 AND v.version = $2 ORDER BY p.ordinal",
};

const GATE: Shown = Shown {
    columns: &[
        ("rows", Plain("g.rows")),
        ("loss of AUC", Figure("g.auc_loss")),
        ("99.9% quantile of the change of a score", Figure("g.change_q999")),
        ("largest change of a score", Figure("g.change_max")),
        ("share of decisions that flip", Figure("g.flips")),
        ("passed", Plain("g.passed")),
    ],
    from: "riskft.gates g WHERE g.model = $1 AND g.version = $2",
};

const OUTCOMES: Shown = Shown {
    columns: &[
        ("measured at", Time("o.measured_at")),
        ("relation", Plain("o.relation")),
        ("period", Plain("coalesce(o.period, 'all')")),
        ("rows", Plain("o.rows")),
        ("AUC", Figure("o.auc")),
        ("mean score", Figure("o.mean_score")),
        ("share of positive rows", Figure("o.mean_outcome")),
        ("ratio", Figure("o.ratio")),
        ("ECE", Figure("o.ece")),
    ],
    from: "(SELECT * FROM riskft.outcome_history WHERE model = $1 AND version = $2
            ORDER BY point DESC, begins DESC NULLS FIRST LIMIT 50) o",
};

const VERSIONS: Shown = Shown {
    columns: &[
        ("version", Plain("v.version")),
        ("deployed", Plain("v.deployed")),
        ("stored at", Time("v.created_at")),
        ("trained by", Plain("v.trained_by")),
        ("approved by", Plain("v.approved_by")),
        ("approved at", Time("v.approved_at")),
        ("method", Plain("v.method")),
        ("test AUC", Figure("v.test_auc")),
        ("test KS", Figure("v.test_ks")),
        ("test Brier", Figure("b.value")),
        ("test ECE", Figure("e.value")),
        ("relation", Plain("v.relation")),
    ],
    from: "(SELECT * FROM riskft.versions WHERE model = $1 ORDER BY version DESC LIMIT 100) v
           LEFT JOIN riskft.metrics b ON b.model = v.model AND b.version = v.version
               AND b.part = 'test' AND b.metric = 'brier'
           LEFT JOIN riskft.metrics e ON e.model = v.model AND e.version = v.version
               AND e.part = 'test' AND e.metric = 'ece'
           WHERE $2 IS NOT NULL ORDER BY v.version DESC",
};

const DEPLOYMENTS: Shown = Shown {
    columns: &[
        ("version", Plain("d.version")),
        ("action", Plain("d.action")),
        ("role", Plain("d.role")),
        ("at", Time("d.deployed_at")),
        ("reason", Plain("d.reason")),
    ],
    from: "riskft.deployments d WHERE d.model = $1 AND $2 IS NOT NULL
           ORDER BY d.deployed_at DESC LIMIT 100",
};

const ALIASES: Shown = Shown {
    columns: &[
        ("alias", Plain("a.alias")),
        ("version", Plain("a.version")),
        ("role", Plain("a.role")),
        ("set at", Time("a.set_at")),
        ("reason", Plain("a.reason")),
    ],
    from: "riskft.aliases a WHERE a.model = $1 AND $2 IS NOT NULL
           ORDER BY a.alias COLLATE \"C\" LIMIT 100",
};

const PRIVILEGES: Shown = Shown {
    columns: &[
        ("role", Plain("p.role")),
        ("privilege", Plain("p.privilege")),
        ("granted by", Plain("p.granted_by")),
        ("granted at", Time("p.granted_at")),
    ],
    from: "riskft.privileges p WHERE p.model = $1 AND $2 IS NOT NULL
           ORDER BY p.role COLLATE \"C\", p.privilege LIMIT 100",
};

/// Not of a model that was dropped, whose name this one has.
const AUDIT: Shown = Shown {
    columns: &[
        ("at", Time("a.at")),
        ("login", Plain("a.login")),
        ("role", Plain("a.role")),
        ("action", Plain("a.action")),
        ("version", Plain("a.version")),
        ("reason", Plain("a.reason")),
        ("detail", Plain("a.detail")),
    ],
    from: "riskft.audit a JOIN riskft.models m ON m.model = a.model AND a.at >= m.created_at
           WHERE a.model = $1 AND $2 IS NOT NULL ORDER BY a.entry DESC LIMIT 100",
};
