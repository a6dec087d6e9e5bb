"""The entry point: a command that needs no node runs without the composition root, and without Twisted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from farm import console


def test_the_exit_code_is_the_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["sipfarm", "check", "/nonexistent.toml"])
    with pytest.raises(SystemExit) as end:
        console.main()
    assert end.value.code == 1
    assert capsys.readouterr().err == "sipfarm: /nonexistent.toml: cannot be read: No such file or directory\n"


def test_twisted_is_not_imported_for_a_command() -> None:
    code = "import sys, farm.console; sys.exit(any(name.split('.')[0] == 'twisted' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=False).returncode == 0
