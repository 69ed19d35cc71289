"""The contest: how near the floor a small model comes, measured the same for everyone.

    score        a model's excess over the floor, on stories of one seed
    write_score  the score as a JSON file, to be handed in with the model
    verify       measure again and compare with the file
    leaderboard  entries side by side; a rank is one more than the number of better ones

The excess of a story is the model's negative log-likelihood minus the exact one, in
nats; its mean is the Kullback-Leibler divergence of the model from the grammar. A
folder holds numbers and no code, so measuring it is safe. The tokenizer must give back
each story to the letter, so leaving out text cannot improve a score.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev, variance

from llmcourse.files import write_json
from llmcourse.model.folders import check_is_file, find_model, read_folder, read_json
from llmcourse.text import tales
from llmcourse.training.config import CountProgress
from llmcourse.training.evaluation import document_nll

WEIGHTS = "model.safetensors"  # all of them: weights in several files are refused
MOST_BYTES = 6_000_000  # of weights, configuration and tokenizer together
MINUTES = 20  # of processor time to train with one seed
SEED = 20_000_000  # of the contest's stories; no preset trains on it
STORIES = 500
TOLERANCE = 0.01  # nats per story by which machines may differ
LEAST_SEEDS = 3  # an entry with fewer runs has no rank


@dataclass(frozen=True, kw_only=True)
class Score:
    """How near to the floor a model is, in nats per story, and which model it is."""

    excess: float  # mean over the stories, nats per story
    standard_error: float  # of that mean, due to the sample of stories
    n_bytes: int  # of weights, configuration and tokenizer
    sha256: str  # of the weights' file, 64 hexadecimal digits
    seed: int  # of the stories
    excesses: tuple[float, ...]  # of each story, nats


def score(
    folder: str | Path,
    *,
    n_stories: int = STORIES,
    seed: int = SEED,
    progress: CountProgress | None = None,
) -> Score:
    """Return how near to the floor the model in a folder is.

    Args:
        folder: As `save_pretrained` writes it, or the name of a shipped model.
        n_stories: How many stories to generate.
        seed: Seeds the stories. Rank a class by a seed that the students don't know.
        progress: As in `evaluation.text_loss`.

    Raises:
        ValueError: If there are fewer than two stories, if the folder holds no model
            or one of more than 6 MB, if its tokenizer changes a story, or if a
            loss is not finite.
        OSError: If a file cannot be read.
    """
    place = find_model(folder)
    n_bytes = size(place)
    if n_bytes > MOST_BYTES:
        raise ValueError(
            f"the model in {str(folder)!r} must have at most {MOST_BYTES:,} bytes, "
            f"got {n_bytes:,} in weights, config.json and tokenizer.json; float16 "
            "halves the weights"
        )
    found = read_folder(place)
    stories = list(tales.generate(n_stories, seed))
    texts = [story.text for story in stories]
    for text in texts:
        if (decoded := found.tokenizer.decode(found.tokenizer.encode(text))) != text:
            raise ValueError(
                f"the tokenizer in {str(folder)!r} must give back every story to the "
                f"letter: {text[:40]!r} became {decoded[:40]!r}"
            )
    nll, _ = document_nll(found.model, found.tokenizer, texts, progress)
    excesses = [p + story.log_prob for p, story in zip(nll, stories, strict=True)]
    if not all(map(math.isfinite, excesses)):
        raise ValueError(f"the model in {str(folder)!r} must give finite losses")
    return Score(
        excess=fmean(excesses),
        standard_error=stdev(excesses) / math.sqrt(n_stories),
        n_bytes=n_bytes,
        sha256=hashlib.sha256((place / WEIGHTS).read_bytes()).hexdigest(),
        seed=seed,
        excesses=tuple(excesses),
    )


def size(folder: Path) -> int:
    """Return a model's size in bytes: weights, configuration and tokenizer.

    Raises:
        ValueError: If one of the three files is missing.
    """
    files = [folder / name for name in (WEIGHTS, "config.json", "tokenizer.json")]
    for path in files:
        check_is_file(path)
    return sum(path.stat().st_size for path in files)


def write_score(own: Score, path: str | Path) -> None:
    """Write a score as JSON, whole or not at all.

    Raises:
        ValueError: If there is no folder to write into.
        OSError: If the file cannot be written.
    """
    write_json(path, asdict(own))


def read_score(path: str | Path) -> Score:
    """Return a score from its file.

    Raises:
        ValueError: If the file is missing or holds no score.
    """
    found = read_json(Path(path))
    try:
        return Score(
            excess=float(found["excess"]),
            standard_error=float(found["standard_error"]),
            n_bytes=int(found["n_bytes"]),
            sha256=str(found["sha256"]),
            seed=int(found["seed"]),
            excesses=tuple(map(float, found["excesses"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} holds no score: {error!r}") from error


def verify(
    folder: str | Path,
    path: str | Path,
    *,
    seed: int = SEED,
    progress: CountProgress | None = None,
) -> tuple[Score, list[str]]:
    """Return a model's score on the contest's stories, and what a file has otherwise.

    Args:
        folder: The model.
        path: Its score, by `write_score`.
        seed: Seeds the stories, as in `score`.
        progress: As in `evaluation.text_loss`.

    Raises:
        ValueError: As in `score` and `read_score`, or if the file's score is on other
            stories.
        OSError: If a file cannot be read.
    """
    claimed = read_score(path)
    n = len(claimed.excesses)
    if (n, claimed.seed) != (STORIES, seed):
        raise ValueError(
            f"the score in {str(path)!r} must be on {STORIES} stories of seed {seed}, "
            f"got {n} of seed {claimed.seed}"
        )
    own = score(folder, n_stories=STORIES, seed=seed, progress=progress)
    reasons = []
    forms = {"sha256": ".12", "n_bytes": ",", "excess": ".3f", "standard_error": ".3f"}
    for name, form in forms.items():
        there, here = getattr(claimed, name), getattr(own, name)
        near = isinstance(there, float) and abs(there - here) <= TOLERANCE
        if there != here and not near:  # refuses NaN as well
            reasons.append(f"{name}: {there:{form}} in the score, {here:{form}} here")
    pairs = zip(claimed.excesses, own.excesses, strict=True)
    n_others = sum(not abs(one - other) <= 10 * TOLERANCE for one, other in pairs)
    if n_others:
        reasons.append(f"{n_others} stories have another excess in the score")
    return own, reasons


Entries = Mapping[str, Sequence[Score]]


def is_better(one: Sequence[Score], other: Sequence[Score]) -> bool:
    """Return whether one entry's excess is lower by more than two standard errors.

    The error of the difference has two sources: the seeds of both entries, and the
    sample of stories, which both share. An entry with fewer than three seeds is
    neither better nor worse than another.
    """
    if min(len(one), len(other)) < LEAST_SEEDS:
        return False
    a, b = [s.excess for s in one], [s.excess for s in other]
    of_seeds = variance(a) / len(a) + variance(b) / len(b)
    gaps = [
        fmean(of_b) - fmean(of_a)
        for of_a, of_b in zip(_by_story(one), _by_story(other), strict=True)
    ]
    of_stories = variance(gaps) / len(gaps)
    return fmean(b) - fmean(a) > 2 * math.sqrt(of_seeds + of_stories)


def _by_story(scores: Sequence[Score]) -> list[tuple[float, ...]]:
    return list(zip(*(each.excesses for each in scores), strict=True))


def ranks(entries: Entries) -> dict[str, int | None]:
    """Return each entry's rank: one plus the number of entries better than it.

    An entry with fewer than three seeds has none.

    Args:
        entries: The scores of each entry, one per seed.

    Raises:
        ValueError: If an entry is empty, counts one model twice, or was measured on
            other stories than the rest.
    """
    tests = {
        (each.seed, len(each.excesses)) for own in entries.values() for each in own
    }
    if len(tests) > 1:
        raise ValueError(
            "only scores on the same stories can be compared, got (seed, number) "
            f"{', '.join(map(str, sorted(tests)))}"
        )
    for name, own in entries.items():
        if not own or len({each.sha256 for each in own}) < len(own):
            raise ValueError(
                f"{name} must have one model for each seed, got {len(own)} scores of "
                f"{len({each.sha256 for each in own})} models"
            )
    return {
        name: 1 + sum(is_better(other, own) for other in entries.values())
        if len(own) >= LEAST_SEEDS
        else None
        for name, own in entries.items()
    }


def leaderboard(entries: Entries) -> list[str]:
    """Return the lines of a Markdown table, the lowest mean excess first.

    The error is due to the seeds or, with fewer than three of them, to the stories
    only; such an entry has no rank.

    Args:
        entries: The scores of each entry, one per seed.

    Raises:
        ValueError: As in `ranks`.
    """
    places = ranks(entries)
    rows = []
    for name, own in entries.items():
        values = [each.excess for each in own]
        rank = places[name]
        sample = [fmean(each) for each in _by_story(own)] if rank is None else values
        error = stdev(sample) / math.sqrt(len(sample))
        text = [
            "–" if rank is None else str(rank),
            name.replace("|", "\\|"),
            f"{fmean(values):.2f} ± {error:.2f}",
            str(len(own)),
            f"{max(each.n_bytes for each in own) / 1e6:.2f}",
            own[0].sha256[:12],
        ]
        rows.append((fmean(values), f"| {' | '.join(text)} |"))
    head = "| Rank | Entry | Excess (nats per story) | Seeds | MB | First SHA-256 |"
    return [head, "|---|---|---|---|---|---|", *(line for _, line in sorted(rows))]


def read_entry(folder: str | Path) -> list[Path]:
    """Return the models of an entry: the folder itself, or the folders in it.

    A folder that `llmcourse pretrain --out` wrote, with the model in `model/`, counts
    as a model's.

    Raises:
        ValueError: If there is no model in either place.
    """
    place = Path(folder)
    if (place / "config.json").is_file() or not place.is_dir():
        return [find_model(folder)]
    files = [*place.glob("*/config.json"), *place.glob("*/model/config.json")]
    found = sorted(path.parent for path in files)
    if not found:
        raise ValueError(f"there is no model in {str(folder)!r}, nor in its folders")
    return found
