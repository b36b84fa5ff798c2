SELECT CAST(coalesce(started_at, _interval_start) AS date) AS day, account_id, coalesce(agent_id, '(inline)') AS agent,
       count(*) AS conversations, sum(total_cost) AS dollars,
       count(CASE WHEN status = 'ended' AND total_cost IS NULL THEN 1 END) AS not_priced_yet
FROM {{ ref('stg_voiceos__conversations') }}
GROUP BY 1, 2, 3
ORDER BY day, dollars DESC NULLS LAST
