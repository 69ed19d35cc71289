"""An import goes only to a lower layer, and every module has its place."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "llmcourse"

# Flat: one layer a line, from the ground up. A module imports from lines above its own.
LAYERS = (
    "files ngrams grammar_parts accounting losses pretokenization shingles documents"
    " schedule training_log preference_losses memory embeddings evaluation compression"
    " advantages reward_functions"
    " chunked_attention linear_attention"
    " bm25 rank_fusion ranking_measures summarising"
    " peak_memory"
    " attention_costs",
    "grammar_file grammar_entropy simple_tokenizers bpe_vocabulary positions"
    " state_files same_recipe fingerprints skipgram scaling policy_losses progress"
    " study_command"
    " policy_config experience text_folders",
    "norms feed_forward halved_attention rope_scaling side_by_side",
    "grammar bpe tokenizer_json attention minhash cleaning quality downloads windows",
    "tales tokenization transformer deduplication splits packing examples"
    " sliding_window",
    "quantization decoding attention_kinds hugging_face",
    "sources generation slots checkpoints model_folders inspection analogies"
    " lora classification special_tokens chat instruction_topics gold_reward"
    " chunking"
    " context_extension",
    "quantized_folders"
    " corpus training pretrained text_loss adapters instruction_examples preferences"
    " answering conversations chat_history prompts policy_scores policy_checkpoints"
    " initialisation"
    " dense_retrieval",
    "pretraining finetuning story_evaluation writing word_losses instructions"
    " instruction_follow_ups"
    " preference_examples rollouts"
    " position_losses"
    " retrieval surprise_embedding",
    "policy_training preference_training align_prompts fact_recall tale_books batching"
    " api_types",
    "ppo grpo needle engine api_errors text_pieces text_vectors service_metrics",
    "pipeline plotting widgets checks instruction_evaluation reward_model dpo"
    " answers api_limits",
    "recipes model_cards instruct_data streaming load_test",
    "instruct_recipe reward_files reward_scores align_recipe align_evaluation"
    " service_routes",
    "instruct_card reward_evaluation align_training serving http_server",
    "instruct_model align_card",
    "reward_card",
    "align_model",
    "cli scaling_study rlhf_study context_study",
    "rlhf_curves",
)
LAYER = {name: number for number, line in enumerate(LAYERS) for name in line.split()}
MODULES = sorted(
    path.stem if path.suffix else path.name
    for path in PACKAGE.iterdir()
    if (path.suffix == ".py" and path.stem != "__init__")
    or (path / "__init__.py").is_file()
)


def files_of(module: str) -> list[Path]:
    path = PACKAGE / f"{module}.py"
    return [path] if path.exists() else sorted((PACKAGE / module).rglob("*.py"))


def imports_of(module: str) -> Iterator[str]:
    """Yield the modules of the package that a module imports, anywhere in it."""
    for path in files_of(module):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path.name}: relative import"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                if name.startswith("llmcourse."):
                    yield name.split(".")[1]


def test_every_module_has_a_layer():
    assert set(MODULES) == set(LAYER)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    upward = {
        name
        for name in imports_of(module)
        if name != module and LAYER[name] >= LAYER[module]
    }
    assert not upward, f"{module} must not import {sorted(upward)}"


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_small(module):
    for path in files_of(module):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path.name


def test_the_check_finds_an_upward_import(tmp_path, monkeypatch):
    (tmp_path / "losses.py").write_text("from llmcourse.cli import main\n")
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    with pytest.raises(AssertionError, match="losses must not import"):
        test_imports_go_down("losses")
