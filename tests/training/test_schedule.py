"""Which precision a processor is good at; the schedule is tested with the loop."""

from types import SimpleNamespace

import context_study
import pytest
import rlhf_study
import torch
from context_study import ContextStudyConfig
from rlhf_study import EXPERIMENTS, RlhfStudyConfig

from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.config import (
    PretrainingConfig,
    best_precision,
    fall_back_to_float32,
)


def pretend(monkeypatch, torch_says, capabilities=None):
    """Pretend to be on a processor, with an older torch where there are no names."""
    mkldnn = SimpleNamespace(_is_mkldnn_bf16_supported=lambda: torch_says)
    monkeypatch.setattr(torch.ops, "mkldnn", mkldnn)
    if capabilities is None:
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda: capabilities, raising=False
        )


# Law


def test_this_processor_has_one_of_two():
    assert best_precision() in ("float32", "bfloat16")
    assert best_precision() == best_precision("cpu")
    assert best_precision() == best_precision(torch.device("cpu"))


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16", "bf16"])
def test_instructions_are_made_use_of(monkeypatch, name):
    pretend(monkeypatch, True, {"avx2": True, "avx512_bf16": False, name: True})
    assert best_precision() == "bfloat16"


def test_an_imitation_is_not(monkeypatch):
    """As on a processor with AVX-512 from before bfloat16."""
    pretend(monkeypatch, True, {"avx512_f": True, "avx512_bf16": False})
    assert best_precision() == "float32"


def test_instructions_that_torch_may_not_use_are_not(monkeypatch):
    pretend(monkeypatch, False, {"avx512_bf16": True})
    assert best_precision() == "float32"


@pytest.mark.parametrize("says", [False, True])
def test_an_older_torch_is_believed(monkeypatch, says):
    pretend(monkeypatch, says)
    assert best_precision() == ("bfloat16" if says else "float32")


@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda")])
@pytest.mark.parametrize("says", [False, True])
def test_on_a_graphics_processor_that_one_is_asked(monkeypatch, device, says):
    pretend(monkeypatch, not says, {"avx512_bf16": not says})
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: says)
    assert best_precision(device) == ("bfloat16" if says else "float32")


@pytest.mark.parametrize("has", [False, True])
def test_bfloat16_is_kept_where_the_processor_has_it(monkeypatch, has):
    pretend(monkeypatch, has)
    half = PretrainingConfig(steps=7, precision="bfloat16")
    whole = PretrainingConfig(steps=7)
    assert fall_back_to_float32(half) == (half if has else whole)
    assert fall_back_to_float32(whole) == whole


@pytest.mark.parametrize("has", [False, True])
def test_no_study_imitates(monkeypatch, has):
    pretend(monkeypatch, has)
    recipes = [rlhf_study.configs(one, RlhfStudyConfig()) for one in EXPERIMENTS]
    found = {recipe.reward.precision for recipe in recipes}
    found |= {r.training.precision for r in recipes if r.method == "dpo"}
    tokenizer = BPETokenizer.train(["a tale"], 257)
    context = context_study.recipe(0, ContextStudyConfig(), tokenizer)
    found |= {context.pretraining.precision}
    assert found == {"bfloat16" if has else "float32"}


# Refusal


def test_refuses_a_device_that_does_not_exist():
    with pytest.raises(RuntimeError, match="nowhere"):
        best_precision("nowhere")
