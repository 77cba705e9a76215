"""Layers other than seccomp, on the real kernel: what holds, what leaks, and whose doing it was."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from attacks.families import accept_connection
from attacks.family import Assumption
from attacks.loopback import PORT
from evaluator import campaign, confinement, enforcement
from evaluator.assemble import gates, run_exit_code
from evaluator.plan import Plan
from evaluator.pool import Pool
from evaluator.posture import CONTAINER, mask, posture
from evaluator.records import CandidateResult, TrialRecord, WorkloadOutcome
from evaluator.request import families
from evaluator.verdict import ExitCode, Outcome, Verdict
from evaluator.workloads import DEFAULTS, chosen
from mitigations.candidate import (
    AppArmorLayer,
    Attachment,
    Candidate,
    CapabilitiesLayer,
    LandlockLayer,
    Layer,
    NoNewPrivsLayer,
    OwnPosture,
    ReadOnlyRootLayer,
)
from mitigations.export import export
from mitigations.landlock_rights import FS, NEWEST_ABI, SCOPE, everything, reading
from mitigations.load import load

EXAMPLES = Path(__file__).parents[2] / "mitigations" / "examples"
WRITING = everything(FS, 7) & ~reading(7)
_HONEST: dict[str, Any] = {"workloads": chosen(DEFAULTS)}
SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc", "/proc", "/dev")


def evaluate(candidate: Candidate, *wanted: str, **changes: Any) -> CandidateResult:
    usual: dict[str, Any] = {"families": families(wanted), "workloads": ()}
    plan = Plan(candidates=(candidate,), **{**usual, **changes})
    (found,) = campaign.evaluate(plan, lambda _: None)
    assert not found.counts.get(Outcome.HARNESS_ERROR)
    assert not found.counts.get(Outcome.DISAGREEMENT)
    return found


def of_layers(*layers: Layer, **changes: Any) -> Candidate:
    name = "layers"
    return Candidate(name, name, layers, Attachment.RUNTIME, "layered", **changes)


def landlock(handled: int = 0, **changes: Any) -> Candidate:
    return of_layers(NoNewPrivsLayer(), LandlockLayer(handled, **changes))


def verdicts(found: CandidateResult) -> dict[str, Verdict]:
    return {one.family: one.verdict for one in found.families}


def trial(found: CandidateResult, variant: str) -> TrialRecord:
    return next(one for one in found.trials if one.variant == variant)


DATA = (
    "create-file@/data",
    "create-directory@/data",
    "overwrite-file@/data",
    "change-mode@/data",
    "set-extended-attribute@/data",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "held", "stopped"),
    [
        ("data-by-call.json", (1, 3, 4), {"seccomp"}),
        ("data-by-path.toml", (0, 1, 2), {"landlock"}),
        ("data.toml", (0, 1, 2, 3, 4), {"seccomp", "landlock"}),
    ],
)
def test_two_layers_hold_what_neither_holds_alone(
    name: str, held: tuple[int, ...], stopped: set[str]
) -> None:
    (candidate,) = load(EXAMPLES / name)
    assert isinstance(candidate, Candidate)
    found = evaluate(candidate, *DATA, workloads=chosen(DEFAULTS))
    holding = {one for one, what in verdicts(found).items() if what is Verdict.HELD}
    assert holding == {DATA[n] for n in held}
    assert {layer for one in found.families for layer in one.stopped_by} == stopped
    assert all(one.works for one in found.workloads)


def test_an_open_descriptor_is_beyond_a_ruleset() -> None:
    """What was opened before stays open: only who does not count that may say `held`."""
    from attacks.family import Assumption

    (candidate,) = load(EXAMPLES / "data-by-path.toml")
    assert isinstance(candidate, Candidate)
    assumed = frozenset({Assumption.INHERITED_DESCRIPTOR})
    found = evaluate(candidate, "overwrite-file@/data", assume=assumed)
    assert found.families[0].verdict is Verdict.LEAKY
    assert trial(found, "overwrite-file@/data/inherited-fd").outcome is Outcome.BYPASSED


def test_a_ruleset_holds_whatever_the_call() -> None:
    found = evaluate(landlock(FS["make_dir"].bit), "create-directory", "create-file")
    assert verdicts(found) == {"create-directory": Verdict.HELD, "create-file": Verdict.OPEN}
    assert found.families[0].stopped_by.keys() == {"landlock"}
    mkdir = trial(found, "create-directory/mkdir").stopped_at
    assert mkdir is not None
    assert (mkdir.call, mkdir.answer, mkdir.decisive, mkdir.layer) == (
        "mkdir", "EACCES", True, "landlock",
    )  # fmt: skip
    ring = trial(found, "create-directory/io-uring-mkdirat").stopped_at
    assert ring is not None
    assert (ring.call, ring.answer, ring.layer) == ("IORING_OP_MKDIRAT", "EACCES", "landlock")
    assert all(one.predicted is None for one in found.trials if one.outcome is Outcome.BLOCKED)


@pytest.mark.parametrize(
    ("path", "verdict"),
    [("/data", Verdict.OPEN), ("/", Verdict.OPEN), ("/data/x", Verdict.HELD), ("/d", Verdict.HELD)],
)
def test_a_rule_is_for_a_path_and_all_below_it(path: str, verdict: Verdict) -> None:
    """Each trial has a /data of its own, and the rule is for that."""
    rules = ((path, everything(FS, 7)),)
    candidate = landlock(FS["make_dir"].bit, path_rules=rules)
    found = evaluate(candidate, "create-directory@/data")
    assert found.families[0].verdict is verdict


def test_a_rule_for_a_file_has_the_rights_of_a_file() -> None:
    rules = (("/dev/null", everything(FS, 7)), ("/not/there", 1), ("/etc/passwd/x", 1))
    found = evaluate(landlock(WRITING, path_rules=rules), "create-directory")
    assert found.enforced
    assert found.ground_truth.landlock_rulesets == 1


def test_what_a_ruleset_breaks_is_broken_though_no_filter_denies_it() -> None:
    found = evaluate(landlock(WRITING), "create-directory", posture="restricted", **_HONEST)
    said = {one.workload: one for one in found.workloads}
    assert said["shell-basics"].outcome is WorkloadOutcome.BROKEN
    assert "Permission denied" in (said["shell-basics"].reason or "")
    assert found.utility is not None
    assert found.utility < 1


def test_scopes_hold_signals_that_nobody_is_told_of() -> None:
    found = evaluate(landlock(scoped=SCOPE["signal"].bit), "kill-process")
    assert found.families[0].verdict is Verdict.LEAKY
    assert not found.families[0].undecided
    told = trial(found, "kill-process/kill").stopped_at
    silent = trial(found, "kill-process/fcntl-owner").stopped_at
    assert told is not None
    assert (told.answer, told.layer) == ("EPERM", "landlock")
    assert silent is not None
    assert (silent.answer, silent.layer) == ("no effect", "landlock")


def net(tmp_path: Path, *ports: int) -> str:
    rules = {"netPort": [{"allowedAccess": ["abi.all"], "port": list(ports)}]} if ports else {}
    ruleset = {"abi": 4, "ruleset": [{"handledAccessNet": ["abi.all"]}], **rules}
    (tmp_path / "net.json").write_text(json.dumps(ruleset))
    return str(tmp_path / "net.json")


def test_tcp_leaks_past_a_ruleset_alone(tmp_path: Path) -> None:
    """It knows connect and bind of TCP: not MPTCP, not a packet socket, not who binds nothing."""
    (candidate,) = load(Path(net(tmp_path)))
    assert isinstance(candidate, Candidate)
    found = evaluate(candidate, "connect-tcp", "accept-connection")
    assert set(verdicts(found).values()) == {Verdict.LEAKY}
    for variant, call in (("connect-tcp/connect", "connect"), ("accept-connection/accept", "bind")):
        stopped = trial(found, variant).stopped_at
        assert stopped is not None
        assert (stopped.call, stopped.answer, stopped.layer) == (call, "EACCES", "landlock")


def test_a_port_that_a_rule_allows_is_open(tmp_path: Path) -> None:
    (candidate,) = load(Path(net(tmp_path, PORT, accept_connection.PORT)))
    assert isinstance(candidate, Candidate)
    found = evaluate(candidate, "connect-tcp", "accept-connection")
    assert found.enforced
    assert verdicts(found)["connect-tcp"] is Verdict.OPEN
    assert trial(found, "accept-connection/accept").outcome is Outcome.BYPASSED


def test_tcp_is_held_by_a_ruleset_and_a_filter(tmp_path: Path) -> None:
    """The filter denies what the ruleset does not know; plain TCP it lets pass."""
    net(tmp_path)
    others = [(0, 17, 0), (1, 15, 2), (1, 15, 3), (2, 0xFFFF, 262)]
    sockets = [
        {
            "names": ["socket"],
            "action": "SCMP_ACT_ERRNO",
            "args": [
                {"index": index, "op": "SCMP_CMP_MASKED_EQ", "value": bits, "valueTwo": value}
                if value
                else {"index": index, "op": "SCMP_CMP_EQ", "value": bits}
            ],
        }
        for index, bits, value in others
    ]
    ways = ["socketcall", "io_uring_setup", "sendto", "sendmsg", "sendmmsg", "listen"]
    document = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ways, "action": "SCMP_ACT_ERRNO"}, *sockets],
    }
    (tmp_path / "filter.json").write_text(json.dumps(document))
    (tmp_path / "both.toml").write_text(
        '[[layer]]\nkind = "landlock"\nfile = "net.json"\n'
        '[[layer]]\nkind = "seccomp"\nfile = "filter.json"\n'
    )
    (candidate,) = load(tmp_path / "both.toml")
    assert isinstance(candidate, Candidate)
    found = evaluate(candidate, "connect-tcp", "accept-connection")
    assert set(verdicts(found).values()) <= {Verdict.HELD, Verdict.HELD_HERE}
    for family in found.families:
        assert family.stopped_by.keys() == {"landlock", "seccomp"}, family.family


def test_capabilities_hold_what_needs_them() -> None:
    without = of_layers(CapabilitiesLayer(CONTAINER - {"CAP_CHOWN", "CAP_SYS_CHROOT"}))
    found = evaluate(without, "change-owner", "leave-chroot", "create-file")
    assert verdicts(found) == {
        "change-owner": Verdict.HELD,
        "leave-chroot": Verdict.HELD,
        "create-file": Verdict.OPEN,
    }
    assert {layer for one in found.families for layer in one.stopped_by} == {"capabilities"}
    left = f"{mask(CONTAINER - {'CAP_CHOWN', 'CAP_SYS_CHROOT'}):016x}"
    assert found.ground_truth.capabilities == dict.fromkeys(("CapEff", "CapPrm", "CapBnd"), left)


def test_a_neighbour_has_the_capabilities_that_are_left() -> None:
    """One with more could not be traced, and the layer would be praised for it."""
    found = evaluate(of_layers(CapabilitiesLayer(frozenset())), "trace-process", "steal-descriptor")
    assert set(verdicts(found).values()) == {Verdict.OPEN}


def test_capabilities_that_a_candidate_adds_are_in_both_arms() -> None:
    own = OwnPosture("with SYS_ADMIN", 0, 0, CONTAINER | {"CAP_SYS_ADMIN"})
    found = evaluate(of_layers(posture=own), "set-host-name")
    assert found.posture == "with SYS_ADMIN"
    assert found.families[0].working
    dropped = of_layers(CapabilitiesLayer(CONTAINER), posture=own)
    assert evaluate(dropped, "set-host-name").families[0].stopped_by.keys() == {"capabilities"}


def test_an_id_that_is_not_mapped_is_said() -> None:
    own = OwnPosture("somebody", 1_000_650_000, 0, frozenset())
    found = evaluate(of_layers(CapabilitiesLayer(frozenset()), posture=own), "create-file")
    assert found.enforced
    assert any("1000650000 is not mapped" in note for note in found.notes)


def test_a_profile_that_this_kernel_does_not_run_blocks_nothing() -> None:
    found = evaluate(of_layers(AppArmorLayer("docker-default")), "create-directory")
    if Path("/sys/module/apparmor/parameters/enabled").exists():
        pytest.skip("this kernel may run AppArmor")
    assert not found.enforced
    assert found.families[0].verdict is Verdict.NOT_ENFORCED
    assert found.counts.keys() <= {Outcome.NOT_ENFORCED, Outcome.UNSUPPORTED}
    assert run_exit_code([found], gates([found], families=(), workloads=(), fail_on=())) is (
        ExitCode.LACKING
    )


def test_what_is_in_force_blocks_beside_what_is_not() -> None:
    """A missing layer could only deny more: a block stands, and what gets through says nothing."""
    both = of_layers(AppArmorLayer("x"), NoNewPrivsLayer(), LandlockLayer(FS["make_dir"].bit))
    found = evaluate(both, "create-directory", "create-file")
    assert verdicts(found) == {
        "create-directory": Verdict.HELD,
        "create-file": Verdict.NOT_ENFORCED,
    }
    assert not found.enforced
    assert Outcome.BYPASSED not in found.counts


def test_a_right_that_the_kernel_lacks_is_reported_where_it_matters() -> None:
    with Pool(1) as pool:
        control = enforcement.control_of(pool, posture("container"))
        abi = confinement.landlock_abi(pool, control)
    if abi >= NEWEST_ABI:
        pytest.skip("this kernel has every right that is known here")
    found = evaluate(
        landlock(FS["make_dir"].bit | FS["resolve_unix"].bit),
        "create-directory", "connect-unix", "change-owner",
    )  # fmt: skip
    assert not found.enforced
    assert "RESOLVE_UNIX needs ABI 9" in " ".join(found.notes)
    assert verdicts(found) == {
        "create-directory": Verdict.HELD,
        "connect-unix": Verdict.NOT_ENFORCED,
        "change-owner": Verdict.OPEN,
    }


def test_rulesets_are_counted_by_how_many_more_there_can_be() -> None:
    one = LandlockLayer(FS["make_dir"].bit)
    with Pool(1) as pool:
        control = enforcement.control_of(pool, posture("container"))
        for count in (0, 1, 3, 16):
            config = replace(control, no_new_privs=True, rulesets=(one,) * count)
            assert confinement.rulesets_in_force(pool, control, config) == count
        seventeen = of_layers(NoNewPrivsLayer(), *(one,) * 17)
        refused = enforcement.apply(pool, seventeen, posture("container"))
    assert not refused.loads
    assert "Argument list too long" in refused.enforcement.reason


def test_a_filter_that_denies_landlock_hides_nothing(tmp_path: Path) -> None:
    calls = ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"]
    rule = {"names": calls, "action": "SCMP_ACT_ERRNO"}
    document = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    (tmp_path / "f.json").write_text(json.dumps(document))
    (tmp_path / "both.toml").write_text(
        '[[layer]]\nkind = "seccomp"\nfile = "f.json"\n'
        '[[layer]]\nkind = "landlock"\nruleset = [{ handled_access_fs = ["make_dir"] }]\n'
    )
    (candidate,) = load(tmp_path / "both.toml")
    assert isinstance(candidate, Candidate)
    found = evaluate(candidate, "create-directory")
    assert found.enforced
    assert found.ground_truth.landlock_rulesets == 1
    assert "landlock" in found.families[0].stopped_by


@pytest.mark.slow
def test_rows_are_equal_without_the_fast_path() -> None:
    (candidate,) = load(EXAMPLES / "data.toml")
    assert isinstance(candidate, Candidate)
    wanted = (*DATA[:2], "kill-process", "trace-process", "execute-program")
    rows = []
    for fast in (True, False):
        found = evaluate(candidate, *wanted, fast_path=fast, with_steps=False)
        rows.append([replace(one, latency_us=0) for one in found.trials])
    assert rows[0] == rows[1]


def test_nothing_is_left_of_looking_at_a_subject_with_rules() -> None:
    """Its gate is its own: one that stayed would be taken for a process that a variant made."""
    found = evaluate(landlock(FS["make_dir"].bit), "create-process")
    negative = trial(found, "create-process/thread-negative")
    assert negative.outcome is Outcome.UNSUPPORTED
    assert found.families[0].verdict is Verdict.OPEN


def test_what_a_ruleset_refuses_on_the_way_is_no_evidence() -> None:
    """A ring worked, and only a move between directories is refused: what is left is done."""
    names = ("use-io-uring", "rename-file", "create-hard-link", "create-directory")
    found = evaluate(landlock(FS["make_dir"].bit), *names)
    said = verdicts(found)
    assert [said[one] for one in names[:3]] == [Verdict.OPEN] * 3
    assert said["create-directory"] is Verdict.HELD
    ring = [one for one in found.trials if one.outcome is Outcome.INEFFECTIVE]
    assert "IORING_OP_MKDIRAT answered EACCES, and the ring worked" in {one.reason for one in ring}
    through = {one.variant for one in found.trials if one.outcome is Outcome.BYPASSED}
    assert {
        "use-io-uring/set-attribute",
        "rename-file/rename-within-directory",
        "create-hard-link/link-within-directory",
    } <= through
    for name in ("rename-file/link-only", "create-hard-link/rename"):
        negative = trial(found, f"{name}-within-directory")
        assert negative.outcome is Outcome.UNSUPPORTED


@pytest.mark.parametrize(
    ("right", "rename", "link"),
    [
        ("make_reg", Verdict.HELD, Verdict.HELD),
        ("refer", Verdict.OPEN, Verdict.OPEN),
        ("read_file", Verdict.OPEN, Verdict.OPEN),
    ],
)
def test_names_within_a_directory_are_decided(right: str, rename: Verdict, link: Verdict) -> None:
    found = evaluate(landlock(FS[right].bit), "rename-file", "create-hard-link")
    assert verdicts(found) == {"rename-file": rename, "create-hard-link": link}
    whole = evaluate(landlock(WRITING), "rename-file")
    assert set(verdicts(whole).values()) == {Verdict.HELD}


def test_the_program_that_is_exported_puts_a_ruleset_on(tmp_path: Path) -> None:
    """Allowed below one directory, denied beside it; a path that is not there is no rule."""
    allowed, denied = tmp_path / "open ü", tmp_path / "closed"
    for one in (allowed, denied):
        one.mkdir()
    (denied / "file").write_text("")
    rights = FS["make_dir"].bit | FS["write_file"].bit
    rules = ((str(allowed), rights), (str(denied / "file"), rights), ("/not/there", rights))
    made = landlock(rights, path_rules=rules)
    source, program = tmp_path / "under.c", tmp_path / "under"
    source.write_bytes(export(made, "c").content)
    cc = ["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-o", program, source]
    subprocess.run(cc, check=True)
    for command, works in (
        (["mkdir", allowed / "d"], True),
        (["mkdir", denied / "d"], False),
        (["sh", "-c", f"echo x > '{denied}/file'"], True),
        (["sh", "-c", f"echo x > '{program}'"], False),
    ):
        done = subprocess.run([program, *command], capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is works, done.stderr
        assert works or "ermission denied" in done.stderr


# ------------------------------------------------------------------------------- read-only root


def stopping(found: CandidateResult) -> set[str]:
    return {one.stopped_at.layer for one in found.trials if one.stopped_at is not None}


@pytest.mark.parametrize("stance", ["container", "restricted"])
def test_a_read_only_root_holds_what_is_no_volume(stance: str) -> None:
    """The kernel says so by statfs, and honest programs run with directories of their own."""
    made = of_layers(ReadOnlyRootLayer(("/work", "/data/in")))
    names = ("create-file@/data", "create-file@/data/in", "create-file")
    found = evaluate(made, *names, posture=stance, workloads=chosen(DEFAULTS))
    assert found.enforced
    said = verdicts(found)
    assert said["create-file@/data"] in (Verdict.HELD, Verdict.HELD_HERE)
    assert [said[one] for one in names[1:]] == [Verdict.OPEN] * 2
    assert stopping(found) == {"read-only-root"}
    assert all(one.works for one in found.workloads)


def test_a_read_only_root_covers_everything_that_is_not_named() -> None:
    found = evaluate(of_layers(ReadOnlyRootLayer()), "create-directory", workloads=chosen(DEFAULTS))
    assert verdicts(found) == {"create-directory": Verdict.HELD}
    assert all(one.works for one in found.workloads)


def test_a_read_only_root_under_filters_and_a_ruleset(tmp_path: Path) -> None:
    """Each layer stops what it is about; a stack of all of them can be put on."""
    (denies,) = load(Path(__file__).parents[2] / "mitigations" / "library" / "block-mkdir.json")
    assert isinstance(denies, Candidate)
    made = of_layers(
        NoNewPrivsLayer(),
        LandlockLayer(FS["make_sym"].bit),
        ReadOnlyRootLayer(("/work",)),
        *denies.seccomp,
    )
    found = evaluate(made, "create-directory", "create-symlink", "create-file@/data")
    said = verdicts(found)
    assert said["create-directory"] is Verdict.LEAKY
    assert {said["create-symlink"], said["create-file@/data"]} <= {Verdict.HELD, Verdict.HELD_HERE}
    assert {"seccomp", "landlock", "read-only-root"} <= stopping(found) | {"seccomp"}


def test_what_was_open_for_writing_keeps_a_root_from_being_read_only() -> None:
    found = evaluate(of_layers(ReadOnlyRootLayer()), "append-file")
    one = trial(found, "append-file/inherited-fd")
    assert one.outcome is Outcome.NOT_ENFORCED
    assert "EBUSY" in str(one.reason)


def test_a_neighbour_has_the_same_read_only_root() -> None:
    """As all of a container has: by a deputy nothing is written, either."""
    found = evaluate(
        of_layers(ReadOnlyRootLayer(("/work",))),
        "create-file@/data",
        assume=frozenset({Assumption.UNFILTERED_NEIGHBOUR}),
    )
    bypassed = [one.variant for one in found.trials if one.outcome is Outcome.BYPASSED]
    assert not bypassed
