"""Two concurrent exports of one interval, on local disk and on S3."""

import json
import random
import time

from tests.support.exporting import DAY, MANIFEST, TABLE_NAMES, ExportProcess, emulate, published_files, truth
from tests.support.stores import Namespace, Watcher, sha256

ROUNDS = 6


def test_one_of_two_concurrent_exports_remains_with_its_manifest(place: Namespace):
    """Both succeed, and no reader sees a partial file."""
    rng = random.Random(7)
    emulator = emulate(600)
    expected = len(truth(emulator))
    with emulator.serve() as url, Watcher(lambda: place.rows_seen("conversations/*")) as watcher:
        for number in range(ROUNDS):
            both = [ExportProcess(url, emulator.token, place.root, **place.arguments) for _ in range(2)]
            for running in both:
                running.start()
                time.sleep(rng.uniform(0, 0.02))
            receipts = [running.finish()["receipt"] for running in both]
            files = place.files()
            assert list(files) == published_files(), number
            manifest = json.loads(files[MANIFEST])
            assert manifest in receipts
            for file, table in zip(manifest["files"], TABLE_NAMES, strict=True):
                content = files[f"{table}/{table}_{DAY.label}.parquet"]
                assert (file["table"], file["sha256"]) == (table, sha256(content)), number
                assert place.rows_seen(f"{table}/*") == file["rows"]
            assert [receipt["exported"] for receipt in receipts] == [expected] * 2
    assert set(watcher.seen) <= {None, expected}
    assert expected in watcher.seen
