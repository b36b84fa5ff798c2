"""One suite, every lake format and store."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lakes import LakeUnderTest, Location, formats, make_lake

_numbers = itertools.count(1)
collect_ignore_glob = ([] if formats() else ["test_*.py"]) + (
    [] if "iceberg" in formats() else ["test_iceberg.py"]
)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Yield an S3 server, once for all tests."""
    from tests.support.stores import s3_process

    with s3_process() as endpoint:
        yield endpoint


@pytest.fixture(params=["disk", pytest.param("s3", marks=pytest.mark.slow)])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """Return an empty location for tables."""
    if request.param == "disk":
        return Location(tmp_path, str(tmp_path / "tables"))
    from tests.support.stores import BUCKET, KEYS

    s3 = {"endpoint": request.getfixturevalue("s3_endpoint"), **KEYS}
    return Location(tmp_path, f"s3://{BUCKET}/lake-{next(_numbers)}", s3)


@pytest.fixture(params=formats())
def lake(request: pytest.FixtureRequest, location: Location) -> LakeUnderTest:
    """Return a lake without tables."""
    return make_lake(request.param, location)
