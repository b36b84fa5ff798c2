"""Airflow-side support shared by operators, sensors, triggers and hooks."""
