-- What `make demo` shows after the loans are loaded; run by psql as the analyst.
\set ON_ERROR_STOP on
\pset border 1
\pset footer off
\pset null '-'

\echo
\echo '--- training: loan_id names a row, disbursed is known only after the decision; both are left out'
CALL riskft_train('loan_risk', 'loans', 'defaulted', exclude => '{loan_id,disbursed}');

\echo
\echo '--- figures of each part of the rows: train in sample, validation out of fold'
\echo '--- (the test rows decide; nothing was fitted on them)'
SELECT part,
       (max(value) FILTER (WHERE metric = 'rows'))::bigint AS rows,
       round((max(value) FILTER (WHERE metric = 'base_rate'))::numeric, 4) AS "default rate",
       round((max(value) FILTER (WHERE metric = 'mean_score'))::numeric, 4) AS "mean score",
       round((max(value) FILTER (WHERE metric = 'auc'))::numeric, 4) AS auc,
       format('%s to %s', round((max(ci_low) FILTER (WHERE metric = 'auc'))::numeric, 3),
              round((max(ci_high) FILTER (WHERE metric = 'auc'))::numeric, 3)) AS "95% interval",
       round((max(value) FILTER (WHERE metric = 'ks'))::numeric, 4) AS ks,
       round((max(value) FILTER (WHERE metric = 'brier'))::numeric, 4) AS brier,
       round((max(value) FILTER (WHERE metric = 'ece'))::numeric, 4) AS ece
FROM riskft.metrics
WHERE model = 'loan_risk'
GROUP BY part
ORDER BY array_position(ARRAY['train', 'validation', 'calibration', 'test'], part);

\echo '--- what the version is blended of, and the baseline beside it (AUC alone, and of the rest without it)'
SELECT branch, round(weight::numeric, 3) AS weight, round(auc::numeric, 4) AS auc,
       round(auc_without::numeric, 4) AS "auc without", round(test_auc::numeric, 4) AS "test auc",
       CASE WHEN length(why) > 60 THEN left(why, 57) || '...' ELSE why END AS why
FROM riskft.branches WHERE model = 'loan_risk' ORDER BY version, ordinal;

\echo '--- int8 against the float model, on the test rows'
SELECT rows, round(auc_loss::numeric, 5) AS "auc loss", round(change_q999::numeric, 4) AS "change, 99.9%",
       round(change_max::numeric, 4) AS "change, largest", round(flips::numeric, 4) AS flips, passed
FROM riskft.gates WHERE model = 'loan_risk';

\echo '--- ten loans, scored in the query'
SELECT loan_id, left(borrower, 24) AS borrower, left(bank, 24) AS bank, state,
       approved_gross::bigint AS amount, round(risk_score('loan_risk', l)::numeric, 4) AS risk, defaulted
FROM (SELECT * FROM loans ORDER BY md5(loan_id::text) LIMIT 10) l
ORDER BY risk DESC;

\echo '--- all loans, scored in one scan'
SELECT count(*) AS loans, round(avg(risk)::numeric, 4) AS "mean risk",
       round(extract(epoch FROM clock_timestamp() - statement_timestamp()), 2) AS seconds
FROM (SELECT risk_score('loan_risk', l) AS risk FROM loans l OFFSET 0) scored;

\echo '--- where the time of the training went'
SELECT phase, round(seconds::numeric, 1) AS seconds FROM riskft.phases
WHERE model = 'loan_risk' ORDER BY run, ordinal;

\echo '--- and what it used'
SELECT device, "precision", threads, round(wall_seconds::numeric, 1) AS "wall s",
       round(cpu_seconds::numeric, 1) AS "cpu s", pg_size_pretty(peak_memory_bytes) AS "peak memory",
       tokens, tokens_distinct AS "distinct tokens", parameters,
       round(100 * trainable_share::numeric, 2) AS "% trained"
FROM riskft.costs WHERE model = 'loan_risk';
