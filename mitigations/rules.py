"""A seccomp profile as a container runtime gets it, and the words it may use."""

from typing import Any

from msgspec import Struct

ACTIONS = (
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
)
LETS_THROUGH = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")
ERRNO_ACTIONS = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
OPERATORS = (
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
)
NATIVE = "SCMP_ARCH_X86_64"
ARCHITECTURES = (
    NATIVE,
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
)
OF_ABI = {"x86_64": NATIVE, "i386": "SCMP_ARCH_X86", "x32": "SCMP_ARCH_X32"}
"""The architecture by which rules judge calls through a table of this machine."""
LARGEST_RETURN_DATA = 0xFFFF  # SECCOMP_RET_DATA


class Condition(Struct, frozen=True):
    index: int
    operator: str
    value: int
    value_two: int


class Rule(Struct, frozen=True):
    """`named_at` holds where each name stands in the source.

    `has_names` is whether it has a list of names at all, be it empty.
    """

    names: tuple[str, ...]
    named_at: tuple[str, ...]
    action: str
    errno_ret: int | None
    conditions: tuple[Condition, ...]
    where: str
    has_names: bool = True


class Profile(Struct, frozen=True):
    """A `linux.seccomp` block as a runtime gets it: nothing left to resolve.

    `flags` is None where the profile has none, which is not the same as an empty list.
    """

    default_action: str
    default_errno_ret: int | None
    architectures: tuple[str, ...]
    flags: tuple[str, ...] | None
    listener_path: str
    listener_metadata: str
    rules: tuple[Rule, ...]
    where: str = ""
    archmap_at: str = ""
    """JSON path of the entry of Docker's archMap that the architectures are from, if they are."""

    def judges(self, abi: str) -> bool:
        """Whether its rules are for calls through a table; the native one is always there."""
        return OF_ABI[abi] in (NATIVE, *self.architectures)

    def architectures_at(self, architecture: str = "") -> str:
        """JSON path of the list of architectures, or of one in it."""
        if self.archmap_at:
            return self.archmap_at
        where = f"{self.where}.architectures" if self.where else "architectures"
        if architecture not in self.architectures:
            return where
        return f"{where}[{self.architectures.index(architecture)}]"

    def as_dict(self) -> dict[str, Any]:
        """The block in OCI's own words."""
        section: dict[str, Any] = {"defaultAction": self.default_action}
        if self.default_errno_ret is not None:
            section["defaultErrnoRet"] = self.default_errno_ret
        if self.architectures:
            section["architectures"] = list(self.architectures)
        if self.flags is not None:
            section["flags"] = list(self.flags)
        if self.listener_path:
            section["listenerPath"] = self.listener_path
        if self.listener_metadata:
            section["listenerMetadata"] = self.listener_metadata
        section["syscalls"] = [rule_as_dict(rule) for rule in self.rules]
        return section


def rule_as_dict(rule: Rule) -> dict[str, Any]:
    """The rule in OCI's own words."""
    entry: dict[str, Any] = {"names": list(rule.names), "action": rule.action}
    if rule.errno_ret is not None:
        entry["errnoRet"] = rule.errno_ret
    if rule.conditions:
        entry["args"] = [condition_as_dict(each) for each in rule.conditions]
    return entry


def condition_as_dict(one: Condition) -> dict[str, Any]:
    """One of a rule's ``args`` in OCI's own words."""
    found = {"index": one.index, "value": one.value, "valueTwo": one.value_two}
    return {**found, "op": one.operator}
