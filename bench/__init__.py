"""What sipfarm costs beside Kamailio, measured by SIPp in one run; README.md explains the method.

Read `loads.py` (what is asked of a server), `servers.py` (who answers), `run.py` (the order of things and the table).
"""
