"""Finds the place whose time is asked for: `in Tokyo` is `Asia/Tokyo`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple
from zoneinfo import available_timezones

_OTHER_NAMES: Mapping[str, str] = {
    "utc": "UTC",
    "gmt": "UTC",
    "san francisco": "America/Los_Angeles",
    "seattle": "America/Los_Angeles",
    "california": "America/Los_Angeles",
    "boston": "America/New_York",
    "washington": "America/New_York",
    "miami": "America/New_York",
    "houston": "America/Chicago",
    "dallas": "America/Chicago",
    "montreal": "America/Toronto",
    "rio": "America/Sao_Paulo",
    "rio de janeiro": "America/Sao_Paulo",
    "munich": "Europe/Berlin",
    "hamburg": "Europe/Berlin",
    "frankfurt": "Europe/Berlin",
    "germany": "Europe/Berlin",
    "france": "Europe/Paris",
    "spain": "Europe/Madrid",
    "barcelona": "Europe/Madrid",
    "italy": "Europe/Rome",
    "milan": "Europe/Rome",
    "geneva": "Europe/Zurich",
    "england": "Europe/London",
    "scotland": "Europe/London",
    "mumbai": "Asia/Kolkata",
    "delhi": "Asia/Kolkata",
    "new delhi": "Asia/Kolkata",
    "bangalore": "Asia/Kolkata",
    "india": "Asia/Kolkata",
    "china": "Asia/Shanghai",
    "beijing": "Asia/Shanghai",
    "osaka": "Asia/Tokyo",
    "korea": "Asia/Seoul",
    "abu dhabi": "Asia/Dubai",
    "hanoi": "Asia/Ho_Chi_Minh",
    "cape town": "Africa/Johannesburg",
}
"""Places that the time zone database does not name."""

_REGIONS = {"Africa", "America", "Antarctica", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific"}


class Place(NamedTuple):
    """A place that a text names."""

    name: str
    """As the text writes it."""
    zone: str
    """IANA name."""


@cache
def _zones() -> Mapping[str, str]:
    found: dict[str, str] = {}
    for zone in sorted(available_timezones()):
        region, _, city = zone.partition("/")
        if region in _REGIONS and city:
            found.setdefault(zone.rpartition("/")[2].replace("_", " ").lower(), zone)
        elif not city and zone.isalpha() and len(zone) > 4:
            found.setdefault(zone.lower(), zone)  # Japan, Singapore, Israel, …
    return {**found, **_OTHER_NAMES}


def place_in(text: str) -> Place | None:
    """The first place that a text names, by a full IANA name or by a city or country."""
    written_out = re.search(r"\b[A-Z][A-Za-z]+/[A-Za-z_]+(?:/[A-Za-z_]+)?\b", text)
    if written_out and written_out[0] in available_timezones():
        return Place(written_out[0].rpartition("/")[2].replace("_", " "), written_out[0])
    tokens = list(re.finditer(r"[^\W\d_]+", text))
    zones = _zones()
    for start, first in enumerate(tokens):
        for length in (3, 2, 1):
            last = tokens[start + length - 1] if start + length <= len(tokens) else None
            if last is None:
                continue
            name = text[first.start() : last.end()]
            # A city is written with a capital; without it, `nice` and `eastern` would be places.
            written_as_name = name[0].isupper() or re.search(r"\b(?:in|at|for)\s+$", text[: first.start()])
            if written_as_name and (zone := zones.get(_plain(name))):
                return Place(name, zone)
    return None


def _plain(name: str) -> str:
    """In small letters and without accents, as the database writes cities."""
    decomposed = unicodedata.normalize("NFKD", name.lower())
    return "".join(c for c in decomposed if not unicodedata.combining(c))
