"""Virtual machines in place of runners: another kernel, the same runner, the same frames.

QEMU emulates the machine (TCG; nothing of it needs /dev/kvm or root).  Its first console port
carries the frames of the runner, its second one questions to a shell, its serial line what the
kernel says.  No file is made: initramfs and console are memory of this process.
"""

from __future__ import annotations

import base64
import os
import re
import resource
import select
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from evaluator import wire
from evaluator.errors import EnvironmentLackError, HarnessError
from evaluator.pool import Pool
from evaluator.sandbox import ROOT_IDS, Sandbox, decode_filters, runner_path
from evaluator.vm_initrd import (
    ATTACHES,
    KILLED,
    LACKS,
    LOAD,
    PARSER_TIMEOUT_S,
    PROFILE,
    initrd,
)
from evaluator.vm_kernel import Kernel, programs
from mitigations import x86_64
from mitigations.apparmor import unattached
from mitigations.candidate import AppArmorLayer

QEMU = "qemu-system-x86_64"
BOOT_TIMEOUT_S = 90.0
"""From the start of QEMU to the runner's first word: 5 to 10 s where nobody else is at work."""
SLOWER = 4
"""Emulated, the same work takes about so many times longer, or more."""
_ASK_TIMEOUT_S = 30.0
_CONSOLE_LIMIT = 1 << 26
"""In bytes; a machine whose kernel says more is ended."""
_LINE = 200
_MOST_LOST = 12
"""So often it is started again: a kernel may not survive some trials, and each is tried twice."""
_LOAD_TIMEOUT_S = 2 * PARSER_TIMEOUT_S
_SAID = re.compile(r"AppArmor parser error(?: for \S+)?(?: in profile (\S+))? at (line \d+): (.+)")
_FIELD = re.compile(r'(\w+)=(?:"([^"]*)"|(\S+))')
_ARGUMENTS = (
    *("-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "1", "-m", "512"),
    *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none"),
)
COMMAND_LINE = (
    "console=ttyS0 quiet panic=-1 apparmor=1 security=apparmor syscall.x32=y "
    "rcupdate.rcu_expedited=1 random.trust_cpu=on"
)


def qemu() -> str:
    """The path of QEMU; ``EnvironmentLackError`` if it, or what starts it, is not installed."""
    for program, package in ((QEMU, "qemu-system-x86"), ("setpriv", "util-linux")):
        if shutil.which(program) is None:
            raise EnvironmentLackError(f"there is no {program}: apt-get install {package}")
    return shutil.which(QEMU) or QEMU


class Machine(Sandbox):
    """A virtual machine with one runner in it.  Use as a context manager.

    ``EnvironmentLackError`` if it does not start, ``HarnessError`` means that it is lost.
    """

    def __init__(
        self, kernel: Kernel, archive: bytes, profiles: dict[str, AppArmorLayer] | None = None
    ) -> None:
        """``archive``: the initramfs.

        ``profiles``, by name: those that an earlier machine has loaded, and what this one loads.
        """
        self._profiles = {} if profiles is None else profiles
        self._path = runner_path()
        self.kernel = kernel
        self._questions, theirs = socket.socketpair()
        self._questions.setblocking(False)
        self._console = os.memfd_create("console")
        first = os.memfd_create("initrd")
        inherited = (first, self._console, theirs.fileno())
        try:
            with open(first, "wb", closefd=False) as file:
                file.write(archive)
            process = subprocess.Popen(
                _command(qemu(), kernel.image, *inherited),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._console,
                pass_fds=inherited,
                start_new_session=True,  # Ctrl-C is for us, and we end it
                bufsize=0,
            )
        except BaseException as error:
            self._close_ours()
            if isinstance(error, OSError):
                raise EnvironmentLackError(f"{QEMU} cannot be started: {error}") from None
            raise
        finally:
            os.close(first)
            theirs.close()
        with suppress(ProcessLookupError):  # it ended; who speaks with it will say so
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (_CONSOLE_LIMIT, _CONSOLE_LIMIT))
        try:
            self._speak_with(process, ROOT_IDS, BOOT_TIMEOUT_S)
        except HarnessError as error:
            raise EnvironmentLackError(self._why_not(str(error))) from None
        for one in tuple(self._profiles.values()):
            self.load_apparmor(one)

    def _why_not(self, said: str) -> str:
        """Why it did not start, by what its console said last."""
        lines = self._lines()
        lacks = [line.removeprefix(LACKS) for line in lines if line.startswith(LACKS)]
        if lacks:
            return f"the virtual machine cannot start {self.kernel.package}: {lacks[0]}"
        bound = f" in {BOOT_TIMEOUT_S:.0f} s" if "answer" in said else ""
        return (
            f"the virtual machine with {self.kernel.package} did not start{bound}; {self.said_last}"
        )

    def _lines(self) -> list[str]:
        return [line.strip() for line in self._told.splitlines() if line.strip()]

    @property
    def said_last(self) -> str:
        """The last line of its console, or why its kernel panicked."""
        lines = self._lines()
        panics = [line for line in lines if "Kernel panic" in line]
        return f"it said last: {[*lines, *panics][-1][:_LINE]}" if lines else "it printed nothing"

    def close(self) -> None:
        """Ends it; nothing of it stays."""
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # with it what a wrapper has started
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()
        self._close_ours()

    def _close_ours(self) -> None:
        self._questions.close()
        if self._console >= 0:
            self._told = self.console
            os.close(self._console)
            self._console = -1

    _told = ""
    """The console of one that is closed."""

    @property
    def console(self) -> str:
        """What its kernel has said so far."""
        if self._console < 0:
            return self._told
        return os.pread(self._console, _CONSOLE_LIMIT, 0).decode(errors="replace")

    def log(self) -> str:
        """The console, once the kernel has written there what it has to say already."""
        self.command(_LET_IT_WRITE)
        return self.console

    def command(
        self, line: str, data: bytes = b"", timeout_s: float | None = None
    ) -> tuple[int, bytes]:
        """Has a shell there run a command of one line: its exit code, and what it printed.

        ``data`` it can read from descriptor 3, and must.
        """
        view = memoryview(line.encode() + b"\n" + data)
        deadline = time.monotonic() + (timeout_s or _ASK_TIMEOUT_S)
        answer = b""
        try:
            while not answer.endswith(b"\n"):
                waits = select.POLLIN | (select.POLLOUT if view else 0)
                poll = select.poll()
                poll.register(self._questions, waits)
                if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    raise HarnessError("the virtual machine does not answer")
                if view:
                    view = view[self._questions.send(view) :]
                    continue
                got = self._questions.recv(1 << 16)
                if not got:
                    raise HarnessError("the virtual machine is gone")
                answer += got
        except OSError as error:
            raise HarnessError(f"the virtual machine is gone: {error.strerror}") from None
        code, _, said = answer.decode().partition(" ")
        return int(code), base64.b64decode(said)

    def define_program(
        self, number: int, spec: wire.ProgramSpec, witness: int | None = None
    ) -> None:
        self.send(wire.encode_program(number, spec, x86_64.number, witness, patience=SLOWER))

    def read(self, path: str) -> str | None:
        code, said = self.command(f"cat {shlex.quote(path)}")
        return None if code else said.decode(errors="replace").strip()

    def has(self, path: str) -> bool:
        return not self.command(f"test -e {shlex.quote(path)}")[0]

    def host_pid(self, judge_view: int) -> int | None:
        """The pid, among all processes there, of a child of the judge."""
        _, said = self.command("grep -H ^NSpid: /proc/[0-9]*/status")
        for line in said.decode().splitlines():
            path, _, numbers = line.partition(":NSpid:")
            pids = [int(one) for one in numbers.split()]
            if len(pids) > 1 and pids[-2 if len(pids) > 2 else -1] == judge_view:
                return int(path.split("/")[2])
        return None

    def filters_of(self, judge_view: int) -> list[bytes] | str:
        pid = self.host_pid(judge_view)
        if pid is None:
            return "the subject was not found in /proc"
        try:
            return decode_filters(self.command(f"/runner readback {pid}")[1])
        except OSError as error:
            return f"not permitted: {error.strerror}"

    def load_apparmor(self, layer: AppArmorLayer) -> str:
        """Loads the profile into the kernel there; why that cannot be, or is of no use."""
        if not layer.text:
            return "only its name is known, so it cannot be loaded: give the profile's file"
        if self.read("/sys/module/apparmor/parameters/enabled") != "Y":
            return f"the kernel of {self.kernel.package} does not run AppArmor"
        text = unattached(layer.text).encode()
        self.command(f"head -c {len(text)} <&3 >{PROFILE}", text)
        code, said = self.command(LOAD, timeout_s=_LOAD_TIMEOUT_S)
        if code:
            return _not_loaded(code, said.decode(errors="replace").splitlines())
        code, _ = self.command(_can_be_ended(layer.profile))
        if code:
            return _ENDLESS
        self._profiles[layer.profile] = layer
        return ""


def _not_loaded(code: int, said: Sequence[str]) -> str:
    if code == ATTACHES:
        return (
            f"{', '.join(said)} attaches by itself to programs, and trials run programs without it "
            "as well: give it a name that is no path, and no path behind it"
        )
    if code == KILLED:
        return f"apparmor_parser was not done with it after {PARSER_TIMEOUT_S} s"
    why = next((line for line in said if "rror" in line), said[0] if said else f"exit code {code}")
    if found := _SAID.search(why):
        file, line, message = found.groups()
        why = f"{line}: {message}" if file in (None, PROFILE) else f"{file} {line}: {message}"
    return f"apparmor_parser refuses it: {why.replace(PROFILE, 'the profile')}"


_LET_IT_WRITE = "usleep 100000"
_ENDLESS = (
    "nobody outside may end what is under it, so no trial can be: it lacks `signal (receive) "
    "peer=unconfined,`, which the profiles of container runtimes have"
)


def _can_be_ended(profile: str) -> str:
    """A command that fails if a process under the profile cannot be killed.

    That process ends by itself before long.
    """
    order = shlex.quote(f"changeprofile {profile}")
    script = f"echo {order} >/proc/self/attr/apparmor/current; n=0; "
    script += "while [ $n -lt 200000 ]; do n=$((n + 1)); done"
    return f"( {script} ) & usleep 300000; kill -9 $!"


def _command(qemu: str, image: Path, first: int, console: int, questions: int) -> list[str]:
    port = "virtserialport,chardev"
    # Should we be killed, it goes with us, even if nothing works in it any more.
    return [
        *("setpriv", "--pdeathsig", "KILL", qemu, *_ARGUMENTS),
        *("-kernel", str(image), "-initrd", f"/proc/self/fd/{first}", "-append", COMMAND_LINE),
        *(
            "-chardev",
            f"file,id=console,path=/proc/self/fd/{console}",
            "-serial",
            "chardev:console",
        ),
        *("-device", "virtio-serial-pci"),
        *("-chardev", "stdio,id=frames,signal=off", "-device", f"{port}=frames,nr=1"),
        *("-chardev", f"socket,id=questions,fd={questions}", "-device", f"{port}=questions,nr=2"),
    ]


class Machines(Pool):
    """One virtual machine, in the place of runners; another one if it is lost.

    Use as a context manager.  ``EnvironmentLackError`` if it is lost too often.
    """

    def __init__(self, kernel: Kernel, say: Callable[[str], None] = lambda _: None) -> None:
        """``say`` hears a line if what is in the machine must be downloaded."""
        self.kernel = kernel
        self._archive = initrd(programs(say), kernel.modules, runner_path())
        self._profiles: dict[str, AppArmorLayer] = {}
        self._lost: list[Machine] = []
        super().__init__(1)

    def started(self, core: int) -> Machine:
        del core
        if len(self._lost) > _MOST_LOST:
            said = self._lost[-1].said_last
            raise EnvironmentLackError(
                f"the virtual machine with {self.kernel.package} was lost {len(self._lost)} times; "
                f"{said}"
            )
        return Machine(self.kernel, self._archive, self._profiles)

    def lost(self, sandbox: Sandbox) -> None:
        super().lost(sandbox)
        assert isinstance(sandbox, Machine)
        self._lost.append(sandbox)

    @property
    def first(self) -> Machine:
        found = super().first
        assert isinstance(found, Machine)
        return found

    def log(self) -> str:
        """All that kernels have said, those of lost machines first."""
        return "".join(one.console for one in self._lost) + self.first.log()


def denials(console: str, profile: str) -> Sequence[tuple[str, int]]:
    """What the audit lines of a console say was denied under an AppArmor profile, and how often.

    What is denied under a profile inside it (a hat, or a child) counts as well.
    """
    found: Counter[str] = Counter()
    for line in console.splitlines():
        words = {one[1]: one[2] or _decoded(one[3]) for one in _FIELD.finditer(line)}
        under = words.get("profile", "")
        its = under == profile or under.startswith(f"{profile}//")
        if its and words.get("apparmor") == "DENIED":
            found[words.get("operation", "?")] += 1
    return found.most_common()


def _decoded(word: str | None) -> str:
    """A field without quotation marks: hexadecimal where a byte of it could not be shown."""
    try:
        return bytes.fromhex(word or "").decode(errors="replace")
    except ValueError:
        return word or ""
