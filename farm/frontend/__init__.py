"""What strangers see of the farm, and what it gives them to carry.

- `token.py`  the values that we put into messages and must recognise when they come back, on any node: Record-Route
  users (RFC 3261 §16.6 step 4), Path and outbound flows (RFC 5626 §5), temporary GRUUs (RFC 5627)
- `branch.py`  of these our branches (RFC 3261 §8.1.1.7, §16.6 step 8); `flow_text.py` a flow in few bytes
- `zone.py`  the farm's own zone: which records lead strangers to which nodes (RFC 3263)
- `answers.py`  what a question to it gets (RFC 1035, 2308, 5936, 6891, 8482); `known_answers.py` has
  made some before, `response_rate.py` keeps it from being a mirror for floods
- `notify.py`  secondaries are told of a new version (RFC 1996)
- `authority.py` *  the sockets of the name server
"""
