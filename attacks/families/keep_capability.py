"""Keep capabilities over a change from user id 0 to another, which takes them away otherwise."""

from attacks import namespaces
from attacks.consts_namespaces import (
    PR_SET_KEEPCAPS,
    PR_SET_SECUREBITS,
    SECBIT_KEEP_CAPS,
    SECBIT_NO_SETUID_FIXUP,
)
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Need, Technique
from attacks.kernel import Kernel

FAMILY = Family(
    "keep-capability",
    title="Keep capabilities over a change of user",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    needs=lambda _: (Need.MANY_IDS,),
    group="identity",
    attack_technique="T1548",
    unrecorded={
        "prctl(PR_CAPBSET_DROP)": "gives capabilities up",
        "setxattr of security.capability, then execve": "the file system of the sandbox is nosuid",
    },
)
SETUID = (Need.CAP_SETUID,)
UID = 7
_SEEN_UID = str(UID + 1).encode()
_KEEP = -1


@FAMILY.witness
def another_user_with_capabilities(w: Kernel) -> None:
    """The effective id is another, and the permitted set is not empty."""
    status = namespaces.subject_status(w)
    effective = w.add(namespaces.field(w, status, "Uid", 8), 2)
    w.expect(w.compare(effective, w.data(_SEEN_UID, name="uid"), 1), 1, 1)
    permitted = namespaces.field(w, status, "CapPrm", 16)
    w.expect(w.compare(permitted, w.data(b"0" * 16, name="empty"), 16), 1, 0)


@FAMILY.variant(Technique.BASELINE, needs=SETUID, references=("man 7 capabilities",))
def prctl_keepcaps(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.prctl(PR_SET_KEEPCAPS, 1).decisive()
    k.setresuid(UID, UID, UID)


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=SETUID)
def securebits_keep_caps(k: Kernel) -> None:
    """The same bit among the secure bits, by another operation of prctl."""
    k.prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS).decisive()
    k.setresuid(UID, UID, UID)


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=SETUID)
def securebits_no_setuid_fixup(k: Kernel) -> None:
    """Turns off what ties capabilities to user ids: changing the user then takes nothing away."""
    k.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP).decisive()
    k.setresuid(UID, UID, UID)


@FAMILY.variant(Technique.COMPAT_ABI, needs=SETUID)
def prctl_keepcaps_i386(k: Kernel) -> None:
    """The 32-bit table has another number for it: rules on the options of prctl are not asked."""
    k.i386.prctl(PR_SET_KEEPCAPS, 1).decisive()
    k.setresuid(UID, UID, UID)


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=SETUID)
def saved_user_id(k: Kernel) -> None:
    """While one of the three ids is 0 the permitted set stays: no prctl is needed."""
    k.setresuid(UID, UID, _KEEP).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=SETUID, negative=True)
def plain_change(k: Kernel) -> None:
    """Changing all ids takes all capabilities away."""
    k.setresuid(UID, UID, UID).decisive().may_fail()
