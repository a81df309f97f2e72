"""How long a test waits for what has to come."""

# Only what hangs takes so long. A machine may be at half of its speed, with four stacks at work on
# its two cores; nothing here is about speed.
PATIENCE_SECONDS = 240.0
