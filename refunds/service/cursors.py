"""Where a page of the inbox ended, as text in an address."""

import base64
import binascii
import json
from datetime import datetime

from refunds.errors import BadInput
from refunds.ledger.inbox import Cursor


def write(cursor: Cursor) -> str:
    """The cursor as text."""
    priority, deadline, approval_id = cursor
    content = json.dumps([priority, deadline.isoformat(), approval_id])
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def read(text: str) -> Cursor | None:
    """The cursor in a text, None in an empty one. Raises BadInput for one that is not ours."""
    if not text:
        return None
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        priority, deadline, approval_id = json.loads(content)
        at = datetime.fromisoformat(deadline)
    except (binascii.Error, ValueError, TypeError, RecursionError) as error:
        raise BadInput("this page of the list does not exist; begin at the first") from error
    if at.tzinfo is None or not isinstance(priority, int) or not isinstance(approval_id, str):
        raise BadInput("this page of the list does not exist; begin at the first")
    return priority, at, approval_id
