"""Conditions that sensors and triggers wait for, and the requests that check them. Knows nothing of Airflow."""
