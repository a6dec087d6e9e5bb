"""The settings of what operators see of a node: pages and orders, the log, call records, copies of messages.

Written as `settings.py` says, which puts all sections together.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from farm.sections import Count, CountOrOff, Seconds, Section


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
    levels: tuple[str, ...] = ()
    """Other levels for some places, as `PLACE:LEVEL`, `overlay:debug` say: the `place` of a line, which are `node`,
    `overlay`, `transport`, `dns`, `journal`, `timers`, and `twisted` for what we stand on. `debug` everywhere is much
    to read while one place is looked into."""
    format: Literal["json", "text"] = "json"
    """`json`: one object a line for collectors; `text`: for eyes."""
    file: str = ""
    """File that lines are appended to; empty: standard error, which systemd and containers keep. SIGHUP opens it anew,
    after logrotate has moved it."""
    reason_lines_per_second: Count = 1
    """Lines that one reason of rejection may write each second; the rest are counted in the next line, so that a
    flood cannot fill the disk."""


class AccountingSettings(Section, frozen=True):
    """Call records: a line of JSON for every call that ended (`docs/call-records.md`)."""

    file: str = ""
    """File that records are appended to; empty writes none. SIGHUP opens it anew, after logrotate has moved it. It says
    who called whom: mode 0640."""
    rotate_bytes: CountOrOff = 104_857_600
    """Size at which the file becomes `FILE.1`, and `FILE.1` becomes `FILE.2`; about 150,000 calls. 0 leaves that to
    logrotate."""
    keep: CountOrOff = 10
    """Files kept so; what is older is removed."""
    failed: bool = True
    """Whether attempts that nobody answered have records, too. Those of strangers who were turned away have none in any
    case."""
    answers: bool = True
    """Whether a call has a line (`"event":"answered"`) when it is answered as well, so that a node that is killed costs
    no bill its beginning. A reader of whole calls passes over them."""
    redis: str = ""
    """Redis as `HOST:PORT` that has the same lines in a list, beside the file or in place of it; empty: none. It need
    not be that of `[store]`, and what is there does not stay: somebody takes it out."""
    redis_key: str = "sipfarm:calls"
    """Key of the list, to which all nodes append at the right."""
    redis_records: Count = 1_000_000
    """Records that the list may hold when nobody takes them; then the oldest go."""
    redis_database: CountOrOff = 0
    """Number of the database in Redis."""
    redis_user: str = ""
    """User of Redis's access list; empty: the default user."""
    redis_password_file: str = ""
    """File of the password, which is its first line; empty: no password."""
    most_calls: Count = 100_000
    """Answered calls that this node follows to their end, each about 1.5 KiB of memory. Beyond it the oldest has its
    record at once, ended by `farm`."""
    longest_call_seconds: Seconds = 43_200.0
    """A call whose end nobody told is taken for ended after this, by `farm`. Shorter cuts the records of long calls,
    not the calls."""


class CaptureSettings(Section, frozen=True):
    """Copies of all SIP messages for Homer and other collectors that speak HEPv3."""

    homer: tuple[str, ...] = ()
    """Collectors, each as `udp:HOST:PORT` with a numeric address (Homer's heplify-server listens on 9060); empty sends
    to none. Copies are not enciphered: keep them on a network of your own."""
    agent_id: Annotated[int, msgspec.Meta(ge=0, le=4_294_967_295)] = 2001
    """Number that collectors tell capture agents apart by; the name of the node goes with it."""
    auth_key_file: str = ""
    """File with the key that a collector wants of its agents, one line; empty sends none."""
    mask_credentials: bool = True
    """Whether what proves a password is blotted out in copies and in `sipfarm trace`: who has it can guess passwords
    at leisure. The message keeps its length. Turn it off only while a digest itself is looked into."""
    messages_per_second: Count = 5000
    """Messages copied each second at most, so that a flood is not doubled; the rest are counted as dropped. Each costs
    about half as much processor time as a registration."""
    share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """Share of all calls and registrations that is copied; what has one Call-ID is copied whole or not at all, by all
    nodes alike. 0.1 lets a large farm show a sample."""
