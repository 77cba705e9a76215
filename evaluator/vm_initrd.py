"""The first file system of a virtual machine: an initramfs, made in memory.

In it are busybox, the parser of AppArmor with its libraries, the native runner, this machine's own
programs that honest workloads begin with, and a script that starts the runner on one console port
and answers questions on another.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from evaluator.errors import EnvironmentLackError
from evaluator.sandbox import ROOT_MAP
from evaluator.workloads import found

READY = "sidestep: the runner is started"
LACKS = "sidestep: cannot start: "

# The root of an initramfs cannot be pivoted from, which the runner does: so first to a tmpfs.
_INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mkdir /new
$b mount -t tmpfs -o mode=755 tmpfs /new
for one in bin sbin lib lib64 usr etc modules runner start load; do
	[ ! -e /$one ] || $b cp -a /$one /new/
done
exec $b switch_root /new /start
"""

# A port is opened once, for both ways.  If the other side closes it, it reads as ended: then the
# runner ends, and the machine.
_START = f"""#!/bin/busybox sh
mkdir -p /proc /sys /dev /tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec >/dev/console 2>&1
mount -t securityfs securityfs /sys/kernel/security
mount -t tmpfs tmpfs /tmp
mkdir -p /dev/shm
mount -t tmpfs tmpfs /dev/shm
for one in /modules/*; do
	[ ! -e "$one" ] || insmod "$one" || echo "{LACKS}insmod $one"
done
n=0
until [ -e /dev/vport0p2 ]; do
	n=$((n + 1))
	if [ $n -gt 500 ]; then
		echo "{LACKS}no virtio console"
		poweroff -f
	fi
	usleep 10000
done
echo 0 >/proc/sys/kernel/printk_ratelimit
echo core >/proc/sys/kernel/core_pattern
echo 6 >/proc/sys/kernel/printk
(
	exec 3<>/dev/vport0p2
	while read -r line <&3; do
		eval "$line" >/tmp/said 2>&1 </dev/null
		echo "$? $(base64 -w 0 /tmp/said)" >&3
	done
) &
echo "{READY}"
/runner serve "{ROOT_MAP}" 0 0 <>/dev/vport0p1 >&0
poweroff -f
"""

PROFILE = "/tmp/profile"  # noqa: S108 - nobody else is in that machine
LOAD = "/load"
"""What loads the AppArmor profile in ``PROFILE``; ends with 0, one of these, or as the parser."""
ATTACHES = 99
"""A profile attaches to what trials run without it as well; it is printed, and taken out again."""
KILLED = 137
"""The parser was not done in ``PARSER_TIMEOUT_S``."""
PARSER_TIMEOUT_S = 60
# Only what is built into the shell comes after the parser: the profile might be on any program.
_LOAD = f"""#!/bin/busybox sh
timeout -s KILL {PARSER_TIMEOUT_S} apparmor_parser --replace --skip-cache {PROFILE} || exit
code=0
for one in /sys/kernel/security/apparmor/policy/profiles/*/; do
	read -r name <"$one/name"
	read -r attached <"$one/attach"
	case $attached in
	"<unknown>" | /work/* | /tmp/*) ;;
	/*) [ -e "$name" ] || continue ;;
	*) continue ;;
	esac
	code={ATTACHES}
	echo "$name"
	echo -n "$name" >/sys/kernel/security/apparmor/.remove
done
exit $code
"""


def initrd(programs: Mapping[str, Path], modules: Iterable[Path], runner: Path) -> bytes:
    """The archive.  ``programs`` by their path there; ``modules`` in the order of loading."""
    programs = {**programs, **{one.removeprefix("/"): Path(one) for one in _honest()}}
    files: dict[str, tuple[int, bytes]] = {
        "init": (0o755, _INIT.encode()),
        "start": (0o755, _START.encode()),
        "load": (0o755, _LOAD.encode()),
        "runner": (0o755, runner.read_bytes()),
        "etc/passwd": (0o644, b"root:x:0:0::/:/bin/sh\n"),
    }
    folders = {path for path, program in programs.items() if program.is_dir()}
    for path, program in programs.items():
        if path in folders:
            continue
        runs = os.access(program, os.X_OK)
        files[path] = (0o755 if runs else 0o644, program.read_bytes())
        for library in _libraries(program) if runs else ():
            files[library.removeprefix("/")] = (0o755, Path(library).read_bytes())
    for number, module in enumerate(modules):
        files[f"modules/{number}-{module.name}"] = (0o644, module.read_bytes())
    applets = (f"bin/{name}" for name in _applets(programs["bin/busybox"]))
    links = {path: "busybox" for path in applets if path not in files}
    return _archive(folders, files, links)


def _honest() -> Iterator[str]:
    """The paths of the programs of the default workloads, as far as they are installed."""
    names = ("/bin/sh", "true", "cat", "ls", "sort", "head", "grep", "cp", "mv", "wc", "rm", "test")
    return (path for path in map(found, names) if path is not None)


def _libraries(program: Path) -> list[str]:
    """What the dynamic loader would load for a program, and the loader; none for a static one."""
    try:
        done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    except OSError:
        raise EnvironmentLackError("there is no ldd: apt-get install libc-bin") from None
    missing = re.findall(r"(\S+) => not found", done.stdout)
    if missing:
        raise EnvironmentLackError(f"{program.name} needs {missing[0]}, which is not here")
    return re.findall(r"(/\S+) \(0x", done.stdout)


def _applets(busybox: Path) -> list[str]:
    done = subprocess.run([str(busybox), "--list"], capture_output=True, text=True, check=False)
    return [name for name in done.stdout.split() if name != "busybox"]


def _archive(
    folders: Iterable[str], files: Mapping[str, tuple[int, bytes]], links: Mapping[str, str]
) -> bytes:
    """A cpio archive in the format ``newc`` (Documentation/driver-api/early-userspace)."""
    parents = {
        str(parent)
        for name in (*files, *links)
        for parent in Path(name).parents
        if str(parent) != "."
    }
    parents |= {"dev", "proc", "sys", "tmp", "usr", *folders}
    entries = [(name, stat.S_IFDIR | 0o755, b"") for name in sorted(parents)]
    entries += [(name, stat.S_IFREG | mode, data) for name, (mode, data) in files.items()]
    entries += [(name, stat.S_IFLNK | 0o777, to.encode()) for name, to in links.items()]
    entries.append(("TRAILER!!!", 0, b""))
    return b"".join(_entry(number, *one) for number, one in enumerate(entries, 1))


def _entry(number: int, name: str, mode: int, data: bytes) -> bytes:
    path = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % one for one in fields) + path
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
