"""The step simulator: a compiled kernel and its plain twin."""
