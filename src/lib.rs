//! riskft: train and score credit-risk models inside PostgreSQL.
//!
//! This crate is the SQL-facing layer: when, and by whom. Arithmetic lives in `riskft-core`,
//! training in the process `riskft-trainer`.
//!
//! | module | what it does |
//! |---|---|
//! | `settings` | every riskft.* setting |
//! | `error` | refusals -> SQLSTATE, DETAIL, HINT |
//! | `spi` | queries on the catalogue, as its owner |
//! | `catalog` | versions and their files, rights |
//! | `object` | what has a name: models and reducers |
//! | `datum`, `json` | a PostgreSQL value, a jsonb object's value -> a cell |
//! | `relation` | table, view or SELECT -> typed columns and batches, as the caller |
//! | `argument`, `request` | arguments that must not be NULL; those of riskft_train |
//! | `train`, `training` | riskft_train; the steps of one training |
//! | `work` | what trainings, reductions, selections and estimates share: the trainer's place, process and answer |
//! | `feed`, `trainer_process` | rows -> the trainer; start, watch, kill it |
//! | `listener`, `progress` | what the trainer says -> NOTICEs, and riskft.progress for others |
//! | `run`, `lock` | a run's row and state; which runs are alive, how many trainers there are |
//! | `pause`, `reprieve`, `temporary` | waiting that can be cancelled; a cancel that ends a search alone; files that go with their maker |
//! | `queue`, `worker` | runs that do not wait, riskft_cancel, riskft_wait; their workers |
//! | `base`, `import` | base models: where they lie; riskft_import_base |
//! | `publish` | verify, store, switch: one transaction |
//! | `figures` | what a version reached and saw: its rows, written and read |
//! | `model_cache` | stored model files -> memory maps, shared by all backends |
//! | `call_site`, `row` | functions of a name: what they resolved; the cells of a row, by column name |
//! | `meaning` | what a model's name means for a row |
//! | `score` | risk_score, risk_score_json |
//! | `score_table` | riskft_score_table |
//! | `reduce`, `project` | riskft_reduce; riskft_project, riskft.loadings |
//! | `select` | riskft_select |
//! | `estimate` | riskft_estimate |
//! | `explain`, `table` | risk_explain, riskft_importance, riskft_effect; the rows of a set |
//! | `reason`, `points` | risk_reasons; risk_points, risk_grade |
//! | `feedback`, `update` | riskft_feedback; riskft_update |
//! | `labelled` | the labelled rows of a relation, scored |
//! | `evaluate`, `compare` | riskft_evaluate; riskft_compare |
//! | `ab` | A/B tests: riskft_ab_start, riskft_ab_stop, riskft_ab_arm, risk_score_both, riskft_ab_evaluate |
//! | `drift` | riskft_drift, riskft_monitor; the reference of a version |
//! | `report`, `curve` | riskft_report, riskft_plot; the curve of a version |
//! | `lifecycle` | riskft_deploy, riskft_rollback, riskft_drop |
//! | `deployment` | what a model's bare name means |
//! | `alias` | riskft_set_alias, riskft_drop_alias; what `model@alias` means |
//! | `fallback` | riskft_fallback and its rule; when a bare name means alias backup |
//! | `approval` | riskft_approve, and what riskft.require_approval asks for |
//! | `audit` | one entry for each change of a model or reducer |
//! | `transfer` | riskft_export_model, riskft_import_model |
//! | `rights` | riskft_grant, riskft_revoke, riskft_set_owner |

mod ab;
mod alias;
mod approval;
mod argument;
mod audit;
mod base;
mod call_site;
mod catalog;
mod compare;
mod curve;
mod datum;
mod deployment;
mod drift;
mod error;
mod estimate;
mod evaluate;
mod explain;
mod fallback;
mod feed;
mod feedback;
mod figures;
mod import;
mod json;
mod labelled;
mod lifecycle;
mod listener;
mod lock;
mod meaning;
mod model_cache;
mod object;
mod pause;
mod points;
mod progress;
mod project;
mod publish;
mod queue;
mod reason;
mod reduce;
mod relation;
mod report;
mod reprieve;
mod request;
mod rights;
mod row;
mod run;
mod score;
mod score_table;
mod select;
mod settings;
mod spi;
mod table;
mod temporary;
mod train;
mod trainer_process;
mod training;
mod transfer;
mod update;
mod work;
mod worker;

pgrx::pg_module_magic!();

pgrx::extension_sql_file!("../sql/catalog.sql", name = "catalog", bootstrap);
pgrx::extension_sql_file!("../sql/views.sql", name = "views", requires = ["catalog"]);
pgrx::extension_sql_file!("../sql/lifecycle.sql", name = "lifecycle", requires = ["views"]);
pgrx::extension_sql_file!("../sql/cost.sql", name = "cost", requires = ["views"]);
pgrx::extension_sql_file!("../sql/ab.sql", name = "ab", requires = ["views"]);
pgrx::extension_sql_file!("../sql/bases.sql", name = "bases", requires = ["views"]);
pgrx::extension_sql_file!("../sql/reduce.sql", name = "reduce", requires = ["views"]);
pgrx::extension_sql_file!("../sql/select.sql", name = "select", requires = ["views"]);
pgrx::extension_sql_file!("../sql/explain.sql", name = "explain", requires = ["views"]);
pgrx::extension_sql_file!("../sql/drift.sql", name = "drift", requires = ["views"]);
pgrx::extension_sql_file!("../sql/fallback.sql", name = "fallback", requires = ["lifecycle"]);
pgrx::extension_sql_file!("../sql/feedback.sql", name = "feedback", requires = ["views"]);
pgrx::extension_sql_file!("../sql/report.sql", name = "report", requires = ["views"]);
pgrx::extension_sql_file!("../sql/score_table.sql", name = "score_table", requires = ["views"]);
pgrx::extension_sql_file!(
    "../sql/functions.sql",
    name = "functions",
    requires = ["views"],
    finalize
);

/// Runs once in each backend that loads the library.
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    error::or_raise(settings::register());
}

/// Declares a function of this library to PostgreSQL's version-1 calling convention.
#[macro_export]
macro_rules! version_1 {
    ($finfo:ident) => {
        #[no_mangle]
        #[doc(hidden)]
        pub extern "C" fn $finfo() -> &'static pgrx::pg_sys::Pg_finfo_record {
            static RECORD: pgrx::pg_sys::Pg_finfo_record =
                pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &RECORD
        }
    };
}
