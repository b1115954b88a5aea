-- Feedback: what became of rows that were scored, by a key of theirs.

CREATE TABLE riskft.feedback (
    model_id bigint NOT NULL,
    key text NOT NULL,
    outcome text NOT NULL,
    given_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    role name NOT NULL,
    PRIMARY KEY (model_id, key)
);
COMMENT ON TABLE riskft.feedback IS 'The last word on what became of a row, by its key';
COMMENT ON COLUMN riskft.feedback.model_id IS 'Model that the outcome is for';
COMMENT ON COLUMN riskft.feedback.key IS 'Value of the key column, as text';
COMMENT ON COLUMN riskft.feedback.outcome IS 'One of the model''s two labels';
COMMENT ON COLUMN riskft.feedback.given_at IS 'When it was recorded';
COMMENT ON COLUMN riskft.feedback.role IS 'Role that recorded it';

SELECT pg_extension_config_dump('riskft.feedback', '');

-- Keys and outcomes tell of persons: whoever may score a model need not see them.
CREATE VIEW riskft.feedbacks WITH (security_barrier) AS
SELECT m.name AS model, f.key, f.outcome, f.given_at, f.role
FROM riskft.feedback f JOIN riskft.model m USING (model_id)
WHERE m.model_id IN (SELECT o.model_id FROM riskft.own_model o)
   OR m.model_id IN (SELECT p.model_id FROM riskft.privilege p WHERE p.privilege = 'train'
                     AND (p.role = 'public' OR p.role IN (SELECT o.role FROM riskft.own_role o)));
COMMENT ON VIEW riskft.feedbacks IS
    'Outcomes that riskft_feedback has recorded for models that you own or may train: the last word on each key';
COMMENT ON COLUMN riskft.feedbacks.model IS 'Name of the model';
COMMENT ON COLUMN riskft.feedbacks.key IS 'Value of the key column, as text';
COMMENT ON COLUMN riskft.feedbacks.outcome IS 'One of the model''s two labels';
COMMENT ON COLUMN riskft.feedbacks.given_at IS 'When it was recorded';
COMMENT ON COLUMN riskft.feedbacks.role IS 'Role that recorded it';
GRANT SELECT ON riskft.feedbacks TO PUBLIC;

CREATE FUNCTION riskft_feedback(model text, relation text, key text, outcome text) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000
    AS 'MODULE_PATHNAME', 'riskft_feedback_wrapper';
COMMENT ON FUNCTION riskft_feedback(text, text, text, text) IS
    'Record what became of the rows of a table, view or SELECT, by the columns key and outcome; returns the number of keys';

CREATE PROCEDURE riskft_update(
    model text, relation text, key text DEFAULT NULL, options jsonb DEFAULT '{}',
    INOUT version integer DEFAULT NULL, INOUT deployed boolean DEFAULT NULL,
    INOUT old_auc_before float8 DEFAULT NULL, INOUT old_auc_after float8 DEFAULT NULL,
    INOUT new_auc_before float8 DEFAULT NULL, INOUT new_auc_after float8 DEFAULT NULL,
    INOUT run bigint DEFAULT NULL)
    LANGUAGE c AS 'MODULE_PATHNAME', 'riskft_update';
COMMENT ON PROCEDURE riskft_update IS
    'Let the deployed version of a model learn on from new rows: labelled ones, or with a key those that riskft_feedback knows; returns the new version and AUCs of old and new rows before and after';
