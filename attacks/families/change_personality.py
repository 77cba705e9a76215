"""Change the process's personality to the value of the parameter ``persona``.

The default is ADDR_NO_RANDOMIZE, with which programs lie at addresses that are known beforehand.
"""

from attacks import witness
from attacks.effects import Effect, EffectKind
from attacks.errors import AttackError
from attacks.family import Family, Parameters, Technique
from attacks.kernel import Kernel

READ_ONLY = 0xFFFFFFFF
ADDR_NO_RANDOMIZE = 0x40000


def _effect(parameters: Parameters) -> Effect:
    if not 0 < parameters["persona"] < READ_ONLY:
        raise AttackError("change-personality: persona is one of 1 to 0xfffffffe (0 is no change)")
    return Effect(EffectKind.WITNESSED)


FAMILY = Family(
    "change-personality",
    title="Change the personality",
    effect=_effect,
    parameters={"persona": ADDR_NO_RANDOMIZE},
    has_target=False,
    stays=True,
    attack_technique="T1211",
    group="kernel surface",
    unrecorded={
        "execve of a 32-bit file without PT_GNU_STACK, which sets READ_IMPLIES_EXEC": (
            "the program that would go on is then another, and execute-program records it"
        ),
    },
)


@FAMILY.witness
def the_new_persona(w: Kernel) -> None:
    text = witness.about(w, witness.subject(w), "personality", 64)
    witness.has(w, text, f"{w.param('persona'):08x}".encode())


@FAMILY.variant(Technique.BASELINE)
def personality(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.personality(k.param("persona")).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def personality_read(k: Kernel) -> None:
    """The value that asks for the personality changes nothing."""
    k.personality(READ_ONLY).decisive()
