"""All settings: one frozen object, read once at the edge (see `sources`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)

from .clock_settings import CronSettings, ThreadTtlSettings
from .section import Seconds, Section
from .webhook_settings import WebhookSettings

EMBEDS_WITHOUT_DIMS = ("auto", "offline", "none")
"""What `store.index.embed` can be besides a model of the project's own."""

MOST_DIMENSIONS = 4_000
"""An index of half-precision vectors takes no more."""


class DatabaseSettings(Section):
    """Where the one server we need is."""

    url: str = Field(default="", repr=False)
    """Address for libpq. Empty: `interlock dev` starts the embedded Postgres."""
    direct_url: str = Field(default="", repr=False)
    """Address without a transaction pooler, for LISTEN and migrations. Empty: the same as `url`."""
    pool_max: int = Field(default=20, ge=2)
    """Connections of one event loop at most."""
    embedded_port: int | None = Field(default=None, ge=1, le=65535)
    """TCP port of the embedded Postgres on 127.0.0.1; without it, it only has a socket."""

    @field_validator("url", "direct_url")
    @classmethod
    def _libpq(cls, url: str) -> str:
        # Other libraries want a driver in the scheme, and people copy such addresses.
        return re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", url)

    @model_validator(mode="before")
    @classmethod
    def _direct_is_url(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("direct_url"):
            return {**values, "direct_url": values.get("url", "")}
        return values


class WorkerSettings(Section):
    """How runs are executed."""

    slots: int = Field(default=10, ge=1)
    """Runs at once in one process."""
    run_loops: int = Field(default=1, ge=1)
    """Threads with an event loop each, on which graphs run."""
    isolated_loops: bool = False
    """One loop for each slot, so that a graph that blocks its loop delays nobody."""
    lease_s: Seconds = 10.0
    """How long a worker owns a run without a heartbeat; a dead worker's runs wait this long."""
    poll_s: Seconds = 2.0
    """How often to look for runs when no notification came."""
    max_attempts: int = Field(default=3, ge=1)
    """Crashes in a row at the same step after which a run is quarantined."""
    run_timeout_s: Seconds = 3600.0
    """Time of one attempt at a run."""
    drain_grace_s: Seconds = 20.0
    """Time that runs have to reach the end of a superstep when the process is told to stop."""


class EventSettings(Section):
    """The event log that streams are read from."""

    retention_s: Seconds = 86_400.0
    """How long events of an ended run can be read."""
    flush_interval_ms: int = Field(default=5, ge=0)
    """How long events are gathered while the log is busy; an idle log flushes at once."""
    flush_bytes: int = Field(default=262_144, ge=1024)
    """Gathered bytes that are flushed without waiting."""


class CorsSettings(Section):
    """Which web pages may call the API. Names are those of `http.cors` in langgraph.json."""

    allow_origins: tuple[str, ...] = ("*",)
    """Origins, or `*`."""
    allow_origin_regex: str | None = None
    """A pattern of further origins."""
    allow_methods: tuple[str, ...] = ("*",)
    """Methods, or `*`."""
    allow_headers: tuple[str, ...] = ("*",)
    """Request headers, or `*`."""
    allow_credentials: bool = False
    """Whether cookies and authorization headers may be sent."""
    expose_headers: tuple[str, ...] = ()
    """Response headers that scripts may read, besides those of the protocol."""
    max_age: int = Field(default=600, ge=0)
    """Seconds for which a browser may remember a preflight."""

    @field_validator("allow_origin_regex")
    @classmethod
    def _pattern(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return pattern

    @model_validator(mode="before")
    @classmethod
    def _only_the_pattern(cls, values: Any) -> Any:
        # `further` origins of a pattern alone would be further ones than all.
        if isinstance(values, dict) and values.get("allow_origin_regex") and "allow_origins" not in values:
            return {**values, "allow_origins": ()}
        return values

    @model_validator(mode="after")
    def _credentials_of_known_pages(self) -> Self:
        anybody = "*" in self.allow_origins or (
            self.allow_origin_regex is not None
            and re.fullmatch(self.allow_origin_regex, "https://anybody.invalid") is not None
        )
        if self.allow_credentials and anybody:
            raise ValueError(
                "`allow_credentials` lets every web page act as whoever is signed in when all origins are "
                "allowed; name the pages in `allow_origins` or `allow_origin_regex`"
            )
        return self


class HeaderSettings(Section):
    """Which request headers; names in any case, `*` for any part of one."""

    includes: tuple[str, ...] = ()
    """Names of those that are taken."""
    excludes: tuple[str, ...] = ()
    """Names of those that are not, of the ones above."""


class ConfigurableHeaders(HeaderSettings):
    """The same, with a default as LangGraph's."""

    includes: tuple[str, ...] = ("x-*",)
    """Names of those that are taken. A pattern never reaches `authorization`, `cookie`, `x-api-key`,
    `x-service-key` and `x-tenant-id`; name them in full."""


class HttpSettings(Section):
    """The HTTP side. The keys of `http` in langgraph.json have the same names."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=2024, ge=0, le=65535)
    """Port to listen on."""
    mount_prefix: str = Field(default="", pattern=r"^(/[^/]+)*$")
    """Path before every route."""
    heartbeat_s: Seconds = 5.0
    """Pause between signs of life on streams and waiting responses."""
    send_timeout_s: Seconds = 30.0
    """A reader that takes nothing for this long is disconnected; it can resume."""
    max_body_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    """Largest request body."""
    max_plain_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    """Largest request body without values of a graph: no input, no state, no item of the store."""
    max_batch_runs: int = Field(default=100, ge=1)
    """Runs of one `POST /runs/batch` at most; they are admitted in one transaction."""
    cors: CorsSettings = CorsSettings()
    """Cross-origin requests."""
    configurable_headers: ConfigurableHeaders = ConfigurableHeaders()
    """Request headers that a run finds in `configurable`, by their names in lower case."""
    logging_headers: HeaderSettings = HeaderSettings()
    """Request headers that are logged, with a line for each request. Secrets are blanked."""
    middleware_order: Literal["middleware_first", "auth_first"] = "middleware_first"
    """Whether the middleware of the project's `http.app` comes before or after authentication."""
    enable_custom_route_auth: bool = False
    """Whether the routes of the project's `http.app` ask for credentials."""
    disable_assistants: bool = False
    """Answer 404 on the assistant routes."""
    disable_threads: bool = False
    """Answer 404 on the thread routes."""
    disable_runs: bool = False
    """Answer 404 on the run routes."""
    disable_store: bool = False
    """Answer 404 on the store routes."""
    disable_a2a: bool = False
    """Answer 404 on `/a2a/…` and `/.well-known/agent-card.json`."""
    disable_mcp: bool = False
    """Answer 404 on `/mcp`."""
    disable_meta: bool = False
    """Answer 404 on `/ok`, `/info`, `/metrics` and the API description."""
    disable_webhooks: bool = False
    """Run as asked, but send no webhooks."""
    disable_openai: bool = False
    """Answer 404 on `/v1/models` and `/v1/chat/completions`."""
    disable_ag_ui: bool = False
    """Answer 404 on `/ag-ui/…`."""
    disable_console: bool = False
    """Do not serve the console."""


class ApiKey(Section):
    """One key; only its hash is kept."""

    name: str
    """What it is called in logs."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    """`printf %s KEY | sha256sum`."""
    tenant: str = Field(default="default", min_length=1, max_length=255)
    """The tenant of whoever shows it."""
    subject: str
    """Who that is within the tenant."""
    roles: tuple[str, ...] = ()
    """What that one may do."""
    permissions: tuple[str, ...] = ()
    """Single rights besides: of the API, such as `reviews.update`, or of tools, such as `orders:refund`."""


class AuthSettings(Section):
    """Who may call. Without any key everybody is the one administrator."""

    api_keys: tuple[ApiKey, ...] = ()
    """Keys accepted in `x-api-key` or as a bearer token."""
    tenant_key: str = ""
    """Key by which a user of the project's `auth.path` names its tenant. Empty: all are of `default`."""
    roles_key: str = ""
    """Key by which such a user lists its roles, which then limit the API. Empty: the handlers alone do."""
    handler_timeout_s: float = Field(default=30.0, gt=0)
    """How long a handler of the project's `auth.path` may take before its request is refused with 503."""


class ToolSettings(Section):
    """What agents may do."""

    mode: Literal["enforce", "observe"] = "observe"
    """A plain tool called past the gateway. enforce: it is refused. observe: it is counted and recorded."""
    unknown: Literal["allow", "review", "refuse"] = "allow"
    """A plain tool whose risk nobody declared: it runs and is recorded, waits for a person, or is refused."""
    four_eyes: bool = False
    """Whether another one than whom a call was made for decides it; needs `auth.api_keys` or `auth.path`."""
    policies: Path | None = None
    """Folder of Cedar policies, relative to interlock.toml; without it the built-in ones decide."""
    egress_allow: tuple[str, ...] = ()
    """Hosts that tools may fetch from: `example.org`, or `*.example.org`; `*` for all public ones."""
    private_networks: tuple[str, ...] = ()
    """Private networks that tools may reach too, such as `10.1.0.0/16`; the host must be allowed as well."""
    timeout_s: float = Field(default=1800, gt=0)
    """Deadline of a tool that declares none."""
    max_result_chars: int = Field(default=100_000, ge=1000)
    """Longest text of a result that a model is shown; the rest is cut, and the cut is marked."""


class BudgetSettings(Section):
    """Limits of one run; unset is unlimited. An assistant or a run can only tighten them."""

    steps: int | None = Field(default=None, ge=1)
    """Supersteps."""
    model_calls: int | None = Field(default=None, ge=1)
    """Calls of language models."""
    tool_calls: int | None = Field(default=None, ge=1)
    """Calls of tools."""
    tokens: int | None = Field(default=None, ge=1)
    """Input and output tokens together."""
    seconds: float | None = Field(default=None, gt=0)
    """Active time; waiting for people does not count."""
    on_limit: Literal["ask", "stop"] = "ask"
    """ask: pause and ask a person for more. stop: end with an error."""


class GraphSettings(Section):
    """The graphs of langgraph.json."""

    on_failure: Literal["refuse", "serve_rest"] = "refuse"
    """When a graph cannot load: do not start, or serve the others and report this one."""
    max_recursion_limit: int = Field(default=20_000, ge=1)
    """Highest `recursion_limit` that an assistant or a run may ask for; LangGraph's own default is 10007."""
    model: str = "offline"
    """Chat model of the graphs that come with the server: `offline`, or `provider:model`."""
    budget: dict[str, BudgetSettings] = Field(default={})
    """Budgets of single graphs by id; what one leaves unset comes from `budget`."""


class StoreIndexSettings(Section):
    """How the long-term store searches by meaning. `store.index` in langgraph.json has the same names."""

    embed: str = Field(default="auto", min_length=1, max_length=500)
    """`auto`, `offline`, `none`, `provider:model`, or `./file.py:name` (a function or `Embeddings`)."""
    dims: int | None = Field(default=None, ge=1, le=MOST_DIMENSIONS)
    """Numbers in a vector of the model; the offline model has its own."""
    fields: tuple[str, ...] = ("$",)
    """What is embedded of an item that does not say: `text`, `messages[*].content`; `$` is all of it."""
    deadline_s: Seconds = 30.0
    """Time of one call of the model."""

    @model_validator(mode="after")
    def _has_dims(self) -> Self:
        if self.dims is None and self.embed not in EMBEDS_WITHOUT_DIMS:
            raise ValueError(f"`dims` must say how many numbers a vector of {self.embed!r} has")
        return self


class StoreTtlSettings(Section):
    """How long items are kept. `store.ttl` in langgraph.json has the same names."""

    default_ttl: float | None = Field(default=None, gt=0)
    """Minutes that an item is kept when whoever stores it says nothing; unset: for ever."""
    refresh_on_read: bool = True
    """Whether reading starts the time anew, unless the reader says otherwise."""
    sweep_interval_minutes: float = Field(default=1.0, gt=0)
    """Pause between two removals of what is over; nobody sees it in between."""


class StoreSettings(Section):
    """The long-term store."""

    index: StoreIndexSettings = StoreIndexSettings()
    """Search by meaning."""
    ttl: StoreTtlSettings = StoreTtlSettings()
    """Time to live."""


class LogSettings(Section):
    """What the process writes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity."""
    json_lines: bool | None = None
    """One JSON object a line. Unset: when standard error is no terminal."""
    color: bool | None = None
    """Colours. Unset: when standard error is a terminal."""

    @model_validator(mode="before")
    @classmethod
    def _lower(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("level"), str):
            return {**values, "level": values["level"].lower()}
        return values


class Settings(Section):
    """Everything that can be set."""

    home: Path = Path(".interlock")
    """Where the embedded database lies; relative to the project."""
    unknown_fields: Literal["warn", "refuse"] = "warn"
    """What a request field that we do not know gets: a warning header, or 422."""
    unsupported_keys: Literal["refuse", "warn"] = "refuse"
    """What a langgraph.json key that we do not support does: no start, or a warning at start."""
    database: DatabaseSettings = DatabaseSettings()
    worker: WorkerSettings = WorkerSettings()
    events: EventSettings = EventSettings()
    crons: CronSettings = CronSettings()
    thread_ttl: ThreadTtlSettings = ThreadTtlSettings()
    http: HttpSettings = HttpSettings()
    auth: AuthSettings = AuthSettings()
    tools: ToolSettings = ToolSettings()
    budget: BudgetSettings = BudgetSettings()
    graphs: GraphSettings = GraphSettings()
    store: StoreSettings = StoreSettings()
    webhooks: WebhookSettings = WebhookSettings()
    log: LogSettings = LogSettings()

    _sources: Mapping[str, str] = PrivateAttr(default_factory=dict)

    def budget_of(self, graph_id: str) -> BudgetSettings:
        """The budget of a graph: its own limits over the general ones."""
        own = self.graphs.budget.get(graph_id, BudgetSettings()).model_dump(exclude_unset=True)
        return self.budget.model_copy(update=own)

    @property
    def sources(self) -> Mapping[str, str]:
        """Where each value came from, by dotted path; a default has no entry."""
        return self._sources


def masked(url: str) -> str:
    """A database address without its password, in either form that libpq takes."""
    without = re.sub(r"(?<=://)([^:@/]*):[^@/]*@", r"\1:***@", url)
    return re.sub(r"(\bpassword=)('(?:[^'\\]|\\.)*'|[^\s&]+)", r"\1***", without)
