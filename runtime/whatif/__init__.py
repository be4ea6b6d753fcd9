"""What-if: the recorded past run again with a draft of its cycles, and what would have been different (section 14)."""

from runtime.whatif.differences import Changed, Difference
from runtime.whatif.run import Outcome, Past, Window, what_if

__all__ = ["Changed", "Difference", "Outcome", "Past", "Window", "what_if"]
