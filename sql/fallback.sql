-- Fallback: the version that a model's bare name means while its champion is not to be trusted.

CREATE TABLE riskft.fallback (
    model_id bigint PRIMARY KEY,
    rule text,
    active boolean NOT NULL DEFAULT false,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    role name NOT NULL,
    reason text,
    CHECK (rule IS NOT NULL OR active)
);
COMMENT ON TABLE riskft.fallback IS 'When a model''s bare name means its alias backup instead of the deployed version';
COMMENT ON COLUMN riskft.fallback.model_id IS 'The model';
COMMENT ON COLUMN riskft.fallback.rule IS
    'What riskft_monitor asks of each point: where it holds the fallback becomes active; NULL without one';
COMMENT ON COLUMN riskft.fallback.active IS 'Whether the bare name means alias backup now';
COMMENT ON COLUMN riskft.fallback.changed_at IS 'When the rule was set or the fallback switched, whichever was last';
COMMENT ON COLUMN riskft.fallback.role IS 'Role that did so';
COMMENT ON COLUMN riskft.fallback.reason IS 'Why, in the words of the role or of the rule';

SELECT pg_extension_config_dump('riskft.fallback', '');

CREATE VIEW riskft.fallbacks WITH (security_barrier) AS
SELECT m.name AS model, f.active, f.rule, a.version AS backup_version, m.deployed_version,
       f.changed_at, f.role, f.reason
FROM riskft.fallback f
JOIN riskft.model m USING (model_id)
LEFT JOIN riskft.alias a ON a.model_id = f.model_id AND a.alias = 'backup'
WHERE m.model_id IN (SELECT s.model_id FROM riskft.visible_model s);
COMMENT ON VIEW riskft.fallbacks IS
    'Your models that have a fallback rule or an active fallback: whether their bare name means alias backup';
COMMENT ON COLUMN riskft.fallbacks.model IS 'Name of the model';
COMMENT ON COLUMN riskft.fallbacks.active IS 'Whether the bare name means the backup now';
COMMENT ON COLUMN riskft.fallbacks.rule IS 'What makes riskft_monitor switch to the backup; NULL without one';
COMMENT ON COLUMN riskft.fallbacks.backup_version IS 'Version that alias backup means; NULL where it is not set';
COMMENT ON COLUMN riskft.fallbacks.deployed_version IS 'Version that the bare name means otherwise';
COMMENT ON COLUMN riskft.fallbacks.changed_at IS
    'When the rule was set or the fallback switched, whichever was last';
COMMENT ON COLUMN riskft.fallbacks.role IS 'Role that did so';
COMMENT ON COLUMN riskft.fallbacks.reason IS 'Why, in the words of the role or of the rule';

GRANT SELECT ON riskft.fallbacks TO PUBLIC;

CREATE FUNCTION riskft_fallback(model text, rule text, reason text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'riskft_fallback_wrapper';
COMMENT ON FUNCTION riskft_fallback(text, text, text) IS
    'Switch scoring to alias backup as soon as riskft_monitor adds a point of which the rule holds; NULL takes the rule away';

CREATE FUNCTION riskft_fallback_start(model text, reason text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'riskft_fallback_start_wrapper';
COMMENT ON FUNCTION riskft_fallback_start(text, text) IS
    'Let the bare model name mean alias backup in scoring, from the next statement on';

CREATE FUNCTION riskft_fallback_stop(model text, reason text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'riskft_fallback_stop_wrapper';
COMMENT ON FUNCTION riskft_fallback_stop(text, text) IS
    'Let the bare model name mean the deployed version again, from the next statement on';
