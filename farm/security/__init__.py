"""Who may, and how often; not how a message travels.

RFC 3261 §22 and §26, RFC 7616, RFC 8760. Read in this order:

- `record.py`       the record of a user, as values
- `credentials.py`  users' records (the kind "credential"), and the verdict on a request: who sent it, or what to answer
- `nonces.py`       nonces that every node can check, and the memory that refuses their replay
- `limits.py`       rates and bans by source address
- `keys.py`         where the node's secret and the keys of nonces come from
- `lasting.py`      what kinds of records have in common of which nothing lapses
- `key_record.py`   the keys that rotate, as values
- `farm_keys.py`    the same as a record (the kind "keys"), and when one follows another
- `users.py`        what is done to users: add, password, disable, remove, list, import
- `user_import.py`  users out of a CSV file, line by line

SIP over TLS:

- `sip_certificates.py`  the certificates that are shown and trusted: read, and read anew
- `sip_identity.py`      whose certificate it is (RFC 5922)
- `throw_away.py`        an authority and a certificate for the demo

Nodes, and who admits them:

- `certificate.py`    what a node's certificate says: overlay, Node-ID, name, roles, zone
- `identity.py`       this node: its files, its TLS, its reload
- `roles.py`          what a node's roles make of its configuration
- `peer.py`           the verdict on the one at the other end of a link
- `config_record.py`  what all nodes agree on, as values
- `overlay_config.py` the same, signed, as a record of the kind "config"
- `authority.py`      the authority that admits nodes (`sipfarm ca`)
- `register.py`       the nodes that it enrolled
- `rolling.py`        how another authority takes over (`sipfarm ca roll`)
- `ring.py`           where on the ring the next one goes
- `durable.py`        files that appear whole or not at all

How a digest is computed is the SIP language's business (`sip/digest.py`).
"""
