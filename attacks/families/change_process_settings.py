"""Change a setting of the process by prctl: the one that the parameter ``option`` names.

Each is seen where procfs shows it, or at what follows from it.  The default is PR_SET_DUMPABLE, by
which a process hides its memory and its files in procfs from others of its user.
"""

from collections.abc import Callable

from msgspec import Struct

from attacks import kernel_state, witness
from attacks.consts import (
    AT_FDCWD,
    NULL,
    O_DIRECTORY,
    O_PATH,
    O_RDONLY,
    O_WRONLY,
    PR_SET_DUMPABLE,
    Named,
)
from attacks.effects import Effect, EffectKind
from attacks.errors import AttackError
from attacks.family import Family, Need, Parameters, Technique
from attacks.kernel import Kernel
from attacks.program import Addr
from attacks.recorder import Arg

PR_GET_DUMPABLE = Named(3, "PR_GET_DUMPABLE")
PR_SET_NAME = Named(15, "PR_SET_NAME")
PR_SET_TIMERSLACK = Named(29, "PR_SET_TIMERSLACK")
PR_SET_CHILD_SUBREAPER = Named(36, "PR_SET_CHILD_SUBREAPER")
PR_SET_THP_DISABLE = Named(41, "PR_SET_THP_DISABLE")
STATX_UID = Named(8, "STATX_UID")
STATX_SIZE, STATX_UID_AT = 256, 20
NEW_NAME = "sidestep-name"
NEW_SLACK = 123_456
OTHER_ID = 2
LIFE_US = 200_000


class Setting(Struct, frozen=True):
    """An option, what prctl is given after it, and how the change is seen."""

    option: Named
    looks: Callable[[Kernel], None]
    value: int | str


def _owner_changes(w: Kernel) -> None:
    """The files in /proc/PID of a process that cannot be dumped belong to root."""
    w.expect(w.compare(_owner(w.setup), _owner(w), 4), 1, 0)


def _owner(w: Kernel) -> Addr:
    found = w.buffer(STATX_SIZE, name="statx")
    path = w.proc_pid(witness.subject(w), "/status")
    w.statx(AT_FDCWD, path, 0, STATX_UID, found)
    return found.at(STATX_UID_AT)


def _has_a_child(w: Kernel) -> None:
    """An orphan was given to the subject, whose own child has ended and been waited for."""
    pid = witness.subject(w)
    tasks = w.openat(AT_FDCWD, w.proc_pid(pid, "/task"), O_PATH | O_DIRECTORY)
    path = w.buffer(32, name="path")
    w.print_number(path, pid, w.text("/children"))
    w.expect(w.read(w.openat(tasks, path, O_RDONLY), w.buffer(64), 1), 1, 1)


def _says(name: str, wanted: str) -> Callable[[Kernel], None]:
    return lambda w: witness.has(w, witness.about(w, witness.subject(w), name), wanted.encode())


def _huge_pages_change(w: Kernel) -> None:
    kernel_state.status_changes(w, "THP_enabled", 2)


SETTINGS = {
    int(setting.option): setting
    for setting in (
        Setting(PR_SET_DUMPABLE, _owner_changes, 0),
        Setting(PR_SET_NAME, _says("comm", NEW_NAME), NEW_NAME),
        Setting(PR_SET_TIMERSLACK, _says("timerslack_ns", str(NEW_SLACK)), NEW_SLACK),
        Setting(PR_SET_CHILD_SUBREAPER, _has_a_child, 1),
        Setting(PR_SET_THP_DISABLE, _huge_pages_change, 1),
    )
}


def _effect(parameters: Parameters) -> Effect:
    option = parameters["option"]
    if option not in SETTINGS:
        known = ", ".join(f"{number} ({one.option.text})" for number, one in SETTINGS.items())
        raise AttackError(f"change-process-settings: option={option} is not one of {known}")
    return Effect(EffectKind.WITNESSED)


FAMILY = Family(
    "change-process-settings",
    title="Change a setting of the process",
    effect=_effect,
    parameters={"option": int(PR_SET_DUMPABLE)},
    constants={"option": [one.option for one in SETTINGS.values()]},
    has_target=False,
    stays=True,
    attack_technique="T1562",
    group="kernel surface",
    unrecorded={
        "prctl(PR_SET_PDEATHSIG)": "nothing outside shows it before the parent is dead",
        "prctl(PR_SET_MDWE)": "nothing outside shows it: it is seen only at calls that fail later",
        "prctl(PR_SET_NO_NEW_PRIVS)": "one posture has it from the start",
        "prctl(PR_SET_MM)": "asks for CAP_SYS_RESOURCE of the initial user namespace",
    },
)


def _is(option: int) -> Callable[[Parameters], bool]:
    return lambda parameters: parameters["option"] == option


@FAMILY.witness
def the_setting(w: Kernel) -> None:
    SETTINGS[w.param("option")].looks(w)


@FAMILY.variant(Technique.BASELINE)
def prctl(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    setting = SETTINGS[k.param("option")]
    value: Arg = k.text(setting.value) if isinstance(setting.value, str) else setting.value
    k.prctl(setting.option, value).decisive()
    _leave_an_orphan(k)


@FAMILY.variant(Technique.COMPAT_ABI)
def prctl_i386(k: Kernel) -> None:
    """The 32-bit table has another number for it: rules on the options of prctl are not asked."""
    setting = SETTINGS[k.param("option")]
    value: Arg = k.text(setting.value) if isinstance(setting.value, str) else setting.value
    k.i386.prctl(setting.option, value).decisive()
    _leave_an_orphan(k)


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, needs=(Need.CAP_SETGID, Need.MANY_IDS), when=_is(PR_SET_DUMPABLE)
)
def setfsgid(k: Kernel) -> None:
    """A change of ids takes the right to be dumped away: no prctl is called."""
    k.setfsgid(OTHER_ID).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, when=_is(PR_SET_NAME))
def write_comm(k: Kernel) -> None:
    """The name is a file of procfs as well."""
    _write(k, "self/comm", NEW_NAME)


@FAMILY.variant(Technique.PROC_INTERFACE, when=_is(PR_SET_TIMERSLACK))
def write_timerslack(k: Kernel) -> None:
    """The slack is a file of procfs as well."""
    _write(k, "self/timerslack_ns", str(NEW_SLACK))


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def prctl_get_dumpable(k: Kernel) -> None:
    """An option that reads a setting changes none."""
    k.prctl(PR_GET_DUMPABLE).decisive()
    _leave_an_orphan(k)


def _leave_an_orphan(k: Kernel) -> None:
    """Where the setting is about orphans: a child that ends before its own child."""
    if k.param("option") != PR_SET_CHILD_SUBREAPER:
        return
    child = k.fork()
    with k.child(child):
        grandchild = k.fork()
        with k.child(grandchild):
            k.wait(k.buffer(4, name="never"), bound_us=LIFE_US)
    k.wait4(child, NULL, 0, NULL)


def _write(k: Kernel, file: str, text: str) -> None:
    k.write(k.open(k.proc(file), O_WRONLY), k.text(text), len(text)).decisive()
