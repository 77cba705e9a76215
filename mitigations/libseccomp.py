"""The only door to libseccomp: its version, its names, and filters compiled by it.

pyseccomp carries no types; `_library` is the one place where that shows.
"""

import errno
import os
import time
from collections.abc import Sequence
from functools import cache
from threading import Thread
from typing import Any, cast

from msgspec import Struct

from mitigations.candidate import ProfileError
from mitigations.rules import NATIVE, Condition
from mitigations.x86_64 import AUDIT_ARCH_I386, AUDIT_ARCH_X86_64

# seccomp.h: the tokens are AUDIT_ARCH_*, which are an ELF machine and flags, except that of x32.
_BITS_64, _LITTLE, _N32 = 0x80000000, 0x40000000, 0x20000000
TOKENS = {
    "SCMP_ARCH_X86_64": AUDIT_ARCH_X86_64,
    "SCMP_ARCH_X86": AUDIT_ARCH_I386,
    "SCMP_ARCH_X32": AUDIT_ARCH_X86_64 & ~_BITS_64,
    "SCMP_ARCH_AARCH64": 183 | _BITS_64 | _LITTLE,
    "SCMP_ARCH_ARM": 40 | _LITTLE,
    "SCMP_ARCH_LOONGARCH64": 258 | _BITS_64 | _LITTLE,
    "SCMP_ARCH_MIPS": 8,
    "SCMP_ARCH_MIPS64": 8 | _BITS_64,
    "SCMP_ARCH_MIPS64N32": 8 | _BITS_64 | _N32,
    "SCMP_ARCH_MIPSEL": 8 | _LITTLE,
    "SCMP_ARCH_MIPSEL64": 8 | _BITS_64 | _LITTLE,
    "SCMP_ARCH_MIPSEL64N32": 8 | _BITS_64 | _LITTLE | _N32,
    "SCMP_ARCH_PPC": 20,
    "SCMP_ARCH_PPC64": 21 | _BITS_64,
    "SCMP_ARCH_PPC64LE": 21 | _BITS_64 | _LITTLE,
    "SCMP_ARCH_RISCV64": 243 | _BITS_64 | _LITTLE,
    "SCMP_ARCH_S390": 22,
    "SCMP_ARCH_S390X": 22 | _BITS_64,
}
_NATIVE = 0
PATIENCE_S = 30.0
_STEP_S = 0.05
_FEW = 32
"""So many rules take no time worth a thread."""
_ERROR = -1  # __NR_SCMP_ERROR; other negative numbers stand for calls of other architectures
_OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}


class LibseccompMissing(Exception):  # noqa: N818 - it names what is missing, as the contract does
    """Without libseccomp no profile can be compiled; the message says what to install."""


class NumberedRule(Struct, frozen=True):
    action: int
    number: int
    conditions: tuple[Condition, ...]
    where: str


@cache
def _library() -> Any:
    try:
        import pyseccomp  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        raise LibseccompMissing(
            "the Python package pyseccomp is missing: pip install pyseccomp"
        ) from None
    except (RuntimeError, OSError):
        raise LibseccompMissing(
            "libseccomp.so.2 is missing: install libseccomp2 (Debian, Ubuntu), libseccomp (Fedora)"
        ) from None
    return cast(Any, pyseccomp)


@cache
def version() -> str:
    import ctypes

    class Version(ctypes.Structure):
        _fields_ = [(part, ctypes.c_uint) for part in ("major", "minor", "micro")]

    function = _library()._libseccomp.seccomp_version
    function.restype = ctypes.POINTER(Version)
    found = function().contents
    return f"{found.major}.{found.minor}.{found.micro}"


# What its releases know of x86-64, from its CHANGELOG: Linux 6.7, 6.13, 7.1. Distributions patch in
# more, so that only asking the library at hand tells what that one knows.
_RELEASES = (("2.5.5", 456), ("2.6.0", 466), ("2.6.1", 471))


def knows_from(number: int) -> str:
    """The first release that has a name for this number; empty if none is known."""
    return next((release for release, largest in _RELEASES if number <= largest), "")


@cache
def resolve(name: str, architecture: str | None = None) -> int | None:
    """The number by which rules name a call, natively unless an architecture is given."""
    if not name.isascii() or not name.isprintable():
        return None
    token = _NATIVE if architecture is None else TOKENS[architecture]
    number = int(_library().resolve_syscall(token, name))
    return None if number == _ERROR else number


def compile_filter(
    default: int,
    architectures: Sequence[tuple[str, str]],
    rules: Sequence[NumberedRule],
    *,
    optimize: int | None = None,
    where: str = "",
) -> bytes:
    """The program of libseccomp for these rules; architectures come with their JSON paths.

    ProfileError too where that takes very long: the time grows with the square of the rules and
    more, and nothing can interrupt libseccomp, so that it works in a thread that we can leave.
    """
    library = _library()
    if len(rules) <= _FEW:
        return _compile(library, default, architectures, rules, optimize, where)
    answers: list[bytes | BaseException] = []

    def work() -> None:
        try:
            answers.append(_compile(library, default, architectures, rules, optimize, where))
        except BaseException as error:
            answers.append(error)

    thread = Thread(target=work, name="libseccomp", daemon=True)
    thread.start()
    end = time.monotonic() + PATIENCE_S
    while thread.is_alive() and time.monotonic() < end:
        thread.join(_STEP_S)
    match answers:
        case [bytes() as program]:
            return program
        case [BaseException() as error]:
            raise error
        case _:
            raise ProfileError(
                f"libseccomp {version()} takes more than {PATIENCE_S:g} s to compile it: "
                "it has too many conditions",
                where,
                "compile-timeout",
            )


def _compile(
    library: Any,
    default: int,
    architectures: Sequence[tuple[str, str]],
    rules: Sequence[NumberedRule],
    optimize: int | None,
    where: str,
) -> bytes:
    try:
        context = library.SyscallFilter(default)
        for architecture, path in architectures:
            _add_architecture(context, architecture, path)
        if optimize is not None:
            context.set_attr(library.Attr.CTL_OPTIMIZE, optimize)
        context.set_attr(library.Attr.CTL_NNP, 0)
        for rule in rules:
            _add_rule(library, context, rule)
        return _exported(context)
    except OSError as error:
        raise _refused(error, where) from None


def compile_exactly(
    default: int,
    architecture: str,
    rules: Sequence[NumberedRule],
    *,
    may_refuse: frozenset[int] = frozenset(),
) -> bytes:
    """A filter for one architecture that lets calls of all others pass, as systemd makes them.

    Rules are those of seccomp_rule_add_exact(3).  Those that it refuses with an errno of
    ``may_refuse`` are left out, and ProfileError is raised for others.
    """
    library = _library()
    try:
        context = library.SyscallFilter(default)
        if architecture != NATIVE:
            context.remove_arch(TOKENS[NATIVE])
            context.add_arch(TOKENS[architecture])
        context.set_attr(library.Attr.ACT_BADARCH, library.ALLOW)
        context.set_attr(library.Attr.CTL_NNP, 0)
        for rule in rules:
            try:
                context.add_rule_exactly(rule.action, rule.number, *_arguments(library, rule))
            except OSError as error:
                if error.errno not in may_refuse:
                    raise _refused(error, rule.where) from None
        return _exported(context)
    except OSError as error:
        raise _refused(error, "") from None


def _exported(context: Any) -> bytes:
    with os.fdopen(os.memfd_create("filter"), "rb+") as file:
        context.export_bpf(file)
        file.seek(0)
        return file.read()


def _arguments(library: Any, rule: NumberedRule) -> list[Any]:
    return [
        library.Arg(each.index, _OPERATORS[each.operator], each.value, each.value_two)
        for each in rule.conditions
    ]


def _add_architecture(context: Any, architecture: str, where: str) -> None:
    try:
        context.add_arch(TOKENS[architecture])
    except OSError as error:
        if error.errno == errno.EEXIST:
            return
        raise ProfileError(
            f"libseccomp {version()} cannot combine {architecture} with this machine's "
            f"architecture ({error.strerror})",
            where,
            "architecture-not-combinable",
        ) from None


def _add_rule(library: Any, context: Any, rule: NumberedRule) -> None:
    try:
        context.add_rule(rule.action, rule.number, *_arguments(library, rule))
    except OSError as error:
        raise _refused(error, rule.where) from None


def _refused(error: OSError, where: str) -> ProfileError:
    return ProfileError(
        f"libseccomp {version()} refuses it: {error.strerror}", where, "libseccomp-refuses"
    )
