"""The settings of what operators see of a node: pages and orders, the log.

Written as `settings.py` says, which puts all sections together.
"""

from __future__ import annotations

from typing import Literal

from farm.sections import Count, Section


class AdminSettings(Section, frozen=True):
    """Metrics, health and the console."""

    http: str = "127.0.0.1:9464"
    """Address of `/metrics` and `/healthz`, which want no password: keep it inside; empty turns them off."""
    control: str = ""
    """Path of the UNIX socket that the `sipfarm` command talks to; empty: `state_dir/control.sock`. Mode 0600."""


class LogSettings(Section, frozen=True):
    """What is written about what happens."""

    level: Literal["debug", "info", "warn", "error"] = "info"
    """Lowest level that is written; rejected messages are `info`."""
    format: Literal["json", "text"] = "json"
    """`json`: one object a line for collectors; `text`: for eyes."""
    file: str = ""
    """File that lines are appended to; empty: standard error, which systemd and containers keep. SIGHUP opens it anew,
    after logrotate has moved it."""
    reason_lines_per_second: Count = 1
    """Lines that one reason of rejection may write each second; the rest are counted in the next line, so that a
    flood cannot fill the disk."""
