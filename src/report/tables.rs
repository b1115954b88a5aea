//! The tables of a report: rows of views, as text.

/// A time in UTC, whatever the session's settings.
pub(super) fn time(sql: &str) -> String {
    format!("to_char({sql} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'")
}

/// How a column of a view is read as text.
pub(super) enum Sql {
    Plain(&'static str),
    /// A float8, to six decimals.
    Figure(&'static str),
    Time(&'static str),
}

impl Sql {
    pub(super) fn text(&self) -> String {
        match self {
            Sql::Plain(sql) => format!("({sql})::text"),
            Sql::Figure(sql) => format!("trim_scale(round(({sql})::numeric, 6))::text"),
            Sql::Time(sql) => time(sql),
        }
    }
}

/// Rows of views: `$1` is the model, `$2` the version.
pub(super) struct Shown {
    pub(super) columns: &'static [(&'static str, Sql)],
    pub(super) from: &'static str,
}

use Sql::{Figure, Plain, Time};

pub(super) const VERSION: Shown = Shown {
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

pub(super) const RUN: Shown = Shown {
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

pub(super) const COST: Shown = Shown {
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

pub(super) const PHASES: Shown = Shown {
    columns: &[("phase", Plain("p.phase")), ("wall seconds", Figure("p.seconds"))],
    from: "riskft.versions v JOIN riskft.phases p USING (run)
           WHERE v.model = $1 AND v.version = $2 ORDER BY p.ordinal",
};

pub(super) const GATE: Shown = Shown {
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

pub(super) const OUTCOMES: Shown = Shown {
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

pub(super) const VERSIONS: Shown = Shown {
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

pub(super) const DEPLOYMENTS: Shown = Shown {
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

pub(super) const ALIASES: Shown = Shown {
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

pub(super) const PRIVILEGES: Shown = Shown {
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
pub(super) const AUDIT: Shown = Shown {
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

pub(super) const AB_TESTS: Shown = Shown {
    columns: &[
        ("test", Plain("t.test")),
        ("running", Plain("t.running")),
        ("champion", Plain("t.champion")),
        ("challenger", Plain("t.challenger")),
        ("key", Plain("t.key_column")),
        ("mode", Plain("t.mode")),
        ("share", Figure("t.share")),
        ("started at", Time("t.started_at")),
        ("started by", Plain("t.started_by")),
        ("why", Plain("t.start_reason")),
        ("stopped at", Time("t.stopped_at")),
        ("stopped by", Plain("t.stopped_by")),
        ("why stopped", Plain("t.stop_reason")),
    ],
    from: "riskft.ab_tests t WHERE t.model = $1 AND $2 IS NOT NULL ORDER BY t.test DESC LIMIT 50",
};

/// Of the last evaluation of each of the last tests.
pub(super) const AB_RESULTS: Shown = Shown {
    columns: &[
        ("test", Plain("r.test")),
        ("evaluated at", Time("r.evaluated_at")),
        ("relation", Plain("r.relation")),
        ("arm", Plain("r.arm")),
        ("version", Plain("r.version")),
        ("metric", Plain("r.metric")),
        ("value", Figure("r.value")),
        ("95% from", Figure("r.ci_low")),
        ("to", Figure("r.ci_high")),
        ("p value", Figure("r.p_value")),
    ],
    from: "riskft.ab_results r WHERE r.model = $1 AND $2 IS NOT NULL AND r.latest
           ORDER BY r.test DESC, r.metric COLLATE \"C\", r.arm COLLATE \"C\" LIMIT 200",
};

pub(super) const COST_COMPARISON: Shown = Shown {
    columns: &[
        ("version", Plain("c.version")),
        ("way of training", Plain("c.arm")),
        ("wall seconds", Figure("c.seconds")),
        ("CPU seconds", Figure("c.cpu_seconds")),
        ("CPU seconds of an epoch of tuning", Figure("c.tune_epoch_cpu_seconds")),
        ("cost", Figure("c.cost")),
        ("test AUC", Figure("c.test_auc")),
        ("beside version", Plain("c.traditional_version")),
        ("saved share", Figure("c.saved_share")),
        ("saved share of an epoch", Figure("c.saved_share_of_an_epoch")),
        ("AUC above it", Figure("c.auc_difference")),
    ],
    from: "riskft.cost_comparison c WHERE c.model = $1 AND $2 IS NOT NULL
           ORDER BY c.version DESC, c.arm COLLATE \"C\" LIMIT 100",
};
