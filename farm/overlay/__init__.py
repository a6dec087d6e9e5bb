"""The overlay: replicated, merged, expiring records. It knows nothing of SIP: keys and values are bytes.

A kind of record brings its name, its merge and its limits, and is registered by the composition root. Read in this
order:

- `clock.py`    the hybrid logical clock that orders updates of different nodes
- `store.py`    the records that this node holds: merge, expiry, tombstones, what is not yet written down
- `local.py`    that store, as a lone node's registrar and users see it
- `journal.py`  the file they are started from
- `scribe.py`   when that file is written and with what

What makes it an overlay (identifiers, membership, lookup, replication) joins these files; a lone node needs no more.
"""
