"""What the bundled filters answer, one call per line, checked on the compiled program."""

from functools import cache

import pytest

from mitigations import x86_64
from mitigations.bpf import Filter, decide_stack
from mitigations.candidate import Candidate
from mitigations.load import LIBRARY, load

ARCHES = {
    "x86_64": x86_64.AUDIT_ARCH_X86_64,
    "x32": x86_64.AUDIT_ARCH_X86_64,
    "i386": x86_64.AUDIT_ARCH_I386,
}
O_CREAT, O_TMPFILE, CLONE_THREAD, WIDE = 0x40, 0x410000, 0x10000, 0xDEADBEEF00000000

# profile, ABI, call, arguments (? is unknown in advance), answer
TABLE = f"""
unconfined                     x86_64  mkdir           ?               ALLOW
unconfined                     i386    mkdir           ?               ALLOW
unconfined                     x32     mkdir           ?               ALLOW

block-mkdir                    x86_64  mkdir           ?               ERRNO(EPERM)
block-mkdir                    x86_64  mkdirat         ?               ERRNO(EPERM)
block-mkdir                    x86_64  io_uring_setup  ?               ALLOW
block-mkdir                    i386    mkdir           ?               KILL_THREAD
block-mkdir                    i386    read            ?               KILL_THREAD
block-mkdir                    x32     mkdir           ?               KILL_THREAD

block-mkdir-kill               x86_64  mkdir           ?               KILL_PROCESS
block-mkdir-kill               i386    mkdirat         ?               KILL_PROCESS
block-mkdir-kill               x32     mkdir           ?               KILL_PROCESS
block-mkdir-kill               x86_64  io_uring_setup  ?               ALLOW

deny-create-directory-by-name  x86_64  mkdir           ?               ERRNO(EPERM)
deny-create-directory-by-name  i386    mknod           ?               ERRNO(EPERM)
deny-create-directory-by-name  x32     mount           ?               ERRNO(EPERM)
deny-create-directory-by-name  x86_64  io_uring_enter  ?               ALLOW

no-new-directories             x86_64  mkdir           ?               ERRNO(EPERM)
no-new-directories             i386    mkdir           ?               ERRNO(EPERM)
no-new-directories             x32     mkdirat         ?               ERRNO(EPERM)
no-new-directories             x86_64  io_uring_setup  ?               ERRNO(EPERM)
no-new-directories             i386    io_uring_setup  ?               ERRNO(EPERM)
no-new-directories             x32     io_uring_enter  ?               ERRNO(EPERM)
no-new-directories             x86_64  mount           ?               ERRNO(EPERM)
no-new-directories             x86_64  rename          ?               ALLOW

strict-allowlist               x86_64  read            ?               ALLOW
strict-allowlist               x86_64  execve          ?               ALLOW
strict-allowlist               x86_64  mkdir           ?               ERRNO(EPERM)
strict-allowlist               x86_64  openat          ?,?,0,0         ALLOW
strict-allowlist               x86_64  openat          ?,?,{O_CREAT},0 ERRNO(EPERM)
strict-allowlist               x86_64  openat          ?,?,{O_TMPFILE} ERRNO(EPERM)
strict-allowlist               i386    open            ?,{O_CREAT}     ERRNO(EPERM)
strict-allowlist               x86_64  openat          ?       DEPENDS(ALLOW or ERRNO(EPERM))
strict-allowlist               x86_64  clone           {CLONE_THREAD}  ALLOW
strict-allowlist               x86_64  clone           17              ERRNO(EPERM)
strict-allowlist               x86_64  clone           {WIDE | 17}     ERRNO(EPERM)
strict-allowlist               x86_64  clone3          ?               ERRNO(ENOSYS)
strict-allowlist               x86_64  fork            ?               ERRNO(EPERM)
strict-allowlist               x86_64  file_setattr    ?               ERRNO(ENOSYS)

wide-argument-hole             x86_64  chmod           ?,493           ERRNO(EPERM)
wide-argument-hole             x86_64  chmod           ?,{WIDE | 493}  ALLOW
wide-argument-hole             x86_64  fchmodat        0,?,4095        ERRNO(EPERM)
wide-argument-hole             x86_64  fchmodat        0,?,4096        ALLOW
wide-argument-hole             i386    chmod           ?,493           ERRNO(EPERM)

trace-action                   x86_64  mkdir           ?               TRACE(1)
notify-action                  x86_64  mkdir           ?               USER_NOTIF
errno-zero                     x86_64  mkdir           ?               ERRNO(0)
errno-zero                     x86_64  io_uring_setup  ?               ERRNO(EPERM)

elasticsearch-self             x86_64  fork            ?               ERRNO(EACCES)
elasticsearch-self             x86_64  execveat        ?               ERRNO(EACCES)
elasticsearch-self             x86_64  clone           ?               ALLOW
elasticsearch-self             x86_64  clone3          ?               ALLOW
elasticsearch-self             x32     fork            ?               ERRNO(EACCES)
elasticsearch-self             x32     read            ?               ERRNO(EACCES)
elasticsearch-self             i386    read            ?               ERRNO(EACCES)
"""
ROWS = [line.split(maxsplit=4) for line in TABLE.splitlines() if line]


@cache
def filters(name: str) -> tuple[Filter, ...]:
    (candidate,) = load(LIBRARY / f"{name}.json")
    assert isinstance(candidate, Candidate)
    return tuple(Filter.decode(layer.program) for layer in candidate.seccomp)


def parse_arguments(text: str) -> list[int | None]:
    words: list[int | None] = [None if word == "?" else int(word) for word in text.split(",")]
    return words + [None] * (6 - len(words))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row[:4]))
def test_answer(row: list[str]) -> None:
    profile, abi, call, arguments, answer = row
    number = x86_64.number(abi, call)
    assert number is not None
    decision = decide_stack(filters(profile), ARCHES[abi], number, parse_arguments(arguments))
    assert decision.text == answer


def test_every_bundled_profile_has_rows() -> None:
    assert {row[0] for row in ROWS} == {path.stem for path in LIBRARY.glob("*.json")}
