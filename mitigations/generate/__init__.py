"""Mitigations that a language model writes: what it is asked, what it answers, what that costs.

Nothing here knows an attack: prompts, feedback and tools are given by whoever drives this.
"""
