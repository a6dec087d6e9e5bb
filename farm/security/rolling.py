"""A new authority takes over from the one that nodes trust, in three steps between which no link is refused.

`begin` makes the new key and certificate, which nodes are to trust beside the old; `switch` has the new one sign from
then on; `finish` has the old one trusted no more. Before each next step every node has to have what the step before
made: it gets that with its certificate (`Authority.renew`), and the register says who was given what. Nodes find the
files within a minute or when they are reloaded.

    ca-next-key.pem   between `begin` and `switch`: the key that will sign (mode 0600)
    ca.pem            between `begin` and `finish`: two certificates

The key's file is what says who signs: it is replaced by one rename, so a crash leaves one step or the other. What a
node was given is told by signer and trust together: after a switch the trust is as it was, and yet no node is ready for
the end.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from cryptography import x509

from farm.security.authority import AUTHORITY_KEY_NAME, Authority, AuthorityError
from farm.security.certificate import (
    is_pair,
    make_authority_certificate,
    make_key,
    pack_certificate,
    pack_key,
    unpack_key,
)
from farm.security.durable import PUBLIC_MODE, SECRET_MODE, read_file, write_file
from farm.security.identity import AUTHORITY_NAME, CONFIG_NAME
from farm.security.overlay_config import verify_config

NEXT_KEY_NAME: Final = "ca-next-key.pem"
STEPS: Final = ("begin", "switch", "finish")
SETTLED: Final = "settled"
BEGUN: Final = "begun"
SWITCHED: Final = "switched"

_WORDS: Final = {
    SETTLED: "one authority",
    BEGUN: "a new authority is to be trusted, the old one signs",
    SWITCHED: "the new authority signs, the old one is still trusted",
}
_NEXT: Final = {SETTLED: "ca roll begin", BEGUN: "ca roll switch", SWITCHED: "ca roll finish"}


class RollStatus(NamedTuple):
    """How far it is: `behind` are the nodes that were not given yet what the stage made."""

    stage: str
    behind: tuple[str, ...]

    @property
    def words(self) -> str:
        """The stage in words."""
        return _WORDS[self.stage]

    @property
    def advice(self) -> str:
        """What to do next."""
        if self.behind:
            return f"ca renew --all, for {', '.join(self.behind)} too; put the files onto the nodes and reload them"
        if self.stage == SETTLED:
            return f"nothing; {_NEXT[self.stage]} has another authority take over"
        return f"when every node has its files and was reloaded: {_NEXT[self.stage]}"


class Rolling(Authority):
    """The authority in a directory, about to hand over. Its methods raise AuthorityError, and then nothing was done;
    those that take a step answer the configuration that is to be told to the nodes, b"" when it is as it was."""

    def status(self, wall: float) -> RollStatus:
        """How far it is. `wall` is seconds since 1970."""
        stage = self._stage()
        digest = self.trust_digest()
        behind = [
            node.name
            for node in self.nodes()
            if not node.denied and node.not_after >= wall and node.trust != digest and (node.trust or stage != SETTLED)
        ]
        return RollStatus(stage, tuple(behind))

    def begin(self, wall: float) -> bytes:
        """Make the new authority."""
        with self.changing():
            self._expect(SETTLED)
            key = make_key()
            write_file(self._path(NEXT_KEY_NAME), pack_key(key), SECRET_MODE)
            self._write_trust([self.signer, make_authority_certificate(key, self.overlay, wall)])
        return b""

    def switch(self, wall: float) -> bytes:
        """Have the new one sign. Refused while a node does not trust it."""
        with self.changing():
            self._expect(BEGUN)
            self._expect_nobody_behind(wall, "would refuse those that get a certificate from the new authority")
            os.rename(self._path(NEXT_KEY_NAME), self._path(AUTHORITY_KEY_NAME))
            self._key, self.certificates = self._load()
            return self._sign_anew(self._register(), self.config(), wall)

    def finish(self, wall: float, *, force: bool = False) -> bytes:
        """Trust the old one no more. Refused while a node has a certificate from it, unless that is meant."""
        with self.changing():
            self._expect(SWITCHED)
            if not force:
                self._expect_nobody_behind(wall, "would be shut out")
            record = b""
            try:
                verify_config(self.config_record(), [self.signer], self.overlay)
            except ValueError:  # the switch was cut short
                record = self._sign_anew(self._register(), self.config(), wall)
            self._write_trust([self.signer])
            return record or (read_file(self._path(CONFIG_NAME)) or b"")

    def _stage(self) -> str:
        if len(self.certificates) == 1:
            return SETTLED
        pem = read_file(self._path(NEXT_KEY_NAME))
        if pem is None:
            return SWITCHED
        key = unpack_key(pem)
        if not any(is_pair(key, certificate) for certificate in self.certificates):
            raise AuthorityError(f"{self._path(NEXT_KEY_NAME)}: is not the key of a certificate in {AUTHORITY_NAME}")
        return BEGUN

    def _expect(self, stage: str) -> None:
        found = self._stage()
        if found != stage:
            raise AuthorityError(f"{self.directory}: {_WORDS[found]}; what comes next is {_NEXT[found]}")

    def _expect_nobody_behind(self, wall: float, what: str) -> None:
        behind = self.status(wall).behind
        if behind:
            raise AuthorityError(f"{', '.join(behind)} {what}: first ca renew --all, and the files onto the nodes")

    def _write_trust(self, certificates: list[x509.Certificate]) -> None:
        write_file(self._path(AUTHORITY_NAME), b"".join(map(pack_certificate, certificates)), PUBLIC_MODE)
        self.certificates = certificates

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)
