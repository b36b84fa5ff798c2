{# The columns identify a row together. #}
{% test unique_together(model, columns) %}

SELECT {{ columns | join(', ') }}
FROM {{ model }}
GROUP BY {{ columns | join(', ') }}
HAVING count(*) > 1

{% endtest %}
