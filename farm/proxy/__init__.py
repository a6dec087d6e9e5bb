"""The proxy core: RFC 3261 §16, one file a step, with RFC 4320, 5393, 5626, 5627 and 6026.

Read in the order a request travels:

- `proxy.py`     the front door: REGISTER to the registrar, OPTIONS for us, everything else through the steps
- `domains.py`   which names are ours
- `dialog.py`    what our Record-Route remembers of a dialog, and what that allows later
- `request.py`   validation (§16.3) and route information (§16.4)
- `admission.py` who may: challenges (§16.3 step 6, §22.3), no relaying between strangers
- `targets.py`   the target set (§16.5), GRUUs (RFC 5627), and phones whose flow is gone (RFC 5626)
- `reach.py`     what a contact comes to: a flow of some node, an address, or nothing
- `gateways.py`  static routes and gateways, their prefixes and health
- `forward.py`   the copy that leaves (§16.6)
- `branch.py`    one target: its hops in order, its client transaction, timer C
- `context.py`   the response context (§16.7 to §16.10): branches, the best answer, CANCEL
- `best.py`      which final response is the best (§16.7 step 6)
- `stateless.py` what has no transaction: the ACK of a 2xx (§16.11), and answers that nobody waits for
- `probe.py`     OPTIONS to gateways, to know which answer
"""
