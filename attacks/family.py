"""Families and variants: one effect, and the recorded ways to get it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from enum import StrEnum
from functools import cached_property

from msgspec import Struct, field
from msgspec.structs import replace

from attacks.consts import Named
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.errors import AttackError
from attacks.kernel import Kernel
from attacks.program import Abi, Program, Syscall, executes
from attacks.recorder import Recording, near


class Technique(StrEnum):
    """Why a variant may get through a filter that stops the baseline."""

    BASELINE = "baseline"
    """The call that the policy's author has in mind; one of each family."""
    SIBLING_SYSCALL = "sibling-syscall"
    """Another call, or another use of it, has the same effect."""
    NEWER_SYSCALL = "newer-syscall"
    """A call that came to Linux later; a list of denied names may be older."""
    LEGACY_SYSCALL = "legacy-syscall"
    """An old interface that newer ones replaced and that the kernel still has."""
    FD_RELATIVE = "fd-relative"
    """The object is named by a descriptor: a file, a directory, a pidfd."""
    ASYNC_KERNEL = "async-kernel"
    """The kernel does it on request, through io_uring or AIO: no call of that name is made."""
    COMPAT_ABI = "compat-abi"
    """Through the 32-bit entry, where calls have other numbers."""
    X32_ABI = "x32-abi"
    """Through the x32 table, whose numbers have bit 30 set."""
    MULTIPLEXER = "multiplexer"
    """Through socketcall or ipc, which take the real arguments from memory."""
    WIDE_ARGUMENT = "wide-argument"
    """With bits in an argument that the filter compares and the kernel does not read."""
    INDIRECT_OBJECT = "indirect-object"
    """By way of another object, or another kind of it: a link, a mount, a rename."""
    DESCRIPTOR_REUSE = "descriptor-reuse"
    """With a descriptor that was open before, or was made for something else."""
    PROC_INTERFACE = "proc-interface"
    """Through a file of /proc."""
    DEPUTY_PROCESS = "deputy-process"
    """Another process or thread does it."""
    SUPERVISOR_SELF = "supervisor-self"
    """The filter asks a tracer or listener, and the program makes itself one."""
    NAMESPACE = "namespace"
    """With new namespaces, in which the program has capabilities."""
    MEMORY_ALIAS = "memory-alias"
    """Through memory that is mapped or shared, by a store or a call on memory."""


class Assumption(StrEnum):
    """What a variant takes for granted beyond running code under the mitigation."""

    NONE = "none"
    """Nothing: a process that runs code under the mitigation."""
    INHERITED_DESCRIPTOR = "inherited-descriptor"
    """A descriptor was opened before the filter came into force."""
    INHERITED_RING = "inherited-ring"
    """An io_uring was set up before the filter came into force."""
    UNFILTERED_THREAD = "unfiltered-thread"
    """Another thread of the process is without the filter."""
    UNFILTERED_NEIGHBOUR = "unfiltered-neighbour"
    """Another process of the same container is without the filter."""
    TRUSTED_SETUP = "trusted-setup"
    """Somebody prepared the machine: a raised limit, a mount, a core pattern."""


class Need(StrEnum):
    """What a variant needs of the machine or the posture; the evaluator probes each."""

    I386 = "i386"
    X32 = "x32"
    IO_URING = "io_uring"
    SQPOLL = "io_uring-sqpoll"
    NO_MMAP = "io_uring-no-mmap"
    CORE_FILES = "core-files"
    TIOCSTI = "dev.tty.legacy_tiocsti"
    USER_0 = "user 0"
    MANY_IDS = "several ids"
    SHELL = "/bin/sh"
    LOADER = "/lib64/ld-linux-x86-64.so.2"
    TIME_NAMESPACE = "/proc/self/ns/time"
    CAP_SYS_ADMIN = "CAP_SYS_ADMIN"
    CAP_SYS_CHROOT = "CAP_SYS_CHROOT"
    CAP_SYS_PTRACE = "CAP_SYS_PTRACE"
    CAP_SYS_NICE = "CAP_SYS_NICE"
    CAP_MKNOD = "CAP_MKNOD"
    CAP_CHOWN = "CAP_CHOWN"
    CAP_DAC_READ_SEARCH = "CAP_DAC_READ_SEARCH"
    CAP_SETFCAP = "CAP_SETFCAP"
    CAP_SETGID = "CAP_SETGID"
    CAP_SETUID = "CAP_SETUID"
    CAP_NET_ADMIN = "CAP_NET_ADMIN"
    CAP_NET_RAW = "CAP_NET_RAW"


class Fresh(StrEnum):
    """Namespaces that a variant changes and so gets new ones of, for each trial."""

    MOUNT = "mnt"
    UTS = "uts"
    IPC = "ipc"
    NET = "net"


class Variant(Struct, frozen=True):
    """One way to get a family's effect.

    ``negative`` marks a control that must NOT reach the effect (``mknod`` makes no directory); it
    is run like the others and reported apart, never counted.
    """

    id: str
    family: str
    """The label of the family's instance: ``change-mode[bits=04000]``."""
    technique: Technique
    assumption: Assumption
    grade: Grade
    program: Program
    effect: Effect
    objects: tuple[Object, ...]
    why: str
    needs: frozenset[Need] = frozenset()
    fresh: frozenset[Fresh] = frozenset()
    references: tuple[str, ...] = ()
    negative: bool = False
    core_file: bool = False
    """The trial may write a core file (RLIMIT_CORE is raised for it)."""
    no_new_privs: bool = False
    """Both arms run with no_new_privs, because the variant cannot be tried without it."""
    guarded: bool = False
    """Runs over a sentinel, which keeps dangerous calls from the kernel."""
    parent: str = ""
    """The id of the variant that a rewrite made this one of; empty if it was recorded."""
    foreign: bool = False
    """Somebody else's program: that it does not reach the effect is no fault of ours."""

    @property
    def name(self) -> str:
        return self.id.rpartition("/")[2]

    @property
    def beyond_seccomp(self) -> bool:
        """No filter can stop it: the attack makes no system call of its own."""
        ops = self.program.flatten()
        return not any(section == "attack" and isinstance(op, Syscall) for section, op in ops)


Parameters = Mapping[str, int]
Recipe = Callable[[Kernel], None]
Objects = tuple[Object, ...] | Callable[[Parameters], tuple[Object, ...]]

TARGET = "@target"
"""Stands for the target's path in ``Object.path``, alone or before what is in it."""
NEAR = "@near/"
"""Begins the path of what must be on the target's file system; see ``Recorder.near``."""
IMAGE = "image"
"""The path of the program that an attack goes on in."""
_OCTAL = frozenset({"bits", "mode"})
_HEX = frozenset({"cmd"})


class _Recorded(Struct, frozen=True, kw_only=True):
    """A recipe with what its decorator said."""

    name: str
    recipe: Recipe
    technique: Technique
    assumption: Assumption
    grade: Grade
    needs: frozenset[Need]
    fresh: frozenset[Fresh]
    objects: Objects
    references: tuple[str, ...]
    negative: bool
    core_file: bool
    no_new_privs: bool
    when: Callable[[Parameters], bool]
    target_name: str
    relocatable: bool
    looks: Recipe | None
    why: str


class FamilyInstance(Struct, frozen=True, dict=True):
    """A family with its parameters and target decided."""

    family: Family
    label: str
    effect: Effect
    parameters: Parameters
    recipes: tuple[_Recorded, ...]
    made: tuple[Variant, ...] = ()
    """Variants that are there already: what rewrites made of it, a program from a file."""

    @property
    def size(self) -> int:
        """The number of variants, which need not be recorded for it."""
        return len(self.recipes) + len(self.made)

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """Recorded when somebody first asks for them."""
        return (*self.family.record(self), *self.made)

    def only(self, names: Collection[str]) -> FamilyInstance:
        """With the variants of these names, ``family/variant``."""
        prefix = f"{self.family.name}/"
        return replace(
            self,
            recipes=tuple(one for one in self.recipes if prefix + one.name in names),
            made=tuple(one for one in self.made if prefix + one.name in names),
        )

    def pieces(self, size: int) -> Iterator[FamilyInstance]:
        """The same in parts of at most ``size`` variants."""
        for at in range(0, len(self.recipes), size):
            yield replace(self, recipes=self.recipes[at : at + size], made=())
        for at in range(0, len(self.made), size):
            yield replace(self, recipes=(), made=self.made[at : at + size])

    @property
    def ids(self) -> list[str]:
        """The ids of its variants, for which nothing need be recorded."""
        return [f"{self.label}/{one.name}" for one in self.recipes] + [one.id for one in self.made]

    @property
    def baseline_id(self) -> str:
        """The baseline's id, for which nothing need be recorded."""
        names = (one.name for one in self.recipes if one.technique is Technique.BASELINE)
        name = next(names, None)
        return self.baseline.id if name is None else f"{self.label}/{name}"

    @property
    def baseline(self) -> Variant:
        return next(v for v in self.variants if v.technique is Technique.BASELINE)

    def variant(self, name: str) -> Variant:
        """The variant of that name, with or without the family before it."""
        wanted = name.rpartition("/")[2]
        for variant in self.variants:
            if variant.name == wanted:
                return variant
        raise AttackError(f"{self.label} has no variant {wanted!r}")


class Family(Struct):
    """One effect an attacker wants.  ``parameters`` holds the defaults (``{"bits": 0o044}``).

    Recipes are kept and recorded anew for each instance, so ``change-mode[bits=04000]`` and
    ``create-file@/data`` are the same recipes with other values.  Only ``default`` is kept.
    """

    name: str
    title: str
    effect: Callable[[Parameters], Effect]
    objects: tuple[Object, ...] = ()
    parameters: Parameters = field(default_factory=dict[str, int])
    constants: Mapping[str, Iterable[Named]] = field(default_factory=dict[str, Iterable[Named]])
    """The names that the values of a parameter have, where they have any."""
    attack_technique: str = ""
    """MITRE ATT&CK id, where one fits."""
    has_target: bool = True
    """Whether the effect happens in a directory that ``@/path`` can choose."""
    needs: Callable[[Parameters], Iterable[Need]] = lambda _: ()
    """What every variant needs for these parameters."""
    stays: bool = False
    """The subject is kept, stopped at the end of its program, until the witness has looked."""
    reachability: bool = False
    """The call never runs: a sentinel tells whether the candidate would have let it pass."""
    group: str = ""
    """Where it stands in the catalogue: ``file system``, ``network``."""
    unrecorded: Mapping[str, str] = field(default_factory=dict[str, str])
    """Ways that are known and not recorded here, each with the reason."""
    looks: Recipe | None = None
    """What a process outside the mitigation does to see the effect; see ``Family.witness``."""
    recipes: list[_Recorded] = field(default_factory=list[_Recorded])
    _default: FamilyInstance | None = None

    def variant(
        self,
        technique: Technique,
        *,
        assumption: Assumption = Assumption.NONE,
        grade: Grade = Grade.EXACT,
        needs: Iterable[Need] = (),
        fresh: Iterable[Fresh] = (),
        objects: Objects = (),
        references: tuple[str, ...] = (),
        negative: bool = False,
        core_file: bool = False,
        no_new_privs: bool = False,
        when: Callable[[Parameters], bool] = lambda _: True,
        target_name: str = "",
        relocatable: bool = True,
        looks: Recipe | None = None,
    ) -> Callable[[Recipe], Recipe]:
        """Adds the decorated recipe; its name is the variant's, its docstring the reason.

        ``target_name`` says that this
        variant makes something of another name in the target's directory; what is not
        ``relocatable`` works in the working directory's file system only.  ``looks`` is a witness
        of its own, where the family's oracle would look at something else.
        """

        def add(recipe: Recipe) -> Recipe:
            name = recipe.__name__.replace("_", "-")
            if not recipe.__doc__:
                raise AttackError(
                    f"{self.name}/{name}: the docstring must say why it may get through"
                )
            self.recipes.append(
                _Recorded(
                    name=name,
                    recipe=recipe,
                    technique=technique,
                    assumption=assumption,
                    grade=grade,
                    needs=frozenset(needs),
                    fresh=frozenset(fresh),
                    objects=objects,
                    references=references,
                    negative=negative,
                    core_file=core_file,
                    no_new_privs=no_new_privs,
                    when=when,
                    target_name=target_name,
                    relocatable=relocatable,
                    looks=looks,
                    why=" ".join(recipe.__doc__.split()),
                )
            )
            return recipe

        return add

    def witness(self, recipe: Recipe) -> Recipe:
        """The decorated recipe looks for the effect, from outside.

        What it does by ``k.setup`` is done once, before the attack; the rest must stop short before
        the attack, and come to its end after it.
        """
        self.looks = recipe
        return recipe

    @property
    def default(self) -> FamilyInstance:
        """The instance without parameters or target of its own; recorded once."""
        if self._default is None:
            self._default = self.instance()
        return self._default

    def instance(
        self, parameters: Parameters | None = None, target: str | None = None
    ) -> FamilyInstance:
        """Every variant for these parameters, in the directory ``target``."""
        given = dict(parameters or {})
        unknown = sorted(given.keys() - self.parameters.keys())
        if unknown:
            known = ", ".join(self.parameters) or "none"
            raise AttackError(f"{self.name} has no parameter {unknown[0]!r} (known: {known})")
        if target is not None and not self.has_target:
            raise AttackError(f"{self.name} takes no target")
        values = {**self.parameters, **given}
        effect = self.effect(values)
        if target is not None:
            effect = replace(effect, parent=target)
        seen = self._witness(effect, values, self.looks)
        effect = replace(effect, witness=seen, stays=self.stays)
        recipes = tuple(
            recorded
            for recorded in self.recipes
            if recorded.when(values) and (recorded.relocatable or target is None)
        )
        self._check(recipes)
        return FamilyInstance(self, self._label(given, target), effect, values, recipes)

    def instances(self) -> Iterator[FamilyInstance]:
        """The default one, one elsewhere, and one for each other set of values that have names.

        All programs that it has, whatever its parameters, are programs of one of them.
        """
        yield self.default
        if self.has_target:
            yield self.instance(target="/elsewhere")
        for values in itertools.product(*self.constants.values()):
            try:
                instance = self.instance(dict(zip(self.constants, map(int, values), strict=True)))
            except AttackError:
                continue  # no such combination
            if instance.label != self.name:
                yield instance

    def record(self, instance: FamilyInstance) -> Iterator[Variant]:
        """The variants that the recipes of an instance make."""
        for recorded in instance.recipes:
            yield self._record(recorded, instance.label, instance.effect, instance.parameters)

    @staticmethod
    def _witness(effect: Effect, values: Parameters, looks: Recipe | None) -> Program | None:
        if looks is None:
            return None
        recording = Recording(effect, values)
        looks(Kernel(recording))
        return recording.finish(attacks=False)

    def _label(self, given: Parameters, target: str | None) -> str:
        changed = [
            f"{name}={self._text(name, given[name])}"
            for name, default in self.parameters.items()
            if given.get(name, default) != default
        ]
        chosen = f"[{','.join(changed)}]" if changed else ""
        return f"{self.name}{chosen}{f'@{target}' if target else ''}"

    def value(self, parameter: str, text: str) -> int | None:
        """The value that a text stands for: the name of a constant, or a number.

        Decimal, hexadecimal with ``0x``, or octal as file modes are written: with a leading 0.
        """
        for constant in self.constants.get(parameter, ()):
            if constant.text == text:
                return int(constant)
        try:
            return int(text, 8) if re.fullmatch("0[0-7]+", text) else int(text, 0)
        except ValueError:
            return None

    def _text(self, parameter: str, value: int) -> str:
        names = (one.text for one in self.constants.get(parameter, ()) if one == value)
        return next(names, _number(parameter, value))

    def _record(
        self, recorded: _Recorded, label: str, effect: Effect, values: Parameters
    ) -> Variant:
        identity = f"{label}/{recorded.name}"
        if recorded.target_name:
            effect = replace(effect, name=recorded.target_name)
            effect = replace(effect, witness=self._witness(effect, values, self.looks))
        if recorded.looks:
            seen = self._witness(effect, values, recorded.looks)
            effect = replace(effect, kind=EffectKind.WITNESSED, witness=seen)
        recording = Recording(effect, values)
        try:
            recorded.recipe(Kernel(recording))
            program = recording.finish()
        except AttackError as error:
            raise AttackError(f"{identity}: {error}") from error
        own = recorded.objects(values) if callable(recorded.objects) else recorded.objects
        return Variant(
            id=identity,
            family=label,
            technique=recorded.technique,
            assumption=recorded.assumption,
            grade=recorded.grade,
            program=program,
            effect=effect,
            objects=_place((*self.objects, *own), effect),
            why=recorded.why,
            needs=recorded.needs | needs_of(program) | frozenset(self.needs(values)),
            fresh=recorded.fresh,
            references=recorded.references,
            negative=recorded.negative,
            core_file=recorded.core_file,
            no_new_privs=recorded.no_new_privs,
            guarded=self.reachability,
        )

    def _check(self, recipes: tuple[_Recorded, ...]) -> None:
        names = [recorded.name for recorded in recipes]
        for name in names:
            if names.count(name) > 1:
                raise AttackError(f"{self.name}/{name} is there twice")
        baselines = [one for one in recipes if one.technique is Technique.BASELINE]
        if len(baselines) != 1:
            raise AttackError(f"{self.name} has {len(baselines)} baselines, not one")


def _place(objects: tuple[Object, ...], effect: Effect) -> tuple[Object, ...]:
    """The objects with their real paths, the target's directory first; a later one replaces."""
    placed = {path: Object(ObjectKind.ANCESTOR, path, 0o755) for path in _ancestors(effect.parent)}
    placed[effect.parent] = Object(ObjectKind.DIRECTORY, effect.parent, 0o755)
    for item in objects:
        path = item.path.replace(TARGET, effect.path, 1)
        if path.startswith(NEAR):
            path = near(effect, path.removeprefix(NEAR))
        placed[path] = replace(item, path=path)
    return tuple(placed.values())


def _ancestors(path: str) -> list[str]:
    """The directories above an absolute path, from the root's children on."""
    parts = path.split("/")[1:-1] if path.startswith("/") else []
    return ["/" + "/".join(parts[: n + 1]) for n in range(len(parts))]


def needs_of(program: Program) -> frozenset[Need]:
    """What the calls themselves show to be needed."""
    calls = [op for _, op in program.flatten() if isinstance(op, Syscall)]
    needs = {_ABI_NEEDS[call.abi] for call in calls if call.abi in _ABI_NEEDS}
    if any(call.name.startswith("io_uring_") for call in calls):
        needs.add(Need.IO_URING)
    return frozenset(needs)


def image_of(program: Program) -> tuple[Object, ...]:
    """The file that a program executes, where it says what that one does."""
    described = any(executes(op) for _, op in program.flatten())
    return (Object(ObjectKind.IMAGE, IMAGE, 0o755),) if described else ()


def _number(name: str, value: int) -> str:
    if name in _HEX:
        return f"{value:#x}"
    return f"{value:#o}".replace("o", "") if name in _OCTAL else str(value)


_ABI_NEEDS = {Abi.I386: Need.I386, Abi.X32: Need.X32}
