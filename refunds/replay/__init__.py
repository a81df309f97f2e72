"""Replay: the real flow code against a recorded history, offline, with every way out sealed."""

from refunds.replay.performance import Performance, replay
from refunds.replay.player import Difference
from refunds.replay.stage import Stage

__all__ = ["Difference", "Performance", "Stage", "replay"]
