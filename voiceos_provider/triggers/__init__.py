"""Triggers, and the polls that they share. A worker only creates triggers.

All code that runs in the triggerer: this package, `utils.async_connection`, `polling` with `windows` and
`window_reader` of `extract`, which do no I/O, and `client.async_client` with what it shares with `client.client`.
"""
