"""What the roles in a node's certificate make of its configuration.

A node with the role edge alone speaks SIP and stores nothing: the overlay gives it nothing to own. One with the role
store alone stores and speaks no SIP: it opens no listener, and asks no gateway how it is. The file may be the one that
all nodes share, so what is for the edge is left aside without a word; but a listener that somebody wrote down and that
will not be there is a mistake, and so is an edge to which nothing can come.

Decided: the roles are the certificate's and no setting: other nodes refuse writes by them, so a node must not be able
to give itself one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

import msgspec

from farm.config import Config, ConfigError
from farm.farm_settings import DnsSettings
from farm.security.certificate import EDGE, subject_of, unpack_certificates
from farm.security.identity import CERTIFICATE_NAME
from farm.settings import SipSettings, TlsSettings

_FILE_BYTES: Final = 1 << 16


def apply_roles(config: Config, roles: int) -> Config:
    """The configuration as a node with these roles (bits of STORE and EDGE) runs it. Raises ConfigError where the two
    contradict each other."""
    sip = config.sip
    if roles & EDGE:
        if not sip.listen and not sip.proxy_listen:
            problem = "is empty: nothing could come in, and the certificate has the role edge"
            raise ConfigError(problem, key="sip.listen")
        return config
    for key, listeners in (("listen", sip.listen if sip.listen != _usual_listeners() else ()),
                           ("proxy_listen", sip.proxy_listen)):  # fmt: skip
        if listeners:
            problem = (
                "the certificate has the role store alone, and such a node speaks no SIP: leave it out, or issue the "
                "node the role edge too"
            )
            raise ConfigError(problem, key=f"sip.{key}")
    inside = msgspec.structs.replace(sip, listen=(), proxy_listen=())
    return msgspec.structs.replace(config, sip=inside, tls=TlsSettings(), dns=DnsSettings(), routes=(), gateways=())


def find_roles(config: Config) -> int | None:
    """The roles in the certificate of the node that a configuration is for; None where there is none to be read."""
    if not config.overlay.listen:
        return None
    with suppress(OSError, ValueError), open(certificate_path(config), "rb") as file:
        return subject_of(unpack_certificates(file.read(_FILE_BYTES))[0]).roles
    return None


def identity_directory(config: Config) -> str:
    """Where the files are that say who the node is."""
    return config.overlay.identity or os.path.join(config.node.state_dir, "identity")


def certificate_path(config: Config) -> str:
    """The file of the node's certificate."""
    return os.path.join(identity_directory(config), CERTIFICATE_NAME)


def _usual_listeners() -> tuple[str, ...]:
    """What holds when nothing is said."""
    for field in msgspec.structs.fields(SipSettings):
        if field.name == "listen":
            usual: tuple[str, ...] = field.default
            return usual
    return ()
