-- What trainings and scores cost, and how ways of training compare.

CREATE VIEW riskft.costs WITH (security_barrier) AS
SELECT r.run_id AS run, r.model_name AS model, v.version, r.method,
       r.options ->> 'text' AS text,
       (r.ledger ->> 'rows')::bigint AS rows,
       (r.ledger ->> 'tokens')::bigint AS tokens,
       (r.ledger ->> 'tokens_distinct')::bigint AS tokens_distinct,
       (r.ledger ->> 'parameters')::bigint AS parameters,
       (r.ledger ->> 'parameters_trainable')::bigint AS parameters_trainable,
       (r.ledger ->> 'parameters_trainable')::float8
           / nullif((r.ledger ->> 'parameters')::float8, 0::float8) AS trainable_share,
       r.ledger ->> 'device' AS device,
       r.ledger ->> 'precision' AS "precision",
       (r.ledger ->> 'threads')::integer AS threads,
       (r.ledger ->> 'device_seconds')::float8 AS device_seconds,
       (r.ledger ->> 'cpu_seconds')::float8 AS cpu_seconds,
       (r.ledger ->> 'wall_seconds')::float8 AS wall_seconds,
       (r.ledger ->> 'tune_epoch_cpu_seconds')::float8 AS tune_epoch_cpu_seconds,
       (r.ledger ->> 'peak_memory_bytes')::bigint AS peak_memory_bytes,
       r.device_hour_price,
       (r.ledger ->> 'device_seconds')::float8 / 3600::float8 * r.device_hour_price AS cost,
       (r.ledger ->> 'device_seconds')::float8 / 3600::float8 AS device_hours,
       t.value AS test_auc,
       (r.ledger ->> 'device_seconds')::float8 / 3600::float8 * r.device_hour_price
           / nullif(greatest(t.value - 0.5::float8, 0::float8) * 100::float8, 0::float8)
           AS cost_per_auc_point,
       (r.ledger ->> 'score_cpu_seconds')::float8 * 1e6::float8 AS score_microseconds,
       (r.ledger ->> 'score_cpu_seconds')::float8 * 1000::float8 / 3600::float8
           * current_setting('riskft.core_hour_price', true)::float8 AS cost_per_1000_scores
FROM riskft.run r LEFT JOIN riskft.version v USING (run_id)
LEFT JOIN riskft.metric t ON t.model_id = v.model_id AND t.version = v.version
    AND t.part = 'test' AND t.metric = 'auc'
WHERE r.state = 'done' AND r.run_id IN (SELECT x.run_id FROM riskft.visible_run x);
COMMENT ON VIEW riskft.costs IS
    'What each of your trainings, reductions, selections and estimates used, and its cost at riskft.device_hour_price of the day';
COMMENT ON COLUMN riskft.costs.run IS 'Number of the run';
COMMENT ON COLUMN riskft.costs.device_hours IS 'device_seconds in hours';
COMMENT ON COLUMN riskft.costs.cost IS 'device_hours at the riskft.device_hour_price of the run''s day';
COMMENT ON COLUMN riskft.costs.test_auc IS 'AUC of the version on its test rows; NULL without';
COMMENT ON COLUMN riskft.costs.cost_per_auc_point IS
    'cost for each 0.01 of test_auc above 0.5; NULL where it is not above';
COMMENT ON COLUMN riskft.costs.score_microseconds IS
    'CPU time of one score by the version, mean over its test rows, measured at its training';
COMMENT ON COLUMN riskft.costs.cost_per_1000_scores IS
    '1,000 times score_microseconds at today''s riskft.core_hour_price; NULL where the session knows none';

CREATE VIEW riskft.cost_comparison WITH (security_barrier) AS
WITH arm AS (
    SELECT c.model, c.version, concat_ws(', ', c.method, c.text) AS arm,
           c.method = 'full' AS is_full, c.method = 'full' AND c.text = 'row' AS is_traditional,
           c.wall_seconds AS seconds, c.cpu_seconds, c.tune_epoch_cpu_seconds, c.trainable_share,
           c.cost, c.test_auc
    FROM riskft.costs c
    WHERE c.version IS NOT NULL AND c.wall_seconds > 0
    UNION ALL
    SELECT m.name, b.version, 'trees alone', false, false, b.seconds, NULL, NULL, NULL,
           b.seconds / 3600::float8 * r.device_hour_price, b.test_auc
    FROM riskft.branch b
    JOIN riskft.model m USING (model_id)
    JOIN riskft.version v USING (model_id, version)
    JOIN riskft.run r USING (run_id)
    WHERE b.branch = 'trees' AND b.seconds > 0
      AND m.model_id IN (SELECT s.model_id FROM riskft.visible_model s))
SELECT a.model, a.version, a.arm, a.seconds, a.cpu_seconds, a.tune_epoch_cpu_seconds,
       a.trainable_share, a.cost, a.test_auc, f.version AS traditional_version,
       f.arm AS traditional_arm,
       1 - a.seconds / f.seconds AS saved_share,
       1 - a.tune_epoch_cpu_seconds / f.tune_epoch_cpu_seconds AS saved_share_of_an_epoch,
       a.test_auc - f.test_auc AS auc_difference
FROM arm a
LEFT JOIN LATERAL (SELECT t.* FROM arm t WHERE t.model = a.model AND t.is_full
                   ORDER BY t.is_traditional DESC, t.version DESC LIMIT 1) f ON true;
COMMENT ON VIEW riskft.cost_comparison IS
    'What each version of your models took and reached beside full fine-tuning of the same model, and its trees alone likewise';
COMMENT ON COLUMN riskft.cost_comparison.model IS 'Name of the model';
COMMENT ON COLUMN riskft.cost_comparison.version IS 'Number of the version';
COMMENT ON COLUMN riskft.cost_comparison.arm IS
    'Method and way of reading text, or trees alone: the version''s branch of trees';
COMMENT ON COLUMN riskft.cost_comparison.seconds IS 'Wall seconds of the training, or of the branch';
COMMENT ON COLUMN riskft.cost_comparison.cpu_seconds IS 'CPU seconds of the training; NULL of trees alone';
COMMENT ON COLUMN riskft.cost_comparison.tune_epoch_cpu_seconds IS
    'CPU seconds of one epoch of tuning the encoder; NULL without';
COMMENT ON COLUMN riskft.cost_comparison.trainable_share IS 'Share of parameters that were trained, 0 to 1';
COMMENT ON COLUMN riskft.cost_comparison.cost IS 'At the riskft.device_hour_price of the day';
COMMENT ON COLUMN riskft.cost_comparison.test_auc IS 'AUC on the version''s test rows';
COMMENT ON COLUMN riskft.cost_comparison.traditional_version IS
    'The model''s latest version by full fine-tuning, of whole-row text where there is one; NULL without';
COMMENT ON COLUMN riskft.cost_comparison.traditional_arm IS 'Its method and way of reading text';
COMMENT ON COLUMN riskft.cost_comparison.saved_share IS
    '1 less seconds over those of the traditional version: 0.9 is a tenth of its time';
COMMENT ON COLUMN riskft.cost_comparison.saved_share_of_an_epoch IS
    'Likewise of the CPU seconds of one epoch of tuning';
COMMENT ON COLUMN riskft.cost_comparison.auc_difference IS 'test_auc less that of the traditional version';

GRANT SELECT ON riskft.costs, riskft.cost_comparison TO PUBLIC;

CREATE FUNCTION riskft_estimate(relation text, target text, method text DEFAULT 'lora',
    positive text DEFAULT NULL, exclude text[] DEFAULT '{}', time_column text DEFAULT NULL,
    base text DEFAULT 'minilm-l6', options jsonb DEFAULT '{}',
    OUT rows bigint, OUT rows_train bigint, OUT rows_test bigint,
    OUT tokens bigint, OUT tokens_distinct bigint,
    OUT minutes float8, OUT minutes_least float8, OUT memory_bytes bigint, OUT device text,
    OUT phases jsonb, OUT run bigint)
    RETURNS record
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'riskft_estimate';
COMMENT ON FUNCTION riskft_estimate(text, text, text, text, text[], text, text, jsonb) IS
    'What riskft_train would take with the same arguments: rows, encoder tokens, minutes and memory, from some of its steps taken on this machine; minutes_least holds where text adds nothing and the encoder is not tuned';
