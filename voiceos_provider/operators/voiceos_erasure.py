"""Erasure of conversations from a target: the right to be forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.interval import is_missing
from voiceos_provider.utils.errors import StopOnKillMixin, fail_without_retry

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from voiceos_provider.load.erasure import ErasableTarget


_TARGETS = {
    "files": (["path"], ["storage_conn_id"]),
    "a database": (["sql_conn_id"], ["schema", "dialect", "hook_params", "table_prefix"]),
    "Delta Lake": (["delta_path"], ["storage_conn_id", "storage_options", "table_prefix"]),
    "Iceberg": (["iceberg_conn_id", "catalog", "warehouse"], ["namespace", "table_prefix"]),
}
"""For each kind of target, the parameters that name it, and its others."""


class VoiceOSEraseConversationsOperator(StopOnKillMixin, BaseOperator):
    """Remove conversations from a target of the export operators, with everything that belongs to them.

    Messages, costs, recordings and rejected records go with them, and a configuration if no other conversation refers
    to it. Lists of pending conversations forget them, so that `carry_pending` does not request them again. In a lake,
    the history of all tables ends, because earlier versions hold the rows. A second run removes nothing.

    Delete the conversations at the vendor first: an export of their interval brings back those that the API still
    lists. Run it when no export writes to the same target. See docs/how-to/erasure.md.

    Set the parameters of one target, as for the export: `path`, `delta_path`, `sql_conn_id`, or one of
    `iceberg_conn_id`, `catalog` and `warehouse`.

    :param ids: ids of conversations: one, a list, or a list as JSON. (templated)
    :param path: folder or bucket of files and recordings. (templated)
    :param delta_path: folder of Delta Lake tables. (templated)
    :param storage_conn_id: the Connection of the store of either; None for the store's default credentials. (templated)
    :param storage_options: further options of the store of `delta_path`, as delta-rs names them. (templated)
    :param sql_conn_id: the Connection of a database. (templated)
    :param schema: the schema of its tables; None for the connection's own. (templated)
    :param dialect: SQL dialect, if the type of the connection does not select it. (templated)
    :param hook_params: further arguments of the database connection's own hook. (templated)
    :param iceberg_conn_id: the Connection of an Iceberg catalog. (templated)
    :param catalog: name of the catalog. (templated)
    :param warehouse: a local directory with an SQL catalog, in place of a Connection. (templated)
    :param namespace: the namespace of the Iceberg tables. (templated)
    :param table_prefix: prefix of the names of tables. (templated)
    :param voiceos_conn_id: the Connection of the VoiceOS API, from which each id is requested first, to report in
        ``still_listed`` those that it still returns; None to send no request. (templated)
    :return: the receipt: ids not found and still listed, and per table the rows removed, and the files rewritten and
        deleted. It holds no content of a conversation.
    """

    template_fields: Sequence[str] = (
        "ids",
        "path",
        "delta_path",
        "storage_conn_id",
        "storage_options",
        "sql_conn_id",
        "schema",
        "dialect",
        "hook_params",
        "iceberg_conn_id",
        "catalog",
        "warehouse",
        "namespace",
        "table_prefix",
        "voiceos_conn_id",
    )
    ui_color = "#e8f0ff"

    def __init__(
        self,
        *,
        ids: str | Sequence[str],
        path: str | None = None,
        delta_path: str | None = None,
        storage_conn_id: str | None = None,
        storage_options: Mapping[str, str] | None = None,
        sql_conn_id: str | None = None,
        schema: str | None = None,
        dialect: str | None = None,
        hook_params: Mapping[str, Any] | None = None,
        iceberg_conn_id: str | None = None,
        catalog: str | None = None,
        warehouse: str | None = None,
        namespace: str = "voiceos",
        table_prefix: str = "",
        voiceos_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ids = ids
        self.path = path
        self.delta_path = delta_path
        self.storage_conn_id = storage_conn_id
        self.storage_options = storage_options
        self.sql_conn_id = sql_conn_id
        self.schema = schema
        self.dialect = dialect
        self.hook_params = hook_params
        self.iceberg_conn_id = iceberg_conn_id
        self.catalog = catalog
        self.warehouse = warehouse
        self.namespace = namespace
        self.table_prefix = table_prefix
        self.voiceos_conn_id = voiceos_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Remove the conversations, and return the receipt."""
        from voiceos_provider.hooks.voiceos import VoiceOSHook
        from voiceos_provider.pipeline.erasure import erase_conversations, parse_ids

        with fail_without_retry():
            ids, target = parse_ids(self.ids), self.target()
            if is_missing(self.voiceos_conn_id):
                return erase_conversations(target, ids).as_dict()
            with VoiceOSHook(str(self.voiceos_conn_id)) as hook:
                return erase_conversations(target, ids, client=hook.get_conn()).as_dict()

    def target(self) -> ErasableTarget:
        """Return the target, which sends nothing.

        :raises VoiceOSValueError: if the parameters name none, or several, or if one does not apply to it
        """
        from voiceos_provider.load.files.erasure import ErasableFiles
        from voiceos_provider.load.lake.destination import LakeDestination
        from voiceos_provider.utils.databases import open_tables
        from voiceos_provider.utils.lakes import open_delta_lake, open_iceberg_lake
        from voiceos_provider.utils.storage import open_path

        given = {
            name: value
            for name in self.template_fields
            if name not in ("ids", "voiceos_conn_id")
            and (value := getattr(self, name))
            and not is_missing(value)
            and (name, value) != ("namespace", "voiceos")
        }
        kinds = [kind for kind, (naming, _) in _TARGETS.items() if given.keys() & naming]
        if len(kinds) != 1:
            raise VoiceOSValueError(
                "Set the parameters of one target: path, delta_path, sql_conn_id, or iceberg_conn_id, catalog or "
                "warehouse."
            )
        (kind,) = kinds
        if without_effect := given.keys() - {*chain(*_TARGETS[kind])}:
            raise VoiceOSValueError(f"{min(without_effect)} does not apply to {kind}; leave it out.")
        if kind == "files":
            return ErasableFiles(open_path(given["path"], given.get("storage_conn_id")))
        if kind == "a database":
            return open_tables(**given)
        if kind == "Delta Lake":
            return LakeDestination(open_delta_lake(given.pop("delta_path"), **given))
        return LakeDestination(open_iceberg_lake(**given, must_exist=True))
