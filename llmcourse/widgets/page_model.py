"""A model for the reader's browser: one file of weights, and the script that runs it.

    model folder  ──page_model──►  one safetensors file: int8 rows, a scale for each,
                                   config.json and tokenizer.json as its metadata
    the scripts   ──page_script──► one script for a page: the model's part runs in a
                                   worker, the explorer's part draws

`engine.js` is the transformer, `kernel.js` its matrix products, `reward.js` the reward
model, `tokenizer.js` the tokenizer, `conversation.js` the chat template,
`model_worker.js` the worker that serves a page, `page_model.js` the page's side of it,
`seeded.js` how both sample a token. What the explorers share is in `in_page.js`; each
draws where the page has its class:

    writing.js       .llmcourse-writing      base-llm continues a text
    sentence.js      .llmcourse-sentence     attention, surprise, and the logit lens on
                                             a sentence of the reader's own
    chat.js          .llmcourse-chat         a conversation with instruct-llm
    comparison.js    .llmcourse-comparison   three models, judged by reward-model
"""

import json
import re
from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor

from llmcourse.arguments import check_one_of
from llmcourse.model.quantization import quantize
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.widgets.base import IN_PAGE, script

_BOTH = ("sampling.js", "seeded.js")
_READING = ("bpe.js", "tokenizer.js", "conversation.js")
_COMPUTING = ("kernel.js", "engine.js", "reward.js")
MODEL_PART = (*_READING, *_COMPUTING, *_BOTH, "model_worker.js")
DRAWINGS = ("attention", "surprise", "lens")  # explorers that others use to draw
SHARED = ("common.js", *_BOTH, "page_model.js", "in_page.js")
STYLES = ("explorer", "in_page", *DRAWINGS, "writing", "chat")


def page_model(folder: str | Path) -> bytes:
    """Return a model folder as one safetensors file that `engine.js` reads.

    The weights are int8, and each row of a matrix has its own scale, in `NAME.scale`,
    as bfloat16; the norms are float32.

    Args:
        folder: Holds `config.json`, `tokenizer.json` and `model.safetensors`.

    Raises:
        ValueError: If a page cannot run the model.
        OSError: If a file cannot be read.
    """
    folder = Path(folder)
    texts = {
        name: (folder / f"{name}.json").read_text(encoding="utf-8")
        for name in ("config", "tokenizer")
    }
    config = json.loads(texts["config"])
    kind = config.get("base_model_type", config.get("model_type"))
    check_one_of("type of a page's model", kind, ["llama"])
    texts["config"] = json.dumps(config | {"model_type": kind})
    for name in ("head_dim", "rope_scaling", "attention_bias", "mlp_bias"):
        check_one_of(f"{name} of a page's model", config.get(name) or None, [None])
    if not BPETokenizer.load(folder / "tokenizer.json").options.are_plain:
        raise ValueError(
            "a page can run only tokenizers with plain options, got others"
        )
    texts["tokenizer"] = json.dumps(json.loads(texts["tokenizer"]), ensure_ascii=False)
    tensors: dict[str, Tensor] = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if weight.ndim == 2:
            tensors[name], tensors[f"{name}.scale"] = quantize(weight)
        else:
            tensors[name] = weight.float()
    return _in_order(save(tensors, metadata=texts))


def _in_order(saved: bytes) -> bytes:
    """Return a safetensors file with a sorted header: `save` shuffles the metadata."""
    start = 8 + int.from_bytes(saved[:8], "little")
    described = json.loads(saved[8:start])
    header = json.dumps(described, sort_keys=True, ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + saved[start:]


def page_script(**constants: object) -> str:
    """Return the script of a page: a classic script, since modules need a server.

    The worker's part is a function whose text the page passes to the worker.

    Args:
        constants: What the explorers must know about the site, by name.
    """
    said = [f"const {name} = {json.dumps(value)};" for name, value in constants.items()]
    model = _without_exports(script(*MODEL_PART))
    model = f"function languageModel() {{\n{model}\nreturn modelServer;\n}}"
    before, after = script(*SHARED), script(*(f"{name}.js" for name in IN_PAGE))
    drawings = [_as_object(name) for name in DRAWINGS]
    parts = [_without_exports(before), *drawings, _without_exports(after)]
    return "\n".join(["(() => {", *said, model, *parts, "})();\n"])


def _as_object(name: str) -> str:
    """Return an explorer's module as a constant that holds what it exports."""
    source = script(f"{name}.js")
    names = re.findall(r"^export (?:const|function) (\w+)", source, re.MULTILINE)
    exports = ", ".join(["render", *names])
    body = f"{_without_exports(source)}\nreturn {{ {exports} }};"
    return f"const {name} = (() => {{\n{body}\n}})();"


def _without_exports(source: str) -> str:
    """Return a module as a plain script, without its exports."""
    return re.sub(r"^export (default .*)?", "", source, flags=re.MULTILINE)
