"""Where tables go. Targets receive paths and connections that are open already; they know nothing of Airflow."""
