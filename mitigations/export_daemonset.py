"""A seccomp profile with what brings it to every node: a ConfigMap, and a DaemonSet that copies it.

For clusters without the Security Profiles Operator.  Pods then name it as a Localhost profile.
"""

from __future__ import annotations

import hashlib
from typing import Any

from mitigations.candidate import ProfileError
from mitigations.export_spo import resource_name

_NODE = "/var/lib/kubelet/seccomp"
"""Where the kubelet looks for Localhost profiles, unless its --root-dir is another."""
_NAMESPACE = "kube-system"
_COPIES = "busybox:1.37"
_WAITS = "registry.k8s.io/pause:3.10"
_LARGEST = 1 << 20  # of a ConfigMap
_LONGEST_NAME = 63
_SOMEBODY = 65535  # of the image that waits


def objects(profile: bytes, name: str) -> str:
    """The YAML of both objects; ProfileError for a profile that no ConfigMap holds."""
    import yaml

    if len(profile) >= _LARGEST:
        said = f"{len(profile)} bytes, and a ConfigMap holds less than {_LARGEST}"
        raise ProfileError(said, code="too-large")
    file = f"{resource_name(name)}.json"
    called = f"seccomp-{resource_name(name)}"[:_LONGEST_NAME].rstrip("-")
    heading = (
        "# For a pod: seccompProfile with type: Localhost and\n"
        f"# localhostProfile: {file}\n"
        "# A pod that starts on a node before its copy is there fails, and is tried again.\n"
    )
    both = [_config_map(profile, file, called), _daemon_set(profile, file, called)]
    # A line that is too long would be folded.
    return heading + yaml.dump_all(both, Dumper=_dumper(), sort_keys=False, width=_LARGEST)


def _dumper() -> Any:
    """Writes texts of several lines as blocks."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return Dumper


def _config_map(profile: bytes, file: str, called: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": called, "namespace": _NAMESPACE},
        "data": {file: profile.decode()},
    }


def _daemon_set(profile: bytes, file: str, called: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": called}
    # A node never has half a file: the kubelet may read it at any time.
    copy = f"cp /profiles/{file} /node/.{file}.new && mv /node/.{file}.new /node/{file}"
    # Other content is another template, so that every node gets it.
    annotations = {"checksum/profile": hashlib.sha256(profile).hexdigest()}
    spec = {
        "automountServiceAccountToken": False,
        "tolerations": [{"operator": "Exists"}],
        "initContainers": [
            {
                "name": "copy",
                "image": _COPIES,
                "command": ["sh", "-c", copy],
                "securityContext": {"runAsUser": 0, "runAsGroup": 0, **_confined()},
                "volumeMounts": [
                    {"name": "profiles", "mountPath": "/profiles", "readOnly": True},
                    {"name": "node", "mountPath": "/node"},
                ],
            }
        ],
        "containers": [
            {
                "name": "wait",
                "image": _WAITS,
                "securityContext": {"runAsUser": _SOMEBODY, "runAsNonRoot": True, **_confined()},
            }
        ],
        "volumes": [
            {"name": "profiles", "configMap": {"name": called}},
            {"name": "node", "hostPath": {"path": _NODE, "type": "DirectoryOrCreate"}},
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": called, "namespace": _NAMESPACE, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec},
        },
    }


def _confined() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
