"""Objectives: named sets of families that must hold and workloads that must run."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from msgspec import Struct

from evaluator.errors import InputError


class Objective(Struct, frozen=True):
    """``families`` maps each family that must hold to the reason why it is named."""

    name: str
    title: str
    families: Mapping[str, str]
    workloads: tuple[str, ...]


OBJECTIVES = (
    Objective(
        name="no-new-directories",
        title="Nobody may create a directory, and an ordinary shell still runs",
        families={
            "create-directory": "the effect itself: a directory that was not there before",
        },
        workloads=("static-entry", "shell-basics"),
    ),
    # A shell cannot run without new processes, so this objective asks only for a static program.
    Objective(
        name="no-new-processes",
        title="The program that runs stays the only one",
        families={
            "create-process": "the effect itself: a process beside the one that was confined",
        },
        workloads=("static-entry",),
    ),
    # What the default posture lacks the capability for (unmount, open-by-handle) would be untested,
    # and that fails, whatever the profile says; so it is not named.
    Objective(
        name="container-baseline",
        title="A container stays a container: no way to the host's kernel, and programs run",
        families={
            "load-kernel-module": "code in the kernel is the whole machine",
            "unload-kernel-module": "protections of the kernel may be modules",
            "kexec": "another kernel ends all isolation",
            "restart-machine": "all other containers would go down",
            "load-bpf": "a BPF program runs in the kernel and sees other containers",
            "open-perf-event": "it samples what others do",
            "mount-file-system": "a mount can cover or reveal what the runtime arranged",
            "join-namespace": "it leads out of the container",
            "access-io-ports": "devices answer to ports, whoever asks",
            "enable-swap": "it is the machine's, not the container's",
            "process-accounting": "it is the machine's, and writes where it is told to",
            "set-clock": "all containers have one clock",
            "set-quota": "quotas hold for file systems that others use",
            "read-kernel-log": "it tells addresses and what others do",
        },
        workloads=("static-entry", "shell-basics", "threads"),
    ),
    # A shell redirects into new files, so only a program that makes none can be asked to work.
    Objective(
        name="no-new-files",
        title="No new name appears in any directory",
        families={
            "create-file": "a regular file is what most droppers leave",
            "create-directory": "a directory is a new name as well",
            "create-symlink": "a symbolic link redirects whoever follows it",
            "create-hard-link": "a second name keeps a file alive and moves it",
            "create-node": "pipes, sockets and devices are new names as well",
            "create-filesystem-object": "any other kind of name",
            "rename-file": "a new name can come from an old one",
        },
        workloads=("static-entry",),
    ),
    # Every workload is exec'ed under the filters, and no filter tells the first program from the
    # next, so none can be asked to work: this is for a program that puts its filter on itself.
    Objective(
        name="no-exec",
        title="The program that runs executes no other",
        families={
            "execute-program": "the effect itself: another program image",
        },
        workloads=(),
    ),
    Objective(
        name="no-network",
        title="Nothing goes in or out by a socket of IP, and an ordinary shell still runs",
        families={
            "connect-tcp": "data goes out, and commands come in, by a connection",
            "send-datagram": "a datagram needs no connection",
            "accept-connection": "whoever listens is reached from outside",
        },
        workloads=("static-entry", "shell-basics"),
    ),
    Objective(
        name="no-userns",
        title="Nobody gets capabilities by a new user namespace, and programs still run",
        families={
            "new-user-namespace": "the effect itself: all capabilities in a namespace of one's own",
        },
        workloads=("static-entry", "shell-basics", "threads"),
    ),
    Objective(
        name="kernel-surface",
        title="Parts of the kernel with many past defects are out of reach, and programs run",
        families={
            "use-io-uring": "it makes calls that no filter sees",
            "load-bpf": "its verifier is judged by whoever writes the program",
            "open-userfaultfd": "it stops the kernel in the middle of a copy",
            "open-perf-event": "a large interface that few programs need",
            "add-key": "keyrings are not separate for each container",
            "new-user-namespace": "it makes code reachable that is otherwise root's",
            "install-segment": "segments of 16 bits are an old and rare path",
        },
        workloads=("static-entry", "shell-basics", "threads"),
    ),
)


def objective(name: str) -> Objective:
    """The objective of that name, or an ``InputError`` with the nearest names."""
    for one in OBJECTIVES:
        if one.name == name:
            return one
    raise InputError(unknown("objective", name, [one.name for one in OBJECTIVES]))


def unknown(kind: str, name: str, known: list[str]) -> str:
    """One line that says which names there are: the nearest ones, or all of them."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"no {kind} {name!r}; did you mean {' or '.join(near)}?"
    return f"no {kind} {name!r}; there are: {', '.join(sorted(known))}"
