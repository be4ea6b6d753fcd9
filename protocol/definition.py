"""What a cycle file says: the types that read it, that are journaled with it, and that its JSON Schema is made from.

One Struct per section of the file and per kind of step. Unknown keys are errors. A step names its kind by the one
key that is a kind (`webhook: shop`, `post: warehouse`, `decide: …`), so a file reads like prose and the kind needs
no key of its own.

A definition is frozen once deployed: progress of a transaction is only ever in the journal, never in here.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from protocol.ages import Retention
from protocol.alert_settings import Alerts

Identifier = Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_]*$", max_length=64)]
"""A CEL identifier: names of cycles, steps and connectors, so that each can be written inside an expression."""

Length = Annotated[str, Meta(pattern=r"^\s*\d{1,9}(\.\d{1,9})?\s*[a-z]+\s*$", description="e.g. 5 minutes")]
"""A length of time as `protocol.duration.parse_duration` reads it."""

RateText = Annotated[
    str, Meta(pattern=r"^\s*[1-9]\d{0,5}\s*/\s*(second|minute|hour)\s*$", description="e.g. 10/second")
]
"""So many calls in any second, minute or hour, as `protocol.remotes.parse_rate` reads it."""

FieldType = Literal["text", "integer", "decimal", "float", "boolean", "datetime", "object", "list", "any"]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Policy = Literal["ignore", "retry", "stop_transaction", "stop_cycle"]
BodyKind = Literal["json", "form", "xml", "text", "none"]
Check = Literal["reject", "warn", "off"]
YesNo = bool | Literal["yes", "no"]
"""Both spellings mean the same: YAML 1.2 reads a bare `no` as text, and a person means `false`."""

END = "end"
"""The target that ends a pass; never the id of a step."""


class FieldSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One declared custom field of a request or a response."""

    type: FieldType = "any"
    required: bool = False
    default: Any = None
    description: str = ""
    sensitive: bool = False


Fields = dict[str, FieldSpec | FieldType]
"""Field location → its declaration, or the short form: its type alone."""


class MethodFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a connector declares once for every step that uses one of its methods."""

    fields: Fields = {}


class Connector(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A named installation of the generic webhook connector: where calls go and what they carry."""

    description: str = ""
    base_url: str = ""
    headers: dict[str, str] = {}
    allow_private: YesNo = False
    concurrency: Annotated[int, Meta(ge=1, le=1000)] = 20
    rate: RateText | UnsetType = UNSET
    timeout: Length = "30 seconds"
    webhook: MethodFields | UnsetType = UNSET
    get: MethodFields | UnsetType = UNSET
    post: MethodFields | UnsetType = UNSET
    put: MethodFields | UnsetType = UNSET
    patch: MethodFields | UnsetType = UNSET
    delete: MethodFields | UnsetType = UNSET


class Retry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Attempts after the first one, each so long after the one before."""

    retry: Annotated[list[Length], Meta(min_length=1, max_length=50)]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Defaults of a whole cycle."""

    on_error: Policy | Retry = "ignore"
    max_depth: Annotated[int, Meta(ge=1, le=64)] = 16
    while_stopped: Literal["refuse", "collect"] = "refuse"
    split: Literal["none", "trigger", "all"] = "none"
    retention: Retention = Retention()
    alerts: Alerts | UnsetType = UNSET


class Condition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One comparison, or a combination: exactly one of `left`, `all` and `any` is given."""

    left: str | UnsetType = UNSET
    op: str | UnsetType = field(default=UNSET, name="is")
    right: Any = UNSET
    all: "list[Condition | str] | UnsetType" = UNSET
    any: "list[Condition | str] | UnsetType" = UNSET


class StepBase(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every step may say."""

    description: str = ""
    next: str = ""
    on_error: Policy | Retry | UnsetType = UNSET


class Dedupe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which part of a request names the delivery, and for how long a name is remembered."""

    header: str = ""
    query: str = ""
    field: str = ""
    window: Length = "3 days"


SecretName = Annotated[str, Meta(pattern=r"^env\.[A-Za-z_][A-Za-z0-9_]*$", description="e.g. env.SHOP_SECRET")]
"""A secret is named, never written: cycle files are shared, and journaled."""

FunctionName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$",
        description="module:function, or package.module:function",
    ),
]
"""A Python function of the project."""

Scheme = Literal["standard_webhooks", "github", "stripe", "slack", "hmac", "bearer", "basic", "api_key"]


class Verify(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a request shows who sent it; `secrets` are all live ones while one is replaced by another.

    The secret of `basic` is `user:password`. `header` is where `hmac` and `api_key` look.
    """

    scheme: Scheme
    secret: SecretName | UnsetType = UNSET
    secrets: Annotated[list[SecretName], Meta(max_length=5)] = []
    header: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{0,100}$")] = ""
    encoding: Literal["hex", "base64"] = "hex"
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"

    @property
    def names(self) -> list[str]:
        """The environment variables that hold the live secrets."""
        said = [] if self.secret is UNSET else [self.secret]
        return [name.removeprefix("env.") for name in (*said, *self.secrets)]


class WebhookStep(StepBase, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The trigger of a cycle, or, with `match`, a mid-cycle webhook that holds the transaction."""

    webhook: Identifier
    fields: Fields = {}
    match: dict[str, str] = {}
    methods: Annotated[list[Method], Meta(min_length=1)] = field(default_factory=lambda: ["POST"])
    identifier: Annotated[str, Meta(min_length=8, max_length=128, pattern=r"^[A-Za-z0-9_-]+$")] = ""
    verify: Verify | UnsetType = UNSET
    check: Check = "reject"
    dedupe: Dedupe | Literal["off"] = Dedupe()
    answer_within: Length = "30 seconds"
    on_late: Literal["problem", "accept"] = "problem"
    park: Length = "10 minutes"
    unmatched: Literal["park", "reject"] = "park"
    pick: Literal["latest", "only"] = "latest"
    hold_for: Length | UnsetType = UNSET
    on_timeout: str = "fail"
    newer_than: str = ""
    capture: Literal["next"] | UnsetType = UNSET
    before_webhook: FunctionName | UnsetType = UNSET
    after_webhook: FunctionName | UnsetType = UNSET


class CallStep(StepBase, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An HTTP request to a remote system, or to another cycle (`url: cycle:target/step`)."""

    path: str = ""
    url: str = ""
    query: dict[str, Any] = {}
    headers: dict[str, str] = {}
    body: Any = None
    body_as: BodyKind = "json"
    fields: Fields = {}
    timeout: Length | UnsetType = UNSET
    safe_to_repeat: YesNo | UnsetType = UNSET

    @property
    def method(self) -> Method:
        """The HTTP method, which is also the key that names the kind."""
        raise AssertionError("only the five kinds of call are read from a file")

    @property
    def connector(self) -> str:
        """The name of the connector that carries the call."""
        raise AssertionError("only the five kinds of call are read from a file")


class GetStep(CallStep, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Read from a remote system."""

    get: Identifier

    @property
    def method(self) -> Method:
        return "GET"

    @property
    def connector(self) -> str:
        return self.get


class PostStep(CallStep, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Create in a remote system, or hand over to another cycle."""

    post: Identifier

    @property
    def method(self) -> Method:
        return "POST"

    @property
    def connector(self) -> str:
        return self.post


class PutStep(CallStep, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Replace in a remote system."""

    put: Identifier

    @property
    def method(self) -> Method:
        return "PUT"

    @property
    def connector(self) -> str:
        return self.put


class PatchStep(CallStep, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Change in a remote system."""

    patch: Identifier

    @property
    def method(self) -> Method:
        return "PATCH"

    @property
    def connector(self) -> str:
        return self.patch


class DeleteStep(CallStep, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Remove from a remote system."""

    delete: Identifier

    @property
    def method(self) -> Method:
        return "DELETE"

    @property
    def connector(self) -> str:
        return self.delete


class Response(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the caller who is still waiting is told."""

    status: int | str = 200
    headers: dict[str, str] = {}
    body: Any = None
    body_as: BodyKind = "json"


class RespondStep(StepBase, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Answers the hit that began the pass; the pass goes on after it."""

    respond: Response


class DecideStep(StepBase, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A branch: `then`/`else` on a condition, or `cases`/`default` on the value of an expression."""

    decide: Condition | str
    then: str = ""
    else_: str = field(default="", name="else")
    cases: dict[str, str] = {}
    default: str = ""


class DelayStep(StepBase, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Waits for a length of time, in the journal: whatever happens to the process."""

    delay: Length


class WaitUntilStep(StepBase, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Waits until an instant: RFC 3339 text, or milliseconds since 1970; one that is past is no wait."""

    wait_until: str | int


class SplitStep(StepBase, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Runs each item of a list as a transaction of its own, whose data under this step's id is the item."""

    split: str


class WaitAllStep(StepBase, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Ends here every transaction that comes; one new one goes on when no other of the cycle is on its way here."""

    wait_all: bool


class ScriptStep(StepBase, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Calls a Python function of the project with the data of the steps before; what it returns is this step's data."""

    script: FunctionName
    safe_to_repeat: YesNo = True


class NoteStep(StepBase, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An annotation for readers of the file; it never runs."""

    note: str


Step = (
    WebhookStep
    | GetStep
    | PostStep
    | PutStep
    | PatchStep
    | DeleteStep
    | RespondStep
    | DecideStep
    | DelayStep
    | WaitUntilStep
    | SplitStep
    | WaitAllStep
    | ScriptStep
    | NoteStep
)

KINDS: dict[str, type[StepBase]] = {
    "webhook": WebhookStep,
    "get": GetStep,
    "post": PostStep,
    "put": PutStep,
    "patch": PatchStep,
    "delete": DeleteStep,
    "respond": RespondStep,
    "decide": DecideStep,
    "delay": DelayStep,
    "wait_until": WaitUntilStep,
    "split": SplitStep,
    "wait_all": WaitAllStep,
    "script": ScriptStep,
    "note": NoteStep,
}
"""The key that names a kind → the type that reads such a step."""


def functions(step: Step) -> dict[str, str]:
    """The functions of the project that a step calls, by the key that names each."""
    match step:
        case ScriptStep(script=function):
            return {"script": function}
        case WebhookStep():
            said = {"before_webhook": step.before_webhook, "after_webhook": step.after_webhook}
            return {key: function for key, function in said.items() if isinstance(function, str)}
        case _:
            return {}


class Definition(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A whole cycle, read from its file; `connectors` holds those of the project too.

    `steps` keep the order in which they were written: each flows to the next one.
    """

    cycle: Identifier
    description: str = ""
    connectors: dict[str, Connector] = {}
    variables: dict[str, Any] = {}
    settings: Settings = Settings()
    steps: dict[str, Step] = {}
