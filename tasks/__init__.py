"""Side effects: one external system per file, one verb per task."""
