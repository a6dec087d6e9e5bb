"""For operators: metrics and health over HTTP, the console command and what it asks a running node, the demo.

Read in this order:

- `control.py`      the orders of the console, carried out on a node, and the port that a node fills
- `http.py` *       the listeners: metrics and health on a TCP address, orders on a UNIX socket
- `client.py`       the console's end of that socket
- `cli.py`          the commands: arguments in, lines or JSON and an exit code out
- `overlay_cli.py`  the commands about the farm as a whole
- `zone_cli.py`     `sipfarm zone`: the records that lead to the farm
- `keys_cli.py`     `sipfarm keys`: the keys of tokens and nonces
- `ca_cli.py`       `sipfarm ca`: the authority that admits nodes
- `progress.py`     how far a long command is
- `demo.py`         a throw-away farm of child processes
"""
