"""What a check finds."""

from refunds.errors import RefundError
from refunds.values import Value


class Finding(Value):
    """One check: what was seen, and the remedy when that is not well."""

    name: str
    is_well: bool
    seen: str
    remedy: str = ""


class Unwell(RefundError):
    """Something is wrong. Fields: `seen`, `remedy`."""

    def __init__(self, seen: str, remedy: str) -> None:
        super().__init__(seen, remedy)
        self.seen = seen
        self.remedy = remedy
