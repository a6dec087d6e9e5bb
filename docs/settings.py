"""Makes `configuration.md` from the settings and the texts below them: `make docs`."""

from __future__ import annotations

import ast
import inspect
import sys
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec

from farm import farm_settings, settings, watch_settings
from farm.changes import find_reason
from farm.settings import REPEATED, SECTIONS

HEAD: Final = """\
# Configuration

A node reads one [TOML](https://toml.io) file, then `conf.d/*.toml` beside it in the order of their names, then
environment variables, then options; what comes later wins, except that `[[routes]]` and `[[gateways]]` of several files
add up.

| source | example |
|---|---|
| file | `twistd -n sipfarm -c /etc/sipfarm/node.toml` |
| drop-in | `/etc/sipfarm/conf.d/10-auth.toml` |
| environment | `SIPFARM__SIP__DOMAINS=example.com,example.net` (lists with commas, or as in TOML) |
| option | `twistd -n sipfarm -c node.toml --set auth.open=true` |

Unknown keys are refused, and the nearest right one is named. `sipfarm check FILE` tells what is wrong before a start
does. Secrets are never settings: they are named by file, or as `credential:NAME` where the unit of systemd says
`LoadCredential=NAME:…` (`redis_password_file`, `nonce_key_file`, `auth_key_file`, and `certificates`, `keys` and
`trust` of `[tls]`). A documented example is [deploy/node.toml](../deploy/node.toml).

`sipfarm reload`, or SIGHUP (`systemctl reload sipfarm`), reads all of this again while the node runs, and certificates
that were renewed. The column "changes" says of each key whether a running node takes it (`at reload`), or why it wants
a restart. `sipfarm reload` prints, and the log says, what was taken and what wants a restart. After a mistake nothing
has changed: it is one line, and exit code 1. The log file is opened anew in any case: logrotate moves it and sends the
signal. What is under way goes on by the rules with which it began.

SIGTERM and SIGINT stop the node when the calls that are being set up have ended, after half a minute at most; a second
one ends them at once.
"""


def read_texts() -> dict[tuple[str, str], str]:
    """The text below each field, by class and field, and under "" that of the class."""
    texts: dict[tuple[str, str], str] = {}
    modules = (farm_settings, watch_settings, settings)
    for node in [node for module in modules for node in ast.parse(inspect.getsource(module)).body]:
        if not isinstance(node, ast.ClassDef):
            continue
        texts[node.name, ""] = inspect.cleandoc(ast.get_docstring(node) or "")
        for field, below in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                texts[node.name, field.target.id] = " ".join(str(below.value.value).split())
    return texts


def make_page() -> str:
    """The whole page."""
    texts = read_texts()
    lines = [HEAD]
    for section, kind in SECTIONS.items():
        lines += [f"## [[{section}]]" if section in REPEATED else f"## [{section}]", "", texts[kind.__name__, ""], ""]
        lines += ["| key | type | default | changes | meaning |", "|---|---|---|---|---|"]
        hints = get_type_hints(kind, include_extras=True)
        for field in msgspec.structs.fields(kind):
            default = "needed" if field.default is msgspec.NODEFAULT else f"`{_toml(field.default)}`"
            text = texts[kind.__name__, field.name].replace("|", "\\|")
            reason = "" if section in REPEATED else find_reason(section, field.name)
            changes = f"restart: {reason}" if reason else "at reload"
            lines.append(f"| `{field.name}` | {_describe(hints[field.name])} | {default} | {changes} | {text} |")
        lines.append("")
    return "\n".join(lines)


def _describe(kind: Any) -> str:
    """A type in words, with its limits."""
    if get_origin(kind) is Annotated:
        base, meta = get_args(kind)
        limits = [
            f"{sign} {limit:g}"
            for sign, limit in (("≥", meta.ge), (">", meta.gt), ("≤", meta.le), ("<", meta.lt))
            if limit is not None
        ]
        return " ".join([_describe(base), *limits])
    if get_origin(kind) is Literal:
        return " or ".join(f"`{_toml(choice)}`" for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return f"list of {_describe(get_args(kind)[0])}"
    return {str: "text", int: "whole number", float: "number", bool: "true or false"}[kind]


def _toml(value: object) -> str:
    """A default as it would stand in a file."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


if __name__ == "__main__":
    sys.stdout.write(make_page())
