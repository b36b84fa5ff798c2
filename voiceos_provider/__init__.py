"""Apache Airflow provider for VoiceOS: conversations from the voice-agent API as files and rows."""

__version__ = "0.1.0"
