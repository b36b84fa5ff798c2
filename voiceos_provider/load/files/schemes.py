"""What is there to install, for a store that cannot be opened?"""

from __future__ import annotations

from voiceos_provider.exceptions import VoiceOSValueError

_EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("abfs", "abfss", "adl"), "azure"),
}
"""The extra of this package for each scheme."""

_KNOWN = "write s3://, gs://, abfs:// or file://, or install the Airflow provider of that store"


def cannot_open(path: str, error: Exception) -> VoiceOSValueError:
    """What to raise for a path that names a store nobody here knows, or whose package is not installed."""
    extra = _EXTRAS.get(path.partition("://")[0])
    cure = f"; pip install 'airflow-provider-voiceos[{extra}]'" if extra else f"; {_KNOWN}"
    return VoiceOSValueError(f"path {path!r} cannot be opened: {error}{cure}.")
