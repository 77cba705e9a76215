"""What the arguments of a call may be."""

from __future__ import annotations

from attacks.program import Addr, Const, Env
from attacks.recorder import Buffer, Result

Num = int | Result | Const
"""A number: a constant or something computed."""
Fd = int | Result | Const
Pid = int | Result | Env
Ptr = Buffer | Addr | Result | Const | Env | int
