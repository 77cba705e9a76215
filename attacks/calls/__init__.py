"""The system calls that recipes can record, by what they act on."""
