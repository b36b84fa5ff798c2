WITH daily AS (
    SELECT CAST(started_at AS date) AS day, ended_reason, count(*) AS conversations
    FROM {{ ref('stg_voiceos__conversations') }}
    WHERE ended_at IS NOT NULL
    GROUP BY 1, 2
)
SELECT daily.*, conversations * 1.0 / sum(conversations) OVER (PARTITION BY day) AS share
FROM daily
ORDER BY day, conversations DESC
