"""Chat models by name: `offline`, or `provider:model` of any LangChain integration that is installed."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
from collections.abc import Mapping
from typing import NamedTuple
from weakref import WeakKeyDictionary

from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel

from .context import current
from .offline import OfflineModel

OFFLINE = "offline"

OFFLINE_AT_ONCE = "offline:at-once"
"""The offline model without its pause between words."""


class Provider(NamedTuple):
    """What has to be there before a provider's models can be used."""

    package: str
    keys: tuple[str, ...]
    """Variables with the key; one of them is enough."""


PROVIDERS: Mapping[str, Provider] = {
    "anthropic": Provider("langchain-anthropic", ("ANTHROPIC_API_KEY",)),
    "azure_openai": Provider("langchain-openai", ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN")),
    "cohere": Provider("langchain-cohere", ("COHERE_API_KEY",)),
    "deepseek": Provider("langchain-deepseek", ("DEEPSEEK_API_KEY",)),
    "google_genai": Provider("langchain-google-genai", ("GOOGLE_API_KEY", "GEMINI_API_KEY")),
    "groq": Provider("langchain-groq", ("GROQ_API_KEY",)),
    "mistralai": Provider("langchain-mistralai", ("MISTRAL_API_KEY",)),
    "openai": Provider("langchain-openai", ("OPENAI_API_KEY",)),
    "openrouter": Provider("langchain-openrouter", ("OPENROUTER_API_KEY",)),
    "xai": Provider("langchain-xai", ("XAI_API_KEY",)),
}
"""The usual providers, so that both things missing are said before anything is tried. LangChain knows
more of them; those say themselves what they lack."""


class ModelUnavailable(Exception):
    """The chat model cannot be used; the message says what is missing."""


# A client keeps connections of the loop it was first used on, so each loop has its own.
_opened: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, BaseChatModel]] = WeakKeyDictionary()


def default_model() -> str:
    """Name of the model that is used where none is chosen: a setting of the server."""
    context = current()
    return OFFLINE if context is None else context.model


async def chat_model(name: str) -> BaseChatModel:
    """The chat model of that name, opened once for each event loop.

    Raises:
        ModelUnavailable: the name is unknown, or a package or a key is missing.
    """
    models = _opened.setdefault(asyncio.get_running_loop(), {})
    if name not in models:
        # Not on the loop: a provider's package takes a second to import.
        models[name] = await asyncio.to_thread(open_chat_model, name, os.environ)
    return models[name]


def open_chat_model(name: str, environ: Mapping[str, str]) -> BaseChatModel:
    """Open a chat model.

    Raises:
        ModelUnavailable: the name is unknown, or a package or a key is missing.
    """
    if name == OFFLINE:
        return OfflineModel()
    if name == OFFLINE_AT_ONCE:
        return OfflineModel(model_name=name, pause_s=0)
    provider, _, model = name.partition(":")
    if not provider or not model:
        raise ModelUnavailable(
            f"model {name!r} is not known; use `{OFFLINE}`, or `provider:model` as in `openai:gpt-5`"
        )
    provider = provider.replace("-", "_").lower()
    _require(name, PROVIDERS.get(provider), environ)
    try:
        return init_chat_model(model, model_provider=provider)
    except ImportError as error:
        package = re.search(r"pip install ([\w-]+)", str(error))
        if package is None:
            raise ModelUnavailable(f"model {name!r} cannot be loaded: {error}") from error
        raise ModelUnavailable(_needs_package(name, package[1])) from error
    except ValueError as error:
        raise ModelUnavailable(f"model {name!r} cannot be used: {error}") from error


def _require(name: str, provider: Provider | None, environ: Mapping[str, str]) -> None:
    if provider is None:
        return
    if importlib.util.find_spec(provider.package.replace("-", "_")) is None:
        raise ModelUnavailable(_needs_package(name, provider.package))
    if not any(environ.get(key) for key in provider.keys):
        keys = " or ".join(f"`{key}`" for key in provider.keys)
        raise ModelUnavailable(
            f"model {name!r} needs a key: set {keys} in the environment of the server, "
            "for example in the file that `env` in langgraph.json names"
        )


def _needs_package(name: str, package: str) -> str:
    return f"model {name!r} needs the package `{package}`: `pip install {package}` where the server runs"
