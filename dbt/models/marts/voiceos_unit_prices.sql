WITH weekly AS (
    SELECT CAST({{ dbt.date_trunc('week', 'started_at') }} AS date) AS week, component, provider, own_key, unit,
           sum(cost) AS dollars, sum(quantity) AS quantity, sum(duration_seconds) / 60 AS minutes
    FROM {{ ref('stg_voiceos__conversation_costs') }} JOIN {{ ref('stg_voiceos__conversations') }} ON id = conversation_id
    GROUP BY 1, 2, 3, 4, 5
), priced AS (
    SELECT weekly.*, dollars / nullif(sum(dollars) OVER (PARTITION BY week), 0) AS share,
           dollars / nullif(minutes, 0) AS dollars_per_minute,
           dollars / nullif(quantity, 0) AS unit_price
    FROM weekly
)
SELECT priced.*,
       unit_price / nullif(lag(unit_price) OVER (PARTITION BY component, provider, own_key ORDER BY week), 0) - 1 AS drift
FROM priced
ORDER BY week, dollars DESC NULLS LAST
