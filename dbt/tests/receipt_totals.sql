{# The rows of the export that has just run are those of its receipt, which the var voiceos_receipt holds. #}
{% set receipt = var('voiceos_receipt') %}
{{ config(enabled=receipt is not none) }}
{% if receipt is not none %}
{% set outdated = receipt.tables.get('conversations', {}).get('outdated', 0) %}
SELECT conversations, dollars
FROM (
    SELECT count(*) AS conversations, sum(total_cost) AS dollars
    FROM {{ ref('stg_voiceos__conversations') }}
    WHERE _exported_at = CAST('{{ receipt.exported_at }}' AS {{ dbt.type_timestamp() }})
) AS loaded
WHERE conversations <> {{ receipt.exported - outdated }}
{% if not outdated %}
   OR abs(coalesce(dollars, 0) - {{ receipt.cost or 0 }}) > 0.000001
{% endif %}
{% endif %}
