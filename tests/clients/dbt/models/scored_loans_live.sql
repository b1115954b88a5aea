-- Scores when it is read, with the version that is deployed then.
{{ config(materialized='view') }}

SELECT l.loan_id, risk_score('{{ var("model") }}', l) AS risk
FROM {{ source('lending', 'loans') }} AS l
-- depends_on: {{ ref('scored_loans') }}
