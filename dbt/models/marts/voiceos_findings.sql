SELECT 'stuck' AS finding, status AS what, count(*) AS conversations FROM {{ ref('stg_voiceos__conversations') }}
WHERE status <> 'ended' AND coalesce(started_at, _interval_end) < {{ dbt.dateadd('day', -1, '_exported_at') }} GROUP BY status
UNION ALL
SELECT 'ended, and no cost after an hour', account_id, count(*) FROM {{ ref('stg_voiceos__conversations') }}
WHERE total_cost IS NULL AND ended_at < {{ dbt.dateadd('hour', -1, '_exported_at') }} GROUP BY account_id
UNION ALL
SELECT 'new value', concat('type: ', type), count(*) FROM {{ ref('stg_voiceos__conversations') }}
WHERE type NOT IN ('inbound_phone_call', 'outbound_phone_call', 'web_call') GROUP BY type
UNION ALL
SELECT 'new value', concat('status: ', status), count(*) FROM {{ ref('stg_voiceos__conversations') }}
WHERE status NOT IN ('queued', 'started', 'ended') GROUP BY status
UNION ALL
SELECT 'new value', concat('ended_reason: ', ended_reason), count(*) FROM {{ ref('stg_voiceos__conversations') }}
WHERE ended_reason NOT IN ('agent_ended', 'user_ended', 'unknown') GROUP BY ended_reason
UNION ALL
SELECT 'kept in extra', name, count(*) FROM ({{ voiceos.json_keys(ref('stg_voiceos__conversations'), 'extra') }}) AS keys
GROUP BY name
UNION ALL
SELECT 'the parts are not the total', agent_id, count(*) FROM {{ ref('stg_voiceos__conversations') }}
JOIN (
    SELECT conversation_id, sum(cost) AS parts FROM {{ ref('stg_voiceos__conversation_costs') }} GROUP BY conversation_id
) AS sums ON conversation_id = id
WHERE abs(total_cost - parts) > 0.0001 GROUP BY agent_id
