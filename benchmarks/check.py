"""How long `sidestep check` takes for 30 profiles: from nothing, and when nothing changed.

    python benchmarks/check.py [PROFILES]

Makes a library of distinct synthetic filters, all under the objective `container-baseline` (14
families, three workloads), and checks it twice with a cache of its own.  Half of the profiles leak,
so what fails is run again.  Exits with 1 if a limit is missed.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-c", "from evaluator.entry import main; main()")
LIMITS = {"cold": 60.0, "warm": 5.0}
# fmt: off
DENIED = (
    "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot",
    "bpf", "perf_event_open", "mount", "fsmount", "fsconfig", "move_mount", "open_tree",
    "mount_setattr", "setns", "ioperm", "iopl", "swapon", "swapoff", "acct", "settimeofday",
    "clock_settime", "clock_settime64", "adjtimex", "clock_adjtime", "clock_adjtime64", "stime",
    "quotactl", "quotactl_fd", "syslog", "unshare", "clone3",
)
# fmt: on
"""Nearly all that the objective is about."""


def profile(number: int) -> dict[str, object]:
    """Each denies one signal number of its own, so no two filters are equal; every other leaks."""
    names = DENIED[1:] if number % 2 else DENIED
    own = {"index": 1, "value": 100 + number, "op": "SCMP_CMP_EQ"}
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
            {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [own]},
        ],
    }


def check(library: Path, cache: Path) -> tuple[float, dict[str, object]]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    began = time.monotonic()
    done = subprocess.run(
        [*COMMAND, "check", str(library), "--json"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    seconds = time.monotonic() - began
    if done.returncode not in (0, 1):
        sys.exit(f"sidestep check ended with {done.returncode}: {done.stderr}")
    return seconds, json.loads(done.stdout)


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory() as scratch:
        library, cache = Path(scratch, "library"), Path(scratch, "cache")
        library.mkdir()
        for number in range(count):
            (library / f"{number:03}.json").write_text(json.dumps(profile(number)))
        (library / "sidestep.toml").write_text(
            '[[profile]]\nmatch = "*.json"\nobjective = "container-baseline"\n'
        )
        missed = 0
        for name, limit in LIMITS.items():
            seconds, document = check(library, cache)
            items = document["items"]
            failed = sum(one["status"] == "fail" for one in items)
            print(
                f"{name}: {seconds:.1f} s of {limit:.0f} s ({seconds / limit:.0%}), "
                f"{document['evaluated']} evaluated, {document['cached']} cached, "
                f"{len(items)} items, {failed} failed, {os.cpu_count()} processors, "
                f"load {os.getloadavg()[0]:.1f}"
            )
            missed += seconds > limit
        size = sum(one.stat().st_size for one in cache.rglob("*") if one.is_file())
        print(f"cache: {size / 1e6:.1f} MB for {count} profiles")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
