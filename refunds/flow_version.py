"""Which course of the flow a refund takes: the one that was current when it was submitted.

A change of what the flow calls, in what order or with what inputs would derail refunds in flight,
whose histories hold what was called before. Such a change gets the next number here and a branch
on `seat.flow_version` in flows/refund.py; docs/history.md shows how.
"""

FLOW_VERSION = 1
