"""For operators: metrics and health over HTTP, the console command and what it asks a running node, the demo.

Read in this order:

- `control.py`      the orders of the console, carried out on a node, and the port that a node fills
- `http.py` *       the listeners: pages on a TCP address, orders on a UNIX socket
- `visits.py` *     who may come to the pages, and for how long
- `status_page.py`  the page of a node for browsers, with `status.css`, `status.js` and `status.svg`
- `ring.py`         its picture of the members
- `plots.py`        its plots of the last hour, and its strip of partitions
- `markup.py`       what these are written with
- `history.py`      the last hour in numbers
- `client.py`       the console's end of that socket
- `cli.py`          the commands: arguments in, lines or JSON and an exit code out
- `overlay_cli.py`  the commands about the farm as a whole
- `calls_cli.py`    `sipfarm calls`: the calls of a running node
- `zone_cli.py`     `sipfarm zone`: the records that lead to the farm
- `trace_cli.py`    `sipfarm trace`: a user's messages at all nodes, live
- `ladder.py`       how they are drawn
- `pcap.py`         and written for Wireshark
- `keys_cli.py`     `sipfarm keys`: the keys of tokens and nonces
- `ca_cli.py`       `sipfarm ca`: the authority that admits nodes
- `progress.py`     how far a long command is
- `grammar.py`      how a command is declared, with its help and its example
- `user_cli.py`     `sipfarm user`
- `node_cli.py`     `status`, `reload`, `locate`, `bindings`, `bans`: one running node
- `waiting_cli.py`  `wait`, `drain`, `undrain`: what takes its time
- `check_cli.py`    `sipfarm check`: a configuration, and the machine it is for
- `top_cli.py`      `sipfarm top`, which draws the farm again and again
- `top.py`          what it draws
- `demo.py`         a throw-away farm of child processes
"""
