"""Sockets and flows: RFC 3261 §18 and §26.3 with RFC 3581 (rport), 5626 §3.5 and §4.4 (keep-alives), 5922 and
5923 (TLS), 6455 and 7118 (WebSocket), 8489 (STUN).

Bytes come in from listeners and connections, become messages, and go up with the flow that answers take; flows carry
bytes out. Everything above meets a flow and never a socket. The order to read in:

`layer` (the front door: what happens to a message, which flow leads to a hop) → `receipt` (where a request came from
and its answers go) → `refusal` (the stateless 400) → `noise` (datagrams that are no messages) → `stun` (keep-alives) →
`udp` → `datagrams` (its socket) → `connection` (one stream, without Twisted: buffers, keep-alives, time limits) →
`stream` (its sockets) → `shedding` (their end when the node is drained) → `tls` (a cipher around it) → `websocket` (a
session in it) → `makers` (all stream transports by name) → `proxy_protocol` (what balancers say first) → `proxied` (its
listeners) → `flows` (the other flows) → `handed` (sockets that systemd has bound) → `local` (which addresses are ours,
what our Via says) → `traffic` (what is counted at this edge).

A transport is one file here and one line in `makers`.
"""
