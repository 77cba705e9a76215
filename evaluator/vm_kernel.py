"""Kernels of the distribution for a virtual machine, and the programs that it is given.

Packages are downloaded with ``apt-get download`` into a cache directory and taken apart there.
Nothing is installed.  What is in the cache is used as it is, so a run needs no network after the
first; a newer one of the same name is downloaded when its directory is removed.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from evaluator.errors import EnvironmentLackError, InputError

DEFAULT = "linux-image-amd64"
"""Debian's generic kernel: it has AppArmor, and x32 calls where it is asked for them at boot."""
_PROGRAMS = {
    "busybox-static": "bin/busybox",
    # With its settings, the features it takes profiles to be written for, and what they include.
    "apparmor": (
        r"sbin/apparmor_parser|etc/apparmor/parser\.conf|usr/share/apparmor-features/.+"
        r"|etc/apparmor\.d/(?:abi|abstractions|tunables)/.+"
    ),
}
# In the order of their loading; a kernel that has one of them built in has no such module.
_MODULES = (
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_console",
)
_LIST = ".files"
_DOWNLOAD_S = 600
_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]+")
_IMAGE = re.compile(r"\./boot/vmlinuz-(.+)")
_MODULE = re.compile(rf"\./(?:usr/)?lib/modules/.+/({'|'.join(_MODULES)})\.ko(\.xz)?")


class Kernel(Struct, frozen=True):
    """A kernel that a virtual machine can boot."""

    package: str
    release: str
    """As ``uname -r`` says there."""
    image: Path
    """For ``-kernel``: an ELF file, or the compressed one where nobody could unpack it."""
    modules: tuple[Path, ...]
    """What its console ports need, in the order of loading."""


def cache() -> Path:
    """Where downloaded packages are kept (XDG Base Directory Specification)."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if given.startswith("/") else Path.home() / ".cache"
    return base / "sidestep" / "vm"


def kernel(package: str, say: Callable[[str], None] = lambda _: None) -> Kernel:
    """The kernel of a package, downloaded if need be; ``say`` hears one line then.

    ``InputError`` for what is no kernel package; ``EnvironmentLackError`` if it cannot be had.
    """
    if not _NAME.fullmatch(package):
        raise InputError(f"--kernel {package}: not the name of a package, like {DEFAULT}")
    where = _kept(package, _take_kernel, say)
    modules = [where / f"{one}.ko" for one in _MODULES]
    return Kernel(
        package,
        (where / "release").read_text().strip(),
        where / "image",
        tuple(one for one in modules if one.is_file()),
    )


def programs(say: Callable[[str], None] = lambda _: None) -> Mapping[str, Path]:
    """The files of the distribution that a machine starts with, by their path there.

    Among them directories, which may be empty.
    """
    kept = [_kept(package, _take_program, say) for package in _PROGRAMS]
    return {
        str(file.relative_to(where)): file
        for where in kept
        for file in sorted(where.rglob("*"))
        if file.name != _LIST
    }


def is_kept(package: str) -> bool:
    """Whether it was downloaded before, and all of it is there."""
    where = cache() / package
    try:
        return (where / _LIST).read_text() == _listed(where, _wanted(package))
    except OSError:
        return False


def _wanted(package: str) -> str:
    """What is taken of it, by the patterns for its files."""
    return _PROGRAMS.get(package) or f"{_IMAGE.pattern} {_MODULE.pattern}"


def _listed(where: Path, wanted: str) -> str:
    """The files of a package as they were written: a line for each, with its size."""
    files = sorted(one for one in where.rglob("*") if one.is_file() and one.name != _LIST)
    sizes = [f"{one.stat().st_size} {one.relative_to(where)}" for one in files]
    return "\n".join([wanted, *sizes])


def _kept(
    package: str, take: Callable[[Path, str, Path], None], say: Callable[[str], None]
) -> Path:
    """The directory of a package in the cache.  Made beside and renamed, so never half there."""
    where = cache() / package
    if is_kept(package):
        return where
    damaged = ", as what is there is not whole" if where.exists() else ""
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=where.parent) as text:
            new, fetched = Path(text) / "made", Path(text) / "fetched"
            new.mkdir()
            fetched.mkdir()
            say(f"{package} is downloaded to {where}, and not installed{damaged}")
            take(_download(package, fetched), package, new)
            (new / _LIST).write_text(_listed(new, _wanted(package)))
            if not is_kept(package):  # somebody else may have been quicker
                with suppress(OSError):
                    where.rename(Path(text) / "damaged")
                new.rename(where)
    except OSError as error:
        raise EnvironmentLackError(f"{where}: cannot be written: {error.strerror}") from None
    return where


def _download(package: str, to: Path) -> Path:
    """The file of a package.  Of one that only names another, the other's."""
    file = _downloaded(package, to)
    depends = _run(["dpkg-deb", "--field", str(file), "Depends"], file)
    named = re.match(r"(linux-image-\d[^ ,]*)", depends)
    return file if named is None else _download(named[1], to)


def missing_tool() -> str:
    """What no package can be downloaded without; empty if it is there."""
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    return f"there is no {missing[0]} here" if missing else ""


def _downloaded(package: str, to: Path) -> Path:
    if lacking := missing_tool():
        raise EnvironmentLackError(f"{package} cannot be downloaded: {lacking}")
    before = set(to.iterdir())
    try:
        done = subprocess.run(
            ["apt-get", "-q", "download", package],
            cwd=to,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentLackError(f"{package}: not downloaded after {_DOWNLOAD_S} s") from None
    made = [one for one in to.iterdir() if one not in before and one.suffix == ".deb"]
    if done.returncode or len(made) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        why = said[-1].removeprefix("E: ") if said else "apt-get download brought no package"
        stale = "Unable to locate" in why or "404" in why
        hint = " (`apt-get update` may help)" if stale else ""
        raise EnvironmentLackError(f"{package}: {why}{hint}")
    return made[0]


def _run(command: list[str], file: Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise EnvironmentLackError(f"{file.name}: not a package that dpkg-deb can read")
    return done.stdout.strip()


def _members(
    file: Path, wanted: re.Pattern[str], take: Callable[[re.Match[str], bytes | None], None]
) -> None:
    """Each wanted file of a package; of a directory, no content."""
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(file)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as unpacking:
        assert unpacking.stdout is not None
        try:
            with tarfile.open(fileobj=unpacking.stdout, mode="r|") as archive:
                for member in archive:
                    match = wanted.fullmatch(member.name)
                    if match and member.isdir():
                        take(match, None)
                    elif match and (content := archive.extractfile(member)) is not None:
                        take(match, content.read())
        except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
            raise EnvironmentLackError(f"{file.name}: damaged: {error}") from None
    if unpacking.returncode:
        raise EnvironmentLackError(f"{file.name}: damaged: dpkg-deb does not come to its end")


def _take_kernel(file: Path, package: str, to: Path) -> None:
    def image(match: re.Match[str], content: bytes | None) -> None:
        assert content is not None
        (to / "release").write_text(match[1])
        (to / "image").write_bytes(unpacked(content))

    def module(match: re.Match[str], content: bytes | None) -> None:
        assert content is not None
        (to / f"{match[1]}.ko").write_bytes(lzma.decompress(content) if match[2] else content)

    _members(file, _IMAGE, image)
    if not (to / "release").exists():
        raise InputError(f"--kernel {package}: there is no kernel in that package")
    _members(file, _MODULE, module)


def _take_program(file: Path, package: str, to: Path) -> None:
    def program(match: re.Match[str], content: bytes | None) -> None:
        path = to / match[1]
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if "bin/" in match[1] else 0o644)

    _members(file, re.compile(rf"\./(?:usr/)?({_PROGRAMS[package]})"), program)
    if not any(to.iterdir()):
        raise EnvironmentLackError(f"{package}: what is needed of it is not in that package")


_PAYLOAD = 0x248
"""payload_offset and payload_length (Documentation/arch/x86/boot.rst)."""
_SECTORS = 0x1F1
_ELF = b"\x7fELF"


def unpacked(image: bytes) -> bytes:
    """The ELF file in a compressed kernel, which an emulated processor would unpack for seconds.

    The image itself where its compression is not known here.
    """
    begin = ((image[_SECTORS] or 4) + 1) * 512 + _word(image, _PAYLOAD)
    payload = image[begin : begin + _word(image, _PAYLOAD + 4)]
    found = b""
    if payload.startswith(b"\xfd7zXZ\0"):
        found = lzma.LZMADecompressor().decompress(payload)
    elif payload.startswith(b"\x02!L\x18"):
        found = _by(["lz4", "-dc", "-"], payload[:-4])  # its length stands behind it
    elif payload.startswith(b"\x28\xb5\x2f\xfd"):
        found = _by(["zstd", "-dc"], payload[:-4])
    return found if found.startswith(_ELF) else image


def _word(image: bytes, at: int) -> int:
    return int.from_bytes(image[at : at + 4], "little")


def _by(command: list[str], content: bytes) -> bytes:
    if shutil.which(command[0]) is None:
        return b""
    return subprocess.run(
        command, input=content, capture_output=True, timeout=120, check=False
    ).stdout
