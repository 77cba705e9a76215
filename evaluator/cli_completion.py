"""The command ``sidestep completion``: the script by which a shell asks for completions."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from evaluator.errors import HarnessError
from evaluator.options import debug_option
from evaluator.terminal import say

PROGRAM = "sidestep"


@click.command()
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
@debug_option
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script by which SHELL (bash, zsh, fish) completes options, families and files.

    For the shell that runs: source <(sidestep completion bash), the same with zsh, or
    sidestep completion fish | source. In ~/.bashrc or ~/.zshrc for all to come.
    """
    made = get_completion_class(shell)
    if made is None:
        raise HarnessError(f"click knows no completion for {shell}")
    variable = f"_{PROGRAM.upper()}_COMPLETE"  # the one that click looks for when it is called so
    say(made(context.find_root().command, {}, PROGRAM, variable).source().strip())
