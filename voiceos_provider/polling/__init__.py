"""Conditions that the sensor in a worker and the triggers in the triggerer wait for. Knows nothing of Airflow."""
