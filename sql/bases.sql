-- Base models: files of the server, not rows of a database.

CREATE FUNCTION riskft_import_base(name text, path text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'riskft_import_base_wrapper';
COMMENT ON FUNCTION riskft_import_base(text, text) IS
    'Check and copy a Hugging Face folder on the server (BERT, RoBERTa, DistilBERT) as a base model for riskft_train; needs pg_read_server_files; stays if the transaction rolls back';

CREATE FUNCTION riskft.found_bases(
    OUT name text, OUT architecture text, OUT layers integer, OUT width integer,
    OUT parameters bigint, OUT vocabulary integer, OUT max_tokens integer, OUT place text)
    RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 5 AS 'MODULE_PATHNAME', 'riskft_found_bases_wrapper';
COMMENT ON FUNCTION riskft.found_bases() IS 'Base models on the server; read riskft.bases';

CREATE VIEW riskft.bases AS
SELECT b.name, b.architecture, b.layers, b.width, b.parameters, b.vocabulary, b.max_tokens, b.place
FROM riskft.found_bases() b;
COMMENT ON VIEW riskft.bases IS
    'Base models that riskft_train can start from: imported by riskft_import_base, or installed with the server';
COMMENT ON COLUMN riskft.bases.architecture IS 'NULL where the folder holds no model that is read';
COMMENT ON COLUMN riskft.bases.max_tokens IS 'Tokens that a text has at most';

GRANT SELECT ON riskft.bases TO PUBLIC;
