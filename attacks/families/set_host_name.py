"""Set the host name, which others may trust; each trial has a UTS namespace of its own."""

from attacks.effects import Effect, EffectKind
from attacks.family import Family, Fresh, Need, Technique
from attacks.host_names import (
    HOST_AT,
    NEW_NAME,
    new_name,
    shows_new_name,
)
from attacks.kernel import Kernel

ADMIN = (Need.CAP_SYS_ADMIN,)
NEW = (Fresh.UTS,)

FAMILY = Family(
    "set-host-name",
    title="Set the host name",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    group="namespaces and mounts",
    unrecorded={
        "write to /proc/sys/kernel/hostname": "the file belongs to the machine's root, whom no "
        "sandbox has, in whatever namespace it is read",
        "write to the same file of a new procfs": "the same, mounted by a subject or not",
        "IORING_OP_WRITE to the same file": "the same, and refused when it is opened",
        "sethostname in a UTS namespace of its own": "nobody else reads the name there: "
        "see new-namespace",
        "_sysctl": "removed in Linux 5.5",
    },
)


@FAMILY.witness
def the_name_is_new(w: Kernel) -> None:
    shows_new_name(w, HOST_AT)


@FAMILY.variant(Technique.BASELINE, needs=ADMIN, fresh=NEW, references=("man 2 sethostname",))
def sethostname(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.sethostname(new_name(k), len(NEW_NAME)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=ADMIN, fresh=NEW, negative=True)
def sethostname_too_long(k: Kernel) -> None:
    """A name of more than 64 letters is refused, whoever asks."""
    k.sethostname(new_name(k), 65).decisive().may_fail()
