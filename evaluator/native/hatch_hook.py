"""Hatchling hook: puts the compiled runner in the wheel."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class RunnerBuildHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        del version
        if self.target_name != "wheel":
            return
        build = Path(self.root, "evaluator", "native", "build.py")
        if subprocess.run([sys.executable, str(build)], check=False).returncode:
            raise SystemExit(f"error: {build.name} failed; its message is above")
        build_data["artifacts"].append("/evaluator/_bin/")  # git-ignored, so it has to be named
        build_data["pure_python"] = False
        # Native, but no Python ABI and no libc: one wheel serves every Python of this machine.
        platform = os.environ.get("WHEEL_PLATFORM", sysconfig.get_platform())
        build_data["tag"] = "py3-none-" + platform.replace("-", "_").replace(".", "_")
