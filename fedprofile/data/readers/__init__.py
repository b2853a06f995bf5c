"""From where a partner's table lies to a raw polars frame: files, a DuckDB file, PostgreSQL. Read only, all of them.

No error and no log line holds a cell, a password or a connection string.
"""
