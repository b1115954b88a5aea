-- Each loan keeps the score that it first got, and which version gave it.
{{ config(materialized='incremental', unique_key='loan_id') }}

SELECT l.loan_id, {{ newest() }} AS version, risk_score('{{ var("model") }}@{{ newest() }}', l) AS risk
FROM {{ source('lending', 'loans') }} AS l
{% if is_incremental() %}
WHERE l.loan_id NOT IN (SELECT loan_id FROM {{ this }})
{% endif %}
