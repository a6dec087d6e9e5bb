"""From a URI to addresses in order: RFC 3263, the client side, with RFC 2782 and RFC 3261 §18.1.1.

Files in reading order: `records` (what DNS is asked and answers, and how records are ordered), `locate` (the
procedure, without a socket or a clock of its own), `failed` (which hops failed lately), `cache` (answers and how long
they hold), `hosts` (what the machine's own files say), `reading` (one answer from the rows of a DNS message),
`resolver` (Twisted Names: the questions go out here).
"""
