"""What is wrong with a call of ``sidestep score`` is said in one line."""

import json
from pathlib import Path

import pytest

from evaluator.cli import main
from evaluator.errors import InputError
from evaluator.samples import read_samples

BLOCK = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}'


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["score", *arguments])
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert not shown.out
    assert shown.err.count("\n") == 1
    return shown.err


def test_profiles_without_a_mapping_need_something_to_judge_them_by(tmp_path, capsys) -> None:
    (tmp_path / "one.json").write_text(BLOCK)
    assert "--objective or --family" in refused(capsys, str(tmp_path))
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "two.json").write_text(BLOCK)
    assert "--objective or --family" in refused(capsys, str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--objective", "no-new-directory"], "did you mean no-new-directories"),
        (["--family", "create-directories"], "create-directory"),
        (["--family", "create-directory"], "no profile that can be used"),
        (["--private-suite", ""], "an empty seed"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, capsys, arguments, said) -> None:
    (tmp_path / "prose.json").write_text("Sure!")
    assert said in refused(capsys, str(tmp_path), *arguments)


def test_samples_name_their_scenarios_themselves(tmp_path, capsys) -> None:
    path = tmp_path / "samples.jsonl"
    line = {"scenario": "no-directories", "model": "m", "mitigation": BLOCK}
    path.write_text(json.dumps(line))
    assert "no --objective" in refused(capsys, str(path), "--family", "create-directory")


def test_a_file_that_belongs_to_no_scenario_is_not_passed_over(tmp_path) -> None:
    folder = tmp_path / "model" / "no-directories"
    folder.mkdir(parents=True)
    (folder / "0.json").write_text(BLOCK)
    (tmp_path / "model" / "1.json").write_text(BLOCK)
    with pytest.raises(InputError, match=r"1.json: belongs into a directory"):
        read_samples(tmp_path)


def test_what_is_no_file_is_not_read(tmp_path) -> None:
    path = tmp_path / "samples.jsonl"
    line = {"scenario": "no-directories", "model": "m", "path": "/dev/zero"}
    path.write_text(json.dumps(line))
    with pytest.raises(InputError, match=r":1: /dev/zero: is not a regular file"):
        read_samples(path)


def test_a_huge_answer_is_read_to_a_bound_and_is_invalid(tmp_path: Path) -> None:
    folder = tmp_path / "model" / "no-directories"
    folder.mkdir(parents=True)
    (folder / "0.json").write_text(" " * (5 << 20))
    (one,) = read_samples(tmp_path)
    assert len(one.mitigation or "") <= 4 << 20
