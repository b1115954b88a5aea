-- Reducers: principal components of number columns, and rows projected on them.

CREATE PROCEDURE riskft_reduce(
    name text, relation text, components float8,
    exclude text[] DEFAULT '{}', options jsonb DEFAULT '{}',
    INOUT kept integer DEFAULT NULL, INOUT share float8 DEFAULT NULL,
    INOUT run bigint DEFAULT NULL)
    LANGUAGE c AS 'MODULE_PATHNAME', 'riskft_reduce';
COMMENT ON PROCEDURE riskft_reduce IS
    'Fit a reducer (standardised principal components) on the number columns of a table, view or SELECT; components is a count, or a share of the variance below 1; returns the components kept, their share and the run';

CREATE FUNCTION riskft_project(reducer text, t anyelement) RETURNS float8[]
    LANGUAGE c STABLE PARALLEL SAFE COST 400 AS 'MODULE_PATHNAME', 'riskft_project';
COMMENT ON FUNCTION riskft_project(text, anyelement) IS
    'Components of a row by a reducer, in the order of riskft.components; columns are matched by name';

CREATE VIEW riskft.reducers WITH (security_barrier) AS
SELECT m.name AS reducer, m.owner,
       (SELECT count(*) FROM riskft.component c WHERE c.model_id = m.model_id) AS components,
       (SELECT max(c.cumulative) FROM riskft.component c WHERE c.model_id = m.model_id) AS share,
       f.columns, f.rows, f.relation, f.run_id AS run, b.length AS bytes, f.digest, f.created_at
FROM riskft.reducer f
JOIN riskft.model m USING (model_id)
JOIN riskft.blob b USING (digest)
WHERE m.model_id IN (SELECT s.model_id FROM riskft.visible_model s);
COMMENT ON VIEW riskft.reducers IS 'Your reducers: what each keeps, and what it was fitted on';
COMMENT ON COLUMN riskft.reducers.reducer IS 'Name of the reducer';
COMMENT ON COLUMN riskft.reducers.owner IS 'Role whose members may do everything with it, and grant';
COMMENT ON COLUMN riskft.reducers.components IS 'Components that it keeps: the length of what riskft_project returns';
COMMENT ON COLUMN riskft.reducers.share IS 'Their share of the variance of all standardised columns, 0 to 1';
COMMENT ON COLUMN riskft.reducers.columns IS 'Columns that it reads';
COMMENT ON COLUMN riskft.reducers.rows IS 'Rows that it was fitted on';
COMMENT ON COLUMN riskft.reducers.relation IS 'What it was fitted on, as the caller wrote it';
COMMENT ON COLUMN riskft.reducers.run IS 'Run that made it';
COMMENT ON COLUMN riskft.reducers.bytes IS 'Length of its file';
COMMENT ON COLUMN riskft.reducers.digest IS 'SHA-256 of its file';
COMMENT ON COLUMN riskft.reducers.created_at IS 'When it was stored';

CREATE VIEW riskft.components WITH (security_barrier) AS
SELECT m.name AS reducer, c.component, c.variance, c.ratio, c.cumulative
FROM riskft.component c JOIN riskft.model m USING (model_id)
WHERE m.model_id IN (SELECT s.model_id FROM riskft.visible_model s);
COMMENT ON VIEW riskft.components IS 'Components of your reducers, and the variance that each explains';
COMMENT ON COLUMN riskft.components.reducer IS 'Name of the reducer';
COMMENT ON COLUMN riskft.components.component IS 'Number by falling variance, from 1: its place in what riskft_project returns';
COMMENT ON COLUMN riskft.components.variance IS 'Sample variance of the fitted rows'' projections';
COMMENT ON COLUMN riskft.components.ratio IS 'Share of the variance of all standardised columns, 0 to 1';
COMMENT ON COLUMN riskft.components.cumulative IS 'Share of this component and those before it';

CREATE FUNCTION riskft.stored_loadings(
    reducer text, OUT component integer, OUT column_name text, OUT mean float8,
    OUT scale float8, OUT loading float8)
    RETURNS SETOF record
    LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1000
    AS 'MODULE_PATHNAME', 'riskft_stored_loadings_wrapper';
COMMENT ON FUNCTION riskft.stored_loadings(text) IS
    'Loadings of a reducer that you own or hold a privilege on, read from its file; read riskft.loadings';

CREATE VIEW riskft.loadings WITH (security_barrier) AS
SELECT m.name AS reducer, l.component, l.column_name, l.loading, l.mean, l.scale
FROM riskft.reducer f JOIN riskft.model m USING (model_id),
     LATERAL riskft.stored_loadings(m.name) l
WHERE m.model_id IN (SELECT s.model_id FROM riskft.visible_model s);
COMMENT ON VIEW riskft.loadings IS
    'What each column weighs in each component of your reducers: a component is the sum of loading * (column - mean) / scale';
COMMENT ON COLUMN riskft.loadings.reducer IS 'Name of the reducer';
COMMENT ON COLUMN riskft.loadings.component IS 'Number of the component, from 1';
COMMENT ON COLUMN riskft.loadings.column_name IS 'Name of the column';
COMMENT ON COLUMN riskft.loadings.loading IS 'Weight of the standardised column, -1 to 1; the squares of a component''s loadings sum to 1';
COMMENT ON COLUMN riskft.loadings.mean IS 'Mean of the column; what a missing cell counts as';
COMMENT ON COLUMN riskft.loadings.scale IS 'Standard deviation of the column over all fitted rows, missing cells at the mean';

GRANT SELECT ON riskft.reducers, riskft.components, riskft.loadings TO PUBLIC;
