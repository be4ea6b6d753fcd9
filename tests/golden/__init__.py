"""Journals as builds of the past wrote them, which every later build replays to the same state."""
