"""Non-blocking access to the Connection, for the triggerer."""

from __future__ import annotations

import asyncio
import functools
import ssl
from dataclasses import replace

from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.common.compat.sdk import AirflowNotFoundException, mask_secret

from voiceos_provider.client import ClientConfig
from voiceos_provider.client.transport import default_ssl_context
from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.utils.connection_fields import client_config, read_extras, require_type
from voiceos_provider.utils.errors import missing_connection


async def read_settings(voiceos_conn_id: str) -> ClientConfig:
    """Return the client's settings from a Connection, on every supported Airflow.

    :raises VoiceOSValueError: if there is no such Connection, or a field is missing or wrong; the message names it
    """
    try:
        connection = await get_async_connection(voiceos_conn_id)
    except AirflowNotFoundException as error:
        missing = missing_connection(voiceos_conn_id, parameter="voiceos_conn_id", conn_type="VoiceOS")
        raise VoiceOSValueError(str(missing)) from error
    require_type(voiceos_conn_id, connection.conn_type)
    extras = read_extras(voiceos_conn_id, await get_async_extra_dejson(connection), text=connection.extra)
    settings = client_config(voiceos_conn_id, connection, extras)
    if settings.token != connection.password:  # which Airflow masks itself
        await asyncio.to_thread(mask_secret, settings.token)
    if settings.verify is not True or not settings.uses_tls:
        return settings
    return replace(settings, verify=await asyncio.to_thread(_certificates))


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Return the usual certificates, read once: each client would spend milliseconds and megabytes on its own."""
    return default_ssl_context()
