"""What a pod gets, from a containerd and a runc that are started for this: `make kubernetes-demo`.

sudo .venv/bin/python -m docs.kubernetes_demo          prints a table; exit code 0: all as expected
sudo .venv/bin/python -m docs.kubernetes_demo --json   what was observed, by experiment

The pods are those of kubernetes_demo.yaml. A kubelet's part is done by mitigations.kubernetes:
which SecurityProfile is sent over the CRI. containerd and all it starts live in namespaces of their
own, with state directories that vanish with them; the machine's own containerd is not touched.
"""

import signal

if __name__ == "__main__":  # Ctrl-C ends the program at once, until there is something to undo
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import importlib.util
import json
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from benchmarks.capture import private_space
from benchmarks.capture.bundle import make_root
from benchmarks.capture.private_space import CaptureError, cgroup
from benchmarks.capture.readback import read_filters
from evaluator import containerd, cri
from evaluator.image import write_image
from mitigations import manifest, yaml_text
from mitigations.candidate import Candidate, SeccompLayer, SecurityProfile
from mitigations.capabilities import CAPABILITIES
from mitigations.kubernetes import NodeSetup, security_profile
from mitigations.load import load
from mitigations.security_context import SecurityContext, contexts

MODULE = "docs.kubernetes_demo"
MANIFEST = Path(__file__).with_suffix(".yaml")
LIBRARY = Path(__file__).parents[1] / "mitigations" / "library"
IMAGE = "demo.invalid/busybox:1"
APPLETS = ("sh", "ls", "mkdir", "touch", "echo", "cat", "sleep")
NODE_PROFILES = "/var/lib/kubelet/seccomp"
PACKAGES = {"containerd": "containerd", "ctr": "containerd", "runc": "runc", "busybox": "busybox"}
CANNOT = 3
WIDTHS = (31, 33, 12)


class Pod(Struct, frozen=True):
    """A running pod of one container."""

    sandbox_id: str
    container_id: str
    pid: int
    log: Path
    run: Callable[..., tuple[int, str, str]]

    def tried(self, *command: str) -> str:
        """Exit status and errors of a program that is run as `kubectl exec` does."""
        code, _, errors = self.run(*command)
        message = errors.strip().rpartition(": ")[2]
        return f"{command[0]}: exit {code}" + (f' "{message}"' if message else "")

    def made(self, name: str) -> str:
        """What is in the container's /tmp, seen from outside."""
        path = Path(f"/proc/{self.pid}/root/tmp", name)
        if not path.exists():
            return f"{name} is not there"
        return f"{name} is a {'directory' if path.is_dir() else 'file'}"

    def said(self) -> str:
        """What the entry point has written, once it has said its last line."""
        wait_until(lambda: "alive" in self.log.read_text(), "the entry point says nothing")
        words = (line.split(maxsplit=3) for line in self.log.read_text().splitlines())
        return ", ".join(text for _, stream, _, text in words if stream == "stdout")

    def status_outside(self, field: str) -> str:
        return field_of(Path(f"/proc/{self.pid}/status").read_text(), field)

    def status_inside(self, field: str) -> str:
        return field_of(self.run("cat", "/proc/1/status")[1], field)


class Pods:
    """The pods of the manifest, each started when it is first asked for."""

    def __init__(self, client: cri.Client, directory: Path) -> None:
        self._client = client
        self._directory = directory
        self._running: dict[tuple[str, bool], Pod] = {}
        self._sandboxes: list[str] = []
        self.containers = {one.name: one for one in in_manifest()}
        node = directory / "seccomp"
        (node / "profiles").mkdir(parents=True)
        for profile in LIBRARY.glob("block-mkdir*.json"):
            shutil.copy(profile, node / "profiles")
        self.node = node

    def get(self, name: str, *, seccomp_default: bool = False) -> Pod:
        key = (name, seccomp_default)
        if key not in self._running:
            self._running[key] = self._start(*key)
        return self._running[key]

    def asked(self, name: str, *, seccomp_default: bool = False) -> SecurityProfile:
        """What a kubelet sends."""
        setup = NodeSetup(self.node, seccomp_default)
        return security_profile(self.containers[name].context.seccomp, setup)

    def refused(self, name: str) -> tuple[str, int]:
        """What CreateContainer says, and how many containers the pod has then."""

        sandbox_id, sandbox = self._sandbox(name)
        try:
            self._client.create(sandbox_id, self._config(name, seccomp_default=False), sandbox)
        except cri.CallError as error:
            return str(error), self._client.count(sandbox_id)
        return "created", self._client.count(sandbox_id)

    def lives(self, pod: Pod) -> str:

        state, code = self._client.status(pod.container_id)
        return f"ended with {code}" if state == cri.EXITED else "the container lives on"

    def close(self) -> None:
        for sandbox_id in self._sandboxes:
            self._client.remove_sandbox(sandbox_id)

    def _sandbox(self, name: str) -> tuple[str, bytes]:

        # Two pods may have one manifest, and no name can be there twice.
        unique = f"{name}-{len(self._sandboxes)}"
        sandbox = cri.sandbox_config(cgroup(), self._directory / "logs" / unique, unique)
        sandbox_id = self._client.run_sandbox(sandbox)
        self._sandboxes.append(sandbox_id)
        return sandbox_id, sandbox

    def _config(self, name: str, *, seccomp_default: bool) -> bytes:

        asked = self.asked(name, seccomp_default=seccomp_default)
        profile = cri.security_profile(cri.TYPES[asked.type], asked.localhost_ref)
        one = self.containers[name]
        return cri.container_config(one.image, one.command, profile, name=one.context.name)

    def _start(self, name: str, seccomp_default: bool) -> Pod:
        sandbox_id, sandbox = self._sandbox(name)
        config = self._config(name, seccomp_default=seccomp_default)
        container_id = self._client.create(sandbox_id, config, sandbox)
        self._client.start(container_id)
        logs = self._directory / "logs" / f"{name}-{len(self._sandboxes) - 1}"
        pid = self._client.describe(container_id)["pid"]
        pod = Pod(
            sandbox_id,
            container_id,
            pid,
            logs / "shell.log",
            lambda *command: self._client.run(container_id, *command),
        )
        pod.said()  # by now the program runs, and no longer the runtime
        return pod


class Container(Struct, frozen=True):
    """The one of a pod of the manifest."""

    name: str
    """The pod's."""
    context: SecurityContext
    image: str
    command: list[str]


def in_manifest() -> Iterator[Container]:
    source = MANIFEST.name
    for document in yaml_text.read(MANIFEST.read_bytes(), source):
        for pod in manifest.pods_of(manifest.root(document, source)):
            (context,) = contexts(pod, frozenset(CAPABILITIES))
            assert isinstance(context, SecurityContext)
            image, command = context.node.get("image"), context.node.items("command")
            assert image is not None
            name = pod.name.rpartition("/")[2]
            yield Container(name, context, image.text(), [word.text() for word in command])


def field_of(status: str, field: str) -> str:
    return next(line.split()[1] for line in status.splitlines() if line.startswith(field + ":"))


def wait_until(condition: Callable[[], bool], otherwise: str, seconds: float = 10) -> None:

    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise CaptureError(otherwise)
        time.sleep(0.01)


# --- the experiments -----------------------------------------------------------------------------


class Experiment(Struct, frozen=True):
    says: str
    verdict: str
    but: str
    expected: str
    observe: Callable[[Pods], str]

    @property
    def name(self) -> str:
        return self.observe.__name__.replace("_", "-")


EXPERIMENTS: list[Experiment] = []


def experiment(
    says: str, *, expected: str, verdict: str = "confirmed", but: str = ""
) -> Callable[[Callable[[Pods], str]], Callable[[Pods], str]]:
    def record(observe: Callable[[Pods], str]) -> Callable[[Pods], str]:
        EXPERIMENTS.append(Experiment(says, verdict, but, expected, observe))
        return observe

    return record


EVERYTHING_WORKS = (
    "ls: exit 0; mkdir: exit 0, d is a directory; touch: exit 0, f is a file; echo: exit 0"
)


def commands(pod: Pod) -> str:
    return "; ".join(
        [
            pod.tried("ls", "/"),
            f"{pod.tried('mkdir', '/tmp/d')}, {pod.made('d')}",
            f"{pod.tried('touch', '/tmp/f')}, {pod.made('f')}",
            pod.tried("echo", "alive"),
        ]
    )


@experiment(
    "RuntimeDefault is transparent to ls, mkdir and echo.",
    expected=EVERYTHING_WORKS,
)
def pod_runtime_default(pods: Pods) -> str:
    return commands(pods.get("runtime-default"))


@experiment(
    "With the Localhost profile block-mkdir, mkdir fails with EPERM, ls works, and touch makes a "
    "file anyway.",
    expected='ls: exit 0; mkdir: exit 1 "Operation not permitted", d is not there; '
    "touch: exit 0, f is a file; echo: exit 0",
)
def pod_block_mkdir(pods: Pods) -> str:
    return commands(pods.get("block-mkdir"))


@experiment(
    "The control, Unconfined: everything works, so the one variable is the profile.",
    expected=EVERYTHING_WORKS,
)
def pod_unconfined(pods: Pods) -> str:
    return commands(pods.get("unconfined"))


@experiment(
    "The process whose mkdir was refused lives on.",
    expected="its log: mkdir: exit 1, alive; the container lives on",
)
def pod_lives_on(pods: Pods) -> str:
    pod = pods.get("block-mkdir")
    return f"its log: {pod.said()}; {pods.lives(pod)}"


@experiment(
    "A pod chooses RuntimeDefault, Localhost or Unconfined; /proc/1/status says Seccomp 2 and one "
    "filter under the first two, 0 and 0 under the last.",
    expected="runtime-default: 2/1, from outside 2/1; block-mkdir: 2/1, from outside 2/1; "
    "unconfined: 0/0, from outside 0/0",
)
def pod_status_fields(pods: Pods) -> str:
    def pair(status: Callable[[str], str]) -> str:
        return f"{status('Seccomp')}/{status('Seccomp_filters')}"

    names = ("runtime-default", "block-mkdir", "unconfined")
    found = {name: pods.get(name) for name in names}
    return "; ".join(
        f"{name}: {pair(pod.status_inside)}, from outside {pair(pod.status_outside)}"
        for name, pod in found.items()
    )


@experiment(
    "SCMP_ACT_ERRNO refuses the call, SCMP_ACT_KILL_PROCESS ends the program that makes it.",
    but="159 is 128 + SIGSYS. Only that program dies; the shell that started it goes on.",
    expected='ERRNO: mkdir: exit 1 "Operation not permitted"; KILL: mkdir: exit 159; '
    "log of the second: mkdir: exit 159, alive; the container lives on",
)
def pod_kill_or_errno(pods: Pods) -> str:
    errno, kill = pods.get("block-mkdir"), pods.get("block-mkdir-kill")
    return (
        f"ERRNO: {errno.tried('mkdir', '/tmp/e')}; KILL: {kill.tried('mkdir', '/tmp/e')}; "
        f"log of the second: {kill.said()}; {pods.lives(kill)}"
    )


@experiment(
    "Where the file of a Localhost profile is missing, the container is not created.",
    but="Nothing weaker takes its place.",
    expected="CreateContainer: no such file or directory; containers of the pod: 0",
)
def pod_missing_file(pods: Pods) -> str:
    said, containers = pods.refused("missing-file")
    return f"CreateContainer: {said.rpartition(': ')[2]}; containers of the pod: {containers}"


@experiment(
    "A pod that says nothing of seccomp runs unconfined.",
    verdict="half right",
    but="Unless the kubelet's seccompDefault is set.",
    expected="sent: Unconfined, Seccomp 0; with seccompDefault: RuntimeDefault, Seccomp 2",
)
def pod_says_nothing(pods: Pods) -> str:
    def under(seccomp_default: bool) -> str:
        asked = pods.asked("says-nothing", seccomp_default=seccomp_default)
        pod = pods.get("says-nothing", seccomp_default=seccomp_default)
        return f"{asked.type}, Seccomp {pod.status_outside('Seccomp')}"

    return f"sent: {under(False)}; with seccompDefault: {under(True)}"


@experiment(
    "Containers run without CAP_SYS_ADMIN by default.",
    expected="CapEff 00000000a80425fb, without CAP_SYS_ADMIN",
)
def pod_capabilities(pods: Pods) -> str:
    held = pods.get("unconfined").status_outside("CapEff")
    has = int(held, 16) >> CAPABILITIES.index("CAP_SYS_ADMIN") & 1
    return f"CapEff {held}, {'with' if has else 'without'} CAP_SYS_ADMIN"


@experiment(
    "The filter in force is what the profile compiles to.",
    expected="block-mkdir: one filter, byte for byte a predicted one; "
    "block-mkdir-kill: one filter, byte for byte a predicted one",
)
def pod_filter_bytes(pods: Pods) -> str:
    def compared(name: str) -> str:
        found = read_filters(pods.get(name).pid)
        if len(found) != 1:
            return f"{len(found)} filters"
        (candidate,) = load(LIBRARY / f"{name}.json", meaning="oci", runtime=model())
        assert isinstance(candidate, Candidate)
        (filtered,) = [one for one in candidate.layers if isinstance(one, SeccompLayer)]
        same = "a predicted one" if found[0] in filtered.valid else "none that was predicted"
        return f"one filter, byte for byte {same}"

    return "; ".join(f"{name}: {compared(name)}" for name in ("block-mkdir", "block-mkdir-kill"))


def runc_version() -> str:
    done = subprocess.run(["runc", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[2]


def model() -> str:
    return "runc-1.1" if runc_version().startswith(("1.0.", "1.1.")) else "runc-1.2"


# --- running them --------------------------------------------------------------------------------


def lacking() -> str:
    """What is not there, in one line; empty if all is."""
    missing = {
        program: package for program, package in PACKAGES.items() if not shutil.which(program)
    }
    if missing:
        install = " ".join(dict.fromkeys(missing.values()))
        return f"not installed: {', '.join(missing)}: apt-get install {install}"
    if importlib.util.find_spec("grpc") is None:
        return "not installed: grpcio: pip install grpcio"
    return ""


@contextmanager
def started(directory: Path) -> Iterator[tuple[str, Pods]]:

    root = make_root(directory / "root")
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    archive = write_image(directory / "image.tar", root, IMAGE, ["/bin/sleep", "600"])
    with containerd.running(directory, archive, IMAGE) as client:
        pods = Pods(client, directory)
        try:
            yield client.version(), pods
        finally:
            pods.close()


def work(directory: Path) -> int:
    with started(directory) as (version, pods):
        found = {one.name: one.observe(pods) for one in EXPERIMENTS}
    if sys.argv[1:] == ["--json"]:
        print(json.dumps(found))
        return 0
    print(f"\n{version}, runc {runc_version()}, {len(pods.containers)} pods over CRI\n")
    print_table(found)
    wrong = [one.name for one in EXPERIMENTS if found[one.name] != one.expected]
    print(f"\n{len(EXPERIMENTS) - len(wrong)} of {len(EXPERIMENTS)} as claimed")
    return 1 if wrong else 0


def print_table(found: dict[str, str]) -> None:
    print_row("claim", "observed", "verdict")
    for one in EXPERIMENTS:
        print()
        observed = found[one.name]
        says = f"{one.says} {one.but}".rstrip()
        print_row(says, observed, one.verdict if observed == one.expected else "NOT OBSERVED")


def print_row(*cells: str) -> None:
    columns = [textwrap.wrap(text, width) for text, width in zip(cells, WIDTHS, strict=True)]
    for at in range(max(map(len, columns))):
        line = [column[at] if at < len(column) else "" for column in columns]
        print(
            "  ".join(text.ljust(width) for text, width in zip(line, WIDTHS, strict=True)).rstrip()
        )


def main() -> int:
    if lack := lacking():
        print(f"error: {lack}", file=sys.stderr)
        return CANNOT

    return private_space.run(MODULE, work)


if __name__ == "__main__":
    sys.exit(main())
