"""One export of recordings in a separate process, which can be killed and measured.

Called with the plan as JSON. Logs everything at DEBUG to stderr, and prints the receipt and the peak of its memory.
"""

from __future__ import annotations

import json
import logging
import re
import ssl
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.support.exporting import DAY, Root, export_options
from voiceos_provider.client import ClientConfig, Retry, VoiceOSClient
from voiceos_provider.load.files.recordings import RecordingFiles
from voiceos_provider.pipeline.recordings import RecordingOptions, export_recordings

NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Nothing here speaks TLS, and reading the usual certificates takes time."""

DEFAULTS: dict[str, Any] = {
    "conversation_type": None,
    "agent_id": None,
    "min_duration": None,
    "max_duration": None,
    "max_recording_bytes": 256 * 2**20,
    "download_timeout": timedelta(seconds=2),
    "max_failed": 0,
}


def client_of(url: str, token: str, **settings: Any) -> VoiceOSClient:
    """Return a client that may download from this machine, and waits little."""
    settings.setdefault("allow_private_recordings", True)
    settings.setdefault("retry", Retry(base_delay=0.02))
    settings.setdefault("verify", NO_CERTIFICATES)
    return VoiceOSClient(ClientConfig(token=token, base_url=url, page_size=50, **settings))


def export_to(root: Path | Root, client: VoiceOSClient, **options: Any) -> dict[str, Any]:
    """Export the recordings of `DAY`, and return the receipt.

    :param options: those of `RecordingOptions.parse`, and `statuses` and `max_concurrency` of `ExportOptions`
    """
    others = {name: options.pop(name) for name in ("statuses", "max_concurrency") if name in options}
    recordings = RecordingOptions.parse(**DEFAULTS | options)
    files = RecordingFiles(root, DAY)
    return export_recordings(client, files, export_options(**others), recordings).as_dict()


def main() -> None:
    """Run the export that the command line describes."""
    plan = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, force=True)
    root: Path | Root = Path(plan["root"])
    if "s3" in plan:
        import s3fs

        root = Root(s3fs.S3FileSystem(**plan["s3"]), plan["root"])
    with client_of(plan["url"], plan["token"]) as client:
        receipt = export_to(root, client, download_timeout=plan["timeout"])
    # What getrusage calls ru_maxrss would also count the process that this one was forked from.
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    print(json.dumps({"receipt": receipt, "peak_kib": int(found[1])}))


if __name__ == "__main__":
    main()
