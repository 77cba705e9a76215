"""A variant and a filter as one C file that anybody can compile, to believe a finding without us.

``native/standalone.c`` holds what every such file has in common: raw system calls, the fixture, the
oracle, the two arms and the report.  This file writes what differs: constants, data and the program
as straight-line C.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from typing import assert_never

from attacks.effects import SECRET, Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import Fresh, Need, Variant
from attacks.probe import PROBE_MAGIC
from attacks.program import (
    ARENA_SIZE,
    Abi,
    Add,
    Addr,
    Call,
    Compare,
    Const,
    Copy,
    Entry,
    Env,
    Environment,
    Expect,
    Fault,
    Find,
    Load,
    Operation,
    Print,
    Program,
    Slot,
    Store,
    Syscall,
    Value,
    Wait,
    is_decisive,
    operands,
    size_of,
    spawns,
)
from attacks.text import program_text
from evaluator.errors import InputError
from evaluator.sentinel import SENTINEL_ERRNO, sentinel
from evaluator.trial import filled

Numbers = Callable[[str, str], int | None]

_X32_BIT = 0x40000000
_WIDE_NUMBER = 0x5EAD000000000000
_ENVIRONMENT = {
    Environment.VICTIM_PID: "victim_pid",
    Environment.SUBJECT_PID: "arm->subject_pid",
    Environment.VICTIM_HOOK: "(long)(low_page + HOOK)",
    Environment.SYSCALL_INSN: "(long)syscall_insn",
    Environment.SECRET: "(long)own_page",
    Environment.ID_OFFSET: "(long)-OWN_IDS",
}
_LINE_BYTES = 48
_OVER_IDS = {Need.CAP_CHOWN, Need.CAP_SETGID, Need.CAP_SETUID}
_WORD = (1 << 64) - 1
_LAYOUT = struct.Struct("<HBBI")
_CALLS = {
    Entry.SYSCALL: "call64",
    Entry.WIDE_SYSCALL: "call64",
    Entry.INT80: "call32",
    Entry.SYSENTER: "call_sysenter",
    Entry.FAR_INT80: "call_far",
}
_NAMESPACES = (
    "CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP"
)
_OBJECTS = {
    ObjectKind.DIRECTORY: "DIRECTORY",
    ObjectKind.FILE: "REGULAR",
    ObjectKind.SYMLINK: "SYMLINK",
    ObjectKind.FIFO: "FIFO",
    ObjectKind.ANCESTOR: "ANCESTOR",
    ObjectKind.PROBE: "REGULAR",
    ObjectKind.PROBE32: "REGULAR",
    ObjectKind.IMAGE: "REGULAR",
}


class ExportError(InputError):
    """A variant that cannot be a C file; ``str()`` is one line that says why."""


def export_c(variant: Variant, filters: Sequence[bytes], numbers: Numbers) -> str:
    """The C source for ``variant`` under ``filters`` (packed sock_filter programs, oldest first).

    ``numbers`` gives the number of a call by ABI and name.  Its exit status says what the filter
    is worth: 0 the effect was reached under it, 1 only without it, 2 not even there, 3 the machine
    cannot run it.
    """
    _check(variant)
    template = resources.files("evaluator").joinpath("native/standalone.c").read_text("utf-8")
    before, config_mark, rest = template.partition("/* @config */\n")
    between, program_mark, after = rest.partition("/* @program */\n")
    if not (config_mark and program_mark):
        raise ExportError("native/standalone.c has lost its marks")
    return "".join(
        (
            _heading(variant),
            before,
            "\n".join(_config(variant, filters)) + "\n",
            between,
            "\n".join(_programs(variant, numbers)) + "\n",
            after,
        )
    )


def _check(variant: Variant) -> None:
    wanted = {
        v.name for _, op in variant.program.flatten() for v in operands(op) if isinstance(v, Env)
    }
    for name in sorted(wanted - _ENVIRONMENT.keys()):
        raise ExportError(f"{variant.id} needs {name}, which C does not have")


def _programs(variant: Variant, numbers: Numbers) -> list[str]:
    attack = _Writer(variant.program, numbers, "").program()
    return attack + _Writer(_witness_of(variant), numbers, "witness_").program()


def _witness_of(variant: Variant) -> Program:
    return variant.effect.witness or Program()


def _heading(variant: Variant) -> str:
    lines = [
        f"{_plain(variant.id)}: {_plain(variant.why)}",
        "",
        "Runs the program below twice, without and with the filter, in a fresh directory, and",
        "looks from outside whether its effect happened.  Nothing but a C compiler is needed:",
        "",
        "    cc this-file.c -o try && ./try",
        "",
        "Exit status: 0 the filter does not stop it (or there is none), 1 the filter stops it,",
        "2 it does not work here even without the filter, 3 this machine cannot run it.",
    ]
    return "/*\n" + "".join(f" * {line}".rstrip() + "\n" for line in lines) + " */\n"


# --- constants and data


def _config(variant: Variant, filters: Sequence[bytes]) -> list[str]:
    program, effect, witness = variant.program, variant.effect, _witness_of(variant)
    slots = max(len(program.flatten()), len(witness.flatten()))
    rooted = _is_absolute((program, witness), effect, variant.objects)
    # What is not about files could reach the whole machine if it ran as its root.
    beyond_files = effect.kind in (EffectKind.WITNESSED, EffectKind.CODE, EffectKind.REACHED)
    with_others = program.needs_victim or beyond_files or variant.fresh
    privileged = any(need.value.startswith("CAP_") for need in variant.needs)
    namespaces = _NAMESPACES if with_others or privileged else "CLONE_NEWNS" if rooted else "0"
    return [
        f"#define VARIANT {_literal(variant.id.encode())}",
        f"#define WHY {_literal(_plain(variant.why).encode())}",
        f"#define EFFECT E_{effect.kind.name}",
        f"#define PARENT {_literal(effect.parent.encode())}",
        f"#define NAME {_literal(effect.name.encode())}",
        f"#define BITS 0{effect.bits:o}u",
        f"#define EXPECTED {'EXACT' if variant.grade is Grade.EXACT else 'EQUIVALENT'}",
        f"#define NAMESPACES ({namespaces})",
        f"#define OWN_ROOT {int(rooted)}",
        f"#define OWN_IDS {int(_has_own_ids(variant))}",
        f"#define OWN_MOUNTS {int(program.needs_victim and Fresh.MOUNT in variant.fresh)}",
        f"#define CORE_LIMIT {1 << 20 if variant.core_file else 0}",
        f"#define ARENA_SIZE {ARENA_SIZE}",
        f"#define PROBE_MAGIC {_literal(PROBE_MAGIC)}",
        f"#define STAYS {int(effect.stays)}",
        f"#define VICTIM {int(program.needs_victim)}",
        f"#define WITNESS {int(effect.witness is not None)}",
        f"#define SECRET {_literal(SECRET)}",
        f"#define SENTINEL_ERRNO {SENTINEL_ERRNO}",
        f"enum {{ OPERATIONS = {len(program.flatten())}, SLOTS = {slots} }};",
        "",
        *_pieces("pieces", program),
        *_pieces("witness_pieces", witness),
        *_objects(variant.objects, program),
        *_filters("sentinels", [sentinel().program] if variant.guarded else []),
        *_filters("filters", filters),
        *_lines(program),
        *_errors(),
    ]


def _has_own_ids(variant: Variant) -> bool:
    """Whether the witness looks from another user namespace, as it does in a trial.

    Only where nothing has to be done to what the outer one owns: mounts, networks, processes.
    """
    capabilities = {need for need in variant.needs if need.value.startswith("CAP_")}
    alone = not variant.program.needs_victim and not variant.fresh
    return variant.effect.witness is not None and alone and capabilities <= _OVER_IDS


def _is_absolute(programs: Sequence[Program], effect: Effect, objects: Iterable[Object]) -> bool:
    """Whether something names the scratch directory, or the target, from the root."""
    return (
        effect.parent.startswith("/")
        or any(item.path.startswith("/") for item in objects)
        or any(b"/work" in item.content for item in objects)
        or any(b"/work" in b"/" + blob.data for one in programs for blob in one.blobs)
    )


def _pieces(name: str, program: Program) -> list[str]:
    """The initial contents of the arena; the rest of it is zero."""
    places = zip(program.blobs, program.layout(), strict=True)
    rows = [
        f"\t{{ {offset:#x}, {len(blob.data)}, {_c_string(blob.data)} }},"
        for blob, offset in places
        if blob.data.strip(b"\0")
    ]
    return _table("struct piece", name, name.upper(), rows)


def _objects(objects: Sequence[Object], program: Program) -> list[str]:
    rows: list[str] = []
    for item in objects:
        content = filled(item, program).content
        cells = (
            _OBJECTS[item.kind],
            _c_string(item.path.encode()),
            f"0{item.mode:o}",
            _c_string(content),
            str(len(content)),
        )
        rows.append(f"\t{{ {', '.join(cells)} }},")
    return _table("struct object", "objects", "OBJECTS", rows)


def _filters(name: str, filters: Sequence[bytes]) -> list[str]:
    lines: list[str] = []
    for number, code in enumerate(filters):
        cells = [f"{{ {c:#x}, {jt}, {jf}, {k:#x} }}" for c, jt, jf, k in _LAYOUT.iter_unpack(code)]
        lines.append(f"static const struct instruction {name}_{number}[] = {{")
        lines += [f"\t{', '.join(cells[at : at + 4])}," for at in range(0, len(cells), 4)]
        lines.append("};")
    rows = [f"\t{{ {len(code) // 8}, {name}_{n} }}," for n, code in enumerate(filters)]
    return lines + _table("struct filter", name, name.upper(), rows)


def _lines(program: Program) -> list[str]:
    rows: list[str] = []
    for line, (_, op) in zip(program_text(program), program.flatten(), strict=True):
        text = _c_string(f"{'  ' * line.depth}{line.text}".encode())
        rows.append(f"\t{{ {int(is_decisive(op))}, {int(isinstance(op, Syscall))}, {text} }},")
    return _table("struct line", "lines", "", rows)


def _errors() -> list[str]:
    rows = [f'\t[{number}] = "{name}",' for number, name in sorted(errno.errorcode.items())]
    return ["static const char *const errors[] = {", *rows, "};", ""]


def _table(kind: str, name: str, count: str, rows: list[str]) -> list[str]:
    """An array with one empty entry at the end, as C has no empty arrays."""
    head = [f"enum {{ {count} = {len(rows)} }};"] if count else []
    return [*head, f"static const {kind} {name}[] = {{", *rows, "\t{ 0 },", "};", ""]


def _c_string(data: bytes) -> str:
    """A C string literal; long ones are broken into lines."""
    lines = [_literal(data[at : at + _LINE_BYTES]) for at in range(0, len(data), _LINE_BYTES)]
    return "\n\t\t".join(lines) or '""'


def _literal(data: bytes) -> str:
    return f'"{"".join(_c_character(byte) for byte in data)}"'


def _c_character(byte: int) -> str:
    # Three octal digits cannot run into what follows; '?' could be part of a trigraph.
    if 0x20 <= byte < 0x7F and byte not in b'"\\?':
        return chr(byte)
    return f"\\{byte:03o}"


def _plain(text: str) -> str:
    """Text that cannot end a comment or a line."""
    line = " ".join(text.split()).replace("*/", "* /").replace("/*", "/ *")
    return "".join(character if " " <= character <= "~" else "." for character in line).rstrip("\\")


# --- the program


class _Writer:
    """Writes the operations as C, one function for each section and each body."""

    def __init__(self, program: Program, numbers: Numbers, prefix: str) -> None:
        """``prefix`` keeps the names of two programs in one file apart."""
        self.prefix = prefix
        self.blobs = program.layout()
        self.sections = program
        self.numbers = numbers
        self.texts = [line.text for line in program_text(program)]
        self.functions: list[str] = []

    def program(self) -> list[str]:
        slot = 0
        sections = self.sections
        for name, ops in (
            ("setup", sections.setup),
            ("victim", sections.victim),
            ("attack", sections.attack),
        ):
            heading = f"static void __attribute__((unused)) {self.prefix}{name}(void)"
            slot = self.function(heading, ops, slot, frozenset(), at_end=["\tcomplete = 1;"])
        return self.functions

    def function(
        self,
        heading: str,
        ops: tuple[Operation, ...],
        slot: int,
        inside: frozenset[int],
        at_end: Sequence[str] = (),
    ) -> int:
        """Appends a function that runs ``ops`` from ``slot`` on, after those it needs."""
        lines = [heading, "{"]
        for op in ops:
            lines += [f"\t/* {slot}: {_plain(self.texts[slot])} */", f"\tstarted({slot});"]
            lines += [f"\t{line}" for line in self.operation(op, slot, inside)]
            if isinstance(op, Syscall) and spawns(op):
                steps = f"{self.prefix}steps_{slot}"
                body = f"static void {steps}(void)"
                self.function(body, op.body, slot + 1, inside | {slot})
                self.functions += [
                    f"static void {self.prefix}body_{slot}(void)",
                    "{",
                    f"\t{steps}();",
                    "\tleave(SYS_exit);",
                    "}",
                    "",
                ]
            slot += size_of(op)
        self.functions += [*lines, *at_end, "}", ""]
        return slot

    def operation(self, op: Operation, slot: int, inside: frozenset[int]) -> list[str]:
        def value(item: Value) -> str:
            return self.value(item, inside)

        match op:
            case Syscall():
                return self.syscall(op, slot, inside)
            case Load(address, offset, width):
                return [f"done({slot}, (long)*{_place(value(address), offset, width)});"]
            case Store(address, offset, width, item):
                place = _place(value(address), offset, width)
                kind = f"uint{8 * width}_t"
                return [
                    f"__atomic_store_n({place}, ({kind})({value(item)}), __ATOMIC_RELEASE);",
                    f"done({slot}, 0);",
                ]
            case Add(a, b):
                return [f"done({slot}, (long)((uint64_t){value(a)} + (uint64_t){value(b)}));"]
            case Copy(address, source, size):
                call = f"memcpy((void *){value(address)}, (void *){value(source)}, {value(size)})"
                return [f"{call};", f"done({slot}, 0);"]
            case Compare(a, b, size):
                sides = f"(void *){value(a)}, (void *){value(b)}"
                return [f"done({slot}, !memcmp({sides}, {value(size)}));"]
            case Find(address, size, wanted, wanted_size):
                area = f"{value(address)}, {value(size)}"
                return [f"done({slot}, find({area}, {value(wanted)}, {value(wanted_size)}));"]
            case Print(address, item, suffix):
                return [
                    f"print_decimal({value(address)}, {value(item)}, {value(suffix)});",
                    f"done({slot}, 0);",
                ]
            case Wait(address, offset, item, bound_us):
                word = f"{value(address)} + {offset}"
                call = f"wait_while({word}, (uint32_t){value(item)}, {bound_us})"
                return [f"if (!done({slot}, {call}))", "\treturn;"]
            case Call(address):
                return [f"done({slot}, ((long (*)(void)){value(address)})());"]
            case Expect(item, mask, equals):
                condition = f"((uint64_t){value(item)} & {_unsigned(mask)}) != {_unsigned(equals)}"
                return [f"done({slot}, {value(item)});", f"if ({condition})", "\treturn;"]
            case Fault():
                return ['__asm__ volatile("ud2");']
            case _:
                assert_never(op)

    def syscall(self, op: Syscall, slot: int, inside: frozenset[int]) -> list[str]:
        number = self.numbers(op.abi.value, op.name)
        if number is None:
            raise ExportError(f"{op.abi} has no call {op.name!r}")
        if op.abi is Abi.X32:
            number |= _X32_BIT
        if op.entry is Entry.WIDE_SYSCALL:
            number |= _WIDE_NUMBER
        if op.body and op.entry in (Entry.SYSENTER, Entry.FAR_INT80):
            raise ExportError(f"a child made through {op.entry} cannot be exported to C")
        values = [self.value(item, inside) for item in op.args]
        arguments = ", ".join([*values, *["0"] * (6 - len(values))])
        body = f"{self.prefix}body_{slot}" if spawns(op) else "0"
        call = f"{_CALLS[op.entry]}({body}, {number:#x}L, {arguments})"
        if op.abi is Abi.I386:
            call = f"from32({call})"
        lines = [f"done({slot}, {call});"]
        if not op.may_fail:
            lines += [f"if (is_error(R({slot})))", "\treturn;"]
        return lines

    def value(self, value: Value, inside: frozenset[int]) -> str:
        """``value`` as a C expression; in a child the call that made it returned 0."""
        match value:
            case Const(number):
                return f"(long){_unsigned(number)}" if not -1 < number < 1 << 31 else f"{number}L"
            case Addr(blob, offset):
                return f"A({self.blobs[blob] + offset:#x})"
            case Slot(index):
                return "0L" if index in inside else f"R({index})"
            case Env(name):
                return _ENVIRONMENT[name]
            case _:
                assert_never(value)


def _place(address: str, offset: int, width: int) -> str:
    place = f"{address} + {offset}" if offset else address
    return f"(volatile uint{8 * width}_t *)({place})"


def _unsigned(number: int) -> str:
    return f"{number & _WORD:#x}UL"
