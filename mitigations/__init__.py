"""Mitigations: every input format read strictly, compiled as a runtime would, and simulated."""
