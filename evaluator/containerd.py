"""A containerd of our own: private state directories, one image, ended with its last user."""

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import TYPE_CHECKING

from evaluator import cri
from evaluator.errors import EnvironmentLackError, HarnessError
from evaluator.runtimes import last_line

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

_READY_S = 15.0
_END_S = 5.0

# oom scores are left alone: a process without CAP_SYS_RESOURCE may not lower them as CRI wants.
_CONFIGURATION = """\
version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
address = "{directory}/socket"
[ttrpc]
address = "{directory}/socket.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
restrict_oom_score_adj = true
tolerate_missing_hugetlb_controller = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{directory}/cni"
conf_dir = "{directory}/cni/networks"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
"""

# CNI: containerd itself asks for `loopback`, and for what the configuration names.
_NETWORK = '{"cniVersion": "0.4.0", "name": "alone", "plugins": [{"type": "sidestep-alone"}]}'
_PLUGIN = """\
#!/bin/sh
case "$CNI_COMMAND" in
ADD) nsenter --net="$CNI_NETNS" @RUNNER@ loopback && cat <<EOF ;;
{"cniVersion": "0.4.0", "interfaces": [{"name": "$CNI_IFNAME", "sandbox": "$CNI_NETNS"}],
 "ips": [{"version": "4", "interface": 0, "address": "192.0.2.2/32"}]}
EOF
VERSION) echo '{"cniVersion": "0.4.0", "supportedVersions": ["0.3.1", "0.4.0"]}' ;;
esac
"""


def write_network(directory: Path, runner: Path) -> None:
    """For ``running`` in this directory: pods get a network of their own, with ``lo`` alone."""
    plugins = directory / "c" / "cni"
    (plugins / "networks").mkdir(parents=True)
    (plugins / "networks" / "alone.conflist").write_text(_NETWORK)
    for name in ("loopback", "sidestep-alone"):
        (plugins / name).write_text(_PLUGIN.replace("@RUNNER@", str(runner)))
        (plugins / name).chmod(0o755)


@contextlib.contextmanager
def running(
    directory: Path, archive: Path, image: str, space: Sequence[str] = ()
) -> Generator[cri.Client]:
    """A client of a containerd that keeps all it has below ``directory``.

    ``archive`` is imported as ``image`` and also serves for the sandboxes.  ``space``: the command
    that containerd runs under, which is killed in the end.  ``EnvironmentLackError`` if containerd
    ends, or does not answer within 15 s.
    """
    home = directory / "c"  # a short path: a socket's name may have 107 characters
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(_CONFIGURATION.format(directory=home, image=image))
    log = home / "log"
    with log.open("w") as output:
        daemon = subprocess.Popen(
            [*space, "containerd", "--config", str(home / "config.toml")],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        client = cri.Client(home / "socket")
    except EnvironmentLackError:
        _stop(daemon, bool(space))
        raise
    try:
        _wait_until_ready(client, daemon, log)
        import_image(home / "socket", archive)
        yield client
    finally:
        client.close()
        _stop(daemon, bool(space))


def _wait_until_ready(client: cri.Client, daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            raise EnvironmentLackError(
                f"containerd ended with exit code {daemon.returncode}: {_said(log)}"
            )
        with contextlib.suppress(cri.CallError):
            client.version(timeout_s=1)
            return
        time.sleep(0.05)
    raise EnvironmentLackError(f"containerd does not answer within {_READY_S:.0f} s: {_said(log)}")


def import_image(socket: Path, archive: Path) -> None:
    """Gives a containerd an image for its pods; ``HarnessError`` if it takes none."""
    _ctr(socket, "images", "import", str(archive))


def remove_image(socket: Path, image: str) -> None:
    _ctr(socket, "images", "remove", image)


def _ctr(socket: Path, *command: str) -> None:
    try:
        done = subprocess.run(
            ["ctr", "--address", str(socket), "--namespace", "k8s.io", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_READY_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise HarnessError(f"ctr {command[1]}: containerd does not answer") from None
    if done.returncode:
        raise HarnessError(f"ctr images {command[1]}: {last_line(done.stderr) or 'no message'}")


def _said(log: Path) -> str:
    return last_line(log.read_text(errors="replace")) or "no message"


def _stop(daemon: subprocess.Popen[bytes], whole_space: bool) -> None:
    if whole_space:
        daemon.kill()
    else:
        daemon.terminate()
    try:
        daemon.wait(_END_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
