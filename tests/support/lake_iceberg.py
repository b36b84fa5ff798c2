"""Iceberg tables of the contract suite: an SQL catalog in SQLite, data files on local disk or S3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.table import Table as IcebergTable
from pyiceberg.types import LongType

from tests.support.lakes import LakeUnderTest
from voiceos_provider.load.lake.iceberg import IcebergLake
from voiceos_provider.transform import Table

NAMESPACE = "voiceos"


class Lake(LakeUnderTest):
    """Iceberg tables, read with PyIceberg and DuckDB."""

    format = "iceberg"
    libraries = ("pyiceberg", "duckdb")

    @property
    def properties(self) -> dict[str, str]:
        """The properties of the catalog."""
        properties = {
            "type": "sql",
            "uri": f"sqlite:///{self.location.folder / 'catalog.db'}",
            "warehouse": self.location.path,
        }
        if s3 := self.location.s3:
            properties |= {
                "s3.endpoint": s3["endpoint"],
                "s3.access-key-id": s3["key"],
                "s3.secret-access-key": s3["secret"],
                "s3.region": "us-east-1",
            }
        return properties

    @property
    def catalog(self) -> Catalog:
        """The catalog, as another user opens it."""
        return load_catalog("lake", **self.properties)

    def existing(self, table: Table, table_prefix: str = "") -> IcebergTable:
        """Return a table."""
        return self.catalog.load_table((NAMESPACE, f"{table_prefix}{table.name}"))

    def lake(self, table_prefix: str = "") -> IcebergLake:
        """Return the lake as the operator makes it."""
        return IcebergLake("lake", namespace=NAMESPACE, table_prefix=table_prefix, properties=self.properties)

    def scan(self, table: Table, reader: str, table_prefix: str = "") -> list[dict[str, Any]]:
        """Return all rows of a table as one of the libraries reads them."""
        if not self.catalog.table_exists((NAMESPACE, f"{table_prefix}{table.name}")):
            return []
        existing = self.existing(table, table_prefix)
        if reader == "pyiceberg":
            return existing.scan().to_arrow().to_pylist()
        with self._duckdb() as connection:
            found = connection.execute("FROM iceberg_scan(?)", [existing.metadata_location])
            names = [each[0] for each in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def commits(self, table: Table, table_prefix: str = "") -> list[Mapping[str, str]]:
        """Return the properties of each snapshot, the oldest first."""
        snapshots = self.existing(table, table_prefix).snapshots()
        return [each.summary.additional_properties for each in snapshots if each.summary]

    def drop_column(self, table: Table, name: str) -> None:
        """Remove a column."""
        with self.existing(table).update_schema() as update:
            update.delete_column(name)

    def add_column(self, table: Table, name: str) -> None:
        """Add a nullable column of integers."""
        with self.existing(table).update_schema() as update:
            update.add_column(name, LongType())

    def _duckdb(self) -> duckdb.DuckDBPyConnection:
        import duckdb_extensions

        for name in ("avro", "httpfs", "iceberg"):
            duckdb_extensions.import_extension(name)
        connection = duckdb.connect()
        connection.execute("SET TimeZone = 'UTC'")
        for name in ("avro", "httpfs", "iceberg"):
            connection.execute(f"LOAD {name}")
        if s3 := self.location.s3:
            endpoint = s3["endpoint"].removeprefix("http://")
            connection.execute(
                f"CREATE SECRET (TYPE s3, KEY_ID '{s3['key']}', SECRET '{s3['secret']}', ENDPOINT '{endpoint}', "
                "URL_STYLE 'path', USE_SSL false, REGION 'us-east-1')"
            )
        return connection
