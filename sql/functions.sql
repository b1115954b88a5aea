-- The SQL surface, in the schema that the extension is created in.

CREATE PROCEDURE riskft_train(
    model text, relation text, target text,
    positive text DEFAULT NULL, exclude text[] DEFAULT '{}', time_column text DEFAULT NULL,
    method text DEFAULT 'lora', base text DEFAULT 'minilm-l6', options jsonb DEFAULT '{}',
    wait boolean DEFAULT true,
    INOUT version integer DEFAULT NULL, INOUT auc float8 DEFAULT NULL,
    INOUT ks float8 DEFAULT NULL, INOUT run bigint DEFAULT NULL)
    LANGUAGE c AS 'MODULE_PATHNAME', 'riskft_train';
COMMENT ON PROCEDURE riskft_train IS
    'Train a version of a model on a table, view or SELECT; returns version, test AUC, test KS and run';

CREATE FUNCTION riskft_wait(run bigint, timeout interval DEFAULT NULL) RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'riskft_wait_wrapper';
COMMENT ON FUNCTION riskft_wait(bigint, interval) IS
    'Wait for the end of a run, or for the time-out; returns the state that the run is in then';

CREATE FUNCTION riskft_cancel(run bigint) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'riskft_cancel_wrapper';
COMMENT ON FUNCTION riskft_cancel(bigint) IS
    'Cancel a queued or running run, or its search alone under search.keep_on_cancel; false when it has ended already';

CREATE FUNCTION risk_score(model text, t anyelement) RETURNS float8
    LANGUAGE c STABLE PARALLEL SAFE COST 400 AS 'MODULE_PATHNAME', 'risk_score';
COMMENT ON FUNCTION risk_score(text, anyelement) IS
    'Calibrated probability of the positive class for a row; columns are matched by name';

CREATE FUNCTION risk_score_json(model text, features jsonb) RETURNS float8
    LANGUAGE c STABLE PARALLEL SAFE COST 400 AS 'MODULE_PATHNAME', 'risk_score_json';
COMMENT ON FUNCTION risk_score_json(text, jsonb) IS
    'Calibrated probability of the positive class for a JSON object; keys are matched by column name';

CREATE FUNCTION riskft_evaluate(model text, relation text, target text,
    OUT metric text, OUT value float8, OUT ci_low float8, OUT ci_high float8)
    RETURNS SETOF record
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 11 COST 1000000
    AS 'MODULE_PATHNAME', 'riskft_evaluate_wrapper';
COMMENT ON FUNCTION riskft_evaluate IS
    'Figures of a model on the labelled rows of a table, view or SELECT';

CREATE FUNCTION riskft_grant(model text, role text, privilege text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'riskft_grant_wrapper';
COMMENT ON FUNCTION riskft_grant(text, text, text) IS
    'Let a role, or public, score, train or deploy a model of yours, or score (project) by a reducer';

CREATE FUNCTION riskft_revoke(model text, role text, privilege text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'riskft_revoke_wrapper';
COMMENT ON FUNCTION riskft_revoke(text, text, text) IS
    'Take back what riskft_grant gave, from the next statement on';

CREATE FUNCTION riskft_set_owner(model text, role text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'riskft_set_owner_wrapper';
COMMENT ON FUNCTION riskft_set_owner(text, text) IS
    'Give a model or reducer to another role; the caller must be a member of both';

CREATE FUNCTION riskft_export_model(model text) RETURNS bytea
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'riskft_export_model_wrapper';
COMMENT ON FUNCTION riskft_export_model(text) IS
    'A version of a model of yours as bytes, for riskft_import_model in another database';

CREATE FUNCTION riskft_import_model(model text, bytes bytea) RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'riskft_import_model_wrapper';
COMMENT ON FUNCTION riskft_import_model(text, bytea) IS
    'Store what riskft_export_model returned as a version of a new model or of one of yours; returns its number';
