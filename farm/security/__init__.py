"""Who may, and how often; not how a message travels.

RFC 3261 §22 and §26, RFC 7616, RFC 8760. Read in this order:

- `record.py`       the record of a user, as values
- `credentials.py`  users' records (the kind "credential"), and the verdict on a request: who sent it, or what to answer
- `nonces.py`       nonces that every node can check, and the memory that refuses their replay
- `limits.py`       rates and bans by source address
- `keys.py`         where the node's secret and the keys of nonces come from
- `users.py`        what is done to users: add, password, disable, remove, list, import
- `user_import.py`  users out of a CSV file, line by line

How a digest is computed is the SIP language's business (`sip/digest.py`).
"""
