"""The older daemon's protocol as values: its rows, its order, its messages, and what of them becomes a version."""
