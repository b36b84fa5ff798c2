"""Destinations of exported tables. They receive paths and open connections, and do not import Airflow."""
