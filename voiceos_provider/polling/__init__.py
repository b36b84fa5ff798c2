"""Have they ended? What to ask of the API while one waits, and what the answers mean. Knows nothing of Airflow."""
