"""Airflow operators that move conversations from VoiceOS to another system."""
