"""Weights as small whole numbers: a quarter of the memory, or an eighth.

    weights   0.30  -0.11   0.02  -0.27      one row of a matrix
    scale     0.30 / 127                     one number for the row, or for a group
    numbers    127    -47      8   -114      8 bits each
    read as   0.300 -0.111  0.019 -0.269     number · scale

Each row of a matrix, which makes one channel of its output, has its own scale, so that
one row with a large weight does not make all others coarse. With 4 bits there are only
15 values, so each small group of weights gets a scale.

Only storage shrinks. The numbers become floats again before they are multiplied, which
takes time: this is no faster, unless reading the weights is what takes longest.

The folder of a quantized model has the files of `folders`, with smaller weights:

    config.json         as usual, plus `quantization_config`: bits and group size
    model.safetensors   each matrix's `numbers` and their `scale`; norms as usual

Names and packing are our own. For other programs, quantize the original folder with
their own tools instead.

Source: Dettmers et al. (2022), "LLM.int8()", section 2.1 (absmax, by row); Frantar et
al. (2023), "GPTQ" (by group).
"""

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float, Int8, UInt8
from torch import Tensor, nn
from torch.nn.functional import embedding, linear

from llmcourse.arguments import as_value_error, check_one_of, check_range
from llmcourse.model.folders import (
    check_finite,
    opened,
    read_json,
    read_tokenizer,
    save_pretrained,
    shapes_only,
)
from llmcourse.model.hugging_face import config_from_json
from llmcourse.model.transformer import Transformer, TransformerConfig, new_rotary
from llmcourse.text.tokenizers import BPETokenizer

BITS = (8, 4)
Quantized = Int8[Tensor, "row column"] | UInt8[Tensor, "row half_of_columns"]


def quantize(
    weight: Float[Tensor, "row column"], bits: int = 8, group_size: int | None = None
) -> tuple[Quantized, Float[Tensor, "row group"]]:
    """Return a matrix as integers, and the scale of each group (in units of a weight).

    The largest weight of a group gets the largest number; all others are rounded to
    the nearest number, so no weight moves by more than half a scale.

    Args:
        weight: The matrix.
        bits: 8; or 4, where two numbers share a byte, see `pack_int4`.
        group_size: Neighbours in a row that share a scale; None: the whole row.

    Raises:
        ValueError: If bits is neither 8 nor 4, if the groups do not fill a row, if a
            row of 4-bit numbers does not fill bytes, or if a weight is not finite.

    >>> numbers, scale = quantize(torch.tensor([[0.5, -1.0, 0.25, 0.0]]))
    >>> numbers
    tensor([[  64, -127,   32,    0]], dtype=torch.int8)
    """
    n_columns = weight.shape[1]
    size = n_columns if group_size is None else group_size
    check_one_of("bits", bits, BITS)
    if size < 1 or n_columns % size or (bits == 4 and n_columns % 2):
        raise ValueError(
            f"groups must fill a row, and 4-bit numbers its bytes, got rows of "
            f"{n_columns}, groups of {size} and {bits} bits"
        )
    if weight.is_meta:  # a shape: computing with it would import torch's compiler
        shapes = (len(weight), n_columns * bits // 8), (len(weight), n_columns // size)
        numbers = weight.new_empty(
            shapes[0], dtype=torch.int8 if bits == 8 else torch.uint8
        )
        return numbers, weight.new_empty(shapes[1], dtype=torch.bfloat16)
    if not weight.isfinite().all():
        raise ValueError("weights must be finite to be quantized, but are not")
    largest = 2 ** (bits - 1) - 1
    groups = weight.detach().float().reshape(len(weight), -1, size)  # (row, G, size)
    # In bfloat16. The integers are computed with the rounded scale, so its rounding
    # adds hardly any error.
    scale = (groups.abs().amax(dim=-1) / largest).bfloat16()
    scale = scale.where(scale > 0, 1.0)  # a group of zeros
    numbers = (groups / scale[..., None].float()).round().clamp(-largest, largest)
    numbers = numbers.to(torch.int8).reshape(weight.shape)
    return (pack_int4(numbers) if bits == 4 else numbers), scale


def dequantize(
    numbers: Quantized, scale: Float[Tensor, "row group"]
) -> Float[Tensor, "row column"]:
    """Return the weights that the numbers stand for (no unit).

    >>> dequantize(*quantize(torch.tensor([[0.5, -1.0, 0.25, 0.0]]))).round(decimals=2)
    tensor([[ 0.5000, -1.0000,  0.2500,  0.0000]])
    """
    if numbers.dtype == torch.uint8:
        numbers = unpack_int4(numbers)
    groups = numbers.float().reshape(*scale.shape, -1)  # (row, G, size)
    return (groups * scale[..., None].float()).reshape(numbers.shape)


def pack_int4(numbers: Int8[Tensor, "row column"]) -> UInt8[Tensor, "row half"]:
    """Return numbers from −8 to 7 as bytes, two in each: the first in the low half.

    >>> pack_int4(torch.tensor([[1, -8]], dtype=torch.int8))  # 9 + 16 · 0
    tensor([[9]], dtype=torch.uint8)
    """
    shifted = (numbers + 8).to(torch.uint8)
    return shifted[:, 0::2] | (shifted[:, 1::2] << 4)


def unpack_int4(packed: UInt8[Tensor, "row half"]) -> Int8[Tensor, "row column"]:
    """Return the numbers (no unit) that `pack_int4` put into bytes."""
    pair = torch.stack((packed & 15, packed >> 4), dim=-1)  # (row, half, 2)
    return pair.flatten(-2).to(torch.int8) - 8


class QuantizedMatrix(nn.Module):
    """A layer's matrix as whole numbers, which are turned into floats when needed.

    Args:
        layer: Has the matrix; its bias, if any, stays as it is.
        bits: 8 or 4.
        group_size: Neighbours in a row that share a scale, see `quantize`.

    Raises:
        ValueError: As in `quantize`.
    """

    numbers: Tensor
    scale: Tensor

    def __init__(
        self,
        layer: nn.Linear | nn.Embedding,
        bits: int = 8,
        group_size: int | None = None,
    ) -> None:
        super().__init__()
        self.bits, self.group_size = bits, group_size
        self.bias: Tensor | None = getattr(layer, "bias", None)
        numbers, scale = quantize(layer.weight, bits, group_size)
        self.register_buffer("numbers", numbers)
        self.register_buffer("scale", scale)

    @property
    def weight(self) -> Float[Tensor, "row column"]:
        """The weights that the numbers stand for, recomputed each time."""
        return dequantize(self.numbers, self.scale)


class QuantizedLinear(QuantizedMatrix):
    """A linear layer whose weights are whole numbers.

    >>> layer = nn.Linear(6, 3)
    >>> QuantizedLinear(layer)(torch.ones(1, 6)).shape
    torch.Size([1, 3])
    """

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Return the layer's output, up to the quantization error of its weights."""
        weight = self.weight
        bias = None if self.bias is None else self.bias.to(weight.dtype)
        return linear(x.to(weight.dtype), weight, bias)


class QuantizedEmbedding(QuantizedMatrix):
    """An embedding of whole numbers; only the rows that are looked up become floats."""

    def forward(self, ids: Tensor) -> Float[Tensor, "*batch d_model"]:
        """Return the vectors of the ids.

        Raises:
            IndexError: If there is no such id, like torch's own.
        """
        numbers = embedding(ids.flatten(), self.numbers)
        rows = dequantize(numbers, embedding(ids.flatten(), self.scale))
        return rows.reshape(*ids.shape, -1)


_QUANTIZED: dict[type, Callable[..., QuantizedMatrix]] = {
    nn.Linear: QuantizedLinear,
    nn.Embedding: QuantizedEmbedding,
}


def quantize_model(
    model: Transformer, bits: int = 8, group_size: int | None = None
) -> Transformer:
    """Return a model with whole numbers in all matrices; the given one is not changed.

    Norms, biases and GPT-2's learned positions are few, and stay float32. The result
    writes, streams and is served like any model, but cannot be trained.

    Args:
        model: Without adapters: call `merge_lora` and then `remove_lora` first.
        bits: 8 or 4.
        group_size: See `quantize`; with 4 bits, 32 is a good choice.

    Raises:
        ValueError: If the model has layers of other kinds, or as in `quantize`.
    """
    small = copy.deepcopy(model).float().eval().requires_grad_(False)
    for parent in list(small.modules()):
        for name, layer in list(parent.named_children()):
            is_matrix = isinstance(layer, nn.Linear | nn.Embedding | QuantizedMatrix)
            if not is_matrix or name == "positions":
                continue
            if type(layer) not in _QUANTIZED:
                raise ValueError(
                    "only plain linear layers and embeddings can be quantized, got "
                    f"{name} of type {type(layer).__name__}"
                )
            setattr(parent, name, _QUANTIZED[type(layer)](layer, bits, group_size))
    return small


def weight_bytes(model: nn.Module) -> int:
    """Return the memory that all weights of a model take, in bytes.

    >>> from llmcourse.model.transformer import TINY
    >>> model = Transformer(TINY)
    >>> round(weight_bytes(model) / weight_bytes(quantize_model(model)), 1)
    3.9
    """
    return sum(value.nbytes for value in model.state_dict().values())


@torch.no_grad()
def quantization_error(model: Transformer, quantized: Transformer) -> float:
    """Return the error of all quantized weights, as a share of their size.

    This is the root mean square of the differences over that of the weights.

    Args:
        model: The original model.
        quantized: What `quantize_model` made of it.

    Raises:
        ValueError: If the second has no quantized layer.
    """
    difference = size = 0.0
    theirs = dict(model.named_modules())
    for name, layer in quantized.named_modules():
        if isinstance(layer, QuantizedMatrix):
            before = theirs[name].weight
            difference += float((layer.weight - before).double().square().sum())
            size += float(before.double().square().sum())
    if size == 0:
        raise ValueError("the second model must be quantized, got one that is not")
    return float((difference / size) ** 0.5)


_METHOD = "llmcourse"


def save_quantized(
    model: Transformer, tokenizer: BPETokenizer, folder: str | Path
) -> None:
    """Write a quantized model and its tokenizer into a folder: all files, or none.

    Args:
        model: As `quantize_model` returns it.
        tokenizer: Its tokenizer, with the same number of ids.
        folder: Created if missing.

    Raises:
        ValueError: If the model is not quantized, if its attention is not full, if a
            weight is not finite, or if tokenizer and model differ in the number of ids.
        OSError: If a file cannot be written.
    """
    matrices = [part for part in model.modules() if isinstance(part, QuantizedMatrix)]
    if not matrices:
        raise ValueError("save_quantized needs a quantized model: see quantize_model")
    weights = {}
    for name, value in model.state_dict().items():
        # A model that was cast to another type is stored like any other.
        dtype = torch.bfloat16 if name.endswith(".scale") else torch.float32
        is_float = value.is_floating_point()
        weights[name] = (value.to(dtype) if is_float else value).contiguous()
    check_finite(weights, "what is stored")
    form = {
        "quant_method": _METHOD,
        "bits": matrices[0].bits,
        "group_size": matrices[0].group_size,
    }
    save_pretrained(
        model,
        tokenizer,
        folder,
        settings={"quantization_config": form},
        weights=weights,
    )


def load_quantized(folder: str | Path) -> tuple[Transformer, BPETokenizer]:
    """Return the quantized model and the tokenizer of a folder, ready to write.

    Raises:
        ValueError: If a file is missing or damaged, if the folder holds a model that
            is not quantized or was quantized by another program, or if its files do
            not belong together.
        OSError: If a file cannot be read.
    """
    folder = Path(folder)
    found = read_json(folder / "config.json")
    form = found.pop("quantization_config", {})  # the rest is as in any model
    what = f"{str(folder)!r} must hold a model that save_quantized wrote"
    with as_value_error(what, ValueError, KeyError, TypeError):
        check_one_of("quant_method", form["quant_method"], [_METHOD])
        bits, group_size = form["bits"], form["group_size"]
        check_one_of("bits", bits, BITS)
        check_range(1, group_size=group_size)
    config = TransformerConfig(**config_from_json(found))
    path = folder / "model.safetensors"
    with opened(path) as file:
        names = file.keys()
        weights = {name: file.get_tensor(name) for name in names}
    if config.n_layers > len(weights):  # a billion layers would take hours to build
        raise ValueError(f"{str(path)!r} must hold weights of {config.n_layers} layers")
    with as_value_error(what, ValueError, TypeError):
        model = quantize_model(shapes_only(config), bits, group_size)
    found_forms, wanted_forms = (
        {name: (value.dtype, value.shape) for name, value in each.items()}
        for each in (weights, model.state_dict())
    )
    if found_forms != wanted_forms:
        raise ValueError(f"{str(path)!r} must hold the weights of such a model")
    model.load_state_dict(weights, assign=True)
    model.rotary = new_rotary(config)
    check_finite(weights, repr(str(folder)))
    return model, read_tokenizer(folder, config)


def is_quantized(folder: str | Path) -> bool:
    """Return whether a model's folder says that its weights are quantized.

    Raises:
        ValueError: If it has no `config.json`.
    """
    if Path(folder).is_file():  # a GGUF file, whose weights become floats
        return False
    said = read_json(Path(folder) / "config.json")
    return said.get("quantization_config") is not None
