{#
  What dbt's cross-database macros lack, as expressions. DuckDB and PostgreSQL are tested; Snowflake, BigQuery and
  Databricks were not tried.
#}

{# An instant as a timestamp without time zone, in UTC. #}
{% macro utc(column) %}{{ adapter.dispatch('utc', 'voiceos')(column) }}{% endmacro %}

{% macro default__utc(column) %}{{ column }} AT TIME ZONE 'UTC'{% endmacro %}

{% macro snowflake__utc(column) %}CAST(convert_timezone('UTC', {{ column }}) AS timestamp_ntz){% endmacro %}

{% macro bigquery__utc(column) %}{{ column }}{% endmacro %}

{% macro databricks__utc(column) %}to_utc_timestamp({{ column }}, current_timezone()){% endmacro %}

{# A percentile, interpolated where the database can. #}
{% macro percentile(column, fraction) %}{{ adapter.dispatch('percentile', 'voiceos')(column, fraction) }}{% endmacro %}

{% macro default__percentile(column, fraction) %}percentile_cont({{ fraction }}) WITHIN GROUP (ORDER BY {{ column }}){% endmacro %}

{% macro bigquery__percentile(column, fraction) %}approx_quantiles({{ column }}, 100)[OFFSET({{ (fraction * 100) | int }})]{% endmacro %}

{# The number of words of a text; null for null. #}
{% macro word_count(column) %}{{ adapter.dispatch('word_count', 'voiceos')(column) }}{% endmacro %}

{% macro default__word_count(column) %}regexp_count({{ column }}, '\\S+'){% endmacro %}

{% macro duckdb__word_count(column) %}len(regexp_extract_all({{ column }}, '\S+')){% endmacro %}

{# regexp_count needs PostgreSQL 15. #}
{% macro postgres__word_count(column) %}CASE WHEN {{ column }} IS NOT NULL THEN (SELECT count(*) FROM regexp_matches({{ column }}, '\S+', 'g')) END{% endmacro %}

{% macro redshift__word_count(column) %}regexp_count({{ column }}, '\\S+'){% endmacro %}

{% macro bigquery__word_count(column) %}array_length(regexp_extract_all({{ column }}, r'\S+')){% endmacro %}

{# A text at a path of two keys in a JSON document. #}
{% macro json_text(column, outer, inner) %}{{ adapter.dispatch('json_text', 'voiceos')(column, outer, inner) }}{% endmacro %}

{% macro default__json_text(column, outer, inner) %}{{ column }} -> '{{ outer }}' ->> '{{ inner }}'{% endmacro %}

{% macro snowflake__json_text(column, outer, inner) %}CAST({{ column }}:{{ outer }}:{{ inner }} AS varchar){% endmacro %}

{% macro bigquery__json_text(column, outer, inner) %}json_value({{ column }}, '$.{{ outer }}.{{ inner }}'){% endmacro %}

{% macro databricks__json_text(column, outer, inner) %}get_json_object({{ column }}, '$.{{ outer }}.{{ inner }}'){% endmacro %}

{# A query with one row, `name`, for each key of the JSON documents of a column. #}
{% macro json_keys(relation, column) %}{{ adapter.dispatch('json_keys', 'voiceos')(relation, column) }}{% endmacro %}

{% macro default__json_keys(relation, column) %}SELECT unnest(json_keys({{ column }})) AS name FROM {{ relation }}{% endmacro %}

{% macro postgres__json_keys(relation, column) %}SELECT jsonb_object_keys({{ column }}) AS name FROM {{ relation }}{% endmacro %}

{% macro snowflake__json_keys(relation, column) %}SELECT keys.key AS name FROM {{ relation }}, LATERAL flatten(input => {{ column }}) AS keys{% endmacro %}

{% macro bigquery__json_keys(relation, column) %}SELECT name FROM {{ relation }}, unnest(json_keys({{ column }}, 1)) AS name{% endmacro %}

{% macro databricks__json_keys(relation, column) %}SELECT explode(json_object_keys({{ column }})) AS name FROM {{ relation }}{% endmacro %}
