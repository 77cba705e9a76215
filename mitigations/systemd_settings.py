"""What the lines of a unit come to: systemd.exec(5), read as systemd 252 reads it.

Lines of one setting add up, an empty one forgets what came before, and what systemd warns of and
ignores is ignored and said.
"""

import errno
from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct, field

from mitigations import libseccomp
from mitigations.candidate import Finding
from mitigations.capabilities import CAPABILITIES
from mitigations.classic import MAX_ERRNO
from mitigations.suggestion import did_you_mean, quote
from mitigations.systemd_facts import Facts
from mitigations.systemd_keys import COMMANDS, IN_PART, NOT_MODELLED, SWITCHES
from mitigations.unit_file import Assignment, words

SECTIONS = {".service": "Service", ".socket": "Socket", ".mount": "Mount", ".swap": "Swap"}
"""Where units of each kind have the settings of the commands that they run."""
NAMESPACES = {
    "cgroup": 0x02000000,
    "ipc": 0x08000000,
    "net": 0x40000000,
    "mnt": 0x00020000,
    "pid": 0x20000000,
    "user": 0x10000000,
    "uts": 0x04000000,
    "time": 0x00000080,
}
"""CLONE_NEW... of clone(2), in the order in which systemd makes rules of them."""
ALL_NAMESPACES = sum(NAMESPACES.values()) - NAMESPACES["time"]
"""What systemd 252 takes for all: time may be named, but is never among those that are not."""
ARCHITECTURES = {
    "native": "SCMP_ARCH_X86_64",
    "x86-64": "SCMP_ARCH_X86_64",
    "x86": "SCMP_ARCH_X86",
    "x32": "SCMP_ARCH_X32",
}
_OTHER_ARCHITECTURES = """
arm arm64 loongarch64 mips mips64 mips64-n32 mips-le mips64-le mips64-le-n32 parisc parisc64 ppc
ppc64 ppc64-le riscv64 s390 s390x
"""
_PERSONALITIES = {"x86-64": 0, "x86": 8}  # PER_LINUX, PER_LINUX32
_YES = frozenset({"1", "yes", "y", "true", "t", "on"})
_NO = frozenset({"0", "no", "n", "false", "f", "off"})
KILL = -1
"""In the place of an errno: the process is killed."""
_SWITCHES = (
    "DynamicUser",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "NoNewPrivileges",
    "PrivateDevices",
    "ProtectClock",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "RestrictRealtime",
    "RestrictSUIDSGID",
)
_FILTERING = frozenset(_SWITCHES) - {"DynamicUser", "NoNewPrivileges"}
_OFF = frozenset({"", "infinity", "auto", "default", "inherit"})


class Calls(Struct):
    """SystemCallFilter= or SystemCallLog=: calls by their native number."""

    is_allow_list: bool
    answers: dict[int, int | None] = field(default_factory=dict[int, int | None])
    """An errno, KILL, or None for what the list as a whole is for."""

    @property
    def says_something(self) -> bool:
        """Whether systemd makes filters of it: not of exceptions alone, if there are none."""
        return self.is_allow_list or bool(self.answers)


class Settings(Struct):
    """What a unit asks for, all lines of all its files together."""

    filter: Calls | None = None
    log: Calls | None = None
    error_number: int = KILL
    architectures: set[str] = field(default_factory=set[str])
    """Names of systemd: x86-64, x86, x32, native and others."""
    families: set[int] | None = None
    families_allowed: bool = False
    """Whether ``families`` are all that is allowed, or what is not."""
    namespaces: int | None = None
    """The CLONE_NEW... bits that may be made or entered; None: no restriction."""
    bounding: frozenset[str] = frozenset(CAPABILITIES)
    ambient: frozenset[str] = frozenset()
    user: str = ""
    is_root_by_command: bool = False
    """Whether an ``ExecStart=!...`` runs as root, whatever ``User=`` says."""
    personality: int = 0
    switches: dict[str, bool] = field(default_factory=dict[str, bool])

    def has(self, switch: str) -> bool:
        return self.switches.get(switch, False)

    @property
    def restricts_namespaces(self) -> bool:
        return self.namespaces is not None and self.namespaces & ALL_NAMESPACES != ALL_NAMESPACES

    @property
    def asks_for_filters(self) -> bool:
        """Whether systemd sets no_new_privs for whoever may not load a filter without it."""
        return (
            any(self.has(switch) for switch in _FILTERING)
            or self.restricts_families
            or self.restricts_namespaces
            or bool(self.architectures)
            or any(one is not None and one.says_something for one in (self.log, self.filter))
        )

    @property
    def restricts_families(self) -> bool:
        return self.families_allowed or bool(self.families)


def read(
    assignments: Iterable[Assignment], section: str, facts: Facts, findings: list[Finding]
) -> Settings:
    """Follows the lines in their order."""
    reader = _Reader(section, facts, findings)
    for one in assignments:
        reader.take(one)
    return reader.settings


class _Reader:
    def __init__(self, section: str, facts: Facts, findings: list[Finding]) -> None:
        self.settings = Settings()
        self._section = section
        self._facts = facts
        self._findings = findings
        self._by_key: Mapping[str, Callable[[Assignment], None]] = {
            "SystemCallFilter": self._filter,
            "SystemCallLog": self._log,
            "SystemCallErrorNumber": self._error_number,
            "SystemCallArchitectures": self._architectures,
            "RestrictAddressFamilies": self._families,
            "RestrictNamespaces": self._namespaces,
            "CapabilityBoundingSet": self._bounding,
            "AmbientCapabilities": self._ambient,
            "User": self._user,
            "Personality": self._personality,
            **dict.fromkeys(_SWITCHES, self._switch),
        }

    def take(self, one: Assignment) -> None:
        known = self._facts.settings.get(one.section)
        if one.section.startswith("X-") or known is None:
            return
        if one.key not in known:
            self._unknown(one, known)
        elif one.section != self._section:
            return
        elif one.key in self._by_key:
            self._by_key[one.key](one)
            if one.key in IN_PART and self.settings.has(one.key):
                message = f"{one.key}=: not modelled: {IN_PART[one.key]}"
                self._note("not-modelled", message, one)
        elif one.key in NOT_MODELLED and not _is_off(one):
            self._note("not-modelled", f"{one.key}= enforces something that is not modelled", one)
        elif one.key in COMMANDS:
            self._command(one)

    def _command(self, one: Assignment) -> None:
        """Special executable prefixes of systemd.service(5)."""
        main = one.key == "ExecStart"
        if main and not one.value:
            self.settings.is_root_by_command = False
        signs = one.value[: _prefix(one.value)]
        if "+" in signs:
            said = "by the + this command runs without any of the unit's restrictions"
            self._note("unrestricted-command", f"{one.key}=: {said}", one)
        elif signs.count("!") == 1:
            self.settings.is_root_by_command |= main
            said = "by the ! this command runs as root, whatever User= says"
            more = "" if main else ", which is not followed here"
            self._note("unrestricted-command", f"{one.key}=: {said}{more}", one)

    def _note(self, code: str, message: str, one: Assignment) -> None:
        self._findings.append(Finding(code, message, one.where))

    def _ignored(self, what: str, one: Assignment) -> None:
        self._note("ignored-value", f"{one.key}=: {what}: systemd ignores it", one)

    def _unknown(self, one: Assignment, known: frozenset[str]) -> None:
        if one.key.startswith("X-"):
            return
        own = self._facts.settings[self._section]
        if one.key in own:
            hint = f": it belongs into [{self._section}]"
        else:
            hint = did_you_mean(one.key, known)
        message = f"{one.key}= is unknown in [{one.section}], systemd ignores it{hint}"
        self._note("unknown-key", message, one)

    # --- system calls ---------------------------------------------------------------------------

    def _filter(self, one: Assignment) -> None:
        if not one.value:
            self.settings.filter = None
            return
        inverted, rest = _inversion(one.value)
        calls = self.settings.filter
        if calls is None:
            calls = self.settings.filter = Calls(not inverted)
            if not inverted:
                for name in self._facts.calls_of("@default") or ():
                    self._put(calls, name, None, inverted=False)
        for word in self._words(one, rest, unquote=False):
            name, colon, answer = word.partition(":")
            number = self._errno(answer) if colon else None
            if not name or (colon and number is None):
                hint = did_you_mean(answer, _ERRNOS) if name else ""
                self._ignored(f"{quote(word)} names no errno{hint}", one)
            elif colon and not inverted:
                self._ignored(f"{quote(word)}: what is allowed has no errno", one)
            else:
                self._enter(calls, name, number, one, inverted=inverted)

    def _log(self, one: Assignment) -> None:
        if not one.value:
            self.settings.log = None
            return
        inverted, rest = _inversion(one.value)
        if self.settings.log is None:
            self.settings.log = Calls(not inverted)
        for word in self._words(one, rest, unquote=False):
            self._enter(self.settings.log, word, None, one, inverted=inverted)

    def _enter(
        self, calls: Calls, name: str, answer: int | None, one: Assignment, *, inverted: bool
    ) -> None:
        if not name.startswith("@"):
            if not self._put(calls, name, answer, inverted=inverted):
                self._ignored(self._unknown_call(name), one)
            return
        members = self._facts.calls_of(name)
        if members is None:
            hint = did_you_mean(name, self._facts.sets)
            self._ignored(f"{quote(name)} is no set of this systemd{hint}", one)
            return
        for member in members:
            self._put(calls, member, answer, inverted=inverted)

    def _unknown_call(self, name: str) -> str:
        if name.startswith("~"):
            return f"{quote(name)}: only a ~ before the first word counts"
        hint = did_you_mean(name, self._facts.calls_of("@known") or ())
        return f"libseccomp {libseccomp.version()} knows no call {quote(name)}{hint}"

    def _put(self, calls: Calls, name: str, answer: int | None, *, inverted: bool) -> bool:
        """Whether libseccomp knows the call, so that systemd enters it or takes it out."""
        number = libseccomp.resolve(name)
        if number is None:
            return False
        if inverted != calls.is_allow_list or answer is not None:
            calls.answers[number] = answer
        else:
            calls.answers.pop(number, None)
        return True

    def _errno(self, text: str) -> int | None:
        if text == "kill":
            return KILL
        if text in _ERRNOS:
            return _ERRNOS[text]
        number = _integer(text)
        return number if number is not None and 0 <= number <= MAX_ERRNO else None

    def _error_number(self, one: Assignment) -> None:
        number = self._errno(one.value) if one.value else KILL
        if not number:
            hint = did_you_mean(one.value, _ERRNOS)
            self._ignored(f"{quote(one.value)} is neither an errno nor kill{hint}", one)
        else:
            self.settings.error_number = number

    def _architectures(self, one: Assignment) -> None:
        if not one.value:
            self.settings.architectures.clear()
            return
        known = (*ARCHITECTURES, *_OTHER_ARCHITECTURES.split())
        for word in self._words(one, one.value, unquote=True):
            if word in known:
                self.settings.architectures.add(word)
            else:
                hint = did_you_mean(word, known)
                self._ignored(f"{quote(word)} is no architecture{hint}", one)

    # --- others that become filters -------------------------------------------------------------

    def _families(self, one: Assignment) -> None:
        if one.value in ("", "none"):
            self.settings.families = None
            self.settings.families_allowed = one.value == "none"
            return
        inverted, rest = _inversion(one.value)
        if self.settings.families is None:
            self.settings.families = set()
            self.settings.families_allowed = not inverted
        for word in self._words(one, rest, unquote=True):
            number = self._facts.family(word)
            if number is None:
                hint = did_you_mean(word, self._facts.address_families)
                self._ignored(f"{quote(word)} is no address family{hint}", one)
            elif inverted != self.settings.families_allowed:
                self.settings.families.add(number)
            else:
                self.settings.families.discard(number)

    def _namespaces(self, one: Assignment) -> None:
        switch = _boolean(one.value)
        if not one.value:
            self.settings.namespaces = None
        elif switch is not None:
            self.settings.namespaces = 0 if switch else ALL_NAMESPACES
        else:
            self._some_namespaces(one)

    def _some_namespaces(self, one: Assignment) -> None:
        inverted, rest = _inversion(one.value)
        names, whole = words(rest, unquote=False)
        wrong = next((name for name in names if name not in NAMESPACES), None)
        if wrong is not None or not whole:
            hint = did_you_mean(wrong or "", NAMESPACES)
            self._ignored(f"{quote(wrong or rest)} is no kind of namespace{hint}", one)
            return
        flags = sum(NAMESPACES[name] for name in set(names))
        before = self.settings.namespaces
        if before is None:
            self.settings.namespaces = ALL_NAMESPACES & ~flags if inverted else flags
        else:
            self.settings.namespaces = before & ~flags if inverted else before | flags

    def _switch(self, one: Assignment) -> None:
        value = _boolean(one.value)
        if value is None:
            self._ignored(f"{quote(one.value)} is neither yes nor no", one)
        else:
            self.settings.switches[one.key] = value

    def _personality(self, one: Assignment) -> None:
        if one.value and one.value not in _PERSONALITIES:
            hint = did_you_mean(one.value, _PERSONALITIES)
            self._ignored(f"{quote(one.value)} is no personality of this machine{hint}", one)
            return
        self.settings.personality = _PERSONALITIES.get(one.value, 0)

    # --- user and capabilities ------------------------------------------------------------------

    def _bounding(self, one: Assignment) -> None:
        everything = frozenset(CAPABILITIES)
        self.settings.bounding = self._capabilities(one, self.settings.bounding, everything)

    def _ambient(self, one: Assignment) -> None:
        self.settings.ambient = self._capabilities(one, self.settings.ambient, frozenset())

    def _capabilities(
        self, one: Assignment, before: frozenset[str], initial: frozenset[str]
    ) -> frozenset[str]:
        """The first line, and one that names no capability, replaces; others add or take away."""
        everything = frozenset(CAPABILITIES)
        inverted, rest = _inversion(one.value)
        found: set[str] = set()
        unknown = False
        for word in self._words(one, rest, unquote=True):
            name = _capability(word)
            if name is None:
                unknown = True
                hint = did_you_mean(word, CAPABILITIES)
                self._ignored(f"{quote(word)} is no capability{hint}", one)
            else:
                found.add(name)
        if unknown and not found:
            message = (
                f"{one.key}=: no known capability is left in it, so that systemd takes it for "
            )
            self._note(
                "reset-by-typo", f"{message}{'~ alone: all' if inverted else 'empty: none'}", one
            )
        if not found or before == initial:
            return everything - found if inverted else frozenset(found)
        return before - found if inverted else before | found

    def _user(self, one: Assignment) -> None:
        if "%" in one.value:
            message = f"User={one.value}: specifiers are not resolved, taken for an ordinary user"
            self._note("specifier", message, one)
        self.settings.user = one.value

    def _words(self, one: Assignment, value: str, *, unquote: bool) -> tuple[str, ...]:
        found, whole = words(value, unquote=unquote)
        if not whole:
            self._ignored("a quote that is not closed, or a backslash at the end", one)
        return found


def _inversion(value: str) -> tuple[bool, str]:
    return value.startswith("~"), value.removeprefix("~")


def _boolean(value: str) -> bool | None:
    folded = value.casefold()
    return True if folded in _YES else False if folded in _NO else None


def _integer(text: str) -> int | None:
    """As safe_atoi() takes it: with a sign, and by a prefix octal, hexadecimal or binary."""
    digits = text.lstrip().removeprefix("+")
    try:
        if len(digits) > 1 and digits.isdecimal() and digits.startswith("0"):
            return int(digits, 8)
        return int(digits, 0) if "_" not in digits and text == text.rstrip() else None
    except ValueError:
        return None


def _capability(word: str) -> str | None:
    number = _integer(word)
    if number is not None:
        return CAPABILITIES[number] if 0 <= number < len(CAPABILITIES) else None
    name = word.upper()
    return name if name in CAPABILITIES else None


def _is_off(one: Assignment) -> bool:
    """Whether a setting that is not modelled enforces nothing: 0 is a limit to many of them."""
    value = one.value.casefold()
    return value in _OFF or (one.key in SWITCHES and value in _NO)


def _prefix(command: str) -> int:
    """How many characters before the path say how it is run."""
    return len(command) - len(command.lstrip("@-:+!"))


_ERRNOS: dict[str, int] = {
    name: number for name, number in vars(errno).items() if name.startswith("E")
}
