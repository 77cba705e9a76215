"""Puts the claims that this project started from to the test, and writes docs/claims.md.

.venv/bin/python docs/claims.py             prints the page, every experiment run now
.venv/bin/python docs/claims.py NAME...     runs single experiments
.venv/bin/python docs/claims.py --write     writes docs/claims.md
.venv/bin/python docs/claims.py --no-pods   prints it without what needs root and containerd
"""

import ctypes
import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from enum import StrEnum
from functools import cache
from itertools import groupby
from pathlib import Path

import experiment as x
import kubernetes_demo
from msgspec import Struct

from mitigations.bpf import Filter
from mitigations.candidate import Candidate
from mitigations.load import Meaning, load
from mitigations.x86_64 import AUDIT_ARCH_X86_64, NUMBERS

LIBRARY = Path(__file__).parents[1] / "mitigations" / "library"
RUNTIME_DEFAULT = LIBRARY.parent / "data" / "runtime-default.containerd-1.6.20.json"
PAGE = Path(__file__).with_name("claims.md")


class Verdict(StrEnum):
    CONFIRMED = "confirmed"
    HALF = "half right"
    WRONG = "wrong"
    NOT_HERE = "not testable here"


class Claim(Struct, frozen=True):
    topic: str
    says: str
    verdict: Verdict
    but: str
    """What is so instead, or why it cannot be tested here."""
    name: str = ""
    """Empty where there is no experiment."""
    experiment: Callable[[], str] | None = None


CLAIMS: list[Claim] = []


def claim(
    topic: str, says: str, verdict: Verdict, but: str = ""
) -> Callable[[Callable[[], str]], Callable[[], str]]:
    def record(experiment: Callable[[], str]) -> Callable[[], str]:
        name = experiment.__name__.replace("_", "-")
        CLAIMS.append(Claim(topic, says, verdict, but, name, experiment))
        return experiment

    return record


def cannot_test(topic: str, says: str, why: str) -> None:
    CLAIMS.append(Claim(topic, says, Verdict.NOT_HERE, why))


def made_directory(path: str) -> str:
    return "a directory" if Path(path).is_dir() else "no directory"


# --- installing a filter -------------------------------------------------------------------------

INSTALLING = "Who may install a filter"


@claim(
    INSTALLING,
    "A process needs CAP_SYS_ADMIN to install its own filter.",
    Verdict.WRONG,
    "no_new_privs is enough, and any process may set that.",
)
def install_without_capability() -> str:
    def body() -> str:
        x.drop_capabilities()
        x.set_no_new_privs()
        return f"CapEff {x.status('CapEff')}, no_new_privs on: {x.install(x.BLOCK_MKDIR)}"

    return x.in_child(body)


@claim(
    INSTALLING,
    "no_new_privs has to be set before a filter can be installed.",
    Verdict.HALF,
    "Either no_new_privs or CAP_SYS_ADMIN in the process's own user namespace. "
    "Runtimes use the second where a container may gain privileges.",
)
def install_without_no_new_privs() -> str:
    def with_capability() -> str:
        x.enter_user_namespace()
        return x.install(x.BLOCK_MKDIR)

    def without() -> str:
        x.drop_capabilities()
        return x.install(x.BLOCK_MKDIR)

    return (
        f"no_new_privs off, with CAP_SYS_ADMIN: {x.in_child(with_capability)}; "
        f"no_new_privs off, without: {x.in_child(without)}"
    )


@claim(
    INSTALLING,
    "Elasticsearch's check fails because its container has no capabilities.",
    Verdict.WRONG,
    "Its filter goes in without any, as it sets no_new_privs first: "
    "something else must have refused it.",
)
def elasticsearch_filter() -> str:
    def body() -> str:
        x.drop_capabilities()
        x.set_no_new_privs()
        names = (x.FORK, x.VFORK, x.EXECVE, x.EXECVEAT)
        program = x.denying(*names, action=x.ERRNO | 13)
        installed = x.install(program, x.FLAG_TSYNC)
        return f"install: {installed}, then execve: {x.call(x.EXECVE, b'/bin/true', 0, 0)}"

    return x.in_child(body)


@claim(
    INSTALLING,
    "A filter is installed with seccomp() or with prctl().",
    Verdict.CONFIRMED,
)
def two_ways_to_install() -> str:
    def attempt(install: Callable[[bytes], str]) -> str:
        def body() -> str:
            x.set_no_new_privs()
            return f"{install(x.BLOCK_MKDIR)}, mode {x.status('Seccomp')}"

        return x.in_child(body)

    return f"seccomp: {attempt(x.install)}; prctl: {attempt(x.install_with_prctl)}"


@claim(
    INSTALLING,
    "The Cap lines of /proc/PID/status show what a process holds; all zero means none, "
    "and 000001ffffffffff means all.",
    Verdict.CONFIRMED,
    "Zero capabilities say nothing about whether a filter can be installed.",
)
def capability_lines() -> str:
    def body() -> str:
        x.enter_user_namespace()
        everything = x.status("CapEff")
        x.drop_capabilities()
        return (
            f"first process of a user namespace: {everything}; after dropping: {x.status('CapEff')}"
        )

    return x.in_child(body)


PRINT_CAPABILITIES = """
while read -r field value; do
    if [ "$field" = CapEff: ]; then printf %s "$value"; fi
done </proc/self/status
"""


@claim(
    INSTALLING,
    "no_new_privs keeps a filtered program from gaining privileges through exec.",
    Verdict.CONFIRMED,
)
def exec_gains_nothing() -> str:
    def attempt(no_new_privs: bool) -> str:
        def body() -> str:
            x.enter_user_namespace()
            x.drop_capabilities()
            if no_new_privs:
                x.set_no_new_privs()
            os.dup2(9, 1)
            os.execv("/bin/sh", ["sh", "-c", PRINT_CAPABILITIES])

        return x.in_child(body)

    return (
        f"uid 0 without capabilities executes a program: CapEff {attempt(False)}; "
        f"with no_new_privs: {attempt(True)}"
    )


@claim(
    INSTALLING,
    "A process puts a filter on itself, never a parent on its child.",
    Verdict.HALF,
    "There is no way to name another process, but with TSYNC one thread filters all threads of "
    "its process.",
)
def tsync() -> str:
    def attempt(flags: int) -> str:
        return x.in_child(lambda: install_in_thread(x.BLOCK_MKDIR, flags))

    return (
        f"mode of the first thread after a second one installed a filter: {attempt(0)}; "
        f"with TSYNC: {attempt(x.FLAG_TSYNC)}"
    )


def install_in_thread(program: bytes, flags: int) -> str:
    x.set_no_new_privs()
    thread = threading.Thread(target=lambda: x.require(x.install(program, flags)))
    thread.start()
    thread.join()
    return x.status("Seccomp")


@claim(
    INSTALLING,
    "A filter belongs to a process.",
    Verdict.HALF,
    "It belongs to a thread. A process whose other threads run free is not confined.",
)
def per_thread() -> str:
    def body() -> str:
        x.set_no_new_privs()
        answers: list[str] = []

        def second() -> None:
            x.require(x.install(x.BLOCK_MKDIR))
            answers.append(x.call(x.MKDIR, b"a", 0o755))

        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        other = x.call(x.MKDIR, b"b", 0o755)
        return f"mkdir in the filtered thread: {answers[0]}; in the other: {other}"

    return x.in_child(body)


@claim(
    INSTALLING,
    "Children and executed programs inherit the filter.",
    Verdict.CONFIRMED,
)
def inherited() -> str:
    def after_fork() -> str:
        x.confine(x.BLOCK_MKDIR)
        if os.fork():
            os.wait()
            return ""
        x.say(f"mode {x.status('Seccomp')}, mkdir {x.call(x.MKDIR, b'd', 0o755)}")
        os._exit(0)

    executed = x.run(["mkdir", "d"], x.BLOCK_MKDIR)
    return f"after fork: {x.in_child(after_fork)}; after exec: {executed}"


@claim(
    INSTALLING,
    "A runtime sets no_new_privs, drops capabilities, installs the filter and executes, in this "
    "order.",
    Verdict.HALF,
    "Only where the container asks for no_new_privs. Otherwise that order cannot work, and the "
    "filter comes before the capabilities are dropped.",
)
def runtime_order() -> str:
    def attempt(steps: list[Callable[[], object]]) -> str:
        def body() -> str:
            x.enter_user_namespace()
            answers = [step() for step in steps]
            return str(answers[-1] or answers[0])

        return x.in_child(body)

    def install() -> str:
        return x.install(x.BLOCK_MKDIR)

    drop = x.drop_capabilities
    return (
        f"no_new_privs, drop, install: {attempt([x.set_no_new_privs, drop, install])}; "
        f"drop, install: {attempt([drop, install])}; "
        f"install, drop: {attempt([install, drop])}"
    )


@claim(
    INSTALLING,
    "What a program did before its filter came stays done: the filter has to be there before exec.",
    Verdict.CONFIRMED,
    "Descriptors opened before it stay usable as well.",
)
def unguarded_window() -> str:
    def body() -> str:
        before = x.call(x.MKDIR, b"before", 0o755)
        x.confine(x.BLOCK_MKDIR)
        after = x.call(x.MKDIR, b"after", 0o755)
        return f"mkdir before: {before}, after: {after}; then: {', '.join(x.names('.'))}"

    return x.in_child(body)


# --- what a filter sees --------------------------------------------------------------------------

SEEING = "What a filter sees and answers"


@claim(
    SEEING,
    "A filter decides from the call's number and its integer arguments; it cannot look behind a "
    "pointer.",
    Verdict.CONFIRMED,
)
def no_pointers() -> str:
    def body() -> str:
        x.confine(x.denying_argument(x.MKDIR, 1, 0xFFFFFFFF, 0o700))
        modes = [f"mode {mode:o}: {x.call(x.MKDIR, b'%o' % mode, mode)}" for mode in (0o755, 0o700)]
        paths = {x.call(x.MKDIR, path, 0o700) for path in (b"one", b"another/path", b"/")}
        return f"{', '.join(modes)}; three paths with mode 700: {' or '.join(paths)}"

    return x.in_child(body)


@claim(
    SEEING,
    "A filter can answer allow, errno, kill, log, trace or notify.",
    Verdict.CONFIRMED,
    "There is also trap, and kill is two answers: kill the process, kill the thread.",
)
def actions() -> str:
    names = {
        "allow": x.ALLOW,
        "log": x.LOG,
        "trace": x.TRACE,
        "notify": x.USER_NOTIF,
        "errno": x.ERRNO,
        "trap": x.TRAP,
        "kill thread": x.KILL_THREAD,
        "kill process": x.KILL_PROCESS,
    }
    answers: dict[str, str] = {}
    for name, action in names.items():
        word = ctypes.c_uint32(action)
        address = ctypes.addressof(word)
        answers[name] = x.call(x.SECCOMP, x.GET_ACTION_AVAIL, 0, address)
    return "; ".join(f"{name}: {answer}" for name, answer in answers.items())


@claim(
    SEEING,
    "After an errno answer the process lives on and sees -1 and the errno.",
    Verdict.CONFIRMED,
)
def errno_keeps_alive() -> str:
    def body() -> str:
        x.confine(x.BLOCK_MKDIR)
        return f"mkdir: {x.call(x.MKDIR, b'd', 0o755)}, then getppid: {x.call(x.GETPPID)}"

    return x.in_child(body)


@claim(
    SEEING,
    "SCMP_ACT_KILL sends SIGKILL to the process.",
    Verdict.HALF,
    "It ends at once and cannot be caught, but the signal is SIGSYS (exit status 159 in a shell), "
    "and SCMP_ACT_KILL is the older name for killing the calling thread: the others go on.",
)
def kill_answers() -> str:
    def process() -> str:
        x.confine(x.denying(x.MKDIR, action=x.KILL_PROCESS))
        return x.call(x.MKDIR, b"d", 0o755)

    def thread() -> str:
        x.confine(x.denying(x.MKDIR, action=x.KILL_THREAD))
        threading.Thread(target=lambda: x.call(x.MKDIR, b"d", 0o755), daemon=True).start()
        alone = x.wait_until(lambda: len(x.names("/proc/self/task")) == 1)
        return "the thread is gone, the process lives" if alone else "both live"

    return f"kill process: {x.in_child(process)}; kill thread: {x.in_child(thread)}"


@claim(
    SEEING,
    "With a log answer the call goes through, so real traffic can be recorded.",
    Verdict.CONFIRMED,
)
def log_allows() -> str:
    def body() -> str:
        x.confine(x.denying(x.MKDIR, action=x.LOG))
        return f"mkdir: {x.call(x.MKDIR, b'd', 0o755)}, {made_directory('d')}"

    return x.in_child(body)


@claim(
    SEEING,
    "A program cannot tell a filter's EPERM from a real one.",
    Verdict.CONFIRMED,
    "Not from the answer; /proc/self/status tells that a filter is there.",
)
def same_errno() -> str:
    def attempt(program: bytes | None) -> str:
        def body() -> str:
            x.drop_capabilities()
            if program:
                x.confine(program)
            return x.call(x.MOUNT, b"none", b".", b"tmpfs", 0, 0)

        return x.in_child(body)

    return (
        f"mount denied for lack of a capability: {attempt(None)}; "
        f"by a filter: {attempt(x.denying(x.MOUNT))}"
    )


# --- getting past it -----------------------------------------------------------------------------

PAST = "What gets past block-mkdir"


@claim(
    PAST,
    "With block-mkdir the mkdir command fails with EPERM and exit status 1; ls works, touch makes "
    "a file, echo works.",
    Verdict.CONFIRMED,
)
def block_mkdir_commands() -> str:
    commands = (["mkdir", "d"], ["ls"], ["touch", "f"], ["sh", "-c", "echo alive"])
    return "; ".join(f"{argv[0]}: {x.run(argv, x.BLOCK_MKDIR)}" for argv in commands)


@claim(
    PAST,
    "The same command without the filter works: the one variable is the filter.",
    Verdict.CONFIRMED,
)
def control_arm() -> str:
    return f"without: {x.run(['mkdir', 'd'], None)}; with: {x.run(['mkdir', 'd'], x.BLOCK_MKDIR)}"


@claim(PAST, "touch makes its file with openat and O_CREAT.", Verdict.CONFIRMED)
def touch_is_openat() -> str:
    creating = x.denying_argument(x.OPENAT, 2, os.O_CREAT, os.O_CREAT)
    return f"with openat(O_CREAT) denied: touch: {x.run(['touch', 'f'], creating)}"


@claim(
    PAST,
    "A filter stops calls, not the intent to make a new filesystem object.",
    Verdict.CONFIRMED,
)
def other_objects() -> str:
    def body() -> str:
        x.confine(x.BLOCK_MKDIR)
        attempts = {
            "mkdir": x.call(x.MKDIR, b"d", 0o755),
            "openat": x.call(x.OPENAT, x.AT_FDCWD, b"file", os.O_CREAT | os.O_WRONLY, 0o644),
            "mknod": x.call(x.MKNOD, b"fifo", stat.S_IFIFO | 0o644, 0),
            "symlink": x.call(x.SYMLINK, b"file", b"symlink"),
            "link": x.call(x.LINK, b"file", b"hard link"),
        }
        return "; ".join(f"{name}: {answer}" for name, answer in attempts.items())

    return x.in_child(body)


@claim(
    PAST,
    "mknod makes a directory where mkdir is blocked.",
    Verdict.WRONG,
    "The kernel refuses this type without any filter.",
)
def mknod_directory() -> str:
    def body() -> str:
        x.enter_user_namespace()
        answer = x.call(x.MKNOD, b"d", stat.S_IFDIR | 0o755, 0)
        return f"no filter, mknod(S_IFDIR): {answer}, {made_directory('d')}"

    return x.in_child(body)


@claim(
    PAST,
    "openat with O_CREAT and O_DIRECTORY makes a directory where mkdir is blocked.",
    Verdict.WRONG,
    "Linux 6.4 and later refuse the pair; earlier kernels made a regular file.",
)
def openat_directory() -> str:
    def body() -> str:
        flags = os.O_CREAT | os.O_DIRECTORY
        answer = x.call(x.OPENAT, x.AT_FDCWD, b"d", flags, 0o755)
        return f"no filter, openat(O_CREAT|O_DIRECTORY): {answer}, {made_directory('d')}"

    return x.in_child(body)


@claim(
    PAST,
    "A denylist lets everything through that it does not name; an allowlist denies it.",
    Verdict.CONFIRMED,
)
def forgetting() -> str:
    def attempt(program: bytes) -> str:
        def body() -> str:
            x.confine(program)
            return x.call(x.MKDIRAT, x.AT_FDCWD, b"d", 0o755)

        return x.in_child(body)

    return (
        f"mkdirat where only mkdir is denied: {attempt(x.denying(x.MKDIR))}; "
        f"where only mkdir is allowed: {attempt(x.allowing(x.MKDIR))}"
    )


# --- what /proc says -----------------------------------------------------------------------------

PROC = "What /proc/PID/status says"


@claim(
    PROC,
    "Under a filter the file says Seccomp: 2 and one filter; without one, 0 and 0.",
    Verdict.CONFIRMED,
)
def status_fields() -> str:
    def fields() -> str:
        return f"Seccomp {x.status('Seccomp')}, Seccomp_filters {x.status('Seccomp_filters')}"

    def filtered() -> str:
        x.confine(x.BLOCK_MKDIR)
        return fields()

    return f"with block-mkdir: {x.in_child(filtered)}; without: {x.in_child(fields)}"


@claim(
    PROC,
    "Seccomp: 2 means that the process is protected.",
    Verdict.HALF,
    "It means that a filter is there, not that it denies anything.",
)
def empty_filter() -> str:
    def body() -> str:
        x.confine(x.answer(x.ALLOW))
        mkdir = x.call(x.MKDIR, b"d", 0o755)
        return f"a filter that allows everything: Seccomp {x.status('Seccomp')}, mkdir {mkdir}"

    return x.in_child(body)


@claim(
    PROC,
    "The field cannot be forged.",
    Verdict.HALF,
    "True of a look from outside. Whoever reads inside the container, as `kubectl exec` does, "
    "reads whatever is mounted there.",
)
def forged_status() -> str:
    def body() -> str:
        x.enter_user_namespace(x.CLONE_NEWNS)
        x.require(x.call(x.MOUNT, b"none", b"/", 0, x.MS_REC | x.MS_PRIVATE, 0))
        Path("forged").write_text("Seccomp:\t2\n")
        target = f"/proc/{os.getpid()}/status".encode()
        x.require(x.call(x.MOUNT, b"forged", target, 0, x.MS_BIND, 0))
        return f"Seccomp {x.status('Seccomp')} read inside"

    return f"no filter, a file mounted over the real one: {x.seen_from_outside(body, 'Seccomp')}"


@claim(
    PROC,
    "Mode 1, strict, allows four calls only.",
    Verdict.CONFIRMED,
)
def strict_mode_calls() -> str:
    def body() -> str:
        x.require(x.call(x.PRCTL, x.PR_SET_SECCOMP, 1, 0, 0, 0))
        x.say("write works")
        return str(os.getppid())

    return x.in_child(body)


@claim(
    PROC,
    "Strict mode cannot be configured for a pod, so mode 1 is never seen.",
    Verdict.HALF,
    "No profile asks for it, but a process that has no filter may choose it for itself; under a "
    "filter it may not.",
)
def strict_mode_seen() -> str:
    def choose_strict() -> str:
        return f"strict {x.call(x.PRCTL, x.PR_SET_SECCOMP, 1, 0, 0, 0)}"

    def filtered() -> str:
        x.confine(x.BLOCK_MKDIR)
        return choose_strict()

    return (
        f"without a filter: {x.seen_from_outside(choose_strict, 'Seccomp')}; "
        f"under one: {x.seen_from_outside(filtered, 'Seccomp')}"
    )


# --- what a profile compiles to ------------------------------------------------------------------

COMPILED = "What a profile becomes"


def decisions(candidate: Candidate, *names: str) -> str:
    """What the compiled filter answers to native calls, whatever their arguments."""
    program = Filter.decode(candidate.seccomp[0].program)
    arguments = [None] * 6
    return "; ".join(
        f"{name}: {program.decide(AUDIT_ARCH_X86_64, NUMBERS['x86_64'][name], arguments).text}"
        for name in names
    )


def load_one(path: Path, meaning: Meaning = "auto") -> Candidate:
    (candidate,) = load(path, meaning=meaning)
    assert isinstance(candidate, Candidate)
    return candidate


def runtime_default() -> Candidate:
    return as_profile(json.loads(RUNTIME_DEFAULT.read_text())["seccomp"])


def as_profile(section: object) -> Candidate:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "profile.json")
        path.write_text(json.dumps(section))
        return load_one(path, "oci")


@claim(
    COMPILED,
    "A profile is compiled to cBPF: a name becomes a comparison with a number, the default action "
    "the last answer, SCMP_ACT_ERRNO the kernel's errno answer.",
    Verdict.CONFIRMED,
    "The number is compared per architecture, and the same number means another call in another.",
)
def block_mkdir_compiled() -> str:
    candidate = load_one(LIBRARY / "block-mkdir.json")
    return f"block-mkdir: {decisions(candidate, 'mkdir', 'mkdirat', 'openat')}"


@claim(
    COMPILED,
    "RuntimeDefault is a kind of denylist.",
    Verdict.WRONG,
    "It is an allowlist: a call that it does not name is denied.",
)
def runtime_default_kind() -> str:
    candidate = runtime_default()
    program = Filter.decode(candidate.seccomp[0].program)
    unnamed = program.decide(AUDIT_ARCH_X86_64, 1000, [None] * 6)
    return (
        f"default action {candidate.default_action}; a call number that nobody has: {unnamed.text}"
    )


@claim(
    COMPILED,
    "RuntimeDefault blocks some 40 to 60 calls, mount, reboot, kexec_load and bpf among them, and "
    "allows about 300.",
    Verdict.HALF,
    "The dangerous ones are among the denied, but more are denied than that, every call newer than "
    "the profile among them.",
)
def runtime_default_counts() -> str:
    rules = json.loads(RUNTIME_DEFAULT.read_text())["seccomp"]["syscalls"]
    calls = NUMBERS["x86_64"].keys()
    always = {name for rule in rules if not rule.get("args") for name in rule["names"]} & calls
    sometimes = {name for rule in rules for name in rule["names"]} & calls - always
    denied = len(calls) - len(always) - len(sometimes)
    named = decisions(runtime_default(), "mount", "reboot", "kexec_load", "bpf")
    return (
        f"of the {len(calls)} calls of x86-64 up to Linux 6.18 {len(always)} allowed, "
        f"{len(sometimes)} by their arguments, {denied} denied; {named}"
    )


@claim(COMPILED, "mkdir, ls and echo work under RuntimeDefault.", Verdict.CONFIRMED)
def runtime_default_is_transparent() -> str:
    return decisions(runtime_default(), "mkdir", "getdents64", "write", "execve")


@claim(
    COMPILED,
    "That a profile is declared does not mean that it is in effect.",
    Verdict.CONFIRMED,
    "Two profiles that runc 1.1 takes without a word and that stop nothing.",
)
def declared_only() -> str:
    rule = {"name": "mkdir", "action": "SCMP_ACT_ERRNO"}
    empty = as_profile({})
    old_form = as_profile({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    return f"{{}}: {len(empty.seccomp)} filters; a rule with `name`: {decisions(old_form, 'mkdir')}"


@claim(
    COMPILED,
    "Blocking every call of the family is robust.",
    Verdict.HALF,
    "Not if the calls are blocked by name: there are ways around a name.",
)
def whole_family() -> str:
    names = ("deny-create-directory-by-name", "no-new-directories")
    command = [Path(sys.executable).with_name("sidestep"), "evaluate", "--json"]
    files = [LIBRARY / f"{name}.json" for name in names]
    family = ["--family", "create-directory"]
    done = subprocess.run([*command, *files, *family], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):  # 1: a family that was asked for does not hold
        sys.exit(done.stderr)
    return "; ".join(
        f"{one['name']}: {one['families'][0]['verdict']}"
        for one in json.loads(done.stdout)["candidates"]
    )


# --- what a pod gets -----------------------------------------------------------------------------

PODS = "What a pod gets"


@cache
def pods() -> dict[str, str]:
    """What was observed, by experiment: all of them from one containerd."""
    command = [sys.executable, "-m", kubernetes_demo.MODULE, "--json"]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr.strip())
    return dict(json.loads(done.stdout))


def observed_of_pods(name: str) -> Callable[[], str]:
    return lambda: pods()[name]


CLAIMS += [
    Claim(PODS, one.says, Verdict(one.verdict), one.but, one.name, observed_of_pods(one.name))
    for one in kubernetes_demo.EXPERIMENTS
]


# --- what needs a cluster or another kernel ------------------------------------------------------

CLUSTER = "What a single machine cannot show"

cannot_test(
    CLUSTER,
    "Seccomp came with Linux 2.6.12.",
    "A date. What came then is strict mode; filters came with Linux 3.5.",
)
cannot_test(
    CLUSTER,
    "The unconfined default ended with Kubernetes 1.27.",
    "Needs a kubelet. According to the Kubernetes documentation this is wrong: with 1.27 the "
    "setting became stable, and it stays off until the kubelet's seccompDefault is set.",
)
cannot_test(
    CLUSTER,
    "kind does not enable seccomp by default.",
    "Needs a kind cluster; the same kubelet setting decides.",
)
cannot_test(
    CLUSTER,
    "Localhost files lie below /var/lib/kubelet/seccomp, on every node where the pod may land.",
    "Needs a kubelet. That a container without its file is not created is tested above.",
)
cannot_test(
    CLUSTER,
    "The restricted pod security standard asks for at least RuntimeDefault.",
    "Needs an API server.",
)
cannot_test(
    CLUSTER,
    "AppArmor decides by path after the path was resolved, and is attached when a program is "
    "executed.",
    "Needs a kernel with AppArmor.",
)
cannot_test(
    CLUSTER,
    "A container command must be a list of strings; one that ends is restarted whatever its exit "
    "code; a pod's namespace must exist first.",
    "Needs a cluster, and is not about mitigations.",
)


# --- the page ------------------------------------------------------------------------------------

HEAD = """\
# What is true of seccomp here

<!-- Generated by docs/claims.py: change that, then `make docs`. -->

This project grew out of two short texts: a note on why Elasticsearch would not start in a
Kubernetes pod, and a post on seccomp profiles in Kubernetes that blocks `mkdir` and watches `touch`
succeed. Here is every claim of theirs, in our words, with an experiment and the answer that the
kernel gave. A live test runs all experiments again and compares the answers with this page.

Any single one runs as `.venv/bin/python docs/claims.py NAME`. They are plain system calls
(`docs/experiment.py`) that do not use the tool, so they also stand as a second witness for it; only
the part on compiled profiles asks the tool. They run in children of their own, need no privilege
beyond user namespaces, and leave nothing behind.

What a pod gets is tried by `make kubernetes-demo`, as root, in seconds: it starts a containerd of
its own and runs the pods of `docs/kubernetes_demo.yaml` through it and runc. A kubelet's part,
which profile is asked for over the CRI, is done by the code that reads manifests here. State
directories are private; containers, mounts, cgroups and processes are gone afterwards.
"""


def row(claim: Claim) -> str:
    if claim.experiment is None:
        return cells(claim.says, claim.but)
    verdict = f"**{claim.verdict}**" + (f". {claim.but}" if claim.but else "")
    return cells(claim.says, verdict, claim.experiment(), f"`{claim.name}`")


def cells(*texts: str) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def page(*, without: str = "") -> str:
    lines = [HEAD]
    for topic, claims in groupby(CLAIMS, key=lambda claim: claim.topic):
        if topic == without:
            continue
        lines.append(f"## {topic}\n")
        if topic == CLUSTER:
            lines += ["| claim | why it is not tested here |", "|---|---|"]
        else:
            lines += ["| claim | verdict | observed | command |", "|---|---|---|---|"]
        lines += [*map(row, claims), ""]
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    if arguments == ["--write"]:
        PAGE.write_text(page())
        return
    if arguments in ([], ["--no-pods"]):
        print(page(without=PODS if arguments else ""), end="")
        return
    known = {claim.name: claim for claim in CLAIMS if claim.experiment}
    for name in arguments:
        if name not in known:
            sys.exit(f"error: no claim is called {name!r}; there are: {', '.join(known)}")
        print(row(known[name]))


if __name__ == "__main__":
    main(sys.argv[1:])
