{# written by `python -m docs.tools.dbt_package --write`, checked by a test #}
SELECT
    agent_config_hash,
    prompt_hash,
    prompt,
    initial_message,
    language_model_provider,
    language_model,
    language_model_own_key,
    transcriber_provider,
    transcriber_model,
    transcriber_own_key,
    voice_provider,
    voice_model,
    voice_own_key,
    max_duration_seconds,
    agent_config,
    {{ voiceos.utc('_interval_start') }} AS _interval_start,
    {{ voiceos.utc('_interval_end') }} AS _interval_end,
    {{ voiceos.utc('_exported_at') }} AS _exported_at
FROM {{ source('voiceos', 'agent_configs') }}
