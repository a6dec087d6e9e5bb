"""Transactions: what makes an unreliable exchange look like one request and its answers.

RFC 3261 §17 with RFC 6026 (2xx to INVITE) and RFC 4320 (non-INVITE), told the time and never touching a socket.
Read in this order:

- `key.py`          which transaction a message belongs to (§17.1.3, §17.2.3, RFC 2543 fallback)
- `machines.py`     the four state machines as tables, beside the RFC's figures
- `transaction.py`  one transaction: a row of a table, its timers, the last thing it sent
- `hop_by_hop.py`   the two requests that belong to one hop: ACK of a failure, CANCEL
- `layer.py`        the door: retransmissions end here, new requests and answers go up
"""
