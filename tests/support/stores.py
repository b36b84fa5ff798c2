"""The two stores that exports are killed on: local disk, and S3 over HTTP."""

from __future__ import annotations

import hashlib
import io
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol

import boto3
import duckdb
import pyarrow.parquet as pq
from moto.server import ThreadedMotoServer

from tests.support.exporting import Root

BUCKET = "voiceos-exports"
KEYS = {"key": "testing", "secret": "testing"}


class Namespace(Protocol):
    """A folder on a store, read without knowledge of the export."""

    root: str
    arguments: dict[str, Any]
    """What a process of its own must know to export there."""

    def files(self) -> dict[str, bytes]:
        """Return all files below the root, including hidden ones."""
        ...

    def rows_seen(self, pattern: str) -> int | None:
        """Return the rows that a glob finds, or None without files. An unreadable file is an error."""
        ...


class Disk:
    """A folder on local disk, read with DuckDB."""

    def __init__(self, folder: Path) -> None:
        self.root = str(folder)
        self.arguments: dict[str, Any] = {}

    def files(self) -> dict[str, bytes]:
        """See `Namespace`."""
        folder = Path(self.root)
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    def rows_seen(self, pattern: str) -> int | None:
        """See `Namespace`. DuckDB takes names that begin with a dot for files like any other."""
        with duckdb.connect() as connection:
            glob = f"{self.root}/{pattern}"
            if not connection.execute("SELECT count(*) FROM glob(?)", [glob]).fetchall()[0][0]:
                return None
            # The columns of different tables are different ones.
            rows = "SELECT count(*) FROM read_parquet(?, union_by_name = true)"
            found = connection.execute(rows, [glob]).fetchall()
            return int(found[0][0])


class S3:
    """A prefix in a bucket, read object by object."""

    def __init__(self, endpoint: str, prefix: str) -> None:
        self.endpoint = endpoint
        self.root = f"{BUCKET}/{prefix}"
        self.arguments = {
            "s3": KEYS | {"endpoint_url": endpoint, "client_kwargs": {"region_name": "us-east-1"}}
        }
        self._prefix = f"{prefix}/"
        self.client = client(endpoint)

    def files(self) -> dict[str, bytes]:
        """See `Namespace`."""
        return {name: self._get(name) for name in self._names()}

    def rows_seen(self, pattern: str) -> int | None:
        """See `Namespace`."""
        matching = [name for name in self._names() if fnmatch(name, pattern.replace("**/", "*"))]
        if not matching:
            return None
        return sum(pq.read_metadata(io.BytesIO(self._get(name))).num_rows for name in matching)

    def path(self, **options: Any) -> Root:
        """Return the path for an export in this process."""
        import s3fs

        return Root(
            s3fs.S3FileSystem(**(self.arguments["s3"] | options), skip_instance_cache=True), self.root
        )

    def _names(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=self._prefix)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return [key.removeprefix(self._prefix) for key in keys]

    def _get(self, name: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=BUCKET, Key=self._prefix + name)["Body"].read()
        return body


def client(endpoint: str, key: str = "testing", secret: str = "testing", service: str = "s3") -> Any:
    """Return a client of boto3."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name="us-east-1",
    )


@contextmanager
def s3_server() -> Iterator[str]:
    """S3 over HTTP on this machine, with a bucket; its value is the endpoint."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request drowns what has failed
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    try:
        existing = {bucket["Name"] for bucket in client(endpoint).list_buckets()["Buckets"]}
        if BUCKET not in existing:
            client(endpoint).create_bucket(Bucket=BUCKET)
        yield endpoint
    finally:
        server.stop()


@contextmanager
def s3_process() -> Iterator[str]:
    """Yield the URL of an S3 server in a separate process, for clients that block this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while True:
                assert server.poll() is None, "the S3 server has ended"
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.05)
            endpoint = f"http://127.0.0.1:{port}"
            client(endpoint).create_bucket(Bucket=BUCKET)
            yield endpoint
        finally:
            server.terminate()


class Watcher(threading.Thread):
    """A reader that globs repeatedly during exports, and records what it finds."""

    def __init__(self, read: Callable[[], int | None]) -> None:
        super().__init__(name="watcher", daemon=True)
        self._read = read
        self._done = threading.Event()
        self.seen: list[int | Exception | None] = []

    def run(self) -> None:
        """Read until the context ends."""
        while not self._done.wait(0.03):
            try:
                found: int | Exception | None = self._read()
            except Exception as error:  # noqa: BLE001  the test checks that no reader fails
                found = error
            self.seen.append(found)

    def __enter__(self) -> Watcher:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()


def sha256(content: bytes) -> str:
    """Return the hash as the manifest spells it."""
    return hashlib.sha256(content).hexdigest()
