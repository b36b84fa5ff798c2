WITH changes AS (
    SELECT started_at AS moment, 1 AS started, CASE WHEN ended_at IS NULL THEN 0 ELSE 1 END AS difference
    FROM {{ ref('stg_voiceos__conversations') }} WHERE started_at IS NOT NULL
    UNION ALL
    SELECT ended_at AS moment, 0 AS started, -1 AS difference
    FROM {{ ref('stg_voiceos__conversations') }} WHERE started_at IS NOT NULL AND ended_at IS NOT NULL
), counted AS (
    SELECT changes.*, sum(difference) OVER (ORDER BY moment, difference ROWS UNBOUNDED PRECEDING) AS running
    FROM changes
)
SELECT {{ dbt.date_trunc('hour', 'moment') }} AS hour, sum(started) AS started,
       max(greatest(running, running - difference)) AS most_at_once
FROM counted
GROUP BY 1
ORDER BY hour
