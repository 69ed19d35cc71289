"""What goes over the wire, in the form of OpenAI's interface: requests and answers.

Types are strict: "1" is no number and 1 is no string. Fields that this service has no
use for are ignored if they change nothing (`user`), and refused where ignoring them
would give something else than was asked for (`logit_bias`).

Source: OpenAI, "API reference" (completions, chat, embeddings, models).
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _is_text(text: str) -> str:
    """Raise ValueError for halves of characters, which JSON allows and UTF-8 does not.

    >>> _is_text(chr(0xD83D))
    Traceback (most recent call last):
    ValueError: must be Unicode text, got half of a surrogate pair
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be Unicode text, got half of a surrogate pair") from None
    return text


Text = Annotated[str, AfterValidator(_is_text)]
Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
Nothing = Annotated[float, Field(ge=0, le=0)]
MOST_CHOICES = 16
MOST_INPUTS = 256


class Strict(BaseModel):
    """A part of a request."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class StreamOptions(Strict):
    """What a stream tells beside the text."""

    include_usage: bool | None = None


class SamplingOptions(Strict):
    """What requests for text of both kinds have in common."""

    model: Text
    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: (
        Annotated[Text, Field(min_length=1)]
        | Annotated[list[Annotated[Text, Field(min_length=1)]], Field(max_length=4)]
        | None
    ) = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Text | None = None
    presence_penalty: Nothing | None = None
    frequency_penalty: Nothing | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None

    @property
    def stops(self) -> list[str]:
        """The strings that end the text."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class CompletionRequest(SamplingOptions):
    """A text to go on with, or several, as text or as ids."""

    prompt: (
        Text
        | Annotated[list[Text], Field(min_length=1, max_length=MOST_CHOICES)]
        | Ids
        | Annotated[list[Ids], Field(min_length=1, max_length=MOST_CHOICES)]
    )
    echo: bool | None = None
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    logprobs: None = None  # 0 would ask for those of the tokens that were drawn
    suffix: Annotated[str, Field(max_length=0)] | None = None

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts, one or more."""
        prompt: Any = self.prompt
        is_one = isinstance(prompt, str) or isinstance(prompt[0], int)
        return [prompt] if is_one else prompt


class TextPart(Strict):
    """A part of a message's content; only text is understood."""

    type: Literal["text"]
    text: Text


class ChatMessage(Strict):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]
    name: Text | None = None

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ResponseFormat(Strict):
    """Only free text can be asked for."""

    type: Literal["text"]


class ChatRequest(SamplingOptions):
    """A conversation to be answered."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    functions: Annotated[list[Any], Field(max_length=0)] | None = None
    function_call: Literal["none", "auto"] | None = None
    logprobs: Literal[False] | None = None


class EmbeddingRequest(Strict):
    """Texts that vectors are wanted of."""

    model: Text
    input: (
        Annotated[Text, Field(min_length=1)]
        | Annotated[
            list[Annotated[Text, Field(min_length=1)]],
            Field(min_length=1, max_length=MOST_INPUTS),
        ]
        | Ids
        | Annotated[list[Ids], Field(min_length=1, max_length=MOST_INPUTS)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    user: Text | None = None

    @property
    def inputs(self) -> list[str] | list[list[int]]:
        """The texts, one or more."""
        found: Any = self.input
        is_one = isinstance(found, str) or isinstance(found[0], int)
        return [found] if is_one else found


FinishReason = Literal["stop", "length"]


class Usage(BaseModel):
    """Tokens that were read and written."""

    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int


class CompletionChoice(BaseModel):
    """One continuation, or a piece of it."""

    index: int
    text: str
    logprobs: None = None
    finish_reason: FinishReason | None


class Completion(BaseModel):
    """Continuations of prompts."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int  # seconds since 1970
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class AnswerMessage(BaseModel):
    """What the assistant says."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: None = None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """Answers to a conversation."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int  # seconds since 1970
    model: str
    choices: list[ChatChoice]
    usage: Usage


class Vector(BaseModel):
    """A text's vector: numbers, or float32, lowest byte first, as base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Embeddings(BaseModel):
    """Vectors of texts, each of length 1."""

    object: Literal["list"] = "list"
    data: list[Vector]
    model: str
    usage: Usage


class ModelInfo(BaseModel):
    """What the service writes with."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "llmcourse"
    context_length: int  # in tokens; this and the next are not OpenAI's
    chat: bool  # whether it knows conversations


class ModelList(BaseModel):
    """All models of the service: one."""

    object: Literal["list"] = "list"
    data: list[ModelInfo]


class Health(BaseModel):
    """That the service is there."""

    status: Literal["ok", "stopping"]


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of every answer with a status from 400."""

    error: ErrorDetail
