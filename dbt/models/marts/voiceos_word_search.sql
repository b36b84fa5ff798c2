WITH found AS (
    SELECT conversation_id
    FROM {{ ref('stg_voiceos__conversation_messages') }}
    WHERE role = 'user' AND lower(content) LIKE '%{{ var("voiceos_word") | lower }}%'
    GROUP BY conversation_id
    ORDER BY {{ dbt.hash('conversation_id') }}
    LIMIT 5
)
SELECT conversation_id, ordinal, role, content
FROM {{ ref('stg_voiceos__conversation_messages') }}
WHERE conversation_id IN (SELECT conversation_id FROM found)
ORDER BY conversation_id, ordinal
