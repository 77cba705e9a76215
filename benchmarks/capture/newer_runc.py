"""Fetches a newer runc with its libraries from Debian's unstable suite into a private directory.

Nothing is installed: apt-get works with its own lists and cache, the packages are unpacked, and
the program is told to use the unpacked dynamic loader and libraries.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from benchmarks.capture.private_space import CaptureError

_SOURCES = """\
Types: deb
URIs: {mirror}
Suites: sid
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
_CONFIGURATION = """\
Dir::Etc::SourceList "{directory}/sid.sources";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "{directory}/lists";
Dir::Cache "{directory}/cache";
Acquire::Languages "none";
APT::Sandbox::User "root";
"""
_LIBRARIES = "usr/lib/x86_64-linux-gnu"


def fetch(directory: Path) -> Path:
    """The path of a runc that runs on this machine with its own C library and libseccomp."""
    for name in ("lists/partial", "cache/archives/partial", "packages", "root"):
        (directory / name).mkdir(parents=True)
    (directory / "sid.sources").write_text(_SOURCES.format(mirror=_mirror()))
    (directory / "apt.conf").write_text(_CONFIGURATION.format(directory=directory))
    private = {**os.environ, "APT_CONFIG": str(directory / "apt.conf")}
    packages = directory / "packages"
    _call(["apt-get", "-q", "update"], directory, private)
    _call(["apt-get", "-q", "download", "runc", "libseccomp2", "libc6"], packages, private)
    # patchelf comes from the system's own suite, or it would need the newer C library itself.
    _call(
        ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", "patchelf"],
        packages,
        dict(os.environ),
    )
    for package in packages.glob("*.deb"):
        _call(["dpkg", "-x", str(package), str(directory / "root")], directory, private)
    return _repaired(directory / "root")


def _repaired(root: Path) -> Path:
    program = next(
        (
            p
            for p in (root / "usr/bin/runc", root / "usr/sbin/runc")
            if p.is_file() and not p.is_symlink()
        ),
        None,
    )
    loader = root / _LIBRARIES / "ld-linux-x86-64.so.2"
    if program is None or not loader.exists():
        raise CaptureError("the packages of the newer runc are laid out in an unknown way")
    _call(
        [
            str(root / "usr/bin/patchelf"),
            "--set-interpreter",
            str(loader),
            "--force-rpath",
            "--set-rpath",
            str(root / _LIBRARIES),
            str(program),
        ],
        root,
        dict(os.environ),
    )
    return program


def _mirror() -> str:
    """The mirror that the machine uses already."""
    for path in sorted(Path("/etc/apt").glob("sources.list.d/*.sources")):
        for line in path.read_text().splitlines():
            if line.startswith("URIs:") and line.rstrip("/").endswith("/debian"):
                return line.split(maxsplit=1)[1]
    return "http://deb.debian.org/debian"


def _call(command: list[str], directory: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        message = (done.stderr.strip().splitlines() or ["failed"])[-1]
        raise CaptureError(f"{Path(command[0]).name} {command[1]}: {message}")
