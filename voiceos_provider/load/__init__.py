"""Destinations of exported tables. They receive paths and open connections, and do not import Airflow.

- `destination`: what every destination provides; `files`, `sql`, `lake` and `memory` are destinations
- `workdir`, `spool`, `writer`, `checkpoint`: local files that hold the rows until they are published
- `receipt`, `coverage`: what one export has done, and what many have covered
- `pending`: conversations that a later export requests again
- `erasure`: what an erasure of conversations has removed
"""
