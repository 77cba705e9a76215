"""Manifests made up here; what a node would make of them is asserted, not the words."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mitigations import manifest, oci, yaml_text
from mitigations.candidate import (
    AppArmorLayer,
    Candidate,
    CapabilitiesLayer,
    FailedCandidate,
    NoNewPrivsLayer,
    OwnPosture,
    ProfileError,
    ReadOnlyRootLayer,
    SeccompLayer,
    SecurityProfile,
)
from mitigations.capabilities import CAPABILITIES
from mitigations.kubernetes import NodeSetup, security_profile
from mitigations.load import load
from mitigations.security_context import SecurityContext, contexts

DENY_MKDIR: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "architectures": ["SCMP_ARCH_X86_64"],
    "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}],
}
DENY_CHMOD = {**DENY_MKDIR, "syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO"}]}
LOCALHOST = {"type": "Localhost", "localhostProfile": "profiles/mkdir.json"}


class Node:
    """A node's profiles, and what it makes of manifests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "seccomp"
        self.write("profiles/mkdir.json", DENY_MKDIR)
        self.write("profiles/chmod.json", DENY_CHMOD)

    def write(self, name: str, profile: object) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(profile))
        return path

    def load(self, *objects: Any, **setup: Any) -> list[Candidate | FailedCandidate]:
        text = objects[0] if isinstance(objects[0], str) else yaml.safe_dump_all(objects)
        return self.load_text(text, **setup)

    def load_text(self, text: str, **setup: Any) -> list[Candidate | FailedCandidate]:
        path = self.folder / "web.yaml"
        path.write_text(text)
        return load(path, setup=NodeSetup(self.root, **setup))

    def one(self, *objects: Any, **setup: Any) -> Candidate:
        (found,) = self.load(*objects, **setup)
        assert isinstance(found, Candidate), str(found.error)
        return found

    def refused(self, *objects: Any, **setup: Any) -> str:
        """The one line that says why."""
        with pytest.raises(ProfileError) as caught:
            self.load(*objects, **setup)
        line = str(caught.value)
        assert "\n" not in line
        assert line.startswith(f"{self.folder}/web.yaml:"), line
        return line

    def filter_of(self, profile: dict[str, Any]) -> tuple[SeccompLayer, ...]:
        path = self.folder / "alone.json"
        path.write_text(json.dumps(profile))
        (found,) = load(path, meaning="oci")
        assert isinstance(found, Candidate)
        return found.seccomp


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def container(name: str = "c", **context: Any) -> dict[str, Any]:
    return {"name": name, "image": "x", **({"securityContext": context} if context else {})}


def pod(*containers: dict[str, Any], context: Any = None, **spec: Any) -> dict[str, Any]:
    given = {"securityContext": context} if context is not None else {}
    listing = list(containers) or [container()]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": listing, **given, **spec},
    }


def codes(candidate: Candidate) -> set[str]:
    return {one.code for one in candidate.warnings}


def kinds(candidate: Candidate) -> list[type]:
    return [type(layer) for layer in candidate.layers]


# ------------------------------------------------------------------------------------- the filter


def test_no_profile_is_no_filter_but_for_the_kubelets_option(node: Node) -> None:
    bare = node.one(pod())
    assert bare.layers == ()
    assert "unconfined" in codes(bare)
    assert len(node.one(pod(), seccomp_default=True).seccomp) == 1


@pytest.mark.parametrize("level", ["pod", "container", "both"])
def test_the_containers_profile_stands_over_the_pods(node: Node, level: str) -> None:
    other = {"type": "Localhost", "localhostProfile": "profiles/chmod.json"}
    of_pod = {"pod": LOCALHOST, "container": None, "both": other}[level]
    own = {} if level == "pod" else {"seccompProfile": LOCALHOST}
    context = {"seccompProfile": of_pod} if of_pod else None
    found = node.one(pod(container(**own), context=context))
    assert found.seccomp == node.filter_of(DENY_MKDIR)
    assert found.meaning == "kubernetes"
    assert found.name == "pod/web:c"


def test_a_container_can_leave_the_pods_profile(node: Node) -> None:
    found = node.one(
        pod(
            container(seccompProfile={"type": "Unconfined"}),
            context={"seccompProfile": LOCALHOST},
        )
    )
    assert found.seccomp == ()
    assert "unconfined" in codes(found)


def test_a_null_is_not_given(node: Node) -> None:
    found = node.one(pod(container(seccompProfile=None), context={"seccompProfile": LOCALHOST}))
    assert len(found.seccomp) == 1


def test_localhost_is_read_as_oci_whatever_dockers_keys_it_has(node: Node) -> None:
    docker = {
        **DENY_MKDIR,
        "syscalls": [
            {**DENY_MKDIR["syscalls"][0], "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        ],
    }
    path = node.write("docker.json", docker)
    found = node.one(
        pod(container(seccompProfile={"type": "Localhost", "localhostProfile": "docker.json"}))
    )
    assert found.seccomp == node.filter_of(DENY_MKDIR)
    (ignored,) = [one for one in found.warnings if one.code == "includes-ignored"]
    assert ignored.where == f"{path} syscalls[0].includes"


def test_privileged_has_no_filter_and_every_capability(node: Node) -> None:
    found = node.one(pod(container(privileged=True, seccompProfile=LOCALHOST)))
    assert found.layers == ()
    assert isinstance(found.posture, OwnPosture)
    assert found.posture.capabilities == frozenset(CAPABILITIES)
    assert "privileged-unconfined" in codes(found)


@pytest.mark.parametrize(
    "path", ["../x.json", "/etc/x.json", "a/../../x.json", "..", "profiles/../../x.json"]
)
def test_a_profile_path_must_not_climb_out(node: Node, path: str) -> None:
    (node.folder / "x.json").write_text(json.dumps(DENY_MKDIR))
    profile = {"type": "Localhost", "localhostProfile": path}
    assert "without '..'" in node.refused(pod(container(seccompProfile=profile)))


@pytest.mark.parametrize("path", ["none.json", "profiles", "x" * 5000, "a\nb"])
def test_a_missing_profile_is_an_error_and_no_unconfined_run(node: Node, path: str) -> None:
    profile = {"type": "Localhost", "localhostProfile": path}
    with pytest.raises(ProfileError) as caught:
        node.load(pod(container(seccompProfile=profile)))
    assert caught.value.code == "no-such-profile"


def test_a_mistake_in_the_profile_names_manifest_and_file(node: Node) -> None:
    path = node.write("bad.json", {"defaultAction": "SCMP_ACT_ALOW"})
    profile = {"type": "Localhost", "localhostProfile": "bad.json"}
    line = node.refused(pod(container(seccompProfile=profile)))
    assert f"{path}: defaultAction: unknown action" in line


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ({}, "no type given"),
        ({"type": "RuntimeDefualt"}, "did you mean 'RuntimeDefault'?"),
        ({"type": "Localhost"}, "without localhostProfile"),
        ({"type": "Localhost", "localhostProfile": ""}, "without localhostProfile"),
        ({"type": "RuntimeDefault", "localhostProfile": "a"}, "the API server refuses it"),
        ({"type": "Localhost", "localhostProfil": "a"}, "did you mean 'localhostProfile'?"),
        ({"type": 1}, "expected a string, found a number"),
        ("RuntimeDefault", "expected a mapping, found the string 'RuntimeDefault'"),
        ([], "expected a mapping, found a list"),
    ],
)
def test_wrong_profiles(node: Node, profile: object, said: str) -> None:
    assert said in node.refused(pod(container(seccompProfile=profile)))


# -------------------------------------------------------------------------------- RuntimeDefault

RUNTIME_DEFAULT = {"seccompProfile": {"type": "RuntimeDefault"}}


def test_the_default_that_came_with_us_is_the_captured_one(node: Node) -> None:
    captured = json.loads(
        (Path(oci.__file__).parent / "data/runtime-default.containerd-1.6.20.json").read_text()
    )
    found = node.one(pod(container(**RUNTIME_DEFAULT)))
    assert found.seccomp == node.filter_of(captured["seccomp"])


def test_the_default_depends_on_the_capabilities(node: Node) -> None:
    def named(**capabilities: list[str]) -> set[str]:
        found = node.one(pod(container(capabilities=capabilities, **RUNTIME_DEFAULT)))
        assert found.profile is not None
        return {name for rule in found.profile.rules for name in rule.names}

    assert "bpf" not in named()
    assert "bpf" in named(add=["BPF"])
    assert "chroot" in named()
    assert "chroot" not in named(drop=["ALL"])
    assert "chroot" in named(drop=["ALL"], add=["SYS_CHROOT"])
    assert {"bpf", "chroot"} <= named(add=["ALL"])


def test_a_default_in_dockers_format_is_resolved_for_each_container(
    node: Node, tmp_path: Path
) -> None:
    rule = {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_BPF"]}}
    file = tmp_path / "default.json"
    file.write_text(json.dumps({**DENY_MKDIR, "syscalls": [rule]}))
    some = pod(
        container("plain", **RUNTIME_DEFAULT),
        container("able", capabilities={"add": ["BPF"]}, **RUNTIME_DEFAULT),
    )
    plain, able = node.load(some, runtime_default=file)
    assert isinstance(plain, Candidate)
    assert isinstance(able, Candidate)
    assert plain.profile is not None
    assert able.profile is not None
    assert len(plain.profile.rules) == 1
    assert able.profile.rules == ()


def test_a_default_in_oci_format_is_the_same_for_all(node: Node, tmp_path: Path) -> None:
    file = tmp_path / "default.json"
    file.write_text(json.dumps(DENY_MKDIR))
    found = node.one(
        pod(container(capabilities={"drop": ["ALL"]}, **RUNTIME_DEFAULT)), runtime_default=file
    )
    assert found.seccomp == node.filter_of(DENY_MKDIR)
    assert "runtime-default-given" in codes(found)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("[]", "not a seccomp profile"),
        ('{"provenance": {}, "seccomp": {}}', "does not say for which capabilities"),
        (
            '{"provenance": {"capabilities": []}, "seccomp": {}}',
            "not with CAP_AUDIT_WRITE, CAP_CHOWN, CAP_DAC_OVERRIDE and 11 more",
        ),
        (
            '{"provenance": {"capabilities": []}, "seccomp": {}, "by_capability": {"each": 1}}',
            "not as benchmarks/capture writes it",
        ),
    ],
)
def test_a_default_that_cannot_be_used(node: Node, tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "default.json"
    file.write_text(content)
    assert said in node.refused(pod(container(**RUNTIME_DEFAULT)), runtime_default=file)


# ------------------------------------------------------------------------------- all other layers


def test_no_new_privs_and_capabilities_are_layers(node: Node) -> None:
    found = node.one(
        pod(
            container(
                allowPrivilegeEscalation=False,
                capabilities={"drop": ["all"], "add": ["net_bind_service"]},
                seccompProfile=LOCALHOST,
            ),
            context={"runAsUser": 0},
        )
    )
    assert kinds(found) == [NoNewPrivsLayer, CapabilitiesLayer, SeccompLayer]
    assert found.layers[1] == CapabilitiesLayer(frozenset({"CAP_NET_BIND_SERVICE"}))
    assert isinstance(found.posture, OwnPosture)
    assert found.posture.capabilities == oci.DOCKER_CAPABILITIES


@pytest.mark.parametrize(
    ("capabilities", "kept"),
    [
        ({"add": ["ALL"]}, frozenset(CAPABILITIES)),
        ({"add": ["ALL"], "drop": ["SYS_ADMIN"]}, frozenset(CAPABILITIES) - {"CAP_SYS_ADMIN"}),
        ({"add": ["CHOWN"], "drop": ["ALL", "CHOWN"]}, frozenset()),
        ({"drop": ["MKNOD"]}, oci.DOCKER_CAPABILITIES - {"CAP_MKNOD"}),
        ({"add": ["NET_ADMIN"]}, oci.DOCKER_CAPABILITIES | {"CAP_NET_ADMIN"}),
        ({"drop": ["CAP_CHOWN"]}, oci.DOCKER_CAPABILITIES),
        ({"add": ["NO_SUCH"]}, oci.DOCKER_CAPABILITIES),
    ],
)
def test_capabilities_as_containerd_reads_them(
    node: Node, capabilities: Any, kept: frozenset[str]
) -> None:
    found = node.one(pod(container(capabilities=capabilities)))
    assert isinstance(found.posture, OwnPosture)
    left = [one.kept for one in found.layers if isinstance(one, CapabilitiesLayer)]
    assert (left or [found.posture.capabilities])[0] == kept


def test_an_ordinary_user_has_no_capability(node: Node) -> None:
    found = node.one(pod(container(runAsUser=7, runAsGroup=8, capabilities={"add": ["NET_ADMIN"]})))
    assert found.posture == OwnPosture("uid 7", 7, 8, frozenset())
    assert "capabilities-without-root" in codes(found)


def test_who_runs_it_where_the_manifest_does_not_say(node: Node) -> None:
    root = node.one(pod())
    somebody = node.one(pod(context={"runAsNonRoot": True}))
    assert isinstance(root.posture, OwnPosture)
    assert isinstance(somebody.posture, OwnPosture)
    assert (root.posture.uid, somebody.posture.uid) == (0, 1000)
    assert "user-from-image" in codes(root) & codes(somebody)


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ({"allowPrivilegeEscalation": False, "privileged": True}, "API server refuses"),
        (
            {"allowPrivilegeEscalation": False, "capabilities": {"add": ["CAP_SYS_ADMIN"]}},
            "API server refuses",
        ),
        ({"runAsNonRoot": True, "runAsUser": 0}, "kubelet does not start"),
        ({"privileged": "true"}, "expected true or false, found the string 'true'"),
        ({"privileged": 1}, "expected true or false"),
        ({"runAsUser": "0"}, "expected an integer"),
        ({"runAsUser": -1}, "not within"),
        ({"runAsUser": 1 << 63}, "not within"),
        ({"capabilities": ["ALL"]}, "expected a mapping, found a list"),
        ({"capabilities": {"drop": "ALL"}}, "expected a list"),
        ({"capabilities": {"drop": [1]}}, "expected a string"),
        ({"procMount": "Unmaskd"}, "did you mean 'Unmasked'?"),
        ({"procMount": "Unmasked"}, "without hostUsers: false: the API server refuses it"),
        ({"appArmorProfile": {"type": "localhost"}}, "did you mean 'Localhost'?"),
    ],
)
def test_what_no_cluster_would_take(node: Node, context: Any, said: str) -> None:
    assert said in node.refused(pod(container(**context)))


def test_what_is_not_modelled_is_said_and_never_ignored(node: Node) -> None:
    found = node.one(
        pod(
            container(
                readOnlyRootFilesystem=True,
                seLinuxOptions={"level": "s0"},
                windowsOptions={},
            ),
            context={"fsGroup": 1, "sysctls": [], "supplementalGroups": [1]},
            hostPID=True,
            hostNetwork=True,
            hostIPC=True,
            hostUsers=True,
            runtimeClassName="gvisor",
        )
    )
    said = {one.message.partition(":")[0] for one in found.warnings}
    fields = {one.rpartition(".")[2] for one in said}
    assert fields >= {
        *("readOnlyRootFilesystem", "seLinuxOptions", "windowsOptions", "fsGroup"),
        *("sysctls", "supplementalGroups", "hostPID", "hostNetwork", "hostIPC", "hostUsers"),
        "runtimeClassName",
    }


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (pod(container(seccompprofile=LOCALHOST)), "did you mean 'seccompProfile'?"),
        (pod({**container(), "securitycontext": {}}), "did you mean 'securityContext'?"),
        (pod(securitycontext={}), "did you mean 'securityContext'?"),
        (pod(shareProcessNamespaces=True), "did you mean 'shareProcessNamespace'?"),
        (pod(context={"privileged": True}), "give it to each container"),
        (pod(container(fsGroup=1)), "it belongs to the pod's"),
        (pod(container(capabilities={"dropp": []})), "did you mean 'drop'?"),
    ],
)
def test_unknown_fields_near_a_known_one(node: Node, manifest: Any, said: str) -> None:
    found = node.one(manifest)
    (one,) = [each for each in found.warnings if each.code == "unknown-field"]
    assert said in one.message
    assert one.where.startswith(f"{node.folder}/web.yaml:")


def test_fields_that_are_none_of_ours_are_let_be(node: Node) -> None:
    found = node.one(pod({**container(), "resources": {}, "tty": True}, nodeName="n", fooBar=1))
    assert "unknown-field" not in codes(found)


# ------------------------------------------------------------------------------- old annotations


def test_seccomp_annotations_are_ignored_since_1_27(node: Node) -> None:
    manifest = pod()
    manifest["metadata"]["annotations"] = {
        "seccomp.security.alpha.kubernetes.io/pod": "localhost/profiles/mkdir.json",
        "container.seccomp.security.alpha.kubernetes.io/c": "runtime/default",
        "other": "x",
    }
    found = node.one(manifest)
    assert found.seccomp == ()
    said = [one.message for one in found.warnings if one.code == "annotation-ignored"]
    assert len(said) == 2
    assert all("1.27" in one for one in said)


def apparmor(value: str, field: Any = None) -> dict[str, Any]:
    given = {"appArmorProfile": field} if field else {}
    manifest = pod(container(**given))
    key = "container.apparmor.security.beta.kubernetes.io/c"
    manifest["metadata"]["annotations"] = {key: value}
    return manifest


def test_apparmor_by_field_and_by_annotation(node: Node) -> None:
    assert node.one(apparmor("localhost/mine")).layers == (AppArmorLayer("mine"),)
    assert node.one(apparmor("unconfined")).layers == ()
    assert "not-modelled" in codes(node.one(apparmor("runtime/default")))
    other = {"type": "Localhost", "localhostProfile": "other"}
    assert node.one(apparmor("localhost/mine", other)).layers == (AppArmorLayer("other"),)
    assert "did you mean 'runtime/default'?" in node.refused(apparmor("runtime/defualt"))


def test_a_kubelet_asks_for_apparmor_only_where_something_is_given(node: Node) -> None:
    asked = SecurityProfile("Localhost", "mine")
    assert node.one(apparmor("localhost/mine")).requested_apparmor == asked
    assert node.one(apparmor("unconfined")).requested_apparmor == SecurityProfile("Unconfined")
    default = SecurityProfile("RuntimeDefault")
    assert node.one(apparmor("runtime/default")).requested_apparmor == default
    assert node.one(pod(container())).requested_apparmor is None


# ----------------------------------------------------------------------------------- neighbours


@pytest.mark.parametrize(
    ("manifest", "assumes"),
    [
        (pod(container("c", seccompProfile=LOCALHOST), container("d")), False),
        (
            pod(
                container("c", seccompProfile=LOCALHOST),
                container("d"),
                shareProcessNamespace=True,
            ),
            True,
        ),
        (
            pod(
                container("c", seccompProfile=LOCALHOST),
                container("d", seccompProfile=LOCALHOST),
                shareProcessNamespace=True,
            ),
            False,
        ),
        (
            pod(
                container("c", seccompProfile=LOCALHOST),
                initContainers=[container("i")],
                shareProcessNamespace=True,
            ),
            False,
        ),
        (
            pod(
                container("c", seccompProfile=LOCALHOST),
                initContainers=[{**container("i"), "restartPolicy": "Always"}],
                shareProcessNamespace=True,
            ),
            True,
        ),
        (
            pod(
                container("c", seccompProfile=LOCALHOST),
                ephemeralContainers=[{**container("e"), "targetContainerName": "c"}],
            ),
            True,
        ),
        (
            pod(
                container("c", seccompProfile=LOCALHOST),
                ephemeralContainers=[container("e")],
            ),
            False,
        ),
        (
            pod(
                container("c", seccompProfile=LOCALHOST),
                container("d"),
                ephemeralContainers=[
                    {**container("e", seccompProfile=LOCALHOST), "targetContainerName": "c"}
                ],
            ),
            False,
        ),
        (pod(container("c", seccompProfile=LOCALHOST), hostPID=True), True),
        (pod(container("c", seccompProfile=LOCALHOST), container("d"), hostPID=True), True),
    ],
)
def test_an_unfiltered_neighbour(node: Node, manifest: Any, assumes: bool) -> None:
    found = {one.name: one for one in node.load(manifest)}
    one = found["pod/web:c"]
    assert isinstance(one, Candidate)
    assert one.assumes == (frozenset({"unfiltered-neighbour"}) if assumes else frozenset())
    assert ("unfiltered-neighbour" in codes(one)) is assumes
    ephemeral = found.get("pod/web:e")
    if isinstance(ephemeral, Candidate):  # what it joins has a filter, or it has none itself
        assert not ephemeral.assumes


# ---------------------------------------------------------------------------------- pod security


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (pod(), "seccomp meets baseline, the container as a whole baseline"),
        (
            pod(container(seccompProfile={"type": "Unconfined"})),
            "seccomp meets privileged, the container as a whole privileged: seccompProfile",
        ),
        (
            pod(container(seccompProfile=LOCALHOST)),
            "seccomp meets restricted, the container as a whole baseline: allowPrivilege",
        ),
        (
            pod(
                container(
                    allowPrivilegeEscalation=False,
                    capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
                ),
                context={"runAsNonRoot": True, **RUNTIME_DEFAULT},
            ),
            "seccomp meets restricted, the container as a whole restricted",
        ),
        (pod(hostPID=True), "privileged: hostPID"),
        (pod(container(capabilities={"add": ["NET_RAW"]})), "privileged: capabilities.add NET_RAW"),
        (pod(volumes=[{"name": "v", "hostPath": {"path": "/"}}]), "volume v is a hostPath"),
        (pod({**container(), "ports": [{"hostPort": 80}]}), "privileged: hostPort 80"),
        (pod(context={"sysctls": [{"name": "kernel.msgmax"}]}), "privileged: sysctl kernel.msgmax"),
        (pod(container(procMount="Unmasked"), hostUsers=False), "privileged: procMount Unmasked"),
    ],
)
def test_pod_security_levels(node: Node, manifest: Any, said: str) -> None:
    (note,) = node.one(manifest).notes
    assert said in note


# -------------------------------------------------------------------- objects, lists and streams


def template(kind: str) -> dict[str, Any]:
    spec = pod(container(seccompProfile=LOCALHOST))["spec"]
    inner: dict[str, Any] = {"template": {"spec": spec}}
    outer: dict[str, Any] = {
        "CronJob": {"spec": {"jobTemplate": {"spec": inner}}},
        "PodTemplate": inner,
    }.get(kind, {"spec": inner})
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "web"}, **outer}


@pytest.mark.parametrize(
    "kind",
    [
        *("Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "ReplicationController", "Job"),
        *("CronJob", "PodTemplate"),
    ],
)
def test_everything_with_a_pod_template(node: Node, kind: str) -> None:
    found = node.one(template(kind))
    assert found.name == f"{kind.lower()}/web:c"
    assert len(found.seccomp) == 1


def test_a_custom_resource_with_a_pod_template(node: Node) -> None:
    rollout = {**template("Rollout"), "apiVersion": "argoproj.io/v1alpha1"}
    assert node.one(rollout).name == "rollout/web:c"


def test_lists_and_streams_hold_several(node: Node) -> None:
    listing = {"apiVersion": "v1", "kind": "List", "items": [template("Job"), pod()]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {}}
    found = node.load(listing, service, template("Deployment"))
    assert [one.name for one in found] == ["job/web:c", "pod/web:c", "deployment/web:c"]


def test_init_and_ephemeral_containers(node: Node) -> None:
    found = node.load(
        pod(
            container("c"),
            initContainers=[container("i", privileged=True)],
            ephemeralContainers=[container("e", seccompProfile=LOCALHOST)],
        )
    )
    assert [one.name for one in found] == ["pod/web:i", "pod/web:c", "pod/web:e"]
    bad = template("Deployment")
    bad["spec"]["template"]["spec"]["ephemeralContainers"] = [container("e")]
    _, refused = node.load(bad)
    assert isinstance(refused, FailedCandidate)
    assert "not allowed in a template" in str(refused.error)


def test_one_wrong_container_leaves_the_others(node: Node) -> None:
    found = node.load(pod(container("a", privileged="x"), container("b")))
    assert [isinstance(one, FailedCandidate) for one in found] == [True, False]


def test_one_wrong_document_leaves_the_others(node: Node) -> None:
    text = f"{yaml.safe_dump(pod())}---\na: [\n---\n{yaml.safe_dump(template('Job'))}"
    found = node.load_text(text)
    assert [isinstance(one, FailedCandidate) for one in found] == [False, True, False]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("apiVersion: v1\nkind: Service\n", "a Service has no security context"),
        ("a: 1\n", "it has no kind"),
        ("- 1\n", "it has no kind"),
        ("", "no object in it"),
        ("# nothing\n---\n", "no object in it"),
        ("kind: Pod\n", "a pod without spec"),
        ("kind: Deployment\nspec: {}\n", "a Deployment without spec.template"),
        ("kind: Pod\nspec: {}\n", "a pod without containers"),
        ("kind: Pod\nspec: {containers: []}\n", "a pod without containers"),
        ("kind: Pod\nspec: {containers: [{}]}\n", "a container without a name"),
        ("kind: Pod\nspec: {containers: {name: c}}\n", "expected a list, found a mapping"),
        ("kind: Pod\nspec: [1]\n", "expected a mapping, found a list"),
        ("kind: [Pod]\n", "expected a string, found a list"),
        ("kind: Pod\nmetadata: web\nspec: {containers: [{name: c}]}\n", "expected a mapping"),
        ("kind: Pod\nspec: {os: {name: windows}, containers: [{name: c}]}\n", "Windows pod"),
        ("kind: Pod\nspec:\n  containers: '{{ .Values.c }}'\n", "render it first"),
        ("kind: Pod\nspec:\n  containers: {{ .Values.c }}\n", "render it first"),
    ],
)
def test_what_holds_no_pod_is_one_line(node: Node, text: str, said: str) -> None:
    assert said in node.refused(text)


def test_json_is_a_manifest_as_well(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "pod.json"
    path.write_text(json.dumps(pod(container(seccompProfile=LOCALHOST)), indent="\t"))
    (found,) = load(path, setup=NodeSetup(node.root))
    assert found.name == "pod/web:c"


def test_a_directory_takes_manifests_and_leaves_what_is_about_something_else(
    node: Node, tmp_path: Path
) -> None:
    folder = tmp_path / "deploy"
    folder.mkdir()
    (folder / "a.yaml").write_text(yaml.safe_dump(pod()))
    (folder / "b.yml").write_text("apiVersion: v1\nkind: Service\n")
    (folder / "values.yaml").write_text("replicas: 1\n")
    (folder / "c.yaml").write_text("kind: Pod\nspec: 1\n")
    (folder / "d.json").write_text(json.dumps(DENY_MKDIR))
    found = load(folder, setup=NodeSetup(node.root))
    assert [(one.name, isinstance(one, Candidate)) for one in found] == [
        ("pod/web:c", True),
        ("c", False),
        ("d", True),
    ]


def test_five_thousand_documents(node: Node) -> None:
    text = "---\n" + yaml.safe_dump(pod(container(seccompProfile=LOCALHOST)))
    found = node.load_text(text * 5000)
    assert len(found) == 5000
    assert len({one.digest for one in found if isinstance(one, Candidate)}) == 1


# ------------------------------------------------------------------------------ whatever is given

EVERYTHING = pod(
    container(
        "a",
        allowPrivilegeEscalation=False,
        capabilities={"drop": ["ALL"], "add": ["CHOWN"]},
        seccompProfile=LOCALHOST,
        appArmorProfile={"type": "Localhost", "localhostProfile": "x"},
        runAsUser=1,
        procMount="Default",
    ),
    container("b", privileged=True),
    context={"seccompProfile": LOCALHOST, "sysctls": [{"name": "x"}]},
    volumes=[{"name": "v", "emptyDir": {}}],
    shareProcessNamespace=True,
    initContainers=[container("i")],
)
EVERYTHING["metadata"]["annotations"] = {
    "container.apparmor.security.beta.kubernetes.io/a": "localhost/x"
}
STRANGE = st.sampled_from(
    [None, True, 0, -1, 1.5, 1 << 70, "", "x", "{{ x }}", "\n", [], {}, [[]], [None], {"": None}]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = [path]
    if isinstance(value, dict | list):
        for key, child in items:
            found += (
                places(child, (*path, key)) if isinstance(child, dict | list) else [(*path, key)]
            )
    return found


NODES: list[Node] = []


@pytest.fixture(scope="module", autouse=True)
def one_node_for_all(tmp_path_factory: pytest.TempPathFactory) -> None:
    NODES[:] = [Node(tmp_path_factory.mktemp("node"))]


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from(places(EVERYTHING)[1:]), STRANGE), min_size=1, max_size=3)
)
def test_a_manifest_with_anything_wrong_in_it_is_read_or_one_line(
    changes: list[tuple[tuple[Any, ...], Any]],
) -> None:
    manifest: Any = json.loads(json.dumps(EVERYTHING))
    for path, value in changes:
        inner: Any = manifest
        try:
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took it away
    errors: list[ProfileError] = []
    try:
        found = NODES[0].load(manifest)
        errors = [one.error for one in found if isinstance(one, FailedCandidate)]
    except ProfileError as error:
        errors = [error]
    for error in errors:
        assert "\n" not in str(error)
        assert str(error).startswith(f"{NODES[0].folder}/web.yaml:")


# ---------------------------------------------------------------------------- kinds that hold pods


SPEC = {"spec": {"containers": [{"name": "c"}]}}


@pytest.mark.parametrize("kind", ["Deploymnet", "deployment", "Whatever"])
def test_a_kind_that_nobody_knows_with_a_pod_in_it_is_wrong(node: Node, kind: str) -> None:
    """The API server refuses it: passed over in silence, a gate would pass without it."""
    wrong = {"kind": kind, "apiVersion": "apps/v1", "spec": {"template": SPEC}}
    good = {"kind": "Pod", "metadata": {"name": "web"}, **SPEC}
    (node.folder / "m.yaml").write_text(yaml.safe_dump_all([good, wrong]))
    first, second = load(node.folder / "m.yaml")
    assert isinstance(first, Candidate)
    assert isinstance(second, FailedCandidate)
    assert second.error.code == "unknown-kind"
    assert second.error.where.endswith("m.yaml:8")
    assert ("did you mean 'Deployment'" in str(second.error)) is (kind != "Whatever")


def test_every_template_of_a_custom_resource_is_a_candidate(node: Node) -> None:
    jobs = [{"name": one, "template": {"spec": {"template": SPEC}}} for one in "ab"]
    resource = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": "js"},
        "spec": {"replicatedJobs": jobs},
    }
    (node.folder / "m.yaml").write_text(yaml.safe_dump(resource))
    assert [one.name for one in load(node.folder / "m.yaml")] == [
        f"jobset/js[spec.replicatedJobs[{index}].template.spec.template]:c" for index in (0, 1)
    ]


def test_an_annotation_of_a_container_stands_over_the_profile_of_its_pod(node: Node) -> None:
    """The API server copies it into the container's field where that has none."""
    manifest = pod(
        container("c"),
        container("d"),
        securityContext={"appArmorProfile": {"type": "Localhost", "localhostProfile": "k8s"}},
    )
    key = "container.apparmor.security.beta.kubernetes.io/c"
    manifest["metadata"]["annotations"] = {key: "unconfined"}
    found = {one.name: one for one in node.load(manifest)}
    layers = {name: getattr(one, "layers", None) for name, one in found.items()}
    assert layers == {"pod/web:c": (), "pod/web:d": (AppArmorLayer("k8s"),)}


def test_ids_are_those_that_the_api_server_takes(node: Node) -> None:
    said = "is not within 0..2147483647: the API server refuses it"
    for wrong in (-1, 1 << 31, 1 << 32):
        assert said in node.refused(pod(container("c", runAsUser=wrong)))
        assert said in node.refused(pod(container("c", runAsGroup=wrong)))
        # Also where every container says something else.
        assert said in node.refused(pod(container(runAsUser=1), context={"runAsUser": wrong}))
        assert said in node.refused(pod(context={"fsGroup": wrong}))
    posture = node.one(pod(container("c", runAsUser=(1 << 31) - 1))).posture
    assert isinstance(posture, OwnPosture)
    assert posture.uid == (1 << 31) - 1


@pytest.mark.parametrize("users", [{}, {"hostUsers": True}, {"hostUsers": None}])
def test_an_unmasked_proc_wants_users_of_its_own(node: Node, users: dict[str, Any]) -> None:
    unmasked = container("c", procMount="Unmasked")
    assert "procMount: Unmasked without hostUsers: false" in node.refused(pod(unmasked, **users))
    assert "proc-mount" in codes(node.one(pod(unmasked, hostUsers=False)))
    node.one(pod(container("c", procMount="Default"), **users))


def test_one_pid_namespace_is_not_shared_in_two_ways(node: Node) -> None:
    said = node.refused(pod(shareProcessNamespace=True, hostPID=True))
    assert "shareProcessNamespace and hostPID are both true: the API server refuses it" in said
    node.one(pod(shareProcessNamespace=True, hostPID=False))
    node.one(pod(shareProcessNamespace=False, hostPID=True))


@pytest.mark.parametrize("group", ["containers", "initContainers", "ephemeralContainers"])
def test_two_containers_of_one_name(node: Node, group: str) -> None:
    manifest = pod(container("c"))
    more = manifest["spec"].setdefault(group, [])
    more.append(container("d"))
    assert len(node.load(manifest)) == 2
    more.append(container("c"))
    said = node.refused(manifest)
    assert "a second container called 'c': the API server refuses it" in said


def test_only_one_spelling_contradicts_no_new_privs(node: Node) -> None:
    def loaded(word: str) -> Candidate | FailedCandidate:
        capabilities = {"add": [word]}
        one = container("c", allowPrivilegeEscalation=False, capabilities=capabilities)
        (found,) = node.load(pod(one))
        return found

    with pytest.raises(ProfileError, match="the API server refuses it"):
        loaded("CAP_SYS_ADMIN")
    lower = loaded("cap_sys_admin")
    assert isinstance(lower, Candidate)
    (warning,) = [one for one in lower.warnings if one.code == "capability-prefix"]
    assert (
        "containerd makes CAP_CAP_SYS_ADMIN of it, which runc and crun leave out" in warning.message
    )
    assert isinstance(lower.posture, OwnPosture)
    assert "CAP_SYS_ADMIN" not in lower.posture.capabilities
    assert isinstance(loaded("SYS_ADMIN"), Candidate)


def test_a_read_only_root_is_a_layer_without_the_volumes(node: Node) -> None:
    mounts = [
        {"name": "a", "mountPath": "/var/cache"},
        {"name": "b", "mountPath": "/etc/app", "readOnly": True},
        {"name": "c", "mountPath": "/var/cache"},
    ]
    one = {**container("c", readOnlyRootFilesystem=True), "volumeMounts": mounts}
    (found,) = node.load(pod(one))
    assert isinstance(found, Candidate)
    assert ReadOnlyRootLayer(("/work", "/var/cache")) in found.layers
    assert "read-only-root" in codes(found)
    (other,) = node.load(pod({**container("c"), "volumeMounts": mounts}))
    assert isinstance(other, Candidate)
    assert not any(isinstance(each, ReadOnlyRootLayer) for each in other.layers)


# --------------------------------------------------------------------- what the kubelet asks for


def asked(pod: Any, container: Any, *, seccomp_default: bool = False) -> SecurityProfile:
    """Of a pod with these two seccompProfiles; None: the field is not there."""

    def context(profile: Any) -> dict[str, Any]:
        return {} if profile is None else {"securityContext": {"seccompProfile": profile}}

    spec = {"containers": [{"name": "app", "image": "i", **context(container)}], **context(pod)}
    text = yaml.safe_dump(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    )
    (document,) = yaml_text.read(text.encode(), "pod.yaml")
    (found,) = manifest.pods_of(manifest.root(document, "pod.yaml"))
    (one,) = contexts(found, frozenset(CAPABILITIES))
    if not isinstance(one, SecurityContext):
        raise one.error
    return security_profile(one.seccomp, NodeSetup(Path("/node"), seccomp_default))


UNCONFINED, DEFAULT = SecurityProfile("Unconfined"), SecurityProfile("RuntimeDefault")


@pytest.mark.parametrize(
    ("pod", "container", "seccomp_default", "expected"),
    [
        (None, None, False, UNCONFINED),
        (None, None, True, DEFAULT),
        ({"type": "Unconfined"}, None, True, UNCONFINED),
        ({"type": "RuntimeDefault"}, None, False, DEFAULT),
        ({"type": "RuntimeDefault"}, {"type": "Unconfined"}, True, UNCONFINED),
        ({"type": "Unconfined"}, {"type": "RuntimeDefault"}, False, DEFAULT),
        (LOCALHOST, None, True, SecurityProfile("Localhost", "/node/profiles/mkdir.json")),
        (
            {"type": "Unconfined"},
            LOCALHOST,
            False,
            SecurityProfile("Localhost", "/node/profiles/mkdir.json"),
        ),
    ],
)
def test_the_kubelet_always_asks_for_a_profile(
    pod: Any, container: Any, seccomp_default: bool, expected: SecurityProfile
) -> None:
    assert asked(pod, container, seccomp_default=seccomp_default) == expected


@pytest.mark.parametrize(
    "profile",
    [
        {"type": "Localhost"},
        {"type": "Localhost", "localhostProfile": ""},
        {"type": "Localhost", "localhostProfile": "../mkdir.json"},
        {"type": "Localhost", "localhostProfile": "/etc/mkdir.json"},
    ],
)
def test_a_localhost_profile_needs_a_name_below_the_node_s_directory(profile: Any) -> None:
    with pytest.raises(ProfileError):
        asked(profile, None)
