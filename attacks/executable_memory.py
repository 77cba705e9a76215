"""Memory with code in it, and the ways in which it is written and mapped."""

from __future__ import annotations

from attacks.consts import (
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    MAP_SHARED,
    NULL,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)
from attacks.kernel import Kernel
from attacks.probe import TRAP_CODE
from attacks.recorder import Arg, Buffer, Result

PAGE = 4096
RW = PROT_READ | PROT_WRITE
RX = PROT_READ | PROT_EXEC
RWX = PROT_READ | PROT_WRITE | PROT_EXEC
ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS


def code_bytes(k: Kernel) -> Buffer:
    return k.data(TRAP_CODE, name="code")


def put_code(k: Kernel, place: Arg) -> None:
    code = code_bytes(k)
    k.copy(place, code, code.size)


def write_and_run(k: Kernel, memory: Arg) -> None:
    put_code(k, memory)
    k.call(memory)


def written(k: Kernel) -> Result:
    """Ordinary memory with the code in it."""
    memory = k.mmap(NULL, PAGE, RW, ANONYMOUS, -1, 0)
    put_code(k, memory)
    return memory


def executable(k: Kernel) -> Result:
    """An executable page that is not writable and holds nothing."""
    return k.mmap(NULL, PAGE, RX, ANONYMOUS, -1, 0)


def memfd(k: Kernel) -> Result:
    file = k.memfd_create(k.text("m"), 0)
    k.ftruncate(file, PAGE)
    return file


def code_file(k: Kernel) -> Result:
    """A file that holds the code, for the kernel to read from."""
    file = k.memfd_create(k.text("c"), 0)
    pwrite_code(k, file, 0)
    return file


def pwrite_code(k: Kernel, file: Result, offset: Arg) -> Result:
    code = code_bytes(k)
    return k.pwrite64(file, code, code.size, offset)


def two_mappings(k: Kernel, file: Result) -> None:
    writable = k.mmap(NULL, PAGE, RW, MAP_SHARED, file, 0)
    memory = k.mmap(NULL, PAGE, RX, MAP_SHARED, file, 0).decisive()
    put_code(k, writable)
    k.call(memory)


def write_then_map(k: Kernel, file: Result) -> None:
    code = code_bytes(k)
    k.write(file, code, code.size)
    k.call(k.mmap(NULL, PAGE, RX, MAP_PRIVATE, file, 0).decisive())


def page_of(k: Kernel, address: Arg) -> Result:
    """Where the page of an address below 16 MiB begins: 12 bits are cleared by looking up."""
    word = k.buffer(8, name="word")
    k.store(word, 0, 8, address)
    without_low_half = k.data(bytes(byte & 0xF0 for byte in range(256)), name="table")
    k.store(word, 1, 1, k.load(k.add(without_low_half, k.load(word, 1, 1)), 0, 1))
    k.store(word, 0, 1, 0)
    return k.load(word)
