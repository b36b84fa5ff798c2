"""One export by the operator, in a process of its own. Only `execute` is measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from measuring import measured, written
from pages import END, START

from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator


def main() -> None:
    """Export into the folder, and print what it took."""
    folder = Path(sys.argv[1])
    operator = VoiceOSToObjectStorageOperator(
        task_id="bench", path=f"file://{folder}", interval_start=START, interval_end=END
    )
    with measured() as found:
        receipt = operator.execute({})
    rows = {file["table"]: file["rows"] for file in receipt["files"]}
    print(json.dumps({**found, "conversations": receipt["exported"], "rows": rows, "bytes": written(folder)}))


if __name__ == "__main__":
    main()
