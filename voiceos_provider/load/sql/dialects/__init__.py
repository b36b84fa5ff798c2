"""One module per SQL engine, with one class.

To add an engine, add a module here with a subclass of `Dialect`, and its name to `DIALECTS` in `load/sql/__init__.py`
and to `_ENGINES` in `utils/databases.py`. The class needs `capabilities`, which describe the engine as data. With them,
`Dialect` creates tables, stages rows with `executemany` and merges them. Override a method where the engine differs,
such as `load_rows` for a faster path and `classify` for its errors. `generic` is the smallest example. The suite in
`tests/contract/sql` must pass: add the engine to `make_engine` in its `conftest.py`.
"""
