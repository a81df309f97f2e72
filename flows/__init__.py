"""What happens next: deterministic, with no I/O, no clock and no randomness of its own."""
