-- Explanations: what the compliance team writes, and the functions. The two tables are written by
-- the extension's owner and by whom it grants; they name models, as text, so that a text outlives a
-- model that is trained anew under its name, and one row without a model holds for all of them.

CREATE TABLE riskft.reason_code (
    model text,
    column_name text NOT NULL,
    direction text NOT NULL DEFAULT 'any'
        CHECK (direction IN ('high', 'low', 'missing', 'value', 'any')),
    code text NOT NULL,
    reason text NOT NULL
);
CREATE UNIQUE INDEX reason_code_key ON riskft.reason_code
    ((coalesce(model, '')), column_name, direction);
COMMENT ON TABLE riskft.reason_code IS 'Texts of risk_reasons, by column and by where its value lies';
COMMENT ON COLUMN riskft.reason_code.model IS
    'Name of the model; NULL holds for all, but where a model has a text of its own';
COMMENT ON COLUMN riskft.reason_code.column_name IS 'Source column';
COMMENT ON COLUMN riskft.reason_code.direction IS
    'high or low: a number or date above or below the background''s mean; missing; value: a category, flag or text; any: where no other fits';
COMMENT ON COLUMN riskft.reason_code.code IS 'Code of the reason, as the lender numbers them';
COMMENT ON COLUMN riskft.reason_code.reason IS 'The reason in words';

CREATE TABLE riskft.grade (
    model text,
    grade text NOT NULL,
    at_least float8 NOT NULL CHECK (at_least >= 0 AND at_least <= 1)
);
CREATE UNIQUE INDEX grade_key ON riskft.grade ((coalesce(model, '')), at_least);
COMMENT ON TABLE riskft.grade IS 'Grades of risk_grade, by the probability from which each holds';
COMMENT ON COLUMN riskft.grade.model IS
    'Name of the model; NULL holds for all models that have no grades of their own';
COMMENT ON COLUMN riskft.grade.grade IS 'Name of the grade';
COMMENT ON COLUMN riskft.grade.at_least IS
    'Smallest probability of the grade, 0 to 1; it ends where the next one begins';

SELECT pg_extension_config_dump('riskft.reason_code', '');
SELECT pg_extension_config_dump('riskft.grade', '');

CREATE FUNCTION risk_explain(model text, t anyelement, tokens boolean DEFAULT false,
    OUT rank integer, OUT column_name text, OUT value text, OUT contribution float8,
    OUT share float8, OUT error float8, OUT base float8)
    RETURNS SETOF record
    LANGUAGE c STABLE PARALLEL SAFE ROWS 20 COST 20000 AS 'MODULE_PATHNAME', 'risk_explain';
COMMENT ON FUNCTION risk_explain(text, anyelement, boolean) IS
    'What each column of a row adds to its score: Shapley values on the log odds, which sum to them with base';

CREATE FUNCTION risk_reasons(model text, t anyelement, at_most integer DEFAULT 4,
    OUT rank integer, OUT code text, OUT reason text, OUT column_name text, OUT effect float8)
    RETURNS SETOF record
    LANGUAGE c STABLE PARALLEL SAFE ROWS 4 COST 20000 AS 'MODULE_PATHNAME', 'risk_reasons';
COMMENT ON FUNCTION risk_reasons(text, anyelement, integer) IS
    'What raises the risk of a row most, in the words of riskft.reason_code';

CREATE FUNCTION risk_points(model text, t anyelement, base float8 DEFAULT 600,
    odds float8 DEFAULT 50, pdo float8 DEFAULT 20) RETURNS float8
    LANGUAGE c STABLE PARALLEL SAFE COST 400 AS 'MODULE_PATHNAME', 'risk_points';
COMMENT ON FUNCTION risk_points(text, anyelement, float8, float8, float8) IS
    'The score as points of a scorecard: base at good:bad odds of odds, and pdo more double the odds';

CREATE FUNCTION risk_grade(model text, t anyelement) RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE COST 400 AS 'MODULE_PATHNAME', 'risk_grade';
COMMENT ON FUNCTION risk_grade(text, anyelement) IS
    'The grade of riskft.grade that the score of a row falls in';

CREATE FUNCTION riskft_importance(model text,
    OUT rank integer, OUT column_name text, OUT mean_abs_shap float8, OUT share float8)
    RETURNS SETOF record
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 20 AS 'MODULE_PATHNAME', 'riskft_importance_wrapper';
COMMENT ON FUNCTION riskft_importance(text) IS
    'How much each column moves the scores of a model, on test rows';

CREATE FUNCTION riskft_effect(model text, column_name text,
    OUT value text, OUT mean_score float8, OUT n bigint)
    RETURNS SETOF record
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'riskft_effect_wrapper';
COMMENT ON FUNCTION riskft_effect(text, text) IS
    'Partial dependence of a model''s score on a column: mean score of test rows by its value';
