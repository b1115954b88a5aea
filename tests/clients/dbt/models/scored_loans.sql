{{ config(materialized='table', post_hook=["{{ deploy() }}", "{{ check_mean() }}"]) }}

SELECT l.loan_id, l.state, risk_score('{{ var("scored_by") or var("model") ~ "@" ~ newest() }}', l) AS risk
FROM {{ source('lending', 'loans') }} AS l
