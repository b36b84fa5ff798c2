"""Common mistakes, and what a task's log says about each."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

EXTRAS = "s3,postgres"
"""The extras to install for mistakes that require them."""

FORBIDDEN = "a folder that may not be written"

SMALL = """
mkdir -p "$HOME/small" && mount -t tmpfs -o size=64k none "$HOME/small" && TMPDIR="$HOME/small" exec "$@"
"""
"""Runs a command with a directory for temporary files that is almost full."""


@dataclass(frozen=True)
class Mistake:
    """One mistake; everything else is correct.

    :param what: as docs/troubleshooting.md calls it
    :param voiceos: fields of the connection that differ; None for no connection
    :param files: arguments of the export into files that differ
    :param rows: the arguments of an export into a database, if it is one
    :param connections: further connections, by their ids
    :param installed: whether the extras are
    :param room: whether there is any for temporary files
    """

    what: str
    voiceos: Mapping[str, Any] | None = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    rows: Mapping[str, Any] | None = None
    connections: Mapping[str, Any] = field(default_factory=dict)
    installed: bool = False
    room: bool = True


def mistakes(home: Path, bucket: Mapping[str, Any], server: Mapping[str, Any]) -> list[Mistake]:
    """Return all mistakes, in the order in which a user meets them.

    :param home: a writable directory, except for its subdirectory `forbidden`
    :param bucket: an AWS connection whose user may do nothing, and one who may do everything
    :param server: a PostgreSQL connection
    """
    s3 = {"path": "s3://my-bucket/voiceos", "storage_conn_id": "aws_default"}
    sql = {"sql_conn_id": "warehouse"}
    return [
        Mistake("no connection", voiceos=None),
        Mistake("a connection of another type", voiceos={"conn_type": "http"}),
        Mistake("no token in it", voiceos={"password": ""}),
        Mistake("the token is refused", voiceos={"password": "a-wrong-token"}),
        Mistake(
            "no such host", voiceos={"host": "https://api.voiceos.invalid", "extra": {"max_attempts": 1}}
        ),
        Mistake(
            "no server listens at the host",
            voiceos={"host": "http://127.0.0.1:9", "extra": {"max_attempts": 1}},
        ),
        Mistake("the host is not the API", voiceos={"path": "/elsewhere"}),
        Mistake("a state that the API does not have", files={"status": "finished"}),
        Mistake("no such kind of store", files={"path": "s4://my-bucket/voiceos"}),
        Mistake("a relative path", files={"path": "voiceos"}),
        Mistake("a path below a file", files={"path": str(home / "airflow/airflow.cfg")}),
        Mistake(FORBIDDEN, files={"path": str(home / "forbidden/voiceos")}),
        Mistake("the store's package is not installed", files={"path": s3["path"]}),
        Mistake("no storage connection", files=s3),
        Mistake(
            "no such bucket",
            files=s3 | {"path": "s3://no-such-bucket/voiceos"},
            connections={"aws_default": bucket["may all"]},
            installed=True,
        ),
        Mistake(
            "no right to write into the bucket",
            files=s3 | {"storage_conn_id": "aws_reader"},
            connections={"aws_reader": bucket["may nothing"]},
            installed=True,
        ),
        Mistake("no database connection", rows=sql),
        Mistake("the database's package is not installed", rows=sql, connections={"warehouse": server}),
        Mistake(
            "the database is down",
            rows=sql,
            connections={"warehouse": {**server, "host": "127.0.0.1", "port": 9}},
            installed=True,
        ),
        Mistake(
            "the database refuses the login",
            rows=sql,
            connections={"warehouse": {**server, "login": "unknown_user"}},
            installed=True,
        ),
        Mistake(
            "no such database",
            rows=sql,
            connections={"warehouse": {**server, "schema": "nowhere"}},
            installed=True,
        ),
        Mistake(
            "no such schema",
            rows=sql | {"schema": "nowhere"},
            connections={"warehouse": server},
            installed=True,
        ),
        Mistake(
            "no right to create the tables",
            rows=sql,
            connections={"warehouse": {**server, "login": "reader"}},
            installed=True,
        ),
        Mistake("no room for the rows on the worker", room=False),
    ]


def make(
    made: Sequence[Mistake], home: Path, environ: Mapping[str, str], *, connection: Mapping[str, Any]
) -> dict[str, str]:
    """Run each mistake as a task, and return the last error line of each log.

    :param connection: the connection to the API as it should be
    """
    apart = [mistake for mistake in made if mistake.what == FORBIDDEN or not mistake.room]
    said: dict[str, str] = {}
    for some in ([mistake for mistake in made if mistake not in apart], *([mistake] for mistake in apart)):
        if some:
            said |= _run(some, home, environ, connection)
    return said


def _run(
    made: Sequence[Mistake], home: Path, environ: Mapping[str, str], connection: Mapping[str, Any]
) -> dict[str, str]:
    tasks = "".join(_task(number, mistake, home, connection) for number, mistake in enumerate(made))
    (home / "airflow/dags/mistakes.py").write_text(f"{_DAG}{tasks}")
    command = ["airflow", "dags", "test", "mistakes"]
    if made[0].what == FORBIDDEN and os.geteuid() == 0:  # root may write everywhere
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    if not made[0].room:
        rootless = ["--map-root-user"] if os.geteuid() else []
        command = ["unshare", "--mount", *rootless, "sh", "-c", SMALL, "sh", *command]
    done = subprocess.run(
        command,
        cwd=home,
        env=dict(environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    _, *parts = re.split(r"\[DAG TEST\] starting task_id=task_(\d+)", done.stdout)
    said = {}
    for number, log in zip(parts[::2], parts[1::2], strict=True):
        lines = re.findall(r"^(?:[\w.]+\.)?\w*(?:Error|Exception): .*", log, re.MULTILINE)
        said[made[int(number)].what] = lines[-1] if lines else "nothing"
    if len(said) < len(made) or "nothing" in said.values():
        raise SystemExit(f"Of {len(made)} mistakes not each went wrong: {said}\n{done.stdout}")
    return said


_DAG = """\
import os
from datetime import UTC, datetime
from functools import partial

from airflow.providers.common.compat.sdk import DAG
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator
from voiceos_provider.transfers.voiceos_to_sql import VoiceOSToSqlOperator


def with_connections(connections, context):
    for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]:
        del os.environ[name]
    os.environ.update(connections)


dag = DAG(dag_id="mistakes", schedule=None, start_date=datetime(2026, 11, 1, tzinfo=UTC))
"""


def _task(number: int, mistake: Mistake, home: Path, connection: Mapping[str, Any]) -> str:
    variables = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(it) for name, it in mistake.connections.items()}
    if mistake.voiceos is not None:
        changed = dict(mistake.voiceos)
        host = connection["host"] + changed.pop("path", "")
        variables["AIRFLOW_CONN_VOICEOS_DEFAULT"] = json.dumps({**connection, "host": host, **changed})
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    kind, arguments = "VoiceOSToObjectStorage", {"path": str(home / "voiceos"), **mistake.files}
    if mistake.rows is not None:
        kind, arguments = "VoiceOSToSql", dict(mistake.rows)
    arguments |= {"interval_start": (day - timedelta(days=1)).isoformat(), "interval_end": day.isoformat()}
    return f"""\
{kind}Operator(
    task_id="task_{number}", dag=dag, pre_execute=partial(with_connections, {variables!r}), **{arguments!r}
)
"""
