"""Tells twistd about the `sipfarm` subcommand. There is no `__init__.py` beside this file, and must not be."""

from twisted.application.service import ServiceMaker

sipfarm = ServiceMaker("sipfarm", "farm.tap", "A node of a SIP proxy farm", "sipfarm")
