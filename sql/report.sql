-- The model file of a version: its page, its pictures, and the bins that its curves are drawn from.

CREATE TABLE riskft.curve (
    model_id bigint NOT NULL,
    version integer NOT NULL,
    bin integer NOT NULL,
    upper float8 NOT NULL,
    mean_score float8 NOT NULL,
    rows bigint NOT NULL,
    positives bigint NOT NULL,
    PRIMARY KEY (model_id, version, bin)
);
COMMENT ON TABLE riskft.curve IS 'Scores of the test rows of a version beside their outcomes, in bins';
COMMENT ON COLUMN riskft.curve.model_id IS 'Model of the version';
COMMENT ON COLUMN riskft.curve.version IS 'Version that was measured';
COMMENT ON COLUMN riskft.curve.bin IS 'Place of the bin by rising score, from 1; at most 50';
COMMENT ON COLUMN riskft.curve.upper IS
    'Upper edge: halfway to the next bin''s lowest calibrated score; of the last bin where evenly spread scores would end';
COMMENT ON COLUMN riskft.curve.mean_score IS 'Mean calibrated score in it';
COMMENT ON COLUMN riskft.curve.rows IS 'Test rows in it, at least 10';
COMMENT ON COLUMN riskft.curve.positives IS 'Positive ones among them';

SELECT pg_extension_config_dump('riskft.curve', '');

CREATE VIEW riskft.curves WITH (security_barrier) AS
SELECT m.name AS model, c.version, c.bin, c.upper, c.mean_score, c.rows, c.positives
FROM riskft.curve c JOIN riskft.model m USING (model_id)
WHERE m.model_id IN (SELECT s.model_id FROM riskft.visible_model s);
COMMENT ON VIEW riskft.curves IS
    'Scores of the test rows of each version of your models beside their outcomes, in at most 50 bins of about equal count; what riskft_plot draws from';
COMMENT ON COLUMN riskft.curves.model IS 'Name of the model';
COMMENT ON COLUMN riskft.curves.version IS 'Number of the version';
COMMENT ON COLUMN riskft.curves.bin IS 'Place of the bin by rising score, from 1';
COMMENT ON COLUMN riskft.curves.upper IS
    'Upper edge: halfway to the next bin''s lowest calibrated score; of the last bin where evenly spread scores would end. Rows of one score are in one bin';
COMMENT ON COLUMN riskft.curves.mean_score IS 'Mean calibrated score in it';
COMMENT ON COLUMN riskft.curves.rows IS 'Test rows in it, at least 10';
COMMENT ON COLUMN riskft.curves.positives IS 'Positive ones among them';

GRANT SELECT ON riskft.curves TO PUBLIC;

CREATE FUNCTION riskft_report(model text) RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE COST 100000 AS 'MODULE_PATHNAME', 'riskft_report_wrapper';
COMMENT ON FUNCTION riskft_report(text) IS
    'The model file of a version as one HTML page with its pictures: data, figures, drift, versions and approvals, cost, limits of use';

CREATE FUNCTION riskft_plot(model text, kind text) RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE COST 10000 AS 'MODULE_PATHNAME', 'riskft_plot_wrapper';
COMMENT ON FUNCTION riskft_plot(text, text) IS
    'A picture of a version as SVG: roc, precision_recall, calibration, ks, scores, lift, importance, effect or drift';
