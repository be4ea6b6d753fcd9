"""Where incidents are told: what a cycle file and the settings of a server say about alerts."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class Alerts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where incidents of this level, or above it, are told; "" is nowhere.

    `url` and `headers` may hold `{{ env.NAME }}`, which is put in when an alert leaves.
    """

    url: Annotated[
        str, Meta(pattern=r"^$|^https?://|^cycle:|^\{\{ *env\.", description="https://… or cycle:NAME/step")
    ] = ""
    level: Literal["warning", "error"] = "error"
    headers: dict[str, str] = {}
    allow_private: bool | Literal["yes", "no"] = False
