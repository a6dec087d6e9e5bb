"""Accounting: what became of every call, in one line of JSON each. A sibling of the proxy, which tells it.

In reading order: `parties` (who calls whom), `call` (one call's life), `calls` (all that run, by their dialogs),
`record` (the line), `outlet` (what waits to be written, for one place), `file_writer` (the file and its rotation),
`redis_writer` (a list in Redis).
`farm/call_records` puts them together and `farm/ended_calls` carries ends from node to node. What the fields mean is
in `docs/call-records.md`.
"""

from __future__ import annotations
