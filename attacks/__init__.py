"""The attack library: effects, and the recorded programs that reach them.

Import from the modules; this file stays empty so that a use of one part loads nothing else.
"""
