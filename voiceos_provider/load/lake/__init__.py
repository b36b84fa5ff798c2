"""Tables of a lake: one commit per table, conversations last.

- `destination`: loads, and erasures, again if another writer commits first
- `changes`: what a merge adds and removes, from a comparison with the existing rows
- `table`: what a format implements; `iceberg` and `iceberg_files` with PyIceberg, `delta` with delta-rs
"""
