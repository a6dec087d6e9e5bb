"""sipfarm: a self-organizing farm of SIP proxies and registrars. This is the map.

Each package's docstring names its files in reading order and the RFC sections they obey. Arrows point down only:

    console  tap
     service  core  keyring  spending  reports (standing, overview)  relays (rendezvous)  edges (load)  member (public)
     watching (tracing)  call_records  ended_calls  names  offline  preflight (ports)
     records  pump                                                         the root: they know everybody
      accounting  admin  capture  frontend  proxy  registrar  transport  resolve  overlay   siblings: never each other
       transaction  security
        sip
         deadlines  draws  metrics (series, labels)  logs  config (settings, checks, sources, near_misses, addresses)
         changes  lock  open_files  systemd                                leaves

Read it as data travels:

A. A datagram in, a datagram out (INVITE). `transport/udp`, `sip/parser`, `transport/layer` (limits, received and
   rport, its flow), `transaction/layer` and `key` (a retransmission ends here), `proxy/proxy`, `request` (may it go
   on?), `admission` (who sent it?), `targets` (to whom? here `registrar/location`, among other nodes with
   `overlay/shared`, `node`, `reads`), `reach` (over which flow, or to which host?), `context` and `branch` (a branch a
   target), `resolve/locate` (to which address?), `forward` (the copy that leaves, with `frontend/token`),
   `transaction/transaction`, `transport/layer`, `udp`. Back: the client transaction is matched, `context` picks the
   best, and up again.
   To a phone whose flow another node has, over TLS say: `reach` finds it in `relays`, and the transaction sends over
   it: `overlay/relaying`, `calls`, `link`; there `link`, `calls`, `node`, `relaying`, `relays`, `transport/layer`,
   `connection`, `stream`, `tls`. The phone's answer goes from `transport/layer` there, unread, by `relays` the same way
   back, and enters here by `transport/layer` as any other.
   What becomes of it is told to the account of calls: `context` and `proxy` say it to `call_records`; `accounting/call`
   and `calls` follow it to its BYE, `record` makes the line, `file_writer` writes it. A BYE that another node took is
   told by that one: `ended_calls`.
B. REGISTER. As A to `proxy/proxy`, then `registrar/registrar` (with `security/credentials` and `sip/digest`),
   `registrar/binding` (the merge), `registrar/location`, `overlay/store`, `overlay/journal`, and the 200.
   Among other nodes the record goes to its owners instead: `overlay/shared`, `node`, `writes`, `calls`, `link`; there
   `link`, `calls`, `serving`, `store`; and back.
C. A node joins or dies. `overlay/rpc` and `link`, `wire`, `membership` (with `probing`, `gossip`, `suspicion`), `node`,
   which tells `ownership` (with `owners`) and `upkeep` (with `replication`, `comparison`, `handover`); `member`, which
   tells `relays`: with a dead node its flows are gone, and who waits on them hears so.
D. Start and stop. `twisted/plugins/farm_plugin`, `tap` (with `systemd` and `open_files`), `config` (with `checks`),
   `service` (with `lock` and `core`), `records`, `member`; stopping is the same list backwards. SIGHUP: `tap`,
   `config`, `changes`, `service`.
E. A key is made. `keyring`, `security/farm_keys`, `overlay/shared`; told to `frontend/token` and `security/nonces`. A
   challenge that another node made is answered here: `security/credentials`, `spending`, `overlay/calls`; there
   `serving`, `security/nonces`.
F. A stranger looks the farm up. `frontend/authority`, `known_answers` or `answers`, `zone`; which nodes it shows:
   `edges`, from what each says of itself (`member`, with `public` and `load`).
G. What is on the wire, where somebody watches: `transport/traffic`, `watching`, `capture/wiretap`; to a collector by
   `capture/sender` and `hep`; to `sipfarm trace` by `tracing`, `capture/catch`, and from other nodes by
   `overlay/relaying`.
H. Somebody asks how it is. A page: `admin/http`, for whom `visits` lets in; `/metrics` is what `metrics` and `series`
   write, the page what `reports` and `overview` know (of the last hour by `admin/history`), as `admin/status_page`
   draws it. The console: `console`, `admin/cli`, `client`; in the node `admin/http`, `control`, `reports`, `service`.
"""

from __future__ import annotations

__version__ = "0.1.0"
