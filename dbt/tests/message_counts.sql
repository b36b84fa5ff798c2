{# Each conversation has as many messages as its message_count. #}
SELECT conversations.id, conversations.message_count, count(messages.conversation_id) AS messages
FROM {{ ref('stg_voiceos__conversations') }} AS conversations
LEFT JOIN {{ ref('stg_voiceos__conversation_messages') }} AS messages ON messages.conversation_id = conversations.id
GROUP BY conversations.id, conversations.message_count
HAVING coalesce(conversations.message_count, 0) <> count(messages.conversation_id)
