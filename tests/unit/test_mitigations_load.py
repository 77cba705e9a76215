import json
import os
import struct
import tomllib
from pathlib import Path

import pytest

from mitigations import libseccomp, strict_json
from mitigations.candidate import (
    Attachment,
    Candidate,
    FailedCandidate,
    NoNewPrivsLayer,
    ProfileError,
)
from mitigations.libseccomp import LibseccompMissing
from mitigations.load import LIBRARY, LIBRARY_INDEX, load, load_index

ALLOW = struct.pack("<HBBI", 6, 0, 0, 0x7FFF0000)
FAMILIES = {
    "create-directory",
    "create-file",
    "create-filesystem-object",
    "delete-file",
    "change-mode",
    "execute-program",
    "create-process",
}


def test_directory_gives_one_result_per_file_and_goes_on_after_a_bad_one(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "c.bpf").write_bytes(ALLOW)
    (tmp_path / "d.bpf").write_bytes(ALLOW[:7])
    (tmp_path / "notes.txt").write_text("not a profile")
    (tmp_path / ".hidden.json").write_text("{")
    results = load(tmp_path)
    assert [each.name for each in results] == ["a", "b", "c", "d"]
    assert [isinstance(each, FailedCandidate) for each in results] == [True, False, False, True]
    errors = [each.error.code for each in results if isinstance(each, FailedCandidate)]
    assert errors == ["not-json", "truncated"]


def test_directory_without_profiles_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProfileError) as caught:
        load(tmp_path)
    assert caught.value.code == "no-profiles"


def test_binary_filter_is_loaded_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "f.bpf"
    path.write_bytes(ALLOW)
    (candidate,) = load(path)
    assert isinstance(candidate, Candidate)
    assert candidate.meaning == "raw"
    assert candidate.seccomp[0].valid == (ALLOW,)


def test_raw_layers_come_in_the_order_in_which_they_are_enforced(tmp_path: Path) -> None:
    path = tmp_path / "self.json"
    filters = [
        {"instructions": [[6, 0, 0, 0x7FFF0000]]},
        {"instructions": [[6, 0, 0, 0]], "flags": ["SECCOMP_FILTER_FLAG_LOG"]},
    ]
    path.write_text(json.dumps({"no_new_privs": True, "filters": filters, "intent": "none"}))
    (candidate,) = load(path)
    assert isinstance(candidate, Candidate)
    assert candidate.attachment is Attachment.SELF
    assert isinstance(candidate.layers[0], NoNewPrivsLayer)
    assert [layer.flags for layer in candidate.seccomp] == [(), ("SECCOMP_FILTER_FLAG_LOG",)]
    assert candidate.intent == "none"


def test_stack_that_no_kernel_takes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "self.json"
    long = {"instructions": [[0, 0, 0, 0]] * 4095 + [[6, 0, 0, 0]]}
    path.write_text(json.dumps({"filters": [long] * 8}))
    with pytest.raises(ProfileError) as caught:
        load(path)
    assert caught.value.code == "stack-too-large"
    path.write_text(json.dumps({"filters": [{"instructions": [[0, 0, 0, 0]] * 4097}]}))
    with pytest.raises(ProfileError) as caught:
        load(path)
    assert caught.value.code == "too-long"


def test_digest_depends_on_what_is_enforced_alone(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.json").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    (tmp_path / "three.json").write_text('{"defaultAction": "SCMP_ACT_LOG"}')
    one, three, two = (each for each in load(tmp_path) if isinstance(each, Candidate))
    assert one.digest == two.digest != three.digest
    assert len(one.digest) == 16


def test_bundled_library_loads_and_states_a_verdict_for_every_family() -> None:
    candidates = load(LIBRARY)
    index = load_index(LIBRARY)
    assert {Path(each.source).name for each in candidates} == set(index)
    for candidate in candidates:
        assert isinstance(candidate, Candidate), candidate
        entry = index[Path(candidate.source).name]
        assert candidate.intent
        assert set(entry["expected"]) == FAMILIES
        assert set(entry["expected"].values()) <= {"open", "leaky", "held"}
        assert entry["reason"].endswith(".")


@pytest.mark.parametrize("text", ["[[profile]", '[[profile]]\nintent = "x"\n', "profile = 3\n"])
def test_bad_index_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / LIBRARY_INDEX).write_text(text)
    (tmp_path / "a.json").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    with pytest.raises(ProfileError) as caught:
        load(tmp_path / "a.json")
    assert caught.value.code == "bad-library-index"


def test_index_is_toml_that_others_can_read() -> None:
    document = tomllib.loads((LIBRARY / LIBRARY_INDEX).read_text())
    assert list(document) == ["profile"]


@pytest.mark.parametrize(
    ("error", "words"),
    [(ImportError(), "pip install pyseccomp"), (RuntimeError(), "install libseccomp2")],
)
def test_missing_libseccomp_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    libseccomp._library.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr("builtins.__import__", fail)
        with pytest.raises(LibseccompMissing, match=words):
            libseccomp._library()
    libseccomp._library.cache_clear()


def test_a_fifo_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    (tmp_path / "b.json").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    first, second = load(tmp_path)
    assert isinstance(first, FailedCandidate)
    assert isinstance(second, Candidate)
    assert (first.error.code, str(first.error)) == ("not-a-file", "is not a regular file")
    with pytest.raises(ProfileError, match="is not a regular file"):
        load(Path("/dev/zero"))


def test_a_pipe_given_by_descriptor_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    path = Path(f"/dev/fd/{reading}")
    monkeypatch.setattr(strict_json, "PATIENCE_S", 0.05)
    with pytest.raises(ProfileError, match="no data within"):
        load(path)
    os.write(writing, b'{"defaultAction": "SCMP_ACT_ALLOW"}')
    os.close(writing)
    (candidate,) = load(path)
    os.close(reading)
    assert isinstance(candidate, Candidate)
