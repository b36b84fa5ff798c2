"""The `voiceos` command: the provider at a terminal, without Airflow."""
