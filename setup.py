"""The compiled build, which is optional: `SIPFARM_COMPILE=1 pip install .` has mypyc make machine code of the modules
below, the ones that every message passes; it takes gcc, Python's header files and a minute. Without it this file adds
nothing to setup.cfg, and the install is pure Python.

A module can stand here when it is typed throughout, imports no Twisted, and holds no msgspec.Struct that is unpacked:
mypyc keeps no more than `list` of an annotation `list[Entry]`. Nobody outside the list may inherit from a class inside,
tests cannot replace a method of one, and a slice of bytes must not end before it begins (SystemError in mypyc 2.4).
"""

from __future__ import annotations

import os
import sys

from setuptools import Extension, setup

COMPILED = (
    "farm/deadlines.py",
    "farm/draws.py",
    "farm/frontend/branch.py",
    "farm/frontend/flow_text.py",
    "farm/frontend/token.py",
    "farm/overlay/access.py",
    "farm/overlay/calls.py",
    "farm/overlay/cells.py",
    "farm/overlay/clock.py",
    "farm/overlay/ids.py",
    "farm/overlay/local.py",
    "farm/overlay/offset.py",
    "farm/overlay/ownership.py",
    "farm/overlay/quorum.py",
    "farm/overlay/reads.py",
    "farm/overlay/relaying.py",
    "farm/overlay/requests.py",
    "farm/overlay/rtt.py",
    "farm/overlay/serving.py",
    "farm/overlay/store.py",
    "farm/overlay/writes.py",
    "farm/proxy/admission.py",
    "farm/proxy/best.py",
    "farm/proxy/branch.py",
    "farm/proxy/context.py",
    "farm/proxy/dialog.py",
    "farm/proxy/domains.py",
    "farm/proxy/forward.py",
    "farm/proxy/proxy.py",
    "farm/proxy/reach.py",
    "farm/proxy/request.py",
    "farm/proxy/stateless.py",
    "farm/proxy/targets.py",
    "farm/registrar/answer.py",
    "farm/registrar/asked.py",
    "farm/registrar/binding.py",
    "farm/registrar/content.py",
    "farm/registrar/gruu.py",
    "farm/registrar/location.py",
    "farm/registrar/registrar.py",
    "farm/rendezvous.py",
    "farm/resolve/locate.py",
    "farm/resolve/records.py",
    "farm/security/credentials.py",
    "farm/security/limits.py",
    "farm/security/nonces.py",
    "farm/sip/address.py",
    "farm/sip/digest.py",
    "farm/sip/grammar.py",
    "farm/sip/gruu.py",
    "farm/sip/headers.py",
    "farm/sip/hop.py",
    "farm/sip/message.py",
    "farm/sip/nat.py",
    "farm/sip/parser.py",
    "farm/sip/status.py",
    "farm/sip/uri.py",
    "farm/sip/via.py",
    "farm/transaction/hop_by_hop.py",
    "farm/transaction/key.py",
    "farm/transaction/layer.py",
    "farm/transaction/machines.py",
    "farm/transaction/transaction.py",
    "farm/transport/flows.py",
    "farm/transport/local.py",
    "farm/transport/receipt.py",
    "farm/transport/traffic.py",
)

# What the build needs: mypyc, and the types of what the modules import. pip fetches it unless it isolates no builds.
REQUIRED = ("mypy>=1.14", "msgspec>=0.19", "prometheus-client>=0.21")

# Strict typing is `make lint`'s; nothing of [mypy] in setup.cfg, whose plug-in is not at hand here.
MYPY = ("--config-file=", "--namespace-packages", "--explicit-package-bases", "--ignore-missing-imports")


def compile_modules() -> list[Extension]:
    """The modules as one library."""
    try:
        from mypyc.build import mypycify
    except ImportError:
        raise SystemExit(f"SIPFARM_COMPILE=1 without build isolation wants: pip install {' '.join(REQUIRED)}") from None
    return mypycify([*MYPY, *COMPILED], group_name="sipfarm", debug_level="0")


if os.environ.get("SIPFARM_COMPILE", "0") in ("", "0"):
    setup()
elif "egg_info" in sys.argv:  # pip asks what the build wants
    setup(setup_requires=list(REQUIRED))
elif "dist_info" in sys.argv:  # pip asks what the package is
    setup()
else:
    setup(ext_modules=compile_modules())
