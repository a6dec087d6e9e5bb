"""The node's secret and the keys of its nonces: where they are read from, and the secret made on the first start.

The secret proves what a node put into messages (`frontend/token`), and keys the nonces unless a file of their own is
configured, until the keys that rotate take over (`farm_keys`), which it seals. It outlives restarts, so that dialogs
do. A node that keeps nothing has a new one each time.
"""

from __future__ import annotations

import os
from typing import Final

from farm.config import Config, ConfigError
from farm.security.durable import SECRET_MODE, read_file, write_file

KEY_BYTES: Final = 32


def read_secret(config: Config) -> bytes:
    """The node's secret. Raises ConfigError."""
    if config.store.backend == "memory":
        return os.urandom(KEY_BYTES)
    path = os.path.join(config.node.state_dir, "secret")
    try:
        os.makedirs(config.node.state_dir, mode=0o700, exist_ok=True)
        key = read_file(path) or _make_key(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", where="node.state_dir") from None
    if len(key) < KEY_BYTES:
        raise ConfigError(
            f"{path}: shorter than {KEY_BYTES} bytes; remove it to have a new one made", where="node.state_dir"
        )
    return key


def read_nonce_keys(config: Config, secret: bytes) -> tuple[bytes, ...]:
    """The keys of nonces, the current one first. Raises ConfigError."""
    path = config.auth.nonce_key_file
    if not path:
        return (secret,)
    try:
        with open(path, "rb") as file:
            key = file.read(4096).strip()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", where="auth.nonce_key_file") from None
    if len(key) < KEY_BYTES:
        raise ConfigError(f"{path}: a key has {KEY_BYTES} bytes or more", where="auth.nonce_key_file")
    return (key,)


def _make_key(path: str) -> bytes:
    """A file with fresh random bytes."""
    key = os.urandom(KEY_BYTES)
    write_file(path, key, SECRET_MODE)
    return key
