"""What operators see of the wire: copies of SIP messages for Homer (HEPv3), and one caller's for `sipfarm trace`.

Read in this order: `seen` (one message as it was on the wire) → `wiretap` (where the transport shows it) → `reading`
(what of a message is looked at: its Call-ID, whom it is about) → `masking` (what nobody is to see) → `key` (what
collectors ask for) → `hep` (a copy as they want it) → `sender` (the sockets to them) → `catch` (what one trace has
caught) → `words` (what nodes say to each other of traces).
"""

from __future__ import annotations
