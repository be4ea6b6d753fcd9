"""The list that data is split by when nobody names one (`settings.split`): the only one that lies least deep.

Data is looked through level by level, objects only: `[…]` itself, then the values of its names, then theirs. The first
level with a list decides; with several lists there, nothing says which of them the rest belongs to.
"""

from collections.abc import Mapping, Sequence
from typing import Any

NAMED_MAX = 10  # Lists named when there are several; the least of them say what is wrong.


class NotSplittable(ValueError):
    """The data's fault: there are several lists at one depth, or a list is too long."""


def find_list(data: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The path of names to the list that lies least deep, None when there is none.

    Raises:
        NotSplittable: there are several at that depth.
    """
    level: list[tuple[tuple[str, ...], Any]] = [((), data)]
    while level:
        below = [((*path, name), one) for path, value in level for name, one in value.items()]
        lists = [path for path, one in below if isinstance(one, list)]
        if len(lists) > 1:
            more = "" if len(lists) <= NAMED_MAX else f" and {len(lists) - NAMED_MAX} more"
            names = ", ".join(".".join(path) for path in lists[:NAMED_MAX])
            raise NotSplittable(f"there are several lists at one depth: {names}{more}")
        if lists:
            return lists[0]
        level = [(path, one) for path, one in below if isinstance(one, Mapping)]
    return None


def value_at(data: Mapping[str, Any], path: Sequence[str]) -> Any:
    """The value at a path that leads somewhere."""
    value: Any = data
    for name in path:
        value = value[name]
    return value


def put_at(data: Mapping[str, Any], path: Sequence[str], value: Any) -> Any:
    """A copy of the data with another value at a path; what is not on the way is shared."""
    if not path:
        return value
    return {**data, path[0]: put_at(data[path[0]], path[1:], value)}
