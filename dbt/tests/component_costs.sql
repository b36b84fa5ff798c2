{# The costs of a conversation are the same in both tables. #}
{% set components = ['agent', 'language_model', 'transcriber', 'voice', 'telephony'] %}
WITH in_conversations AS (
{% for component in components %}
    SELECT id, '{{ component }}' AS component, {{ component }}_cost AS cost
    FROM {{ ref('stg_voiceos__conversations') }}
    WHERE {{ component }}_cost IS NOT NULL
    {% if not loop.last %}UNION ALL{% endif %}
{% endfor %}
), in_costs AS (
    SELECT conversation_id, component, cost
    FROM {{ ref('stg_voiceos__conversation_costs') }}
    WHERE cost IS NOT NULL
)
SELECT id, conversation_id, in_conversations.cost AS cost_in_conversations, in_costs.cost AS cost_in_costs
FROM in_conversations
FULL OUTER JOIN in_costs ON conversation_id = id AND in_costs.component = in_conversations.component
WHERE id IS NULL OR conversation_id IS NULL OR in_conversations.cost <> in_costs.cost
