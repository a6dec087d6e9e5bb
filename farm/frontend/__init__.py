"""What strangers see of the farm, and what it gives them to carry.

- `token.py`  the values that we put into messages and must recognise when they come back: branches (RFC 3261
  §8.1.1.7, §16.6 step 8), Record-Route users (§16.6 step 4)
"""
