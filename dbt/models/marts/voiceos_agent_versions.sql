SELECT agent_id, substring(used.prompt_hash, 1, 8) AS prompt,
       substring(used.agent_config_hash, 1, 8) AS configuration,
       max({{ voiceos.json_text('agent_config', 'metadata', 'prompt_version') }}) AS label,
       min(started_at) AS first_used, count(*) AS ended, avg(duration_seconds) AS seconds, avg(total_cost) AS dollars,
       avg(CASE WHEN ended_reason = 'user_ended' THEN 1.0 WHEN ended_reason IS NOT NULL THEN 0.0 END) AS user_ended_share
FROM {{ ref('stg_voiceos__conversations') }} AS used
JOIN {{ ref('stg_voiceos__agent_configs') }} AS configs ON configs.agent_config_hash = used.agent_config_hash
WHERE status = 'ended'
GROUP BY agent_id, used.prompt_hash, used.agent_config_hash
ORDER BY agent_id, first_used
