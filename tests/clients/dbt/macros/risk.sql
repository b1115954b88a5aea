{# A new version of the model; dbt runs a hook in a transaction, and commits it. The version is not
   deployed by itself: the table that is scored with it does that. #}
{% macro train(wait) %}
CALL riskft_train('{{ var("model") }}', 'public.loans', 'defaulted', exclude => '{loan_id,disbursed}',
    method => 'none', wait => {{ wait }}, options =>
    '{"deploy": "never", "seed": {{ var("seed") }}, "head_epochs": 3, "hidden": 16, "members": 1,
      "gate": {"auc_loss": 1, "flips": 1}}')
{% endmacro %}

{# The newest version, asked for when the statement is made. #}
{% macro newest() %}
{%- if execute -%}
{{ run_query("SELECT max(version) FROM riskft.versions WHERE model = '" ~ var("model") ~ "'")[0][0] }}
{%- endif -%}
{% endmacro %}

{# From the commit of this transaction on, the bare model name means the newest version. #}
{% macro deploy() %}
SELECT riskft_deploy('{{ var("model") }}', {{ newest() }})
{% endmacro %}

{# Scores that look wrong are not published: the error undoes the table and the deployment. #}
{% macro check_mean() %}
DO $$ BEGIN
    IF (SELECT avg(risk) > {{ var("highest_mean") }} FROM {{ this }}) THEN
        RAISE EXCEPTION 'mean risk is too high';
    END IF;
END $$
{% endmacro %}
