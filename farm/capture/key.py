"""The key by which a collector knows its agents (HEPv3's chunk 14): one line of a file.

It goes in clear with each copy, and keeps strangers' mistakes out of a collector, not strangers.
"""

from __future__ import annotations

from typing import Final

from farm.config import CaptureSettings, ConfigError

MOST_KEY_BYTES: Final = 255


def read_key(settings: CaptureSettings) -> bytes:
    """The key that collectors ask for, b"" for none. Raises ConfigError."""
    path = settings.auth_key_file
    if not path:
        return b""
    try:
        with open(path, "rb") as file:
            key = file.read(MOST_KEY_BYTES + 2).strip()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", where="capture.auth_key_file") from None
    if not key or len(key) > MOST_KEY_BYTES or b"\n" in key:
        raise ConfigError(f"{path}: a key is one line of 1 to {MOST_KEY_BYTES} bytes", where="capture.auth_key_file")
    return key
