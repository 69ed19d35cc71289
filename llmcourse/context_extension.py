"""The same weights with a longer context window.

    model        512 positions, angles as it has learned
    longer     2,048 positions, angles as before, or slowed down by 4

Where positions turn (RoPE), a longer window needs longer tables and nothing else; the
question is what the model makes of them. Where positions are learned, those that it
does not have cannot be made up, and there is no longer window.
"""

import copy
from dataclasses import replace

from llmcourse.rope_scaling import RopeScaling, ntk_base, scaled_rope_tables
from llmcourse.transformer import Transformer

WAYS = ("none", "linear", "ntk", "yarn")


def extend_context(
    model: Transformer,
    context_length: int,
    way: str = "none",
    *,
    trained_length: int | None = None,
) -> Transformer:
    """Return a copy of a model that reads longer texts.

    Args:
        model: Of Llama's family; is not changed.
        context_length: Of the copy, in tokens.
        way: "none" leaves the angles as they are; "linear", "ntk" and "yarn" slow them
            down by `context_length` over `trained_length`.
        trained_length: Tokens that the model has seen at once in training; None takes
            its present `context_length`.

    Raises:
        ValueError: If there is no such way, if the model has no angles, if they are
            slowed down already, or if the context would not be longer than the
            training's.

    >>> from llmcourse.transformer import TINY
    >>> longer = extend_context(Transformer(TINY), 256, "linear")
    >>> longer(torch.zeros(1, 200, dtype=torch.long)).shape
    torch.Size([1, 200, 512])
    """
    config = model.config
    trained = config.context_length if trained_length is None else trained_length
    if way not in WAYS:
        raise ValueError(f"way must be one of {', '.join(WAYS)}, got {way!r}")
    if config.family != "llama" or config.rope_scaling is not None:
        raise ValueError(
            "only positions that turn, and are not slowed down yet, can be, got "
            f"{config.family} with {config.rope_scaling}"
        )
    if not 1 <= trained < context_length:
        raise ValueError(
            f"context_length must be above the {trained} of training, "
            f"got {context_length}"
        )
    factor = context_length / trained
    base, scaling = config.rope_base, None
    if way == "ntk":
        base = ntk_base(base, config.d_head, factor)
    elif way == "linear":
        scaling = RopeScaling(kind="linear", factor=factor)
    elif way == "yarn":
        scaling = RopeScaling(kind="yarn", factor=factor, original_length=trained)
    longer = copy.deepcopy(model)
    longer.config = replace(
        config, context_length=context_length, rope_base=base, rope_scaling=scaling
    )
    tables = scaled_rope_tables(context_length, config.d_head, base, scaling)
    longer.cos, longer.sin = (
        table.to(model.embedding.weight.device) for table in tables
    )
    return longer
