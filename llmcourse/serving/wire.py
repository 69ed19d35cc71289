"""What goes over the wire, in OpenAI's form: requests, answers and errors.

Types are strict: "1" is not a number and 1 is not a string. Fields that this service
does not use are ignored if they change nothing (`user`), and refused if the answer
would then not be what was asked for (`logit_bias`).

Every error has the same form, which the official clients turn into exceptions; only a
wrong host name and too many connections are refused in plain text:

    {"error": {"message": …, "type": …, "param": …, "code": …}}

Source: OpenAI, "API reference" (completions, chat, models).
"""

from typing import Annotated, Any, Literal

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException

MOST_CHOICES = 16
MOST_MESSAGES = 1024  # in a conversation; also parts in a message
MOST_IDS = 1 << 17  # in a prompt
MOST_LOGPROBS = 20  # most probable tokens listed with each token

# A bound on the length makes pydantic refuse lone surrogates in a text.
Text = Annotated[str, Field(min_length=0)]
NonEmpty = Annotated[str, Field(min_length=1)]
Positive = Annotated[int, Field(ge=1, lt=2**31)]
Seconds = Annotated[float, Field(gt=0)]


def _only(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    try:
        return check(value)
    except ValidationError:
        raise PydanticCustomError("unsupported", "Not supported here") from None


# A field that would change the answer may only have the value that changes nothing.
Unsupported = WrapValidator(_only)
Zero = Annotated[float, Field(ge=0, le=0), Unsupported]
One = Annotated[float, Field(ge=1, le=1), Unsupported]
Empty = Annotated[list[Any], Field(max_length=0), Unsupported]
No = Annotated[Literal[False], Unsupported]
NoBias = Annotated[dict[str, Any], Field(max_length=0), Unsupported]


def _form(value: Any) -> str:
    """Return the form that a field has; only errors for that form are reported."""
    return "(list)" if isinstance(value, list) else "(text)"


def _form_of_prompt(value: Any) -> str:
    first = value[0] if isinstance(value, list) and value else ""
    forms = {int: "(ids)", list: "(lists of ids)"}
    return forms.get(type(first), _form(value))


Ids = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**31)]],
    Field(min_length=1, max_length=MOST_IDS, fail_fast=True),
]
_Several = Field(min_length=1, max_length=MOST_CHOICES, fail_fast=True)
Prompt = Annotated[
    Annotated[Text, Tag("(text)")]
    | Annotated[list[Text], _Several, Tag("(list)")]
    | Annotated[Ids, Tag("(ids)")]
    | Annotated[list[Ids], _Several, Tag("(lists of ids)")],
    Discriminator(_form_of_prompt),
]
_Stops = Annotated[list[NonEmpty], Field(max_length=4, fail_fast=True)]
Stop = Annotated[
    Annotated[NonEmpty, Tag("(text)")] | Annotated[_Stops, Tag("(list)")],
    Discriminator(_form),
]


class ServiceConfig(BaseModel):
    """A service's limits, and its key.

    Raises:
        ValueError: If a number is too small, or if the key is empty or begins or ends
            with white space.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)  # the key

    max_batch: Annotated[int, Field(ge=1)] = 16  # requests answered at a time
    max_queue: Annotated[int, Field(ge=0)] = 64  # requests that may wait for a slot
    context: Annotated[int, Field(ge=1)] | None = None  # tokens; None: the model's
    api_key: Annotated[str, Field(pattern=r"^\S(.*\S)?$")] | None = None  # None: open
    allowed_hosts: tuple[str, ...] = ("*",)  # host names that callers may use
    request_seconds: Seconds = 120  # until an answer must be complete
    body_seconds: Seconds = 10  # until a request must have arrived
    max_body_bytes: Annotated[int, Field(ge=1)] = 1 << 20


class Strict(BaseModel):
    """A strictly typed part of a request."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class StreamOptions(Strict):
    """What a stream contains besides the text."""

    include_usage: bool | None = None


class SamplingOptions(Strict):
    """The fields that both kinds of request share."""

    model: Text
    max_tokens: Positive | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Positive | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Text | None = None
    presence_penalty: Zero | None = None
    frequency_penalty: Zero | None = None
    logit_bias: NoBias | None = None
    # Not in OpenAI's API, but in other services':
    min_p: Zero | None = None
    repetition_penalty: One | None = None
    min_tokens: Zero | None = None
    ignore_eos: No | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def stops(self) -> list[str]:
        """The strings that end the text."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class CompletionRequest(SamplingOptions):
    """A text to continue, or several."""

    prompt: Prompt
    max_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    best_of: Annotated[int, Field(ge=1, le=1), Unsupported] | None = None
    suffix: Annotated[str, Field(max_length=0), Unsupported] | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, one or more, as texts or as ids."""
        given: Any = self.prompt
        is_one = isinstance(given, str) or isinstance(given[0], int)
        return [given] if is_one else given


class TextPart(Strict):
    """A part of a message's content; only text is supported."""

    type: Literal["text"]
    text: Text


_Parts = Annotated[list[TextPart], Field(max_length=MOST_MESSAGES, fail_fast=True)]
Content = Annotated[
    Annotated[Text, Tag("(text)")] | Annotated[_Parts, Tag("(list)")],
    Discriminator(_form),
]


class ChatMessage(Strict):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: Text | None = None

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ResponseFormat(Strict):
    """The answer's form: only plain text is supported."""

    type: Literal["text"]


class ChatRequest(SamplingOptions):
    """A conversation to be answered."""

    messages: Annotated[
        list[ChatMessage], Field(min_length=1, max_length=MOST_MESSAGES, fail_fast=True)
    ]
    max_completion_tokens: Positive | None = None
    response_format: ResponseFormat | None = None
    tools: Empty | None = None
    tool_choice: Literal["none", "auto"] | None = None
    functions: Empty | None = None
    function_call: Literal["none", "auto"] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None


FinishReason = Literal["stop", "length"]


class Completion(BaseModel):
    """Continuations of prompts, or answers to a conversation."""

    id: str
    object: Literal["text_completion", "chat.completion"]
    created: int  # seconds since 1970
    model: str
    choices: list[dict[str, Any]]  # "text" or "message", "logprobs", "finish_reason"
    usage: dict[str, int]  # tokens of the prompts, of the choices, and in total


class ModelInfo(BaseModel):
    """The model that the service runs."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "llmcourse"
    context_length: int  # in tokens; this and the next field are not OpenAI's
    chat: bool  # whether it knows conversations


class ModelList(BaseModel):
    """All models of the service: there is one."""

    object: Literal["list"] = "list"
    data: list[ModelInfo]


class Health(BaseModel):
    """Whether the service accepts requests, and how many it has."""

    status: Literal["ok", "stopping"]
    running: int  # in a slot
    waiting: int


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of every answer with status 400 or above."""

    error: ErrorDetail


# Status to OpenAI's type of error, and the default message.
_ERRORS = {
    400: ("invalid_request_error", "The request cannot be answered as it is."),
    401: ("authentication_error", "The key is missing or wrong."),
    404: ("not_found_error", "There is no such model or path."),
    408: ("timeout_error", "The request did not arrive in time."),
    413: ("invalid_request_error", "The request is too large."),
    429: ("rate_limit_error", "Too many requests are waiting: try again later."),
    500: ("server_error", "The service failed; its log says why."),
    503: ("server_error", "The service is stopping."),
    504: ("timeout_error", "The answer was not ready in time."),
}
_HEADERS = {
    401: {"WWW-Authenticate": "Bearer"},
    408: {"Connection": "close"},
    429: {"Retry-After": "1"},
    503: {"Retry-After": "1"},
}


class ApiError(HTTPException):
    """An error that ends a request with an HTTP status and a reason.

    Args:
        status: HTTP status, 400 or above.
        message: The reason, for people; None: the default for the status.
        param: The field of the request that is at fault.
        code: The reason, for programs.

    >>> ApiError(404, "no model 'x'", code="model_not_found").body["error"]["type"]
    'not_found_error'
    """

    def __init__(
        self,
        status: int,
        message: str | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        type_, default = _ERRORS.get(status, _ERRORS[400])
        super().__init__(status, message or default, _HEADERS.get(status))
        error = {"message": self.detail, "type": type_, "param": param, "code": code}
        self.body = {"error": error}


async def http_error(_: Request, error: Exception) -> JSONResponse:
    """Return the answer to a request that ended with an `HTTPException`."""
    assert isinstance(error, HTTPException)
    if not isinstance(error, ApiError):  # a path or method that does not exist
        headers, error = error.headers, ApiError(error.status_code, str(error.detail))
        error.headers = headers
    return JSONResponse(error.body, error.status_code, error.headers)


async def invalid_request(request: Request, error: Exception) -> JSONResponse:
    """Return the answer to a malformed request: its first fault, with status 400."""
    assert isinstance(error, RequestValidationError)
    faults = [fault for fault in error.errors() if fault["loc"]]
    if not faults or faults[0]["type"].startswith("json"):
        fault = ApiError(400, "The body must be JSON.", code="invalid_json")
    else:
        first = faults[0]
        # Parts in brackets are not fields, but forms of a field.
        path = [str(part) for part in first["loc"][1:]]
        path = [_plain(part) for part in path if not part.startswith("(")]
        message = ": ".join([*([".".join(path)] if path else []), str(first["msg"])])
        fault = ApiError(400, message, param=path[0] if path else None)
    return await http_error(request, fault)


def _plain(name: str) -> str:
    r"""Return the name that a caller gave a field, shortened, in printable characters.

    >>> _plain("a" + chr(0xD83D))
    'a\\ud83d'
    """
    return name[:80].encode("ascii", "backslashreplace").decode()
