"""The command `sidestep`: runs attack programs with and without a mitigation, and judges."""
