"""The families: one effect in each file, found by ``attacks.library``."""
