"""How well a replay tells what an engine does: the engine is measured, serves, and is replayed, all in one session."""
