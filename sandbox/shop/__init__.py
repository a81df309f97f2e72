"""The shop: its database, the records it is loaded from, and its counts."""
