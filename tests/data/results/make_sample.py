"""Writes ``sample.json``: a made-up run of three synthetic candidates, for work on the report."""

# ruff: noqa: E501, ISC004 - rows of data

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

KERNEL = "6.12.0"

BLOCK_MKDIR = """{
  "defaultAction": "SCMP_ACT_ALLOW",
  "syscalls": [
    {
      "names": ["mkdir", "mkdirat"],
      "action": "SCMP_ACT_ERRNO",
      "errnoRet": 1
    }
  ]
}
"""
NO_NEW_DIRECTORIES = """{
  "defaultAction": "SCMP_ACT_ALLOW",
  "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
  "syscalls": [
    {
      "names": ["mkdir", "mkdirat"],
      "action": "SCMP_ACT_ERRNO",
      "errnoRet": 1
    },
    {
      "names": ["io_uring_setup", "io_uring_enter", "io_uring_register"],
      "action": "SCMP_ACT_ERRNO",
      "errnoRet": 38,
      "comment": "the ring makes directories without a system call of that name"
    },
    {
      "names": ["mount", "move_mount", "open_tree"],
      "action": "SCMP_ACT_ERRNO",
      "errnoRet": 1
    }
  ]
}
"""

RING = [
    ("io_uring_setup(8, &params)", "3"),
    (
        "mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_POPULATE, 3, IORING_OFF_SQ_RING)",
        "0x7f1200000000",
    ),
    (
        "mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_POPULATE, 3, IORING_OFF_SQES)",
        "0x7f1200001000",
    ),
    ('*(sqe) = {IORING_OP_MKDIRAT, fd=AT_FDCWD, addr="d/t", len=0755}', None),
]
ENTER = "io_uring_enter(3, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0)"

# variant: technique, assumption, grade, scope, why, steps as (text, abi, decisive, control result)
VARIANTS: dict[str, dict[str, Any]] = {
    "create-directory/mkdir": {
        "technique": "baseline",
        "why": "The call that everybody thinks of.",
        "steps": [('mkdir("d/t", 0755)', "x86_64", True, "0")],
    },
    "create-directory/mkdirat": {
        "technique": "sibling-syscall",
        "why": "The newer sibling; a rule that names only mkdir misses it.",
        "steps": [('mkdirat(AT_FDCWD, "d/t", 0755)', "x86_64", True, "0")],
    },
    "create-directory/mkdirat-dirfd": {
        "technique": "fd-relative",
        "why": "Passes a real dirfd: defeats rules that only match AT_FDCWD.",
        "steps": [
            ('openat(AT_FDCWD, "d", O_PATH|O_DIRECTORY)', "x86_64", False, "3"),
            ('mkdirat(3, "t", 0755)', "x86_64", True, "0"),
        ],
    },
    "create-directory/mkdirat-wide-dirfd": {
        "technique": "wide-argument",
        "why": "The kernel reads 32 bits of the descriptor, a filter compares all 64: "
        "garbage in the upper half slips past a comparison with AT_FDCWD.",
        "steps": [('mkdirat(0xdeadbeefffffff9c, "d/t", 0755)', "x86_64", True, "0")],
    },
    "create-directory/io-uring-mkdirat": {
        "technique": "async-kernel",
        "why": "The kernel makes the directory on behalf of a ring entry in memory: no system "
        "call named mkdir happens, and a filter sees only the ring being set up and entered.",
        "references": ["https://man7.org/linux/man-pages/man7/io_uring.7.html"],
        "steps": [(t, "x86_64" if r else None, False, r) for t, r in RING]
        + [(ENTER, "x86_64", True, "1")],
    },
    "create-directory/io-uring-mkdirat-async": {
        "technique": "async-kernel",
        "why": "The same through a worker thread of the kernel (IOSQE_ASYNC), so that even the "
        "thread that does it is not the one that the filter watches.",
        "references": ["https://man7.org/linux/man-pages/man7/io_uring.7.html"],
        "steps": [
            (
                t.replace("len=0755", "len=0755, flags=IOSQE_ASYNC"),
                "x86_64" if r else None,
                False,
                r,
            )
            for t, r in RING
        ]
        + [(ENTER, "x86_64", True, "1")],
    },
    "create-directory/mkdir~i386": {
        "technique": "compat-abi",
        "why": "The 32-bit entry has numbers of its own: a filter without that architecture "
        "either kills the caller or, if it forgets to look, lets it pass.",
        "steps": [('mkdir("d/t", 0755)', "i386", True, "0")],
    },
    "create-directory/mkdir~x32": {
        "technique": "x32-abi",
        "why": "The x32 numbers carry one more bit; a filter that compares the plain number misses them.",
        "unsupported": "the running kernel has no x32 ABI (CONFIG_X86_X32_ABI)",
        "steps": [('mkdir("d/t", 0755)', "x32", True, "-1 ENOSYS")],
    },
    "create-directory/rename": {
        "technique": "indirect-object",
        "grade": "equivalent",
        "scope": "grade",
        "why": "Moves a directory that was there already: the path resolves as if, nothing is new.",
        "setup": [('mkdir("src/t", 0755)', "x86_64", False, "0")],
        "steps": [('rename("src/t", "d/t")', "x86_64", True, "0")],
    },
    "create-directory/ptrace-neighbour": {
        "technique": "deputy-process",
        "assumption": "unfiltered-neighbour",
        "scope": "assumption",
        "why": "Makes a process without the filter do it, if such a process is within reach.",
        "steps": [
            ("ptrace(PTRACE_ATTACH, 2, NULL, NULL)", "x86_64", False, "0"),
            ("wait4(2, &status, 0, NULL)", "x86_64", False, "2"),
            ("ptrace(PTRACE_SETREGS, 2, NULL, &regs)", "x86_64", False, "0"),
            ("ptrace(PTRACE_SINGLESTEP, 2, NULL, NULL)", "x86_64", True, "0"),
        ],
    },
    "create-directory/mknod-directory": {
        "technique": "sibling-syscall",
        "scope": "negative-control",
        "unsupported": "negative control: mknod makes no directory (EPERM)",
        "why": "Often claimed to make a directory; it never does.",
        "steps": [('mknod("d/t", S_IFDIR|0755, 0)', "x86_64", True, "-1 EPERM")],
    },
    "create-file/openat": {
        "technique": "baseline",
        "why": "The call behind every new file.",
        "steps": [('openat(AT_FDCWD, "d/t", O_CREAT|O_WRONLY, 0644)', "x86_64", True, "3")],
    },
    "create-file/link-tmpfile": {
        "technique": "newer-syscall",
        "why": "An unnamed file gets its name by linkat: no rule about O_CREAT sees it.",
        "steps": [
            ('openat(AT_FDCWD, "d", O_TMPFILE|O_WRONLY, 0644)', "x86_64", False, "3"),
            ('linkat(3, "", AT_FDCWD, "d/t", AT_EMPTY_PATH)', "x86_64", True, "0"),
        ],
    },
    "delete-file/unlink": {
        "technique": "baseline",
        "why": "The call that everybody thinks of.",
        "steps": [('unlink("d/t")', "x86_64", True, "0")],
    },
    "change-mode/chmod": {
        "technique": "baseline",
        "why": "The call that everybody thinks of.",
        "steps": [('chmod("d/t", 04755)', "x86_64", True, "0")],
    },
    "change-mode/fchmodat2": {
        "technique": "newer-syscall",
        "why": "New in Linux 6.6: older lists of names do not know it.",
        "steps": [('fchmodat2(AT_FDCWD, "d/t", 04755, 0)', "x86_64", True, "0")],
    },
}

TITLES = {
    "create-directory": "Create a directory",
    "create-file": "Create a regular file",
    "delete-file": "Delete a file",
    "change-mode": "Set the set-user-ID bit of a file",
}
RULES: dict[str, dict[str, tuple[str, str]]] = {
    "block-mkdir": {"mkdir": ("ERRNO(EPERM)", "EPERM"), "mkdirat": ("ERRNO(EPERM)", "EPERM")},
    "no-new-directories": {
        "mkdir": ("ERRNO(EPERM)", "EPERM"),
        "mkdirat": ("ERRNO(EPERM)", "EPERM"),
        "io_uring_setup": ("ERRNO(ENOSYS)", "ENOSYS"),
        "io_uring_enter": ("ERRNO(ENOSYS)", "ENOSYS"),
        "mount": ("ERRNO(EPERM)", "EPERM"),
    },
    "unconfined": {},
}


def decide(candidate: str, text: str, abi: str | None) -> tuple[str, str] | None:
    """What the candidate's filter answers, None if it allows."""
    if abi == "i386" and candidate == "block-mkdir":
        return "KILL_PROCESS", "SIGSYS (killed)"
    return RULES[candidate].get(text.partition("(")[0])


def make_steps(candidate: str, spec: dict[str, Any]) -> tuple[list[dict[str, Any]], Any]:
    """The program in both arms, and where the candidate stopped it."""
    stopped: dict[str, Any] | None = None
    killed = False
    steps: list[dict[str, Any]] = []
    parts = [("setup", s) for s in spec.get("setup", [])] + [("attack", s) for s in spec["steps"]]
    for slot, (section, (text, abi, decisive, control)) in enumerate(parts):
        ruling = decide(candidate, text, abi) if abi and section == "attack" else None
        judged = abi is not None and section == "attack" and candidate != "unconfined"
        mitigated: str | None = control if control is not None else None
        if killed or (stopped and not stopped["decisive"]):
            mitigated, judged = None, False
        elif ruling and control is not None:
            name = text.partition("(")[0]
            mitigated = "killed by SIGSYS" if "KILL" in ruling[0] else f"-1 {ruling[1]}"
            killed = "KILL" in ruling[0]
            stopped = {"call": name, "abi": abi, "answer": ruling[1], "decisive": decisive}
        decision = (ruling[0] if ruling else "ALLOW") if judged else None
        steps.append(
            {"slot": slot, "section": section, "text": text, "abi": abi, "decisive": decisive,
             "control": control, "mitigated": mitigated, "filter": decision}
        )  # fmt: skip
    return steps, stopped


def make_aftermath(stopped: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the answer leaves behind; no layer here is loaded with SECCOMP_FILTER_FLAG_LOG."""
    if stopped is None:
        return None
    if "killed" in stopped["answer"]:
        why = "KILL_PROCESS: the process dies; the kernel records it unasked"
        said = "blocked with an audit record; the process dies"
        return {"survives": False, "audited": True, "said": said, "why": why}
    why = "ERRNO: the call returns; the filter does not ask for a record"
    said = "blocked silently; the process lives on"
    return {"survives": True, "audited": False, "said": said, "why": why}


def make_trial(candidate: str, variant: str) -> dict[str, Any]:
    spec = VARIANTS[variant]
    steps, stopped = make_steps(candidate, spec)
    grade = spec.get("grade", "exact")
    unsupported = spec.get("unsupported")
    outcome = "UNSUPPORTED" if unsupported else "BLOCKED" if stopped else "BYPASSED"
    decisive = next(s for s in steps if s["decisive"])
    return {
        "variant": variant, "family": variant.partition("/")[0], "technique": spec["technique"],
        "assumption": spec.get("assumption", "none"), "outcome": outcome,
        "control_effect": None if unsupported else grade,
        "mitigated_effect": grade if outcome == "BYPASSED" else None,
        "predicted": None if candidate == "unconfined" else outcome,
        "stopped_at": None if unsupported else stopped,
        "aftermath": None if unsupported else make_aftermath(stopped), "title": decisive["text"],
        "why": spec["why"], "grade": grade, "scope": spec.get("scope", "in"),
        "route": f"{decisive['abi']}:{decisive['text'].split('(')[0]}",
        "reason": unsupported, "prerequisite_only": bool(stopped and not stopped["decisive"]),
        "references": spec.get("references", []), "repeats": 1, "agree": True,
        "latency_us": 410 + 7 * len(variant), "steps": steps,
    }  # fmt: skip


def make_family(candidate: str, family: str, trials: list[dict[str, Any]]) -> dict[str, Any]:
    mine = [t for t in trials if t["family"] == family]
    scoped = [t for t in mine if t["scope"] == "in"]
    working = [t for t in scoped if t["control_effect"]]
    blocked = [t for t in working if t["outcome"] == "BLOCKED"]
    bypasses = [t for t in working if t["outcome"] == "BYPASSED"]
    untestable = [t for t in scoped if t["outcome"] == "UNSUPPORTED"]
    targeted = bool(blocked)
    verdict = ("leaky" if targeted else "open") if bypasses else "held"
    techniques: dict[str, dict[str, int]] = {}
    for trial in working:
        count = techniques.setdefault(trial["technique"], {"working": 0, "blocked": 0})
        count["working"] += 1
        count["blocked"] += trial["outcome"] == "BLOCKED"
    reason = (
        f"{len(bypasses)} of {len(working)} ways still reach the effect"
        if bypasses
        else f"all {len(working)} ways that work without the candidate were stopped: "
        f"{len(working)} routes, {len(techniques)} techniques, {len(untestable)} not testable here"
    )
    left = [tuple(t["aftermath"][k] for k in ("survives", "audited", "said")) for t in blocked]
    shortest = min(bypasses, key=lambda t: len(t["steps"]), default=None)
    return {
        "family": family, "verdict": verdict, "targeted": targeted, "working": len(working),
        "blocked": len(blocked), "bypassed": len(bypasses),
        "bypasses": [t["variant"] for t in bypasses], "reachable_elsewhere": [],
        "title": TITLES[family], "attack_technique": "T1222.002" if family == "change-mode" else None,
        "baseline": mine[0]["variant"], "techniques": list(techniques),
        "routes": {"blocked": len(blocked), "working": len(working)},
        "untestable": len(untestable), "undecided": [],
        "shortest_bypass": shortest and shortest["variant"],
        "summary": f"{TITLES[family]}: {reason}.", "reason": reason, "by_technique": techniques,
        "aftermaths": [
            {"outcome": "BLOCKED", "trials": count, "survives": survives, "audited": audited,
             "said": said}
            for (survives, audited, said), count in Counter(left).most_common()
        ],
    }  # fmt: skip


def make_workloads(candidate: str) -> list[dict[str, Any]]:
    broken = candidate == "block-mkdir"
    return [
        {"workload": "static-entry", "title": "A static program starts and ends", "works": True,
         "works_in_control": True, "reason": None, "output": ""},
        {"workload": "shell-basics", "title": "A shell lists, copies and removes files",
         "works": not broken, "works_in_control": True,
         "reason": "mkdir answered EPERM and the script stopped" if broken else None,
         "output": "mkdir: cannot create directory 'work': Operation not permitted" if broken else "ok"},
    ]  # fmt: skip


def make_counted(targeted: list[Any], held: list[Any], workloads: list[Any]) -> dict[str, str]:
    utility = f"{sum(w['works'] for w in workloads)} of {len(workloads)}"
    if not targeted:
        nothing = "nothing targeted"
        return {"robustness": nothing, "routes": nothing, "utility": utility}
    blocked, working = (sum(f["routes"][k] for f in targeted) for k in ("blocked", "working"))
    robustness = f"{len(held)} of {len(targeted)}"
    return {"robustness": robustness, "routes": f"{blocked} of {working}", "utility": utility}


def make_candidate(name: str, intent: str, text: str, instructions: int) -> dict[str, Any]:
    trials = [make_trial(name, variant) for variant in VARIANTS]
    families = [make_family(name, family, trials) for family in TITLES]
    workloads = make_workloads(name)
    targeted = [f for f in families if f["targeted"]]
    held = [f for f in targeted if f["verdict"] == "held"]
    counts: dict[str, int] = {}
    for trial in trials:
        counts[trial["outcome"]] = counts.get(trial["outcome"], 0) + 1
    confined = instructions > 0
    warning = {
        "block-mkdir": (
            "no-architectures",
            "no architectures are named: 32-bit calls are killed",
            "",
        ),
        "unconfined": ("no-filter", "the profile is empty: no filter will be loaded", ""),
    }.get(name)
    return {
        "name": name, "source": f"mitigations/library/{name}.json", "valid": True, "enforced": True,
        "starts": {"loads": True, "runtime": True, "static": True, "dynamic": True},
        "posture": "container", "runtime_model": "runc-1.1/libseccomp-2.5.4" if confined else "",
        "ground_truth": {"seccomp_mode": 2 if confined else 0, "seccomp_filters": int(confined),
                         "no_new_privs": False,
                         "read_back": "not permitted here: needs CAP_SYS_ADMIN outside the sandbox"},
        "warnings": [dict(zip(("code", "message", "where"), warning, strict=True))] if warning else [],
        "robustness": len(held) / len(targeted) if targeted else None,
        "routes": 4 / 6 if name == "block-mkdir" else 1.0 if targeted else None,
        "routes_blocked": sum(f["routes"]["blocked"] for f in targeted),
        "routes_working": sum(f["routes"]["working"] for f in targeted),
        "utility": sum(w["works"] for w in workloads) / len(workloads),
        "works": sum(w["works"] for w in workloads), "works_in_control": len(workloads),
        "counted": make_counted(targeted, held, workloads),
        "families": families, "trials": trials, "workloads": workloads,
        "digest": f"{abs(sum(map(ord, text)) * 2654435761):016x}"[:16], "instructions": instructions,
        "intent": intent, "attachment": "runtime", "meaning": "oci",
        "default_action": "SCMP_ACT_ALLOW",
        "layers": [{"kind": "seccomp", "instructions": instructions, "flags": []}] if confined else [],
        "errors": [], "profile_text": text, "notes": [], "counts": counts,
        "targeted": len(targeted), "held": len(held), "duration_s": 0.41,
    }  # fmt: skip


def make_document() -> dict[str, Any]:
    probes = [
        ("user namespaces", "yes", "trials run in a sandbox of their own", True),
        ("seccomp actions", "KILL_PROCESS KILL_THREAD TRAP ERRNO USER_NOTIF TRACE LOG ALLOW",
         "every action of a profile can be enforced", True),
        ("io_uring", "enabled", "ways through a ring can be tested", True),
        ("i386 calls", "yes", "ways through the 32-bit entry can be tested", True),
        ("x32 calls", "no", "ways through the x32 ABI cannot be tested here", False),
        ("filter read-back", "no", "the kernel does not let us read the loaded filter back; "
         "what is in force is taken from /proc alone", False),
    ]  # fmt: skip
    return {
        "schema": "sidestep.results/1",
        "environment": {
            "kernel": KERNEL, "arch": "x86_64", "libseccomp": "2.5.4", "isolation": "namespaces",
            "lsm": ["capability", "landlock", "yama"], "ambient": {"seccomp_mode": 0, "no_new_privs": False},
            "user": "root", "id_map": 65536,
            "audit_log": {"kept": True, "actions_logged": [
                "kill_process", "kill_thread", "trap", "errno", "user_notif", "trace", "log"],
                "said": ""},
            "probes": [dict(zip(("name", "value", "meaning", "ok"), p, strict=True)) for p in probes],
        },
        "suite": "2026.11", "objective": None,
        "tool": {"name": "sidestep", "version": "0.1.0"}, "started": "2026-11-21T10:15:00+00:00",
        "duration_s": 1.43, "exit_code": 0, "gates": [],
        "arguments": ["evaluate", "mitigations/library", "-o", "out"],
        "candidates": [
            make_candidate("block-mkdir", "Nobody makes a directory.", BLOCK_MKDIR, 8),
            make_candidate("no-new-directories",
                           "Nobody makes a directory, by whatever way.", NO_NEW_DIRECTORIES, 31),
            make_candidate("unconfined", "The control: no filter at all.", "{}\n", 0),
        ],
    }  # fmt: skip


if __name__ == "__main__":
    target = Path(__file__).with_name("sample.json")
    target.write_text(json.dumps(make_document(), indent=1) + "\n", encoding="utf-8")
