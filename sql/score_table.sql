-- Tables of scores, for what reads tables.

CREATE PROCEDURE riskft_score_table(
    model text, relation text, target_table text, key text, batch_rows integer DEFAULT 10000,
    INOUT scored bigint DEFAULT NULL, INOUT unchanged bigint DEFAULT NULL,
    INOUT removed bigint DEFAULT NULL, INOUT version integer DEFAULT NULL)
    LANGUAGE c AS 'MODULE_PATHNAME', 'riskft_score_table';
COMMENT ON PROCEDURE riskft_score_table IS
    'Write or refresh a table of a relation''s scores: new and changed rows are scored, all of them by a new version, rows that are gone are removed; returns how many, and the version';
