"""Exports on S3, over HTTP: every format, and what a store can refuse."""

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
from tests.support.reading import READERS
from tests.support.stores import BUCKET, S3, client, s3_server, sha256
from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSExportError
from voiceos_provider.load.files.destination import FilesDestination
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.transform import TABLES


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """S3 over HTTP on this machine."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def store(endpoint: str, tmp_path: Path) -> S3:
    """Return an unused prefix."""
    return S3(endpoint, tmp_path.name)


@pytest.fixture
def enforcing(endpoint: str) -> Iterator[Callable[[], None]]:
    """From the moment it is called, the store refuses what no policy allows."""
    yield lambda: allow_without_asking(endpoint, "0")
    allow_without_asking(endpoint, "inf")


def allow_without_asking(endpoint: str, requests: str) -> None:
    """Let so many requests pass before rights are looked at."""
    plain = {"Content-Type": "text/plain"}
    urlopen(Request(f"{endpoint}/moto-api/reset-auth", data=requests.encode(), headers=plain)).close()


def user_who_may(endpoint: str, *actions: str) -> dict[str, str]:
    """Credentials of a user with these rights and no others."""
    iam = client(endpoint, service="iam")
    name = "-".join(actions).replace("s3:", "").lower() or "nobody"
    iam.create_user(UserName=name)
    statement = {"Effect": "Allow", "Action": list(actions) or ["sts:GetCallerIdentity"], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {"key": key["AccessKeyId"], "secret": key["SecretAccessKey"]}


def test_files_of_one_interval_are_replaced_by_fewer_in_its_folder(store: S3) -> None:
    """Further files of the earlier export are removed; a name that only begins like theirs is kept."""
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
def test_every_format_stands_there_as_the_receipt_says(store: S3, tmp_path: Path, encoding: Encoding):
    """Bytes, SHA-256, rows and ids are those of the object."""
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
        for reader in READERS:
            rows = reader.rows(copy, encoding, table)
            assert len(rows) == file.rows, reader.name
            if table.name == "conversations":
                assert {row["id"] for row in rows} == truth(emulator), reader.name


def test_the_root_of_a_bucket_is_a_place_too(endpoint: str):
    """Without a folder there is no empty step in any name."""
    client(endpoint).create_bucket(Bucket="whole-bucket")
    root = Root(S3(endpoint, "").path().fs, "whole-bucket")
    receipt = export_pages([page({"id": "a"})], root)
    assert receipt.files[0].path == f"s3://whole-bucket/{DATA}.parquet"
    listed = client(endpoint).list_objects_v2(Bucket="whole-bucket")["Contents"]
    assert [entry["Key"] for entry in listed] == published_files()


def test_running_again_replaces_and_another_format_takes_the_place(store: S3):
    """One interval is one object for each table, however often and in whatever format it is exported."""
    emulator = emulate(300)
    for encoding in ENCODINGS:
        export_pages(read_pages(emulator), store.path(), encoding=encoding, replace_existing=True)
        assert list(store.files()) == published_files(encoding.suffix)


def test_rejects_are_told_apart_and_removed_by_a_clean_run(store: S3):
    """What failed keeps the export that stood there."""
    export_pages([page({"id": "a"})], store.path())
    before = store.files()
    with pytest.raises(VoiceOSExportError, match=f"s3://{store.root}/{REJECTED}"):
        export_pages([page({"status": "ended"})], store.path())
    after = store.files()
    assert json.loads(after.pop(REJECTED))["reason"] == "no usable id"
    assert after == before
    export_pages([page({"id": "a"})], store.path())
    assert list(store.files()) == list(before)


def test_a_run_with_nothing_to_remove_removes_nothing(endpoint: str):
    """Where versions are kept, a needless removal would leave a marker at every run."""
    client(endpoint).create_bucket(Bucket="versioned")
    client(endpoint).put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    for _ in range(2):
        export_pages([page({"id": "a"})], Root(S3(endpoint, "").path().fs, "versioned"))
    assert "DeleteMarkers" not in client(endpoint).list_object_versions(Bucket="versioned")


def test_a_missing_bucket_is_named(endpoint: str):
    """The error says where one cannot write, and why, before anything is read."""
    root = Root(S3(endpoint, "").path().fs, "no-such-bucket/voiceos")
    emulator = emulate(60)
    with pytest.raises(VoiceOSDestinationError) as refusal:
        export_pages(read_pages(emulator), root)
    assert str(refusal.value).startswith("cannot write to s3://no-such-bucket/voiceos: ")
    assert "there is no bucket 'no-such-bucket'" in str(refusal.value)
    assert emulator.requests == []


def test_wrong_credentials_are_refused_before_the_api_is_asked(
    store: S3, endpoint: str, enforcing: Callable[[], None]
):
    """The message tells what was refused and repeats no secret."""
    export_pages([page({"id": "a"})], store.path())
    before = store.files()
    emulator = emulate(60)
    path = store.path(key="AKIAUNKNOWN", secret="a-secret-that-nobody-may-see")
    enforcing()
    with pytest.raises(VoiceOSDestinationError) as refusal:
        export_pages(read_pages(emulator), path)
    assert f"cannot read s3://{store.root}/{MANIFEST}: PermissionError" in str(refusal.value)
    assert "a-secret-that-nobody-may-see" not in str(refusal.value)
    assert emulator.requests == []
    allow_without_asking(endpoint, "inf")
    assert store.files() == before


def test_who_may_read_and_not_write_is_refused_and_the_earlier_export_stands(
    store: S3, endpoint: str, enforcing: Callable[[], None]
):
    """What was refused is said; what stood there still stands."""
    export_pages([page({"id": "a"})], store.path())
    before = store.files()
    path = store.path(**user_who_may(endpoint, "s3:GetObject", "s3:ListBucket"))
    enforcing()
    with pytest.raises(VoiceOSDestinationError) as refusal:
        export_pages(read_pages(emulate(60)), path, exported_at=DAY.end)
    configs = f"agent_configs/agent_configs_{DAY.label}.parquet"
    assert f"cannot write s3://{store.root}/{configs}: PermissionError" in str(refusal.value)
    allow_without_asking(endpoint, "inf")
    assert store.files() == before


def test_who_may_not_delete_can_export_as_long_as_nothing_is_to_be_deleted(
    store: S3, endpoint: str, enforcing: Callable[[], None]
):
    """Reading and writing are all the rights that an ordinary export takes."""
    path = store.path(**user_who_may(endpoint, "s3:GetObject", "s3:PutObject", "s3:ListBucket"))
    enforcing()
    for _ in range(2):
        assert export_pages([page({"id": "a"})], path).exported == 1


def test_a_large_object_is_put_in_parts_and_seen_whole(store: S3, monkeypatch: pytest.MonkeyPatch):
    """An object of many parts is an object like any other; no upload is left open."""
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
