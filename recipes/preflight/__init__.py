"""The preflight: whether a run fits, adds up and is wired right, before any weights are loaded."""
