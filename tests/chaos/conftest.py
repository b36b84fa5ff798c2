"""A destination for each chaos test, on local disk and on S3."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import S3, Disk, Namespace, s3_server


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Serve S3 over HTTP, once for all tests."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Namespace:
    """Return an empty target on local disk, then on S3."""
    if request.param == "disk":
        return Disk(tmp_path / "exports")
    return S3(request.getfixturevalue("s3_endpoint"), tmp_path.name)
