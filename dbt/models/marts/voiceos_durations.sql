SELECT type, count(*) AS conversations,
       count(started_at) * 1.0 / count(*) AS connect_rate,
       count(CASE WHEN duration_seconds < 10 THEN 1 END) * 1.0 / nullif(count(duration_seconds), 0) AS short_share,
       count(CASE WHEN duration_seconds > max_duration_seconds - 1 THEN 1 END) * 1.0
           / nullif(count(duration_seconds), 0) AS cut_off_share,
       {{ voiceos.percentile('duration_seconds', 0.5) }} AS p50,
       {{ voiceos.percentile('duration_seconds', 0.9) }} AS p90,
       {{ voiceos.percentile('duration_seconds', 0.99) }} AS p99
FROM {{ ref('stg_voiceos__conversations') }}
GROUP BY type
ORDER BY type
