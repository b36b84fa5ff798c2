"""What is said of a Connection that is not there?"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowNotFoundException


def no_connection(conn_id: str, *, parameter: str, conn_type: str = "") -> AirflowNotFoundException:
    """What to raise in place of Airflow's own error, which does not say who wants it and where it belongs.

    :param conn_id: its id
    :param parameter: of the operator, which names it
    :param conn_type: as the form calls it, if only one will do
    """
    one = f"one of the type {conn_type}" if conn_type else "it"
    return AirflowNotFoundException(
        f"There is no connection {conn_id!r}, which {parameter} names; add {one} under Admin, Connections, or as "
        f"AIRFLOW_CONN_{conn_id.upper()} in the environment."
    )
