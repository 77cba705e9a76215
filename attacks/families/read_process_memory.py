"""Read the memory of another process of the same user."""

from attacks import deputy, neighbour
from attacks.consts import (
    AT_FDCWD,
    IOSQE_IO_LINK,
    NULL,
    O_DIRECTORY,
    O_PATH,
    O_RDONLY,
    PTRACE_INTERRUPT,
    PTRACE_SEIZE,
    WALL,
    Named,
)
