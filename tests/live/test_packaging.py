"""What `pip install` brings: the package, the command, and the plugin in the place where twistd looks for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_a_wheel_holds_package_command_and_plugin_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("farm", "twisted", "tests", "docs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "live"))
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
    ]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("sipfarm-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "sipfarm = farm.console:main" in archive.read(entry_points).decode()
    assert {"farm/py.typed", "farm/admin/status.css", "farm/admin/status.js", "farm/admin/status.svg"} <= set(names)
    assert [name for name in names if name.startswith("twisted/")] == ["twisted/plugins/farm_plugin.py"]
    assert {name.split("/")[0].split("-")[0] for name in names} == {"farm", "twisted", "sipfarm"}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "farm").rglob("*.py")}
    assert sources <= set(names)
