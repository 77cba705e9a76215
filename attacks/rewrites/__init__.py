"""The rules; a file of this package holds those of one kind, and ``rule`` says what a rule is."""

from importlib import import_module

from attacks.rewrites.rule import REWRITES, Rewrite, derive, derived

__all__ = ["REWRITES", "Rewrite", "derive", "derived"]

# In the order in which they are shown; of two that make the same program the first one names it.
for _kind in ("siblings", "tables", "arguments", "rings", "paths", "processes"):
    import_module(f"{__name__}.{_kind}")
