WITH calls AS (
    SELECT CASE type WHEN 'outbound_phone_call' THEN to_number ELSE from_number END AS person, phone_key_id,
           started_at, total_cost
    FROM {{ ref('stg_voiceos__conversations') }}
)
SELECT person, phone_key_id, count(*) AS calls, min(started_at) AS first_call, max(started_at) AS last_call,
       sum(total_cost) AS dollars
FROM calls
WHERE person IS NOT NULL
GROUP BY person, phone_key_id
HAVING count(*) > 1
ORDER BY calls DESC, person
