"""The VoiceOS API behind an Airflow Connection."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack, overload

from airflow.providers.common.compat.sdk import BaseHook, mask_secret

from voiceos_provider.exceptions import VoiceOSAuthError, VoiceOSError
from voiceos_provider.get_provider_info import get_provider_info
from voiceos_provider.interval import VISIBILITY_DELAY, Interval
from voiceos_provider.utils.errors import get_connection
from voiceos_provider.utils.openlineage import add_hook_lineage

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from voiceos_provider.client import ClientConfig, Conversation, Page, VoiceOSClient
    from voiceos_provider.load.destination import Destination
    from voiceos_provider.load.receipt import ExportReceipt
    from voiceos_provider.load.workdir import WorkDir
    from voiceos_provider.options import ExportOptions

log = logging.getLogger(__name__)

DataFrameType = Literal["pandas", "polars", "arrow"]


class _FrameOptions(TypedDict, total=False):
    """The optional parameters of `VoiceOSHook.get_df`."""

    interval_end: datetime | str | None
    status: str | Sequence[str] | None
    table: str
    columns: Sequence[str] | None
    redaction: Mapping[str, str] | None
    visibility_delay: timedelta | float


class VoiceOSHook(BaseHook):
    """Hook of the VoiceOS API.

    Use it as a context manager, or call `close` at the end. The first request is sent when a method needs it.

    :param voiceos_conn_id: the Connection, with the API token as its password and the base URL as its host
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

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the API; the next call opens new ones."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def get_conn(self) -> VoiceOSClient:
        """Return the client, created from the Connection on the first call.

        :raises AirflowNotFoundException: if there is no such Connection
        :raises VoiceOSValueError: if a field is missing or wrong; the message names it
        """
        from voiceos_provider.client import VoiceOSClient

        if self._client is None:
            settings, self._phone_hash_key = self._read_connection()
            self.base_url = settings.base_url
            add_hook_lineage(self, reads=self.base_url)
            self._client = VoiceOSClient(settings, renew_token=self._current_token)
        return self._client

    def _read_connection(self) -> tuple[ClientConfig, str | None]:
        """Return the client's configuration and the key for hashed phone numbers; logs mask both secrets."""
        from voiceos_provider.utils.connection_fields import client_config, read_extras, require_type

        conn_id = self.voiceos_conn_id
        connection = get_connection(conn_id, parameter="voiceos_conn_id", conn_type="VoiceOS")
        require_type(conn_id, connection.conn_type)
        extras = read_extras(conn_id, connection.extra_dejson, text=connection.extra)
        settings = client_config(conn_id, connection, extras)
        mask_secret(settings.token)  # Airflow masks the password, which may be longer
        if extras.phone_hash_key:
            mask_secret(extras.phone_hash_key)
        return settings, extras.phone_hash_key

    def _current_token(self) -> str:
        settings, begun = self._read_connection()[0], self.get_conn().config
        # Send a new token only to the host that it was saved with.
        return settings.token if settings.base_url == begun.base_url else begun.token

    @property
    def account_id(self) -> str:
        """A keyed digest that differs between accounts of the API; the token is its key, and cannot be read from it."""
        config = self.get_conn().config
        return hmac.digest(config.token.encode(), config.base_url.encode(), "sha256").hex()

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
        """Return one conversation by its id; see `VoiceOSClient.get_conversation`."""
        return self.get_conn().get_conversation(conversation_id)

    def get_recording_url(self, conversation_id: str) -> str:
        """Return the URL of a recording; see `VoiceOSClient.get_recording_url`."""
        return self.get_conn().get_recording_url(conversation_id)

    def options(self, interval: Interval, **options: Any) -> ExportOptions:
        """Return the options of an export, with the Connection's key for hashed phone numbers.

        :param interval: the interval of creation time
        :param options: see `ExportOptions.parse`
        :raises VoiceOSValueError: if one is wrong; the message names it
        """
        from voiceos_provider.options import ExportOptions

        self.get_conn()
        return ExportOptions.parse(interval, phone_hash_key=self._phone_hash_key, **options)

    def read_interval(self, interval: Interval, **options: Any) -> Iterator[Page]:
        """Yield the conversations of an interval as an export reads them: each once, in no particular order.

        :param interval: the interval of creation time, in the past
        :param options: see `ExportOptions.parse`; tables and redaction are not applied, and status only with
            ``read_strategy="pages"`` and a single state, which the server then filters by
        """
        from voiceos_provider.client.pages import decoded_page, split_page
        from voiceos_provider.pipeline.run import read_interval

        for page in read_interval(self.get_conn(), self.options(interval, **options), parse=split_page):
            if page.items or page.unreadable:
                yield decoded_page(page)

    def export_to(
        self, destination: Destination, options: ExportOptions, *, workdir: WorkDir | None = None
    ) -> ExportReceipt:
        """Write the conversations of an interval to a destination: all of them, or none.

        :param destination: where the rows go
        :param options: what is exported; see `options`
        :param workdir: where rows wait until all of them are written
        :raises VoiceOSError: as in `voiceos_provider.exceptions`
        """
        from voiceos_provider.pipeline.run import run_export

        client = self.get_conn()
        log.info("Reading %s with connection %r.", client.config.base_url, self.voiceos_conn_id)
        return run_export(client, destination, options, workdir=workdir)

    @overload
    def get_df(
        self,
        *,
        interval_start: datetime | str,
        df_type: Literal["pandas"] = "pandas",
        **options: Unpack[_FrameOptions],
    ) -> pd.DataFrame: ...

    @overload
    def get_df(
        self,
        *,
        interval_start: datetime | str,
        df_type: Literal["polars"],
        **options: Unpack[_FrameOptions],
    ) -> pl.DataFrame: ...

    @overload
    def get_df(
        self,
        *,
        interval_start: datetime | str,
        df_type: Literal["arrow"],
        **options: Unpack[_FrameOptions],
    ) -> Any: ...  # pyarrow has no types: with them, strict type checkers refuse the whole method

    def get_df(
        self,
        *,
        interval_start: datetime | str,
        df_type: DataFrameType = "pandas",
        interval_end: datetime | str | None = None,
        status: str | Sequence[str] | None = None,
        table: str = "conversations",
        columns: Sequence[str] | None = None,
        redaction: Mapping[str, str] | None = None,
        visibility_delay: timedelta | float = VISIBILITY_DELAY,
    ) -> pd.DataFrame | pl.DataFrame | Any:
        """Return one table of an interval as a DataFrame, with the rows and columns that the exports write.

        :param interval_start: first instant of creation time, with an offset; a date is that midnight in UTC
        :param df_type: ``pandas``, ``polars`` or ``arrow``
        :param interval_end: exclusive end; with a date as start, it may be left out for that day
        :param status: one state or several; None for all
        :param table: the table that is returned: ``conversations``, ``conversation_costs``,
            ``conversation_messages`` or ``agent_configs``
        :param columns: only these columns; None for all
        :param redaction: what is kept of personal data, as for the exports; everything by default
        :param visibility_delay: reading starts this long after the interval ends, as ``timedelta`` or in seconds
        :return: a ``pandas.DataFrame``, ``polars.DataFrame`` or ``pyarrow.Table``. Amounts are exact decimals,
            date-times have microseconds in UTC, and whole numbers and booleans that are null do not change the type of
            their column: in pandas, these are ``Int64`` and ``boolean``.
        :raises VoiceOSValueError: if an argument is wrong, or the package for `df_type` is not installed
        """
        from voiceos_provider.load.memory import MemoryDestination, data_frame, require_data_frames

        require_data_frames(df_type)
        destination = MemoryDestination(columns=columns)
        options = self.options(
            Interval.parse(interval_start, interval_end),
            status=status,
            tables=[table],
            redaction=redaction,
            visibility_delay=visibility_delay,
        )
        self.export_to(destination, options)
        assert destination.table is not None
        return data_frame(destination.table, df_type)

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the API responds and accepts the token; sends two small requests."""
        from voiceos_provider.client import Retry, VoiceOSClient

        try:
            settings = self.get_conn().config
            self.close()
            # A person is waiting: one attempt.
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

    # Airflow before 3.2 builds the connection form from the two methods below; later versions read the provider's
    # description themselves.

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the extras as fields of the connection form."""
        from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
        from flask_babel import lazy_gettext
        from wtforms import BooleanField, IntegerField, PasswordField, StringField
        from wtforms.validators import Optional

        # Airflow 2 accepts no other kinds of field; decimal numbers are typed into a text field.
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
        """Return the hidden and renamed standard fields of the form, and the placeholders."""
        form = _form()
        behaviour = {key.replace("-", "_"): value for key, value in form["ui-field-behaviour"].items()}
        # Later versions fill in the defaults; here they can only be shown as placeholders.
        defaults = {
            name: str(declared["schema"]["default"])
            for name, declared in form["conn-fields"].items()
            if "default" in declared["schema"]
        }
        return behaviour | {"placeholders": defaults | behaviour["placeholders"]}


def _form() -> dict[str, Any]:
    info: dict[str, Any] = get_provider_info()
    form: dict[str, Any] = info["connection-types"][0]
    return form
