"""The language of SIP: bytes to values and back (RFC 3261 §7, §18.3, §19, §20, §25; RFC 3581, 4475, 5118, 5627 §3).

No clock, no I/O, no policy: what a message means to a proxy or a registrar is theirs to say.

In reading order: `status` (codes, and the one error), `grammar` (tokens, quoting, lists, parameters, header names),
`uri`, `address` (From, To, Contact, Route), `via`, `hop`, `message` (the value), `headers` (what is read from it on
demand), `parser` (bytes to message), `framing` (a stream to messages), `digest`, `nat` (who is reached only by a flow),
`gruu` (URIs that mean one phone).
"""
