"""The default chat model: no key, no network, no chance."""

from .model import OfflineModel

__all__ = ["OfflineModel"]
