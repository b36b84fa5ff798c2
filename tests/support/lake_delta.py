"""Delta Lake tables under test, read by delta-rs, by DuckDB's own implementation, and by Polars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa
from deltalake import DeltaTable, Field, QueryBuilder, write_deltalake
from deltalake.exceptions import TableNotFoundError
from deltalake.schema import PrimitiveType

from tests.support.lakes import LakeUnderTest
from voiceos_provider.load.lake.delta import DeltaLake
from voiceos_provider.load.lake.table import EXPORT_ID
from voiceos_provider.transform import Table


class Lake(LakeUnderTest):
    """A folder of Delta Lake tables."""

    format = "delta"
    libraries = ("delta-rs", "duckdb", "polars")

    def lake(self, table_prefix: str = "") -> DeltaLake:
        """Return the lake as the operator makes it."""
        return DeltaLake(self.location.path, table_prefix=table_prefix, storage_options=self._options)

    def scan(self, table: Table, reader: str, table_prefix: str = "") -> list[dict[str, Any]]:
        """Return all rows and columns of a table as one of the libraries reads them; none if it does not exist."""
        uri, options = self._uri(table, table_prefix), self._options()
        try:
            delta_table = self.open(table, table_prefix)
        except TableNotFoundError:
            return []
        if reader == "polars":
            import polars

            return polars.read_delta(uri, storage_options=options).to_dicts()
        if reader == "duckdb":
            return self._duckdb(f"SELECT * FROM delta_scan('{uri}')").to_pylist()
        found = QueryBuilder().register("t", delta_table).execute("SELECT * FROM t")
        return pa.RecordBatchReader.from_stream(found).read_all().to_pylist()

    def commits(self, table: Table, table_prefix: str = "") -> list[Mapping[str, str]]:
        """Return the properties of each commit with data, the oldest first."""
        history = self.open(table, table_prefix).history()
        return [commit for commit in reversed(history) if EXPORT_ID in commit]

    def drop_column(self, table: Table, name: str) -> None:
        """Remove a column, as a user might, so that the table is one of an older version of the provider."""
        delta_table = self.open(table)
        rows = delta_table.to_pyarrow_table().drop_columns([name])
        write_deltalake(delta_table, rows, mode="overwrite", schema_mode="overwrite")

    def add_column(self, table: Table, name: str) -> None:
        """Add a nullable column of integers, as a user might."""
        self.open(table).alter.add_columns([Field(name, PrimitiveType("integer"), nullable=True)])

    def open(self, table: Table, table_prefix: str = "") -> DeltaTable:
        """Return a table as delta-rs sees it."""
        return DeltaTable(self._uri(table, table_prefix), storage_options=self._options())

    def _uri(self, table: Table, table_prefix: str) -> str:
        return f"{self.location.path}/{table_prefix}{table.name}"

    def _options(self) -> dict[str, str]:
        s3 = self.location.s3
        if not s3:
            return {}
        return {
            "AWS_ENDPOINT_URL": s3["endpoint"],
            "AWS_ACCESS_KEY_ID": s3["key"],
            "AWS_SECRET_ACCESS_KEY": s3["secret"],
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def _duckdb(self, query: str) -> pa.Table:
        from duckdb_extensions import import_extension

        import_extension("delta")
        import_extension("httpfs")
        with duckdb.connect() as connection:
            connection.execute("LOAD delta; LOAD httpfs")
            if s3 := self.location.s3:
                connection.execute(
                    f"CREATE SECRET (TYPE s3, KEY_ID '{s3['key']}', SECRET '{s3['secret']}', REGION 'us-east-1', "
                    f"ENDPOINT '{s3['endpoint'].removeprefix('http://')}', USE_SSL false, URL_STYLE 'path')"
                )
            return connection.execute(query).to_arrow_table()
