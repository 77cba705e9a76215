"""Compiles the runner, and the 32-bit program that is a workload.

Run by the wheel build, and by hand (`make native`) after editing the C.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "runner.c"
OUTPUT = HERE.parent / "_bin" / "runner"
SOCKETCALL = OUTPUT.with_name("socketcall-i386")
# Freestanding: no libc start-up code may enter the kernel before the filter is in place.
CFLAGS = [
    *("-std=c11", "-Os", "-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes"),
    *("-ffreestanding", "-fno-stack-protector", "-fno-pie", "-fcf-protection=none"),
    *("-fno-asynchronous-unwind-tables", "-fno-unwind-tables"),
]
# Not -pie: text and shared pages lie together (see runner.c), below 4 GiB for `int 0x80`.
# noseparate-code: two segments instead of four, and every subject is forked that much quicker.
LDFLAGS = [
    *("-nostdlib", "-static", "-no-pie"),
    *("-Wl,--build-id=none", "-Wl,-z,noexecstack", "-Wl,-z,noseparate-code"),
    "-Wl,-Ttext-segment=0x500000",
]


def source_id() -> str:
    """What `runner.id` holds: a runner whose id differs from this is older than its source."""
    sources = sorted(HERE.glob("*.[ch]"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def is_current() -> bool:
    identity = OUTPUT.with_suffix(".id")
    return OUTPUT.exists() and identity.exists() and identity.read_text().strip() == source_id()


def compiler() -> list[str]:
    command = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(command[0]) is None:
        sys.exit(
            f"error: no C compiler: {command[0]!r} is not on PATH (install gcc or clang, or set CC)"
        )
    return command


def compile_all() -> None:
    OUTPUT.parent.mkdir(exist_ok=True)
    if not compiled(SOURCE, OUTPUT, [*CFLAGS, *LDFLAGS]):
        sys.exit(f"error: {SOURCE.name} does not compile; the compiler's message is above")
    if not compiled(HERE / "socketcall.c", SOCKETCALL, [*CFLAGS, *LDFLAGS, "-m32", "-march=i686"]):
        sys.stderr.write("warning: without 32-bit code, one workload is not available\n")
    OUTPUT.with_suffix(".id").write_text(source_id() + "\n")


def compiled(source: Path, output: Path, flags: list[str]) -> bool:
    # A newer compiler warns about more: that must fail our CI, and never somebody's install.
    strict = ["-Werror"] if os.environ.get("CI") else []
    scratch = output.with_suffix(f".new{os.getpid()}")
    command = [*compiler(), *strict, str(source), *flags, "-o", str(scratch)]
    try:
        if subprocess.run(command, check=False).returncode:
            sys.stderr.write(f"failed: {shlex.join(command)}\n")
            return False
        scratch.rename(output)  # atomic: a run in progress keeps the old file
    finally:
        scratch.unlink(missing_ok=True)
    return True


def main() -> None:
    if not SOURCE.exists():
        sys.exit(f"error: {SOURCE} is missing: this is not a complete checkout")
    if "--force" in sys.argv[1:] or not is_current():
        compile_all()


if __name__ == "__main__":
    main()
