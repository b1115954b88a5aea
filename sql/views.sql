-- What people and BI tools read: flat columns, stable order, only what is one's own.

CREATE FUNCTION riskft.is_own(owner name) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    RETURN EXISTS (SELECT FROM pg_catalog.pg_roles r
                   WHERE r.rolname = owner AND pg_catalog.pg_has_role(r.oid, 'USAGE'));
COMMENT ON FUNCTION riskft.is_own(name) IS
    'Whether the current role has the privileges of the named owner; false for a role that does not exist';

-- What follows up to riskft.models is for the views below alone. They ask once for each role of the
-- server, not once for each row.

CREATE VIEW riskft.own_role AS
SELECT r.rolname AS role FROM pg_catalog.pg_roles r WHERE pg_catalog.pg_has_role(r.oid, 'USAGE');
COMMENT ON VIEW riskft.own_role IS 'Roles of which the current role has the privileges';

CREATE VIEW riskft.own_model AS
SELECT m.model_id, m.name, m.created_at FROM riskft.model m
WHERE m.owner IN (SELECT o.role FROM riskft.own_role o)
   OR (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = CURRENT_USER);
COMMENT ON VIEW riskft.own_model IS
    'Models and reducers whose owner''s privileges the current role has; all for a superuser';

CREATE VIEW riskft.visible_model AS
SELECT m.model_id FROM riskft.own_model m
UNION
SELECT p.model_id FROM riskft.privilege p
WHERE p.role = 'public' OR p.role IN (SELECT o.role FROM riskft.own_role o);
COMMENT ON VIEW riskft.visible_model IS
    'Models and reducers that the current role owns or holds any privilege on';

CREATE VIEW riskft.visible_run AS
SELECT r.run_id FROM riskft.run r
WHERE r.owner IN (SELECT o.role FROM riskft.own_role o)
   OR (SELECT s.rolsuper FROM pg_catalog.pg_roles s WHERE s.rolname = CURRENT_USER)
UNION
SELECT v.run_id FROM riskft.version v JOIN riskft.own_model m USING (model_id)
UNION
-- Not by name alone: a model of the same name may have been another's, and dropped.
SELECT r.run_id FROM riskft.run r
JOIN riskft.own_model m ON m.name = r.model_name AND r.queued_at >= m.created_at;
COMMENT ON VIEW riskft.visible_run IS
    'Runs of the current role''s own, and of the models and reducers that it owns';

CREATE VIEW riskft.models WITH (security_barrier) AS
SELECT m.name AS model, m.owner, m.deployed_version,
       (SELECT count(*) FROM riskft.version v WHERE v.model_id = m.model_id) AS versions,
       m.created_at
FROM riskft.model m
WHERE m.kind = 'model' AND m.model_id IN (SELECT s.model_id FROM riskft.visible_model s);
COMMENT ON VIEW riskft.models IS 'Your models, and the version of each that scores';

CREATE FUNCTION riskft.running_state(run bigint) RETURNS text
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'riskft_running_state_wrapper';
COMMENT ON FUNCTION riskft.running_state(bigint) IS
    'State of a run whose row says running: failed where the process that worked on it is gone';

CREATE FUNCTION riskft.working(
    OUT run bigint, OUT pid integer, OUT model text, OUT owner text, OUT phase text,
    OUT done bigint, OUT total bigint, OUT epoch bigint, OUT loss float8,
    OUT validation_auc float8, OUT started_at timestamptz, OUT seconds_left float8)
    RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 5 AS 'MODULE_PATHNAME', 'riskft_working_wrapper';
COMMENT ON FUNCTION riskft.working() IS
    'Trainings under way in this database that the current role may see; read riskft.progress';

CREATE VIEW riskft.progress WITH (security_barrier) AS
SELECT w.run, w.pid, w.model, w.owner::name, w.phase, w.done, w.total, w.epoch, w.loss,
       w.validation_auc, w.started_at,
       pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - w.started_at) AS elapsed,
       pg_catalog.make_interval(secs => pg_catalog.ceil(w.seconds_left)) AS time_left
FROM riskft.working() w
UNION ALL
SELECT r.run_id, NULL, r.model_name, r.owner, 'queued', 0, 0, 0, NULL, NULL, NULL, NULL, NULL
FROM riskft.run r
WHERE r.state = 'queued'
  AND (riskft.is_own(r.owner) OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'));
COMMENT ON VIEW riskft.progress IS
    'Trainings queued or under way, reductions, selections and score tables, of your roles; of all roles for members of pg_read_all_stats';

CREATE VIEW riskft.runs WITH (security_barrier) AS
SELECT r.run_id AS run, r.kind, r.model_name AS model, r.owner, s.state, r.relation, r.target, r.method,
       r.base, r.options, r.queued_at, r.started_at, r.ended_at,
       CASE WHEN r.state = 'running' AND s.state = 'failed' THEN '57P01' ELSE r.sqlstate END AS sqlstate,
       CASE WHEN r.state = 'running' AND s.state = 'failed'
            THEN 'the process that worked on the run ended' ELSE r.error END AS error,
       r.error_detail, r.error_hint, r.notices,
       (r.ledger ->> 'rows')::bigint AS rows,
       (r.ledger ->> 'rows_unlabelled')::bigint AS rows_unlabelled,
       (r.ledger ->> 'rows_train')::bigint AS rows_train,
       (r.ledger ->> 'rows_validation')::bigint AS rows_validation,
       (r.ledger ->> 'rows_calibration')::bigint AS rows_calibration,
       (r.ledger ->> 'rows_test')::bigint AS rows_test,
       (r.ledger ->> 'head_epochs')::bigint AS head_epochs,
       (r.ledger ->> 'tune_epochs')::bigint AS tune_epochs,
       (r.ledger ->> 'auc_frozen')::float8 AS auc_frozen,
       (r.ledger ->> 'auc_tuned')::float8 AS auc_tuned,
       (r.ledger ->> 'auc_gain_se')::float8 AS auc_gain_se,
       (r.ledger ->> 'tuned_kept')::boolean AS tuned_kept,
       (r.ledger ->> 'auc_without_text')::float8 AS auc_without_text,
       (r.ledger ->> 'text_gain_se')::float8 AS text_gain_se,
       (r.ledger ->> 'text_kept')::boolean AS text_kept
FROM riskft.run r,
     LATERAL (SELECT CASE r.state WHEN 'running' THEN riskft.running_state(r.run_id)
                     ELSE r.state END AS state) s
WHERE r.run_id IN (SELECT x.run_id FROM riskft.visible_run x);
COMMENT ON VIEW riskft.runs IS
    'Your trainings, reductions and selections: state, rows of each part, and what tuning the encoder brought';
COMMENT ON COLUMN riskft.runs.kind IS 'train, update, reduce, select or estimate; a reduction has neither target nor method, a selection no method';
COMMENT ON COLUMN riskft.runs.model IS 'Name of the model or reducer; NULL of a selection or an estimate';
COMMENT ON COLUMN riskft.runs.rows_train IS
    'Rows outside the test part; each trains the models of all folds but its own';
COMMENT ON COLUMN riskft.runs.rows_validation IS
    'Rows that have out-of-fold scores: the same ones, outside the test part';

CREATE VIEW riskft.phases WITH (security_barrier) AS
SELECT r.run_id AS run, r.model_name AS model, p.ordinal::integer AS ordinal,
       p.phase ->> 0 AS phase, (p.phase ->> 1)::float8 AS seconds
FROM riskft.run r,
     jsonb_array_elements(r.ledger -> 'phases') WITH ORDINALITY AS p(phase, ordinal)
WHERE r.run_id IN (SELECT x.run_id FROM riskft.visible_run x);
COMMENT ON VIEW riskft.phases IS
    'Where the time of each of your trainings, reductions and selections went, in wall seconds';

CREATE VIEW riskft.features WITH (security_barrier) AS
SELECT m.name AS model, f.version, f.ordinal, f.column_name, f.role, f.why, f.missing_share,
       f.distinct_values, f.alone_auc
FROM riskft.feature f JOIN riskft.model m USING (model_id)
WHERE m.model_id IN (SELECT s.model_id FROM riskft.visible_model s);
COMMENT ON VIEW riskft.features IS 'Columns that each version of your models saw, their role and why';

CREATE VIEW riskft.metrics WITH (security_barrier) AS
SELECT m.name AS model, t.version, t.part, t.metric, t.value, t.ci_low, t.ci_high
FROM riskft.metric t JOIN riskft.model m USING (model_id)
WHERE m.model_id IN (SELECT s.model_id FROM riskft.visible_model s);
COMMENT ON VIEW riskft.metrics IS
    'Figures of each version on its train rows (in sample), validation rows (out of fold), calibration rows (only with a time column and options.calibrate = ''recent'') and test rows; of an update also on the replayed test rows of the versions before';
COMMENT ON COLUMN riskft.metrics.part IS
    'train: scored by the version, which learnt from them; validation: each row by models that did not see it (where the encoder is tuned, the rows of one fold); test: nothing was fitted on them; replay: test rows of the versions that an update goes on from';

CREATE VIEW riskft.branches WITH (security_barrier) AS
SELECT m.name AS model, b.version, b.ordinal, b.branch, b.weight, b.auc, b.auc_without, b.gain,
       b.gain_se, b.test_auc, b.test_log_loss, b.seconds, b.why
FROM riskft.branch b JOIN riskft.model m USING (model_id)
WHERE m.model_id IN (SELECT s.model_id FROM riskft.visible_model s);
COMMENT ON VIEW riskft.branches IS
    'What each version of your models is blended of, with the baseline beside it: weights, figures alone and without, and why';
COMMENT ON COLUMN riskft.branches.model IS 'Name of the model';
COMMENT ON COLUMN riskft.branches.version IS 'Number of the version';
COMMENT ON COLUMN riskft.branches.ordinal IS 'Place in the order of the view, from 1';
COMMENT ON COLUMN riskft.branches.branch IS
    'network, trees, grams (counted n-grams), text (the encoder), or baseline, which is in no version';
COMMENT ON COLUMN riskft.branches.weight IS
    'Factor of its logit in the version''s; 0 for what is not in the version';
COMMENT ON COLUMN riskft.branches.auc IS
    'Out-of-fold AUC of the branch alone; text may be fitted on top of the others, and alone then ranks by what those leave';
COMMENT ON COLUMN riskft.branches.auc_without IS 'Out-of-fold AUC of the version without the branch';
COMMENT ON COLUMN riskft.branches.gain IS
    'Out-of-fold AUC of the version minus auc_without: what the branch adds';
COMMENT ON COLUMN riskft.branches.gain_se IS
    'Paired standard error of the gain; a gain below it may be chance';
COMMENT ON COLUMN riskft.branches.test_auc IS 'AUC of the branch alone on the test rows';
COMMENT ON COLUMN riskft.branches.test_log_loss IS
    'Log-loss of the branch on the test rows, calibrated alone';
COMMENT ON COLUMN riskft.branches.seconds IS 'Wall seconds of its training';
COMMENT ON COLUMN riskft.branches.why IS 'What it is, and why it is in the version or not';

CREATE VIEW riskft.metrics_by_period WITH (security_barrier) AS
SELECT m.name AS model, p.version, p.part, p.period, p.begins, p.rows, p.auc, p.mean_score,
       p.mean_outcome, p.mean_score / nullif(p.mean_outcome, 0::float8) AS ratio
FROM riskft.period_metric p JOIN riskft.model m USING (model_id)
WHERE m.model_id IN (SELECT s.model_id FROM riskft.visible_model s);
COMMENT ON VIEW riskft.metrics_by_period IS
    'Figures of each version by period of its time column; empty for versions trained without one';
COMMENT ON COLUMN riskft.metrics_by_period.model IS 'Name of the model';
COMMENT ON COLUMN riskft.metrics_by_period.version IS 'Number of the version';
COMMENT ON COLUMN riskft.metrics_by_period.part IS 'validation (out of fold) or test';
COMMENT ON COLUMN riskft.metrics_by_period.period IS
    'A year, a quarter or a month: 2006, 2006-Q1 or 2006-01';
COMMENT ON COLUMN riskft.metrics_by_period.begins IS 'First day of the period';
COMMENT ON COLUMN riskft.metrics_by_period.rows IS 'Rows of the part whose time lies in the period';
COMMENT ON COLUMN riskft.metrics_by_period.auc IS 'NULL where the rows have one class';
COMMENT ON COLUMN riskft.metrics_by_period.mean_score IS 'Mean calibrated score';
COMMENT ON COLUMN riskft.metrics_by_period.mean_outcome IS 'Share of positive rows';
COMMENT ON COLUMN riskft.metrics_by_period.ratio IS
    'mean_score over mean_outcome: below 1 the version predicts too little risk; NULL without positive rows';

CREATE VIEW riskft.trials WITH (security_barrier) AS
SELECT m.name AS model, t.version, t.trial, t.rungs, t.options, t.auc, t.log_loss, t.seconds,
       t.state
FROM riskft.trial t JOIN riskft.model m USING (model_id)
WHERE m.model_id IN (SELECT s.model_id FROM riskft.visible_model s);
COMMENT ON VIEW riskft.trials IS
    'Settings that the search for each version tried; empty for versions trained without options.search';
COMMENT ON COLUMN riskft.trials.model IS 'Name of the model';
COMMENT ON COLUMN riskft.trials.version IS 'Number of the version that came out of the search';
COMMENT ON COLUMN riskft.trials.trial IS 'Number in the order in which they began, from 1';
COMMENT ON COLUMN riskft.trials.rungs IS 'Rounds of halving that it took part in';
COMMENT ON COLUMN riskft.trials.options IS 'What it changed of the run''s options';
COMMENT ON COLUMN riskft.trials.auc IS 'Out-of-fold AUC at its last rung';
COMMENT ON COLUMN riskft.trials.log_loss IS 'Out-of-fold log-loss at its last rung';
COMMENT ON COLUMN riskft.trials.seconds IS 'Wall seconds over all its rungs';
COMMENT ON COLUMN riskft.trials.state IS 'best (the version has its options), kept or dropped';

CREATE VIEW riskft.importances WITH (security_barrier) AS
SELECT m.name AS model, i.version, i.rank, i.column_name, i.mean_abs_shap, i.share
FROM riskft.importance i JOIN riskft.model m USING (model_id)
WHERE m.model_id IN (SELECT s.model_id FROM riskft.visible_model s);
COMMENT ON VIEW riskft.importances IS
    'How much each column moves the scores of each version, on test rows; empty with options.explain.rows = 0';
COMMENT ON COLUMN riskft.importances.model IS 'Name of the model';
COMMENT ON COLUMN riskft.importances.version IS 'Number of the version';
COMMENT ON COLUMN riskft.importances.rank IS 'Place among the columns, from 1, the most important';
COMMENT ON COLUMN riskft.importances.column_name IS 'Source column';
COMMENT ON COLUMN riskft.importances.mean_abs_shap IS
    'Mean magnitude of its contributions to the log odds';
COMMENT ON COLUMN riskft.importances.share IS 'Of the sum over all columns, 0 to 1';

CREATE VIEW riskft.effects WITH (security_barrier) AS
SELECT m.name AS model, e.version, e.column_name, e.ordinal, e.value, e.mean_score, e.n
FROM riskft.effect e JOIN riskft.model m USING (model_id)
WHERE m.model_id IN (SELECT s.model_id FROM riskft.visible_model s);
COMMENT ON VIEW riskft.effects IS
    'Partial dependence: mean score of the test rows with one value in a column of all of them';
COMMENT ON COLUMN riskft.effects.model IS 'Name of the model';
COMMENT ON COLUMN riskft.effects.version IS 'Number of the version';
COMMENT ON COLUMN riskft.effects.column_name IS 'Source column; texts have no effects';
COMMENT ON COLUMN riskft.effects.ordinal IS
    'Place among the column''s values, from 1: numbers and dates ascending, labels by frequency';
COMMENT ON COLUMN riskft.effects.value IS 'The value; NULL stands for a missing one';
COMMENT ON COLUMN riskft.effects.mean_score IS 'Mean calibrated score with this value in every row';
COMMENT ON COLUMN riskft.effects.n IS 'Rows that the value stands for';

CREATE VIEW riskft.gates WITH (security_barrier) AS
SELECT m.name AS model, v.version,
       (v.gate ->> 'rows')::bigint AS rows,
       (v.gate ->> 'auc_loss')::float8 AS auc_loss,
       (v.gate ->> 'change_q999')::float8 AS change_q999,
       (v.gate ->> 'change_max')::float8 AS change_max,
       (v.gate ->> 'flips')::float8 AS flips,
       (v.gate ->> 'passed')::boolean AS passed
FROM riskft.version v JOIN riskft.model m USING (model_id)
WHERE m.model_id IN (SELECT s.model_id FROM riskft.visible_model s);
COMMENT ON VIEW riskft.gates IS 'What int8 changed against the float model on the test rows of each version';

CREATE VIEW riskft.privileges WITH (security_barrier) AS
SELECT m.name AS model, p.role, p.privilege, p.granted_by, p.granted_at
FROM riskft.privilege p JOIN riskft.model m USING (model_id)
WHERE m.model_id IN (SELECT o.model_id FROM riskft.own_model o)
   OR p.role = 'public' OR p.role IN (SELECT o.role FROM riskft.own_role o);
COMMENT ON VIEW riskft.privileges IS
    'What was granted on the models and reducers that you own, and what was granted to you';
COMMENT ON COLUMN riskft.privileges.model IS 'Name of the model or reducer';

GRANT USAGE ON SCHEMA riskft TO PUBLIC;
GRANT SELECT ON riskft.models, riskft.runs, riskft.progress, riskft.phases, riskft.features,
    riskft.metrics, riskft.branches, riskft.metrics_by_period, riskft.trials,
    riskft.importances, riskft.effects, riskft.gates, riskft.privileges TO PUBLIC;
