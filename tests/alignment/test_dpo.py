"""Direct preference optimisation: what is preferred becomes likelier than it was."""

import math
from dataclasses import replace

import pytest
import torch
from model_cases import SMALL, seeded

from llmcourse.alignment.dpo import DPOConfig, dpo, pair_log_probs
from llmcourse.alignment.losses import dpo_loss
from llmcourse.alignment.preferences import TokenizedPair
from llmcourse.finetuning.lora import add_lora
from llmcourse.model.transformer import Transformer
from llmcourse.training.checkpoints import Run, checkpoint_paths
from llmcourse.training.config import Update

SHORT = DPOConfig(
    steps=5,
    batch_size=4,
    context_length=9,
    learning_rate=0.01,
    warmup_steps=2,
    eval_interval=2,
    eval_examples=5,
    accumulation=2,
    beta=0.5,
)


def make_model(seed=0):
    return Transformer(SMALL, seeded(seed))


def make_pairs(n=11, seed=0):
    """Return pairs of random answers of 2 to 5 tokens, their end included: the chosen
    one begins with one of the tokens 1 … 6, the rejected one with one of 7 … 12.
    """
    generator = seeded(seed)

    def draw(low, high, n=1):
        return torch.randint(low, high, (n,), generator=generator)

    return [
        TokenizedPair(
            draw(1, 13, 2),
            *(
                torch.cat((draw(*first), draw(1, 13, int(draw(0, 4))), draw(0, 1)))
                for first in ((1, 7), (7, 13))
            ),
        )
        for _ in range(n)
    ]


def run(model=None, folder=None, config=SHORT, seed=0, progress=None, **options):
    model = model or make_model()
    history = dpo(
        model,
        make_pairs(),
        make_pairs(7, seed=1),
        config,
        seeded(seed),
        run=Run(folder=folder, interval=2, progress=progress),
        **options,
    )
    return model, history


def weights_of(model):
    return {name: w.detach().clone() for name, w in model.state_dict().items()}


# Worked example


@pytest.mark.parametrize(
    ("loss_type", "start", "end", "margin"),
    [("sigmoid", math.log(2), 0.4, 1), ("hinge", 1, 0.6, 0.4), ("ipo", 1, 0.6, 0.2)],
)
def test_worked_example_of_learning_to_prefer(loss_type, start, end, margin):
    """Which half of the alphabet an answer begins in decides: a rule, so it holds for
    pairs that were not learned from too. With β 1/2, IPO starts at (1 / 2β)² = 1.
    """
    pairs, valid = (
        [TokenizedPair(p.prompt, p.chosen[:1], p.rejected[:1]) for p in make_pairs(*n)]
        for n in ((60,), (40, 1))
    )
    config = replace(SHORT, steps=40, eval_examples=40, eval_interval=20)
    config = replace(config, loss_type=loss_type)
    history = dpo(make_model(), pairs, valid, config, seeded())
    first, last = history.evaluations[0], history.evaluations[-1]
    assert first.loss == pytest.approx(start, abs=1e-5)
    assert first.metrics["margin"] == pytest.approx(0, abs=1e-5)
    assert last.loss < end
    assert last.metrics["margin"] > margin
    assert last.metrics["accuracy"] > 0.85


# Law


def test_the_history_is_complete_and_in_order():
    seen = []
    _, history = run(progress=seen.append)
    assert [update.step for update in history.updates] == [1, 2, 3, 4, 5]
    assert [evaluation.step for evaluation in history.evaluations] == [0, 2, 4, 5]
    assert [r for r in seen if isinstance(r, Update)] == history.updates
    for record in seen:
        assert record.metrics.keys() == {"margin", "accuracy"}
        assert 0 <= record.metrics["accuracy"] <= 1
    assert history.updates[0].loss == pytest.approx(math.log(2), abs=1e-5)


def test_the_reference_stays_as_it_is_and_is_what_is_compared_with():
    """A policy that starts elsewhere is held to the reference, not to its own start."""
    reference = make_model(5)
    before = weights_of(reference)
    model, history = run(reference=reference)
    after = reference.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert abs(history.evaluations[0].loss - math.log(2)) > 1e-3
    assert not torch.equal(model.embedding.weight, make_model().embedding.weight)


def test_a_copy_as_reference_is_the_same_as_none():
    """The log-probabilities are taken once, before the policy moves."""
    (_, none), (_, copy) = run(), run(reference=make_model())
    assert none == copy


def test_adapters_learn_and_nothing_else():
    model = make_model()
    add_lora(model, rank=2, alpha=4, generator=seeded())
    before = weights_of(model)
    run(model)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]) == ("lora" not in name), name


@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_a_batch_in_parts_is_the_whole_batch(accumulation):
    config = replace(SHORT, accumulation=accumulation)
    model, history = run(config=config)
    whole, expected = run(config=replace(SHORT, accumulation=1))
    for one, two in zip(history.updates, expected.updates, strict=True):
        assert one.loss == pytest.approx(two.loss, rel=1e-4)
        margins = one.metrics["margin"], two.metrics["margin"]
        assert margins[0] == pytest.approx(margins[1], abs=1e-4)
    torch.testing.assert_close(
        model.embedding.weight, whole.embedding.weight, atol=1e-3, rtol=1e-2
    )


# Reference


def test_the_last_evaluation_is_the_loss_of_all_held_out_pairs():
    """Each held to what the reference thinks of the same pair: read one by one."""
    config = replace(SHORT, eval_examples=7)
    model, history = run(config=config)
    last, found = history.evaluations[-1], []
    for pair in make_pairs(7, seed=1):
        both = (pair_log_probs(each, [pair], config) for each in (model, make_model()))
        found.append(dpo_loss(*(part for one in both for part in one), beta=0.5))
    loss, margin = (
        torch.stack(values).mean().item()
        for values in ([x.loss for x in found], [x.margins for x in found])
    )
    assert loss == pytest.approx(last.loss, abs=1e-5)
    assert margin == pytest.approx(last.metrics["margin"], abs=1e-5)


@torch.no_grad()
def test_log_probs_equal_a_loop_over_tokens():
    """Each answer alone, token after token, without padding."""
    model, pairs = make_model(), make_pairs(3)
    found = pair_log_probs(model, pairs, SHORT)
    for n, pair in enumerate(pairs):
        for answer, total in (
            (pair.chosen, found.chosen),
            (pair.rejected, found.rejected),
        ):
            ids, expected = pair.prompt.tolist(), 0.0
            for id_ in answer.tolist():
                probs = model(torch.tensor([ids]))[0, -1].double().softmax(dim=-1)
                expected += math.log(probs[id_].item())
                ids.append(id_)
            assert total[n].item() == pytest.approx(expected, abs=1e-5)


@torch.no_grad()
def test_ipo_reads_means_over_tokens():
    model, pairs = make_model(), make_pairs(3)
    sums = pair_log_probs(model, pairs, SHORT)
    means = pair_log_probs(model, pairs, replace(SHORT, loss_type="ipo"))
    for total, mean, side in zip(sums, means, ("chosen", "rejected"), strict=True):
        sizes = torch.tensor([len(getattr(pair, side)) for pair in pairs])
        torch.testing.assert_close(total / sizes, mean)


# Refusal


def test_refuses_checkpoints_of_another_objective(tmp_path):
    run(folder=tmp_path)
    with pytest.raises(ValueError, match=r"another run: config\.beta"):
        run(folder=tmp_path, config=replace(SHORT, beta=0.6))
    with pytest.raises(
        ValueError, match="another run: start must be .*; objective must be"
    ):
        run(make_model(8), folder=tmp_path)  # another reference


def test_refuses_what_cannot_be_learned():
    fine, odd = make_pairs(), make_pairs()
    odd[3] = TokenizedPair(torch.arange(7), torch.tensor([1, 2, 0]), torch.tensor([0]))
    for pairs, valid, message in (
        ([], fine, "got 0"),
        (fine, [], "got 0"),
        (odd, fine, "tokens of prompt and answer must be in 1 … 9"),
        (fine, odd, "tokens of prompt and answer must be in 1 … 9"),
        (fine[:3], fine, "examples must be at least 4, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            dpo(make_model(), pairs, valid, SHORT, seeded())
    with pytest.raises(ValueError, match="a weight that is not frozen"):
        run(make_model().requires_grad_(False))


@pytest.mark.parametrize(
    "setting",
    [{"beta": 0}, {"steps": 0}, {"loss_type": "best"}],
)
def test_refuses_settings_that_cannot_be(setting):
    [(name, value)] = setting.items()
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value!r}"):
        DPOConfig(**setting)


def test_a_loss_that_is_no_number_stops_it_and_the_last_checkpoint_stays(tmp_path):
    """A weight breaks after the third step: the fourth is not made, nor saved."""
    model = make_model()

    def progress(record):
        if isinstance(record, Update) and record.step == 3:
            with torch.no_grad():
                model.norm.weight[0] = math.nan

    with pytest.raises(FloatingPointError, match="step 4 needs a finite loss"):
        run(model, tmp_path, progress=progress)
    assert [path.stem for path in checkpoint_paths(tmp_path)][-1] == "step-00000002"
    _, history = run(make_model(), tmp_path)
    assert history == run()[1]
