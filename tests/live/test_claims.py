"""docs/claims.md says what this kernel says."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def ambient_confinement() -> bool:
    status = Path("/proc/self/status").read_text().split()
    fields = dict(itertools.pairwise(status))
    return fields["Seccomp:"] != "0" or fields["NoNewPrivs:"] != "0"


@pytest.mark.skipif(ambient_confinement(), reason="needs a process without filter to start from")
def test_every_claim_is_answered_as_the_page_says() -> None:
    done = subprocess.run(
        [sys.executable, DOCS / "claims.py"], capture_output=True, text=True, check=True
    )
    assert done.stdout == (DOCS / "claims.md").read_text(), "run `make docs` and read the change"
