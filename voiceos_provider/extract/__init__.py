"""Exact reading of an interval of creation time.

- `reader`: read_windows and read_pages: workers, what was read before, what must be read again
- `windows`: which window is requested next, and how wide it is
- `window_reader`: which pages of a window are requested, and when the window is complete
- `server_checks`: probe requests before reading, which show the server's bounds, page numbers and clock
- `bounds_probe`: probe requests while reading, which show how the server compares times
- `by_id`: conversations requested by their ids: late arrivals, and what a window listed and lost
- `workers`: threads that fetch ahead of the consumer
"""
