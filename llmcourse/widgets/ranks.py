"""The explorer of LoRA's rank against full fine-tuning: learning and forgetting."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from llmcourse.arguments import check_positive, check_range
from llmcourse.widgets.base import Explorer, as_json, script


class Tuned(NamedTuple):
    """One fine-tuning run and its results."""

    rank: int | None  # of the adapters; None: all weights learned
    rate: float
    right: float | int  # share of held-out texts that are right
    forgotten: float | int  # rise of the loss on plain text, in nats per token


class RankExplorer(Explorer):
    """Show what adapters of a rank learn and forget, next to full fine-tuning.

    Both are drawn over the learning rate, with every run; the reader chooses the rank,
    and a learning rate for each of the two.

    Args:
        runs: For each rank, and for None, equally many at each of the same rates.
        learned: How many weights learn with each rank; None: with full fine-tuning.
        guess: The share that is right by guessing.

    Raises:
        ValueError: If runs of adapters or of full fine-tuning are missing, ranks differ
            in number of runs or in rates, a rate or a number of weights is missing or
            not positive, or a result is not a share or not finite.

    >>> ways = [(None, 1e-4), (None, 2e-4), (4, 1e-4), (4, 2e-4)]
    >>> runs = [Tuned(rank, rate, 0.8, 0.05) for rank, rate in ways]
    >>> RankExplorer(runs, {None: 1000, 4: 20}, guess=0.5)
    RankExplorer(rank 4; 2 rates)
    """

    _css = script("explorer.css", "panels.css", "loss.css", "ranks.css")
    _esm = script("common.js", "panels.js", "ranks.js")

    def __init__(
        self, runs: Sequence[Tuned], learned: Mapping[int | None, int], guess: float
    ) -> None:
        ranks = sorted({run.rank for run in runs if run.rank is not None})
        rates = sorted({run.rate for run in runs})
        if not ranks or not any(run.rank is None for run in runs):
            raise ValueError("wanted runs of adapters and of all weights, got one kind")
        check_range(0, 1, guess=guess)
        results = defaultdict(list)
        for run in runs:
            check_positive(rate=run.rate)
            check_range(0, 1, right=run.right)
            results[run.rank, run.rate].append((run.right, run.forgotten))
        by_rank = [[results[rank, rate] for rate in rates] for rank in (None, *ranks)]
        if len({len(found) for row in by_rank for found in row}) > 1:
            raise ValueError(
                "each rank needs the same number of runs at each learning rate"
            )
        if missing := {None, *ranks} - set(learned):
            raise ValueError(
                f"the number of weights that learn is missing for {missing}"
            )
        check_positive(**{f"learned with {rank}": n for rank, n in learned.items()})
        ways = [
            {"rank": rank, "learned": learned[rank], "runs": row}
            for rank, row in zip((None, *ranks), by_rank, strict=True)
        ]
        found = {"guess": guess, "rates": rates, "ways": ways}
        super().__init__(
            f"rank {', '.join(map(str, ranks))}; {len(rates)} rates",
            found=as_json(found),
        )
