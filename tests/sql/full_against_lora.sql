-- Traditional full fine-tuning against riskft's default, on loans of the demo. The second training takes minutes.
-- In psql: \i tests/sql/full_against_lora.sql
\pset footer off

-- 6,500 loans to train on (of fewer the encoder is tuned once for each fold), 4,000 others to judge by.
CREATE TABLE old_loans AS SELECT * FROM loans ORDER BY md5(loan_id::text) LIMIT 6500;
CREATE TABLE new_loans AS SELECT * FROM loans ORDER BY md5(loan_id::text) OFFSET 6500 LIMIT 4000;
ANALYZE old_loans, new_loans;

-- What each will take.
SELECT 'lora' AS arm, tokens_distinct, round(minutes::numeric, 1) AS minutes, pg_size_pretty(memory_bytes) AS memory
FROM riskft_estimate('old_loans', 'defaulted', exclude => '{loan_id,disbursed}', method => 'lora',
    options => '{"epochs": 1, "keep_text": "always"}')
UNION ALL
SELECT 'full', tokens_distinct, round(minutes::numeric, 1), pg_size_pretty(memory_bytes)
FROM riskft_estimate('old_loans', 'defaulted', exclude => '{loan_id,disbursed}', method => 'full',
    options => '{"text": "row", "precision": "f32", "epochs": 1}');

-- Version 1: fields as columns, and a text encoder that is tuned by LoRA, for one epoch as the other arm is.
CALL riskft_train('arms', 'old_loans', 'defaulted', exclude => '{loan_id,disbursed}', method => 'lora',
    options => '{"epochs": 1, "keep_text": "always", "deploy": "always"}');

-- Version 2: the recipe of papers and tutorials. A row becomes one text, and all weights are tuned in f32.
CALL riskft_train('arms', 'old_loans', 'defaulted', exclude => '{loan_id,disbursed}', method => 'full',
    options => '{"text": "row", "precision": "f32", "epochs": 1, "deploy": "never",
                 "gate": {"auc_loss": 1, "change_q999": 1, "change_max": 1, "flips": 1}}');

-- What each has cost.
SELECT version, arm, round(seconds::numeric, 1) AS seconds, round(cpu_seconds::numeric) AS cpu_seconds,
       round(tune_epoch_cpu_seconds::numeric, 1) AS epoch_cpu_seconds,
       round(100 * trainable_share::numeric, 2) AS trained_percent,
       round(100 * saved_share::numeric, 1) AS saved_percent,
       round(100 * saved_share_of_an_epoch::numeric, 1) AS epoch_saved_percent
FROM riskft.cost_comparison WHERE model = 'arms' ORDER BY version, arm DESC;

-- How well each ranks and is calibrated, on the same new rows.
SELECT metric, round(a::numeric, 4) AS lora, round(b::numeric, 4) AS "full",
       round(difference::numeric, 4) AS difference, round(ci_low::numeric, 4) AS ci_low,
       round(ci_high::numeric, 4) AS ci_high, p_value
FROM riskft_compare('arms', '1', '2', 'new_loans', 'defaulted');

-- The same as an A/B test: a tenth of the loans goes to full fine-tuning, and nobody is scored twice.
SELECT riskft_ab_start('arms', '2', share => 0.1, key => 'loan_id', reason => 'full fine-tuning against LoRA');
SELECT riskft_ab_arm('arms', loan_id) AS arm, count(*), round(avg(risk_score('arms', l))::numeric, 4) AS mean_score,
       round(avg(defaulted::int), 4) AS mean_outcome
FROM new_loans l GROUP BY 1 ORDER BY 1;
SELECT * FROM riskft_ab_evaluate('arms', 'new_loans', 'defaulted');
SELECT riskft_ab_stop('arms', 'the champion stays');
