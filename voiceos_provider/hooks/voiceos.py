"""The VoiceOS API behind an Airflow Connection."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, mask_secret

from voiceos_provider.exceptions import VoiceOSAuthError, VoiceOSError, VoiceOSValueError
from voiceos_provider.get_provider_info import get_provider_info
from voiceos_provider.interval import VISIBILITY_DELAY, Interval
from voiceos_provider.utils.missing_connection import no_connection
from voiceos_provider.utils.openlineage import add_hook_lineage

if TYPE_CHECKING:
    import pandas as pd

    from voiceos_provider.client import Conversation, Page, RawPage, VoiceOSClient
    from voiceos_provider.load.receipt import ExportReceipt
    from voiceos_provider.pipeline.interval_export import ReadStrategy
    from voiceos_provider.pipeline.run import Destination, SchemaDrift
    from voiceos_provider.transform import Redaction

log = logging.getLogger(__name__)


class VoiceOSHook(BaseHook):
    """The VoiceOS API: its token in a Connection, its conversations in Python.

    Use it as a context manager, or call `close` at the end. Nothing is sent before it is asked for something.

    :param voiceos_conn_id: the Connection: the API token is its password, the base URL its host
    """

    conn_name_attr = "voiceos_conn_id"
    default_conn_name = "voiceos_default"
    conn_type = "voiceos"
    hook_name = "VoiceOS"

    def __init__(self, voiceos_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.voiceos_conn_id = voiceos_conn_id
        self.base_url = ""
        self._client: VoiceOSClient | None = None
        self._phone_hash_key: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the API; the next call opens new ones."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def get_conn(self) -> VoiceOSClient:
        """The client, made from the Connection when it is first needed.

        :raises AirflowNotFoundException: if there is no such Connection
        :raises VoiceOSValueError: if it is not complete; the message names the field
        """
        from voiceos_provider.client import VoiceOSClient
        from voiceos_provider.utils.connection_fields import client_config, read_extras, require_type

        if self._client is None:
            try:
                connection = self.get_connection(self.voiceos_conn_id)
            except AirflowNotFoundException as error:
                raise no_connection(
                    self.voiceos_conn_id, parameter="voiceos_conn_id", conn_type="VoiceOS"
                ) from error
            require_type(self.voiceos_conn_id, connection.conn_type)
            extras = read_extras(self.voiceos_conn_id, connection.extra_dejson)
            settings = client_config(self.voiceos_conn_id, connection, extras)
            mask_secret(settings.token)  # it may be only a part of the password, which Airflow masks itself
            self._phone_hash_key = extras.phone_hash_key
            if self._phone_hash_key:
                mask_secret(self._phone_hash_key)
            self.base_url = settings.base_url
            add_hook_lineage(self, reads=self.base_url)
            self._client = VoiceOSClient(settings, renew_token=self._token_of_now)
        return self._client

    @property
    def account(self) -> tuple[str, str]:
        """What tells one account of the API from another: the address and the token, which is secret."""
        settings = self.get_conn().config
        return settings.base_url, settings.token

    def _token_of_now(self) -> str:
        from voiceos_provider.utils.connection_fields import client_config, read_extras

        connection = self.get_connection(self.voiceos_conn_id)
        extras = read_extras(self.voiceos_conn_id, connection.extra_dejson)
        settings, begun = client_config(self.voiceos_conn_id, connection, extras), self.get_conn().config
        mask_secret(settings.token)
        # A token is for the host that it was saved with, and not for the one that this client talks to.
        return settings.token if settings.base_url == begun.base_url else begun.token

    def list_conversations(
        self,
        *,
        status: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> Iterator[Page]:
        """Page through the conversations; see `VoiceOSClient.list_conversations`."""
        return self.get_conn().list_conversations(
            status=status, created_after=created_after, created_before=created_before
        )

    def get_conversation(self, conversation_id: str) -> Conversation:
        """One conversation by its id; see `VoiceOSClient.get_conversation`."""
        return self.get_conn().get_conversation(conversation_id)

    def get_recording_url(self, conversation_id: str) -> str:
        """Where a recording can be fetched; see `VoiceOSClient.get_recording_url`."""
        return self.get_conn().get_recording_url(conversation_id)

    def read_interval(
        self,
        interval: Interval,
        statuses: Collection[str] = (),
        *,
        read_strategy: ReadStrategy = "windows",
        max_concurrency: int = 4,
    ) -> Iterator[RawPage]:
        """The pages that hold the interval's conversations, as an export reads them: see `RawPage`.

        One on the edge of two slices, or of two pages, may come twice.

        :param interval: the interval of creation time
        :param statuses: with ``pages``, the state to ask for; ``windows`` hold every state
        :param read_strategy: ``windows`` reads every conversation; ``pages`` counts pages, and may miss one
        :param max_concurrency: requests that may be under way at a time, for slices
        """
        from voiceos_provider.pipeline.interval_export import read_interval

        return read_interval(
            self.get_conn(), interval, statuses, read_strategy=read_strategy, max_concurrency=max_concurrency
        )

    def export_to(
        self,
        target: Destination,
        *,
        interval: Interval,
        statuses: Collection[str] = (),
        tables: Sequence[str] | None = None,
        redaction: Mapping[str, str] | None = None,
        schema_drift: SchemaDrift = "keep",
        read_strategy: ReadStrategy = "windows",
        visibility_delay: timedelta | float = VISIBILITY_DELAY,
        max_concurrency: int = 4,
        due: PendingConversations | None = None,
        exported_at: datetime | None = None,
    ) -> ExportReceipt:
        """Write the conversations of an interval to a target: what every operator that exports does.

        :param target: where the rows go
        :param interval: the interval of creation time, in the past
        :param statuses: only conversations in these states; empty for all
        :param tables: the tables to write; None for all
        :param redaction: what is kept of people; everything by default
        :param schema_drift: whether what the contract does not know is kept and named, or fails the export
        :param read_strategy: ``windows`` reads every conversation once; ``pages`` counts pages
        :param visibility_delay: how long after the end of the interval it may be read; a number is of seconds
        :param max_concurrency: requests that may be under way at a time
        :param due: conversations of earlier intervals to ask for again
        :param exported_at: when the export began; when the target says, or now, by default
        :raises VoiceOSError: as in `voiceos_provider.exceptions`
        """
        from voiceos_provider.pipeline.interval_export import export_interval

        kept, client = self.redaction(redaction), self.get_conn()
        log.info("Reading %s by the connection %r.", client.config.base_url, self.voiceos_conn_id)
        return export_interval(
            client,
            target,
            interval=interval,
            statuses=statuses,
            tables=tables,
            redaction=kept,
            schema_drift=schema_drift,
            read_strategy=read_strategy,
            visibility_delay=visibility_delay,
            max_concurrency=max_concurrency,
            due=due,
            exported_at=exported_at,
        )

    def redaction(self, choices: Mapping[str, str] | None) -> Redaction:
        """What is kept of people, with the Connection's key for hashes; see `Redaction`.

        :raises VoiceOSValueError: if a choice is unknown, or the key is missing
        """
        from voiceos_provider.transform import Redaction

        self.get_conn()
        if choices is not None and not isinstance(choices, Mapping):  # a template renders to a text
            raise VoiceOSValueError(
                f"redaction {choices!r} is no mapping; write it like {{'messages': 'drop'}}."
            )
        return Redaction.choose(choices, self._phone_hash_key)

    def get_df(
        self,
        *,
        interval_start: datetime | str,
        interval_end: datetime | str,
        status: str | Sequence[str] | None = None,
        table: str = "conversations",
        columns: Sequence[str] | None = None,
        redaction: Mapping[str, str] | None = None,
        visibility_delay: timedelta | float = VISIBILITY_DELAY,
    ) -> pd.DataFrame:
        """The conversations of an interval as a DataFrame: a table that the exports write, held in memory.

        :param interval_start: first instant of creation time, with an offset
        :param interval_end: its exclusive end
        :param status: one state or several; None for all
        :param table: which of the tables
        :param columns: only these columns; None for all
        :param redaction: what is kept of people, as for the exports; everything by default
        :param visibility_delay: how long after the end of the interval it may be read; a number is of seconds
        :return: the table's rows; date-times in UTC, money as `decimal.Decimal`
        """
        from voiceos_provider.load.memory import MemoryDestination

        target = MemoryDestination(columns=columns)
        self.export_to(
            target,
            interval=Interval.parse(interval_start, interval_end),
            statuses=as_statuses(status),
            tables=[table],
            redaction=redaction,
            visibility_delay=visibility_delay,
        )
        assert target.table is not None
        frame: pd.DataFrame = target.table.to_pandas()
        return frame

    def test_connection(self) -> tuple[bool, str]:
        """Tell a healthy API from a wrong host from a bad token; sends two small requests."""
        from voiceos_provider.client import Retry, VoiceOSClient

        try:
            settings = self.get_conn().config
            self.close()
            # Somebody is waiting for the answer: one try, and no wait.
            once = replace(
                settings, retry=Retry(max_attempts=1, deadline=0), request_timeout=settings.connect_timeout
            )
            client = self._client = VoiceOSClient(once)
            try:
                client.check_health()
            except VoiceOSError as error:
                return False, f"No VoiceOS API at {client.config.base_url}: {error}"
            next(client.list_conversations(page_size=1), None)
        except VoiceOSAuthError as error:
            return False, f"{client.config.base_url} answers, but refuses the token: {error}"
        except VoiceOSError as error:
            return False, str(error)
        finally:
            self.close()
        return True, f"{client.config.base_url} answers, and accepts the token."

    # Airflow before 3.2 draws the connection form from the two methods below; both read the declaration that
    # later versions read themselves.

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The extras as fields of the connection form."""
        from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
        from flask_babel import lazy_gettext
        from wtforms import BooleanField, IntegerField, PasswordField, StringField
        from wtforms.validators import Optional

        # Airflow 2 takes no other kinds of field; a number with a fraction is typed into a text field.
        kinds = {"integer": IntegerField, "number": StringField, "string": StringField}
        widgets: dict[str, Any] = {}
        for name, declared in _form()["conn-fields"].items():
            kind, label = declared["schema"]["type"][0], lazy_gettext(declared["label"])
            if kind == "boolean":
                widgets[name] = BooleanField(label, description=declared["description"])
            else:
                field, widget = kinds[kind], BS3TextFieldWidget
                if declared["schema"].get("format") == "password":
                    field, widget = PasswordField, BS3PasswordFieldWidget
                widgets[name] = field(
                    label, [Optional()], description=declared["description"], widget=widget()
                )
        return widgets

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Which of the form's standard fields are shown, under which name, and what is the default of the others."""
        form = _form()
        behaviour = {key.replace("-", "_"): value for key, value in form["ui-field-behaviour"].items()}
        # Later versions fill the defaults in; here they can only be shown.
        defaults = {
            name: str(declared["schema"]["default"])
            for name, declared in form["conn-fields"].items()
            if "default" in declared["schema"]
        }
        return behaviour | {"placeholders": defaults | behaviour["placeholders"]}


def as_statuses(status: str | Sequence[str] | None) -> tuple[str, ...]:
    """One state, several or none, as Airflow's templates leave them, without repetition.

    :raises VoiceOSValueError: if one is not a state that the API can be asked for
    """
    from voiceos_provider.client.requests import require_statuses

    if status is None or status in ("", "None"):
        return ()
    statuses = (status,) if isinstance(status, str) else tuple(dict.fromkeys(status))
    require_statuses(statuses)
    return statuses


def _form() -> dict[str, Any]:
    info: dict[str, Any] = get_provider_info()
    form: dict[str, Any] = info["connection-types"][0]
    return form
