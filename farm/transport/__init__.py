"""Sockets and flows: RFC 3261 §18 with RFC 3581 (rport) and the stream keep-alive of RFC 5626 §3.5.1.

Bytes come in from listeners and connections, become messages, and go up with the flow that answers take; flows carry
bytes out. Everything above meets a flow and never a socket. The order to read in:

`layer` (the front door: what happens to a message, which flow leads to a hop) → `receipt` (where a request came from
and its answers go) → `refusal` (the stateless 400) → `udp` → `datagrams` (its socket) → `connection` (one stream,
without Twisted: buffers, keep-alives, time limits) → `stream` (its sockets) → `flows` (the other flows) → `local`
(which addresses are ours, what our Via says) → `traffic` (what is counted at this edge).

A transport is one file here and one line in `layer.py`.
"""
