"""What is easier to say in Python than in sidestep.toml."""

import json
from pathlib import Path

import pytest

PROFILES = sorted(Path("profiles").glob("*.json"))


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
def test_a_shell_runs_under_every_profile(sidestep, profile):
    sidestep.assert_works(profile, "shell-basics")


def test_no_directory_can_be_made(sidestep):
    sidestep.assert_holds("profiles/no-new-directories.json", "create-directory")


def test_a_generated_profile_is_in_force(sidestep, tmp_path):
    profile = tmp_path / "generated.json"
    rule = {"names": ["chroot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    result = sidestep.evaluate(profile, family=["create-directory"])
    assert result["candidates"][0]["enforced"]
