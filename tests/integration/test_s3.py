"""Exports to S3 over HTTP: every format, and errors of the store."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.support.exporting import (
    DATA,
    DAY,
    ENCODINGS,
    MANIFEST,
    PARQUET,
    REJECTED,
    Root,
    emulate,
    export_pages,
    page,
    published_files,
    read_pages,
    truth,
)
from tests.support.reading import LIBRARIES
from tests.support.stores import BUCKET, S3, client, s3_server, sha256
from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSExportError
from voiceos_provider.load.files.destination import FilesDestination
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.transform import TABLES


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Serve S3 over HTTP on this machine."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def store(endpoint: str, tmp_path: Path) -> S3:
    """Return an unused prefix."""
    return S3(endpoint, tmp_path.name)


@pytest.fixture
def enforcing(endpoint: str) -> Iterator[Callable[[], None]]:
    """Return a function after whose call the store enforces policies."""
    yield lambda: allow_requests(endpoint, "0")
    allow_requests(endpoint, "inf")


def allow_requests(endpoint: str, requests: str) -> None:
    """Let this number of requests pass before policies are enforced."""
    plain = {"Content-Type": "text/plain"}
    urlopen(Request(f"{endpoint}/moto-api/reset-auth", data=requests.encode(), headers=plain)).close()


def user_with(endpoint: str, *actions: str) -> dict[str, str]:
    """Return credentials of a user with only these permissions."""
    iam = client(endpoint, service="iam")
    name = "-".join(actions).replace("s3:", "").lower() or "without-permissions"
    iam.create_user(UserName=name)
    statement = {"Effect": "Allow", "Action": list(actions) or ["sts:GetCallerIdentity"], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {"key": key["AccessKeyId"], "secret": key["SecretAccessKey"]}


def test_replacing_with_fewer_files_removes_the_others(store: S3) -> None:
    """A key that only starts with the same characters is kept."""
    rng = random.Random(7)
    pages = [page(*({"id": f"{n}", "uri": rng.randbytes(15_000).hex()} for n in range(200)))]
    target = FilesDestination(store.path(), encoding=PARQUET, layout="hive", target_file_bytes=1_000_000)
    first = export_pages(pages, target=target, tables=TABLES[:1])
    assert len(first.files) > 2
    stem = f"conversations/dt=2026-11-01/conversations_{DAY.label}"
    assert [file.path for file in first.files[:2]] == [
        f"s3://{store.root}/{stem}{part}.parquet" for part in ("", "_0002")
    ]
    store.client.put_object(
        Bucket=BUCKET, Key=f"{store.root.partition('/')[2]}/{stem}_copy.parquet", Body=b""
    )
    target = FilesDestination(store.path(), encoding=PARQUET, layout="hive")
    receipt = export_pages(pages, target=target, tables=TABLES[:1])
    assert receipt.removed_files == [file.path for file in first.files[1:]]
    assert sorted(store.files()) == sorted([MANIFEST, f"{stem}.parquet", f"{stem}_copy.parquet"])


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: f"{e.file_format}-{e.compression}")
def test_files_of_every_format_match_the_receipt(store: S3, tmp_path: Path, encoding: Encoding):
    """Compare size, SHA-256, rows and ids of each object."""
    emulator = emulate(600)
    receipt = export_pages(read_pages(emulator), store.path(), encoding=encoding)
    files = store.files()
    assert list(files) == published_files(encoding.suffix)
    assert json.loads(files[MANIFEST]) == receipt.as_dict()
    for file, table in zip(receipt.files, TABLES, strict=True):
        key = f"{table.name}/{table.name}_{DAY.label}{encoding.suffix}"
        content = files[key]
        assert file.path == f"s3://{store.root}/{key}"
        assert (file.bytes, file.sha256) == (len(content), sha256(content))
        copy = tmp_path / f"copy{encoding.suffix}"
        copy.write_bytes(content)
        for reader in LIBRARIES:
            rows = reader.rows(copy, encoding, table)
            assert len(rows) == file.rows, reader.name
            if table.name == "conversations":
                assert {row["id"] for row in rows} == truth(emulator), reader.name


def test_export_to_the_root_of_a_bucket(endpoint: str):
    """Keys have no empty segment."""
    client(endpoint).create_bucket(Bucket="whole-bucket")
    root = Root(S3(endpoint, "").path().fs, "whole-bucket")
    receipt = export_pages([page({"id": "a"})], root)
    assert receipt.files[0].path == f"s3://whole-bucket/{DATA}.parquet"
    listed = client(endpoint).list_objects_v2(Bucket="whole-bucket")["Contents"]
    assert [entry["Key"] for entry in listed] == published_files()


def test_repeated_exports_replace_the_file_in_any_format(store: S3):
    """An interval has one object per table, whatever the format."""
    emulator = emulate(300)
    for encoding in ENCODINGS:
        export_pages(read_pages(emulator), store.path(), encoding=encoding, replace_existing=True)
        assert list(store.files()) == published_files(encoding.suffix)


def test_rejects_are_stored_apart_and_removed_by_a_clean_run(store: S3):
    """The failed run keeps the earlier export."""
    export_pages([page({"id": "a"})], store.path())
    before = store.files()
    with pytest.raises(VoiceOSExportError, match=f"s3://{store.root}/{REJECTED}"):
        export_pages([page({"status": "ended"})], store.path())
    after = store.files()
    assert json.loads(after.pop(REJECTED))["reason"] == "no usable id"
    assert after == before
    export_pages([page({"id": "a"})], store.path())
    assert list(store.files()) == list(before)


def test_run_with_nothing_to_delete_deletes_nothing(endpoint: str):
    """In a versioned bucket each deletion would leave a marker."""
    client(endpoint).create_bucket(Bucket="versioned")
    client(endpoint).put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    for _ in range(2):
        export_pages([page({"id": "a"})], Root(S3(endpoint, "").path().fs, "versioned"))
    assert "DeleteMarkers" not in client(endpoint).list_object_versions(Bucket="versioned")


def test_missing_bucket_is_named(endpoint: str):
    """The error comes before any request and gives the reason."""
    root = Root(S3(endpoint, "").path().fs, "no-such-bucket/voiceos")
    emulator = emulate(60)
    with pytest.raises(VoiceOSDestinationError) as refusal:
        export_pages(read_pages(emulator), root)
    assert str(refusal.value).startswith("cannot write to s3://no-such-bucket/voiceos: ")
    assert "there is no bucket 'no-such-bucket'" in str(refusal.value)
    assert emulator.requests == []


def test_wrong_credentials_fail_before_any_request(store: S3, endpoint: str, enforcing: Callable[[], None]):
    """The message says what was refused, and hides the secret."""
    export_pages([page({"id": "a"})], store.path())
    before = store.files()
    emulator = emulate(60)
    path = store.path(key="AKIAUNKNOWN", secret="a-secret-to-hide")
    enforcing()
    with pytest.raises(VoiceOSDestinationError) as refusal:
        export_pages(read_pages(emulator), path)
    assert f"cannot read s3://{store.root}/{MANIFEST}: PermissionError" in str(refusal.value)
    assert "a-secret-to-hide" not in str(refusal.value)
    assert emulator.requests == []
    allow_requests(endpoint, "inf")
    assert store.files() == before


def test_export_without_write_permission_keeps_the_earlier_export(
    store: S3, endpoint: str, enforcing: Callable[[], None]
):
    """The error names the refused request."""
    export_pages([page({"id": "a"})], store.path())
    before = store.files()
    path = store.path(**user_with(endpoint, "s3:GetObject", "s3:ListBucket"))
    enforcing()
    with pytest.raises(VoiceOSDestinationError) as refusal:
        export_pages(read_pages(emulate(60)), path, exported_at=DAY.end)
    configs = f"agent_configs/agent_configs_{DAY.label}.parquet"
    assert f"cannot write s3://{store.root}/{configs}: PermissionError" in str(refusal.value)
    allow_requests(endpoint, "inf")
    assert store.files() == before


def test_export_without_delete_permission_succeeds_if_nothing_is_deleted(
    store: S3, endpoint: str, enforcing: Callable[[], None]
):
    """An ordinary export only reads and writes."""
    path = store.path(**user_with(endpoint, "s3:GetObject", "s3:PutObject", "s3:ListBucket"))
    enforcing()
    for _ in range(2):
        assert export_pages([page({"id": "a"})], path).exported == 1


def test_large_object_is_uploaded_in_parts(store: S3, monkeypatch: pytest.MonkeyPatch):
    """The object is complete, and no upload stays open."""
    talk: list[dict[str, Any]] = [
        {"id": f"{n}", "messages": [{"role": "user", "content": f"{n} " * 200_000}]} for n in range(150)
    ]
    receipt = export_pages(
        [page(*talk[at : at + 10]) for at in range(0, 150, 10)],
        store.path(),
        encoding=Encoding.choose("jsonl", None),
    )
    (file,) = (file for file in receipt.files if file.table == "conversation_messages")
    assert file.bytes > 60 * 2**20
    assert sha256(store.files()[file.path.removeprefix(f"s3://{store.root}/")]) == file.sha256
    assert "Uploads" not in store.client.list_multipart_uploads(Bucket=BUCKET)
