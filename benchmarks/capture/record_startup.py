"""Records what each runtime calls between loading the filter and execve of the entry point.

python -m benchmarks.capture.record_startup [--runtime runc|crun|runc12]... [--starts N]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks.capture import private_space, runtimes, startup_trace, store
from benchmarks.capture.bundle import make_root, write_bundle
from benchmarks.capture.private_space import CaptureError

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.capture.startup_trace import Call, Entry, Run

_OUTPUT = store.DATA / "startup-calls.json"
_USERS = (0, 1000)
_STRACE = ["strace", "-ff", "-n", "-qq", "-e", "raw=all", "-e", "signal=none", "-o"]
# Denies one call that no runtime makes: the filter has to exist, not to matter.
_HARMLESS = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "architectures": ["SCMP_ARCH_X86_64"],
    "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}],
}
_DENIED_TRIES = 5
_DENIED_SECONDS = 5


class Recorder:
    """Starts containers of one runtime, traced or with one call denied."""

    def __init__(self, runtime: runtimes.Runtime, directory: Path, root: Path) -> None:
        self._runtime = runtime
        self._directory = directory / f"startup-{runtime.name}"
        self._root = root
        self._count = 0

    def case(self, starts: int, *, no_new_privileges: bool) -> dict[str, Any]:
        runs = [
            self._traced(user, no_new_privileges=no_new_privileges)
            for _ in range(starts)
            for user in _USERS
        ]
        loads = {run.load for run in runs}
        if len(loads) != 1:
            raise CaptureError(f"{self._runtime.name} loads its filter in {len(loads)} ways")
        always, sometimes = startup_trace.merge(runs)
        nnp = no_new_privileges
        return {
            "load": startup_trace.as_json(loads.pop()),
            "starts": len(runs),
            "always": [self._described(entry, no_new_privileges=nnp) for entry in always],
            "sometimes": [
                self._described(entry, no_new_privileges=nnp)
                | {"seen": entry.seen, "users": sorted(entry.users)}
                for entry in sometimes
            ],
        }

    def _traced(self, user: int, *, no_new_privileges: bool) -> Run:
        bundle = self._bundle(_HARMLESS, user, no_new_privileges=no_new_privileges)
        log = bundle / "trace"
        error = self._start(bundle, [*_STRACE, str(log)], seconds=60)
        if error is not None:
            raise CaptureError(f"{self._runtime.name} under strace: {error}")
        return startup_trace.read_run(bundle, log.name, user)

    def _described(self, entry: Entry, *, no_new_privileges: bool) -> dict[str, Any]:
        user = min(entry.users)
        needed = not any(
            self._start(
                self._bundle(_denying(entry.call), user, no_new_privileges=no_new_privileges),
                [],
                seconds=_DENIED_SECONDS,
            )
            is None
            for _ in range(_DENIED_TRIES)
        )
        return {**startup_trace.as_json(entry.call), "needed": needed}

    def _bundle(self, seccomp: dict[str, Any], user: int, *, no_new_privileges: bool) -> Path:
        self._count += 1
        return write_bundle(
            self._directory / f"{self._runtime.name}-{self._count}",
            self._root,
            seccomp,
            ["true"],
            user=user,
            no_new_privileges=no_new_privileges,
        )

    def _start(self, bundle: Path, before: list[str], *, seconds: int) -> str | None:
        """Create and start the container as engines do; None, or why it did not run to its end."""
        state = self._directory / "state"
        name = bundle.name
        errors = bundle / "stderr"
        command = [*before, *self._runtime.command(state, "create", "--bundle", str(bundle), name)]
        deadline = time.monotonic() + seconds
        with (
            errors.open("w") as stderr,
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
            ) as create,
        ):
            try:
                if not self._created(state, name, create, deadline):
                    return runtimes.last_line(errors)
                subprocess.run(
                    self._runtime.command(state, "start", name),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    check=False,
                )
                return None if _succeeds(state, name, deadline) else runtimes.last_line(errors)
            finally:
                runtimes.remove(self._runtime, state, name)
                # strace ends with the last process it follows, but a stuck create would not.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    create.wait(timeout=5)
                create.kill()

    def _created(
        self, state: Path, name: str, create: subprocess.Popen[bytes], deadline: float
    ) -> bool:
        while time.monotonic() < deadline:
            answer = subprocess.run(
                self._runtime.command(state, "state", name),
                capture_output=True,
                text=True,
                check=False,
            )
            status = re.search(r'"status"\s*:\s*"(\w+)"', answer.stdout)
            if create.poll() or (status and status[1] == "stopped"):
                return False
            if status and status[1] == "created":
                return True
            time.sleep(0.01)
        return False


def _succeeds(state: Path, name: str, deadline: float) -> bool:
    """Wait for the container's init, which was handed to us, the namespace's first process."""
    pid = runtimes.init_pid(state, name)
    while pid is not None and time.monotonic() < deadline:
        # Not our child yet: the state says "created" before the runtime itself has gone.
        with contextlib.suppress(ChildProcessError):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return status == 0
        time.sleep(0.005)
    return False


def main() -> int:
    return private_space.run("benchmarks.capture.record_startup", _work)


def _work(directory: Path) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", choices=runtimes.NAMES, action="append")
    parser.add_argument("--starts", type=int, default=10, help="starts per user and case")
    arguments = parser.parse_args()
    root = make_root(directory / "root")
    record: dict[str, Any] = json.loads(_OUTPUT.read_text()) if _OUTPUT.exists() else {}
    for name in arguments.runtime or ["runc", "crun"]:
        runtime = runtimes.find(name, directory)
        recorder = Recorder(runtime, directory, root)
        create = runtime.shown("create", "--bundle", "BUNDLE", "ID")
        record[runtime.model] = {
            "version": runtime.version,
            "libseccomp": runtime.libseccomp,
            "kernel": os.uname().release,
            "date": store.today(),
            "command": " ".join([*_STRACE, "LOG", create]),
            "nnp": recorder.case(arguments.starts, no_new_privileges=True),
            "no-nnp": recorder.case(arguments.starts, no_new_privileges=False),
        }
        _write({model: record[model] for model in sorted(record)})
        print(f"{runtime.name} {runtime.version}: recorded")


def _denying(call: Call) -> dict[str, Any]:
    """The harmless profile, but this call, with its known words, answers EPERM."""
    # Words beyond 31 bits (AT_FDCWD) are left out: not every runtime's parser reads them exactly.
    args = [
        {"index": index, "value": word, "op": "SCMP_CMP_EQ"}
        for index, word in enumerate(call.args)
        if word is not None and word < 1 << 31
    ]
    rule = {"names": [call.name], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    return _HARMLESS | {"syscalls": [rule | {"args": args} if args else rule]}


def _write(record: dict[str, Any]) -> None:
    _OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    _OUTPUT.write_text(_text(record, 0) + "\n")


def _text(value: object, depth: int) -> str:
    """JSON with one call a line, because the file is read in reviews."""
    if not isinstance(value, dict) or "nr" in value:
        if not isinstance(value, list):
            return json.dumps(value)
        return _lines("[]", [_text(item, depth + 1) for item in value], depth)
    return _lines(
        "{}", [f"{json.dumps(key)}: {_text(item, depth + 1)}" for key, item in value.items()], depth
    )


def _lines(brackets: str, items: list[str], depth: int) -> str:
    if not items:
        return brackets
    indent = "  " * depth
    body = ",\n".join(f"{indent}  {item}" for item in items)
    return f"{brackets[0]}\n{body}\n{indent}{brackets[1]}"


if __name__ == "__main__":
    sys.exit(main())
