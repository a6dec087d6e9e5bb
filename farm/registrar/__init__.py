"""The registrar and the location service (RFC 3261 §10): who is where.

A REGISTER ends here. Read in this order:

- `record.py`     the record of an address-of-record, as values
- `binding.py`    what such records come to: bindings that merge, lapse and stay removed
- `content.py`    what of a record replicas compare, and what they refuse of each other
- `asked.py`      what a REGISTER asks for, read once
- `gruu.py`       the URIs that mean one phone, given out with the answer (RFC 5627)
- `answer.py`     what the 200 says
- `registrar.py`  §10.3 step by step, with Path (RFC 3327), Service-Route (RFC 3608) and instances (RFC 5626 §6)
- `location.py`   finding, changing and listing those records in the store
"""
