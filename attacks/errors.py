"""What goes wrong with attack programs and references to them: one line each."""


class AttackError(Exception):
    """A recipe, a reference or a program that is wrong; ``str()`` is one line for the user."""
