-- Selection: which columns carry the risk.

CREATE FUNCTION riskft_select(relation text, target text, top_k integer DEFAULT 20,
    positive text DEFAULT NULL, exclude text[] DEFAULT '{}', time_column text DEFAULT NULL,
    options jsonb DEFAULT '{}',
    OUT rank integer, OUT column_name text, OUT mean_abs_shap float8, OUT share float8,
    OUT twin_of text)
    RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 20 COST 1000000 AS 'MODULE_PATHNAME', 'riskft_select';
COMMENT ON FUNCTION riskft_select(text, text, integer, text, text[], text, jsonb) IS
    'Which columns of a table, view or SELECT carry the risk: mean magnitude of SHAP values of a quick model on rows that it has not seen; columns that say the same are ranked as one';
