"""Skip-gram with negative sampling: its parts, its gradient, a small training."""

import math
from collections import Counter

import pytest
import torch
from torch.nn.functional import logsigmoid

from llmcourse.text.embeddings import (
    SkipGramConfig,
    context_pairs,
    count_texts,
    keep_probability,
    noise_distribution,
    skipgram_gradients,
    train_skipgram,
)

# A language in which hens and cows are fed and boats and trains are taken.
TEXTS = [
    f"they {verb} the {noun} at {time}"
    for verb, nouns in (("fed", ("hen", "cow")), ("took", ("boat", "train")))
    for noun in nouns
    for time in ("dawn", "noon", "night")
]
SMALL = SkipGramConfig(
    d_model=7,
    window=3,
    n_negatives=2,
    min_count=1,
    subsampling=1.0,
    epochs=60,
    batch_size=32,
    learning_rate=0.2,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Worked example


def test_one_step_by_hand():
    """Center (1, 0), company (0, 1), noise (0, −2): both scores 0, both σ = 1/2.

    The errors are −1/2 and +1/2. By the center: −½ (0, 1) + ½ (0, −2) = (0, −1.5).
    By the targets: −½ (1, 0) and ½ (1, 0). After a step of size 1 the center is
    (1, 1.5), the company (½, 1), the noise (−½, −2), and the scores are 2 and −3.5.
    """
    center = torch.tensor([[1.0, 0.0]])
    targets = torch.tensor([[[0.0, 1.0], [0.0, -2.0]]])
    loss, by_center, by_targets = skipgram_gradients(center, targets)
    assert loss.item() == pytest.approx(2 * math.log(2))
    assert by_center.tolist() == [[0.0, -1.5]]
    assert by_targets.tolist() == [[[-0.5, 0.0], [0.5, 0.0]]]
    after = (targets - by_targets) @ (center - by_center).unsqueeze(-1)
    assert after.flatten().tolist() == [2.0, -3.5]


def test_pairs_of_two_texts_by_hand():
    """a b c | d e with a window of 2: all within a text, none across."""
    ids, text_of = torch.tensor([0, 1, 2, 3, 4]), torch.tensor([0, 0, 0, 1, 1])
    pairs = zip(*(row.tolist() for row in context_pairs(ids, text_of, 2)), strict=True)
    assert sorted(pairs) == [
        *[(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)],
        *[(3, 4), (4, 3)],
    ]


def test_words_are_counted_without_case_and_punctuation():
    counted = count_texts(["The hen, the COW.", "the hen; a tin!"], min_count=2)
    assert counted.words == ["the", "hen"]
    assert counted.counts.tolist() == [3, 2]
    assert counted.ids.tolist() == [0, 1, 0, 0, 1]
    assert counted.text_of.tolist() == [0, 0, 0, 1, 1]


# Law


def test_noise_and_thinning_are_probabilities_between_their_extremes():
    counts = torch.tensor([90, 9, 1])
    noise = noise_distribution(counts)
    assert noise.sum().item() == pytest.approx(1)
    assert noise[2] > counts[2] / counts.sum()  # the rare gain, the frequent lose
    assert noise[0] < counts[0] / counts.sum()
    torch.testing.assert_close(noise_distribution(counts, 1), counts / counts.sum())
    torch.testing.assert_close(noise_distribution(counts, 0), torch.full((3,), 1 / 3))
    keep = keep_probability(counts, 0.1)
    assert keep.tolist() == pytest.approx([1 / 3, 1.0, 1.0])


def test_random_windows_give_near_words_more_weight():
    """At distance d of 4 a pair is kept with probability (5 − d) / 4.

    1,000 words on the line give about 2,000 draws at each distance; 0.05 is over 4
    standard deviations of the share.
    """
    ids = torch.arange(1000)
    center, context = context_pairs(ids, torch.zeros(1000).long(), 4, seeded())
    by_distance = Counter((center - context).abs().tolist())
    for distance in range(1, 5):
        share = by_distance[distance] / (2 * (1000 - distance))
        assert share == pytest.approx((5 - distance) / 4, abs=0.05)


def test_ignored_targets_change_nothing():
    center, targets = torch.randn(3, 4, generator=seeded()), torch.randn(3, 5, 4)
    counted = torch.ones(3, 5, dtype=torch.bool)
    counted[:, 3:] = False
    some = skipgram_gradients(center, targets, counted)
    few = skipgram_gradients(center, targets[:, :3])
    torch.testing.assert_close(some[0], few[0])
    torch.testing.assert_close(some[1], few[1])
    torch.testing.assert_close(some[2][:, :3], few[2])
    assert not some[2][:, 3:].any()


def test_words_in_the_same_company_come_to_lie_together():
    trained = train_skipgram(TEXTS, seeded(), SMALL)
    for word, same in (("hen", "cow"), ("boat", "train"), ("dawn", "noon")):
        others = [
            w
            for w, _ in trained.vectors.only(
                ["hen", "cow", "boat", "train", "dawn", "noon"]
            ).nearest(word, k=1)
        ]
        assert others == [same]


def test_training_lowers_the_loss_from_its_first_value():
    """Contexts start at zero, so each score that counts costs log 2 nats at first.

    With 2 noise words that is between log 2 (both are by chance the company itself)
    and 3 log 2 a pair.
    """
    sizes = {"min_count": 1, "n_negatives": 2, "subsampling": 1.0}
    first = train_skipgram(TEXTS[:1], seeded(), SkipGramConfig(**sizes, epochs=1))
    assert len(first.losses) == 1
    assert math.log(2) < first.losses[0] <= 3 * math.log(2)
    losses = train_skipgram(TEXTS, seeded(), SMALL).losses
    assert losses[-1] < losses[0] < 3 * math.log(2)


def test_the_same_generator_gives_the_same_vectors():
    one, same, other = (
        train_skipgram(TEXTS, seeded(seed), SMALL).vectors.vectors for seed in (3, 3, 4)
    )
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


# Reference


def test_gradients_equal_autograd():
    generator = seeded(1)
    center = torch.randn(3, 5, generator=generator, requires_grad=True)
    targets = torch.randn(3, 4, 5, generator=generator, requires_grad=True)
    loss, by_center, by_targets = skipgram_gradients(center.detach(), targets.detach())
    losses = []
    for c, t in zip(center, targets, strict=True):
        losses.append(-logsigmoid(t[0] @ c) - sum(logsigmoid(-u @ c) for u in t[1:]))
    torch.testing.assert_close(loss, torch.stack(losses).mean().detach())
    wanted = torch.autograd.grad(sum(losses), (center, targets))
    torch.testing.assert_close((by_center, by_targets), wanted)


def test_gradients_do_not_overflow():
    center, targets = torch.full((1, 2), 300.0), torch.full((1, 3, 2), 300.0)
    loss, by_center, _ = skipgram_gradients(center, targets)
    assert loss.isfinite()
    torch.testing.assert_close(by_center, torch.full((1, 2), 600.0))


def test_pairs_equal_a_slow_loop():
    generator = seeded(2)
    ids = torch.randint(9, (23,), generator=generator)
    text_of = torch.tensor([0] * 5 + [1] * 1 + [2] * 17)
    for window in (1, 3, 30):
        slow = Counter(
            (ids[i].item(), ids[j].item())
            for i in range(23)
            for j in range(23)
            if i != j and abs(i - j) <= window and text_of[i] == text_of[j]
        )
        center, context = context_pairs(ids, text_of, window)
        fast = Counter(zip(center.tolist(), context.tolist(), strict=True))
        assert fast == slow


def test_at_the_best_vectors_the_score_is_the_log_ratio_of_pairs_to_noise():
    """Of a pair seen 6 times and drawn as noise 2 times, σ(score) = 6/8.

    Then the gradient is zero: score = log (6 / 2).
    Source: Levy and Goldberg (2014), section 3.
    """
    center = torch.tensor([[1.0]])
    score = torch.tensor([[[math.log(3)], [math.log(3)]]])
    _, _, by_targets = skipgram_gradients(center, score)
    as_company, as_noise = by_targets[0, :, 0].tolist()
    assert 6 * as_company + 2 * as_noise == pytest.approx(0, abs=1e-6)


# Refusal


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SkipGramConfig(window=0), "window must be positive, got 0"),
        (lambda: SkipGramConfig(learning_rate=-0.1), "learning_rate must be positive"),
        (lambda: count_texts(["a b", "b"], min_count=3), "occur 3 times"),
        (lambda: count_texts([]), "got none"),
        (lambda: train_skipgram(["hen", "hen"], seeded(), SMALL), "side by side"),
    ],
)
def test_what_cannot_be_trained_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
