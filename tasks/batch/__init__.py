"""Many refunds at a time: what the refund chain does for one, step by step for a chunk of them."""
