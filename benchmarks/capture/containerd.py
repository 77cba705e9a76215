"""A containerd of our own: private state directories, one image, ended with its last user."""

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import TYPE_CHECKING

from benchmarks.capture import cri, runtimes
from benchmarks.capture.private_space import CaptureError

if TYPE_CHECKING:
    from collections.abc import Iterator
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
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
"""


@contextlib.contextmanager
def running(directory: Path, archive: Path, image: str) -> Iterator[cri.Client]:
    """A client of a containerd that keeps all it has below ``directory``.

    ``archive`` is imported as ``image`` and also serves for the sandboxes.  CaptureError if
    containerd ends, or does not answer within 15 s.
    """
    home = directory / "c"  # a short path: a socket's name may have 107 characters
    home.mkdir()
    (home / "config.toml").write_text(_CONFIGURATION.format(directory=home, image=image))
    log = home / "log"
    with log.open("w") as output:
        daemon = subprocess.Popen(
            ["containerd", "--config", str(home / "config.toml")],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    client = cri.Client(home / "socket")
    try:
        _wait_until_ready(client, daemon, log)
        _import(home / "socket", archive)
        yield client
    finally:
        client.close()
        _stop(daemon)


def _wait_until_ready(client: cri.Client, daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            raise CaptureError(
                f"containerd ended with exit code {daemon.returncode}: {runtimes.last_line(log)}"
            )
        with contextlib.suppress(cri.CallError):
            client.version(timeout_s=1)
            return
        time.sleep(0.05)
    raise CaptureError(
        f"containerd does not answer within {_READY_S:.0f} s: {runtimes.last_line(log)}"
    )


def _import(socket: Path, archive: Path) -> None:
    done = subprocess.run(
        [
            "ctr",
            "--address",
            str(socket),
            "--namespace",
            "k8s.io",
            "images",
            "import",
            str(archive),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_READY_S,
        check=False,
    )
    if done.returncode:
        raise CaptureError(f"ctr images import: {done.stderr.strip() or 'no message'}")


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(_END_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
