"""Where keys come from: made once, kept across restarts, and refused with a word when they are no good."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.config import AuthSettings, Config, ConfigError, NodeSettings, SipSettings, StoreSettings
from farm.security.keys import KEY_BYTES, read_nonce_keys, read_secret


def make_config(directory: Path, *, backend: str = "sqlite", key_file: str = "") -> Config:
    return Config(
        node=NodeSettings(name="n1", state_dir=str(directory)),
        sip=SipSettings(domains=("example.com",)),
        auth=AuthSettings(nonce_key_file=key_file),
        store=StoreSettings(backend="memory" if backend == "memory" else "sqlite"),
    )


def test_the_secret_is_made_on_the_first_start_and_is_the_same_ever_after(tmp_path: Path) -> None:
    config = make_config(tmp_path / "state")
    secret = read_secret(config)
    assert len(secret) == KEY_BYTES
    assert read_secret(config) == secret
    file = tmp_path / "state" / "secret"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert [entry.name for entry in file.parent.iterdir()] == ["secret"]


def test_a_first_start_that_was_cut_short_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "secret.new").write_bytes(b"half")
    assert len(read_secret(make_config(tmp_path))) == KEY_BYTES


def test_a_node_that_keeps_nothing_has_a_new_secret_each_time(tmp_path: Path) -> None:
    config = make_config(tmp_path / "state", backend="memory")
    assert read_secret(config) != read_secret(config)
    assert not (tmp_path / "state").exists()


def test_a_short_secret_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(ConfigError, match=r"secret: shorter than 32 bytes; remove it"):
        read_secret(make_config(tmp_path))


def test_a_state_dir_that_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"Not a directory|File exists"):
        read_secret(make_config(tmp_path / "file" / "state"))


def test_nonces_have_the_secret_unless_a_file_is_named(tmp_path: Path) -> None:
    assert read_nonce_keys(make_config(tmp_path), b"s" * 32) == (b"s" * 32,)
    key_file = tmp_path / "nonce.key"
    key_file.write_bytes(b"k" * 40 + b"\n")
    assert read_nonce_keys(make_config(tmp_path, key_file=str(key_file)), b"s" * 32) == (b"k" * 40,)


@pytest.mark.parametrize(("content", "says"), [(b"k" * 31, "32 bytes or more"), (None, "No such file")])
def test_a_nonce_key_that_is_short_or_missing_is_refused(tmp_path: Path, content: bytes | None, says: str) -> None:
    key_file = tmp_path / "nonce.key"
    if content is not None:
        key_file.write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        read_nonce_keys(make_config(tmp_path, key_file=str(key_file)), b"s" * 32)
