"""Fixtures of the integration tests: Airflow's metadata database, DAGs and an S3 server."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

EXAMPLES = Path(__file__).parents[2] / "example_dags"


def load_dags(folder: Path) -> dict[str, Any]:
    """Return a folder's DAGs by id; check that all of its files load."""
    bag = _dagbag().DagBag(str(folder))
    assert bag.import_errors == {}
    return dict(bag.dags)


def _dagbag() -> Any:
    """Return the module that loads DAGs; Airflow 3.2 moved it."""
    try:
        from airflow.dag_processing import dagbag
    except ImportError:
        from airflow.models import dagbag
    return dagbag


_NOW = object()


def run_dag(dag: Any, *, logical_date: Any = _NOW, **arguments: Any) -> Any:
    """Run a DAG in this process, as it was last scheduled.

    :param logical_date: now by default; None for a run without one, which Airflow 2 does not have
    """
    if "logical_date" not in inspect.signature(dag.test).parameters:  # Airflow 2
        dag.sync_to_db()
        return dag.test(execution_date=datetime.now(UTC), **arguments)
    _make_known(dag)
    return dag.test(logical_date=datetime.now(UTC) if logical_date is _NOW else logical_date, **arguments)


def _make_known(dag: Any) -> None:
    """Add a DAG to the metadata database; Airflow 3 runs no other."""
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    bag = _dagbag().DagBag(dag_folder="/dev/null")
    if not getattr(dag, "relative_fileloc", None):
        dag.relative_fileloc = dag.fileloc  # Airflow 3.0 also requires this for a DAG that no file defines.
    bag.bag_dag(dag)
    with create_session() as session:
        if session.get(DagBundleModel, "testing") is None:
            session.add(DagBundleModel(name="testing"))
    if hasattr(bag, "sync_to_db"):  # Airflow 3.0
        bag.sync_to_db("testing", None)
    else:
        _dagbag().sync_bag_to_db(bag, "testing", None)


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """Create the metadata database in the tests' Airflow home."""
    from airflow.utils import db

    db.initdb()


@pytest.fixture(scope="session")
def dags_in(airflow_db: None) -> Callable[[Path], dict[str, Any]]:
    """Load a folder as Airflow loads its DAGs folder."""
    return load_dags


@pytest.fixture
def examples(airflow_db: None) -> dict[str, Any]:
    """Return newly loaded example DAGs by id, because a run in this process renders their templates in place."""
    return load_dags(EXAMPLES)


@pytest.fixture(scope="session")
def run_in_airflow(airflow_db: None) -> Callable[..., Any]:
    """Run a DAG now, and return its run."""
    return run_dag


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """Yield the URL of an S3 server with the buckets `exports` and `my-bucket`; it accepts any credentials."""
    import boto3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    for bucket in ("exports", "my-bucket"):
        client.create_bucket(Bucket=bucket)
    client.close()
    yield url
    server.stop()


@pytest.fixture
def s3_connection(s3_url: str, connect: Callable[..., str]) -> str:
    """Return the id of the Airflow connection `aws_default` to that server."""
    extra = {"endpoint_url": s3_url, "region_name": "us-east-1"}
    return connect("aws_default", conn_type="aws", login="test", password="test", extra=extra)
