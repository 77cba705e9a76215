import re
from pathlib import Path

import pytest

from mitigations import x86_64

HEADERS = Path("/usr/include/x86_64-linux-gnu/asm")
LINE = re.compile(r"#define __NR_(\w+) (\(__X32_SYSCALL_BIT \+ )?(\d+)")


@pytest.mark.parametrize(
    ("abi", "name", "number"),
    [
        ("x86_64", "read", 0),
        ("x86_64", "mkdir", 83),
        ("x86_64", "uretprobe", 335),
        ("x86_64", "uprobe", 336),
        ("x86_64", "fchmodat2", 452),
        ("x86_64", "file_setattr", 469),
        ("i386", "mkdir", 39),
        ("i386", "socketcall", 102),
        ("i386", "uretprobe", None),
        ("i386", "file_setattr", 469),
        ("x32", "mkdir", 0x40000000 | 83),
        ("x32", "execve", 0x40000000 | 520),
        ("x32", "uretprobe", None),
        ("x32", "_sysctl", None),
    ],
)
def test_numbers(abi: str, name: str, number: int | None) -> None:
    assert x86_64.number(abi, name) == number
    if number is not None:
        assert x86_64.name(abi, number) == name


@pytest.mark.parametrize(("abi", "file"), [("x86_64", "64"), ("i386", "32"), ("x32", "x32")])
def test_tables_contain_the_headers_of_this_machine(abi: str, file: str) -> None:
    header = HEADERS / f"unistd_{file}.h"
    if not header.is_file():
        pytest.skip("the kernel's headers are not installed here")
    for name, is_x32, number in LINE.findall(header.read_text()):
        if int(number) in range(470, 512):
            continue  # newer than Linux 6.18
        expected = int(number) | (x86_64.X32_BIT if is_x32 else 0)
        assert x86_64.number(abi, name) == expected, name


def test_abi_of_a_call() -> None:
    assert x86_64.abi_of(x86_64.AUDIT_ARCH_X86_64, 83) == "x86_64"
    assert x86_64.abi_of(x86_64.AUDIT_ARCH_X86_64, x86_64.X32_BIT | 83) == "x32"
    assert x86_64.abi_of(x86_64.AUDIT_ARCH_I386, 39) == "i386"
    assert x86_64.abi_of(0x12345678, 39) is None
