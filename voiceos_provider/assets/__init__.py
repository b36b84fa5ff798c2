"""Assets of the VoiceOS API."""
