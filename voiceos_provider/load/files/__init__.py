"""Files in object storage or on local disk.

- `destination`, `publication`: the files of one interval, written and published
- `layout`, `manifests`: names of files, and with which arguments each interval was written
- `formats`, `store`: Parquet, JSON lines or CSV; complete files on any filesystem
- `erasure`, `rewriting`: removal of conversations; copies of data files without some rows
- `recordings`: audio files, and the table that lists them
"""
