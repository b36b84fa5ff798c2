"""The error for a Connection that does not exist."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowNotFoundException


def missing_connection(conn_id: str, *, parameter: str, conn_type: str = "") -> AirflowNotFoundException:
    """Return the error to raise in place of Airflow's own, which does not name the parameter or the cure.

    :param conn_id: id of the Connection
    :param parameter: parameter of the operator that names it
    :param conn_type: its type as the form calls it, if only one is accepted
    """
    kind = f" of the type {conn_type}" if conn_type else ""
    return AirflowNotFoundException(
        f"Add the connection {conn_id!r}{kind} under Admin > Connections, or set AIRFLOW_CONN_{conn_id.upper()}. "
        f"{parameter} names it, and it does not exist."
    )
