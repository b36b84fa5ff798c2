{# written by `python -m docs.tools.dbt_package --write`, checked by a test #}
SELECT
    conversation_id,
    component,
    provider,
    cost,
    quantity,
    unit,
    own_key,
    {{ voiceos.utc('_interval_start') }} AS _interval_start,
    {{ voiceos.utc('_interval_end') }} AS _interval_end,
    {{ voiceos.utc('_exported_at') }} AS _exported_at
FROM {{ source('voiceos', 'conversation_costs') }}
