SELECT agent_id, role, count(*) AS turns, count(*) * 1.0 / count(DISTINCT conversation_id) AS turns_each,
       sum({{ voiceos.word_count('content') }}) AS words,
       sum({{ voiceos.word_count('content') }}) * 1.0 / nullif(count(content), 0) AS words_per_turn
FROM {{ ref('stg_voiceos__conversation_messages') }} JOIN {{ ref('stg_voiceos__conversations') }} ON id = conversation_id
WHERE status = 'ended'
GROUP BY agent_id, role
ORDER BY agent_id, role
