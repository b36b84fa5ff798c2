"""How does code that must not block read a Connection, and reach the API?"""

from __future__ import annotations

import asyncio
import functools
import ssl
from dataclasses import replace

from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.common.compat.sdk import mask_secret

from voiceos_provider.client import ClientConfig
from voiceos_provider.client.transport import default_ssl_context
from voiceos_provider.utils.connection_fields import client_config, read_extras


async def read_settings(voiceos_conn_id: str) -> ClientConfig:
    """What the Connection says of the API, on every Airflow that is supported.

    :raises VoiceOSValueError: if the Connection is not complete; the message names the field
    """
    connection = await get_async_connection(voiceos_conn_id)
    extras = read_extras(voiceos_conn_id, await get_async_extra_dejson(connection))
    settings = client_config(voiceos_conn_id, connection, extras)
    if settings.token != connection.password:  # which Airflow masks itself
        await asyncio.to_thread(mask_secret, settings.token)
    return replace(settings, verify=_certificates()) if settings.verify is True else settings


@functools.cache
def _certificates() -> ssl.SSLContext:
    """The usual certificates, read once: they cost milliseconds and megabytes for each client otherwise."""
    return default_ssl_context()
