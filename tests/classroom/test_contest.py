"""The contest's measure: what a score says, who is refused, and what a rank means."""

import json
import math
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch
from typer.testing import CliRunner

from llmcourse.classroom import contest
from llmcourse.classroom.contest import Score
from llmcourse.cli import app
from llmcourse.model.folders import find_model, save_pretrained
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text import tales
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.evaluation import tale_loss

TEXTS = [story.text for story in tales.generate(3, seed=1)]
TOKENIZER = BPETokenizer.train(TEXTS, 300, [END_OF_TEXT])
SIZES = TransformerConfig(
    vocab_size=TOKENIZER.vocab_size,
    d_model=8,
    n_layers=1,
    n_heads=2,
    n_kv_heads=1,
    d_ff=12,
    context_length=64,
)


def save(folder: Path, seed: int = 0) -> Path:
    model = Transformer(SIZES, torch.Generator().manual_seed(seed))
    save_pretrained(model, TOKENIZER, folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "mine")


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    """A contest of four stories."""
    monkeypatch.setattr(contest, "STORIES", 4)


@pytest.fixture(scope="module")
def own(folder: Path) -> Score:
    return contest.score(folder, n_stories=4)


def test_the_excess_is_that_of_the_book(folder: Path, own: Score) -> None:
    model = Transformer(SIZES, torch.Generator().manual_seed(0)).eval()
    wanted = tale_loss(model, TOKENIZER, 4, contest.SEED)
    assert own.excess == pytest.approx(wanted.excess.value)
    assert own.standard_error == pytest.approx(wanted.excess.standard_error)
    assert own.excess == pytest.approx(fmean(own.excesses))


def test_bytes_and_fingerprint(folder: Path, own: Score) -> None:
    names = "model.safetensors", "config.json", "tokenizer.json"
    assert own.n_bytes == sum((folder / name).stat().st_size for name in names)
    assert len(own.sha256) == 64
    (folder / "README.md").write_text("a card counts nothing")
    assert contest.size(folder) == own.n_bytes


def test_other_stories_other_score(folder: Path, own: Score) -> None:
    assert contest.score(folder, n_stories=4, seed=3).excess != own.excess


def test_a_model_of_more_bytes_is_refused(
    folder: Path, own: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contest, "MOST_BYTES", own.n_bytes)
    contest.score(folder, n_stories=2)
    monkeypatch.setattr(contest, "MOST_BYTES", own.n_bytes - 1)
    with pytest.raises(ValueError, match="at most .* bytes, got"):
        contest.score(folder, n_stories=2)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wanted a model's folder"):
        contest.score(tmp_path / "missing")
    with pytest.raises(ValueError, match="needs the file"):
        contest.score(tmp_path)
    save(tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="whole safetensors file"):
        contest.score(tmp_path / "broken")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no model in"):
        contest.read_entry(tmp_path / "empty")
    with pytest.raises(ValueError, match="at least two data points"):
        contest.score("base-llm-small", n_stories=1)


def test_weights_under_another_name_hide_no_bytes(tmp_path: Path) -> None:
    place = save(tmp_path / "mine")
    (place / "model.safetensors").rename(place / "big.dat")
    index = {"weight_map": {"model.embed_tokens.weight": "big.dat"}}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"needs the file .*model\.safetensors'"):
        contest.score(place, n_stories=2)


def test_the_models_of_an_entry(tmp_path: Path) -> None:
    one, other = save(tmp_path / "run" / "0" / "model"), save(tmp_path / "run" / "1")
    assert contest.read_entry(tmp_path / "run") == [one, other]
    assert contest.read_entry(tmp_path / "run" / "0") == [one]
    assert contest.read_entry(other) == [other]
    assert contest.read_entry("base-llm-small") == [find_model("base-llm-small")]


def test_a_tokenizer_that_drops_text_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BPETokenizer, "encode", lambda self, text: [5])
    with pytest.raises(ValueError, match="to the letter"):
        contest.score(folder, n_stories=2)


def test_losses_that_are_no_numbers_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contest, "document_nll", lambda *_: ([math.nan, 1.0], [1, 1]))
    with pytest.raises(ValueError, match="must give finite losses"):
        contest.score(folder, n_stories=2)


@pytest.mark.usefixtures("four")
def test_a_true_score_agrees(folder: Path, own: Score, tmp_path: Path) -> None:
    contest.write_score(own, tmp_path / "score.json")
    assert contest.read_score(tmp_path / "score.json") == own
    assert contest.verify(folder, tmp_path / "score.json") == (own, [])


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"excess": -1.0}, "excess: -1.000 in the score"),
        ({"excess": math.nan}, "excess: nan in the score"),
        ({"standard_error": 99.0}, "standard_error: 99.000 in the score"),
        ({"sha256": "0" * 64}, "sha256: 000000000000 in the score"),
        ({"n_bytes": 5}, "n_bytes: 5 in the score"),
        ({"excesses": (0.0, 0.0, 0.0, 0.0)}, "4 stories have another excess"),
    ],
)
def test_a_changed_score_does_not(
    folder: Path, own: Score, tmp_path: Path, change: dict, reason: str
) -> None:
    contest.write_score(replace(own, **change), tmp_path / "score.json")
    _, reasons = contest.verify(folder, tmp_path / "score.json")
    assert len(reasons) == 1
    assert reasons[0].startswith(reason)


@pytest.mark.usefixtures("four")
def test_within_the_tolerance_it_agrees(
    folder: Path, own: Score, tmp_path: Path
) -> None:
    near = replace(own, excess=own.excess + 0.9 * contest.TOLERANCE)
    contest.write_score(near, tmp_path / "score.json")
    assert not contest.verify(folder, tmp_path / "score.json")[1]
    far = replace(own, excess=own.excess + 1.1 * contest.TOLERANCE)
    contest.write_score(far, tmp_path / "score.json")
    assert contest.verify(folder, tmp_path / "score.json")[1]


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize(
    ("change", "got"),
    [({"excesses": (0.0, 0.0)}, "2 of seed 20000000"), ({"seed": 3}, "4 of seed 3")],
)
def test_a_score_on_stories_of_ones_choice_is_refused(
    folder: Path, own: Score, tmp_path: Path, change: dict, got: str
) -> None:
    path = tmp_path / "score.json"
    contest.write_score(replace(own, **change), path)
    with pytest.raises(ValueError, match=f"4 stories of seed 20000000, got {got}"):
        contest.verify(folder, path)


def test_a_file_that_is_no_score(own: Score, tmp_path: Path) -> None:
    path = tmp_path / "score.json"
    for damage in ({"excess": None}, {"excesses": 3}, {"seed": "x"}):
        path.write_text(json.dumps(asdict(own) | damage))
        with pytest.raises(ValueError, match="holds no score"):
            contest.read_score(path)


def made(*levels: float, spread: float = 0.1, name: str = "a") -> list[Score]:
    """Return a score for each level, whose stories lie around it."""
    wave = [spread * math.sin(i) for i in range(50)]
    shift = fmean(wave)
    scores = []
    for number, level in enumerate(levels):
        excesses = tuple(level + x - shift for x in wave)
        scores.append(
            Score(
                excess=fmean(excesses),
                standard_error=stdev(excesses) / 50**0.5,
                n_bytes=5_000_000 + number,
                sha256=f"{name}{number}".ljust(64, "0"),
                seed=1,
                excesses=excesses,
            )
        )
    return scores


def test_better_means_two_standard_errors() -> None:
    # 1, 2, 3 and 3, 4, 5: variance 1 each, so the error is sqrt(2 / 3) = 0.816
    low = made(1, 2, 3)
    assert contest.is_better(low, made(2.7, 3.7, 4.7))
    assert not contest.is_better(low, made(2.6, 3.6, 4.6))
    assert not contest.is_better(made(2.7, 3.7, 4.7), low)
    assert not contest.is_better(low[:2], made(9, 9.1, 9.2))
    assert not contest.is_better(low, made(99, 99))


def test_stories_count_as_chance_too() -> None:
    # the same seeds' spread, but the gain is another on each story: sd of 7
    wide = made(1.0, 1.1, 1.2, spread=10)
    flat = made(2.0, 2.1, 2.2, spread=0)
    assert not contest.is_better(wide, flat)
    assert contest.is_better(made(1.0, 1.1, 1.2, spread=0), flat)


def test_ranks_are_shared() -> None:
    entries = {
        "far": made(9.0, 9.1, 9.2),
        "one": made(1.0, 1.1, 1.2),
        "two": made(1.05, 1.15, 1.25),
        "single": made(0.5),
    }
    assert contest.ranks(entries) == {"far": 3, "one": 1, "two": 1, "single": None}
    lines = contest.leaderboard(entries)
    names = [line.split(" | ")[1] for line in lines[2:]]
    assert names == ["single", "one", "two", "far"]
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| –", "| 1", "| 1", "| 3"]
    assert "| 1.10 ± 0.06 | 3 | 5.00 | a00000000000 |" in lines[3]


def test_the_error_of_few_seeds_is_that_of_their_mean_on_each_story() -> None:
    """Excesses 1, 5 and 3, 1 on two stories: means of 2 and 3, an error of 1/2."""
    one, other = (
        replace(each, excess=fmean(excesses), excesses=excesses)
        for each, excesses in zip(made(1, 2), ((1.0, 5.0), (3.0, 1.0)), strict=True)
    )
    lines = contest.leaderboard({"pair": [one, other], "single": [one]})
    assert "| – | pair | 2.50 ± 0.50 | 2 |" in lines[2]
    assert "| – | single | 3.00 ± 2.00 | 1 |" in lines[3]


def test_what_does_not_compare() -> None:
    other = [replace(each, seed=2) for each in made(1, 2, 3)]
    with pytest.raises(ValueError, match="on the same stories"):
        contest.ranks({"a": made(1, 2, 3), "b": other})
    with pytest.raises(ValueError, match="2 scores of 1 models"):
        contest.ranks({"a": made(1) * 2})
    with pytest.raises(ValueError, match="0 scores of 0 models"):
        contest.ranks({"a": []})
    assert len(contest.leaderboard({})) == 2


def run(*words: str | Path) -> tuple[int, list[str]]:
    result = CliRunner().invoke(app, ["course", *map(str, words), "--quiet"])
    return result.exit_code, [*result.output.splitlines(), str(result.exception)]


def test_the_leaderboard_as_a_command(folder: Path, tmp_path: Path) -> None:
    for seed in range(3):
        save(tmp_path / "three" / str(seed), seed)
    words = ["leaderboard", tmp_path / "three", folder, "--stories", "3"]
    code, lines = run(*words, "--seed", "7")
    assert code == 0
    assert {line.split(" | ")[1] for line in lines[2:4]} == {"three", "mine"}
    assert any(line.startswith("| 1 | three | ") for line in lines)
    assert any(line.startswith("| – | mine | ") for line in lines)
    code, lines = run(*words, tmp_path / "again" / "three")
    assert code == 1
    assert lines[-1] == "two entries have the name 'three'"


@pytest.mark.usefixtures("four")
def test_score_and_verify_as_a_command(
    folder: Path, own: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = contest.score
    monkeypatch.setattr(contest, "score", lambda *a, **b: real(*a, **b, n_stories=4))
    code, lines = run("score", folder, "--out", tmp_path / "score.json")
    assert code == 0
    assert lines[0].startswith(f"{own.excess:.3f} ± {own.standard_error:.3f} nats per")
    assert contest.read_score(tmp_path / "score.json") == own
    monkeypatch.setattr(contest, "score", real)
    code, lines = run("score", folder, "--against", tmp_path / "score.json")
    assert (code, lines[1]) == (0, "agrees")
    words = ["score", folder, "--against", tmp_path / "score.json"]
    assert run(*words, "--seed", "7")[1][-1].endswith("got 4 of seed 20000000")
    contest.write_score(replace(own, excess=0.0), tmp_path / "score.json")
    code, lines = run("score", folder, "--against", tmp_path / "score.json")
    assert code == 1
    assert lines[1].startswith("excess: 0.000 in the score")


def test_the_page_names_the_shipped_model() -> None:
    page = Path(__file__).parents[2] / "book" / "contest.md"
    text = page.read_text(encoding="utf-8")
    place = find_model("base-llm-small")
    (row,) = [line for line in text.splitlines() if "| base-llm-small |" in line]
    weights = (place / "model.safetensors").read_bytes()
    assert sha256(weights).hexdigest()[:12] in row
    assert f"| {contest.size(place) / 1e6:.2f} |" in row
    assert f"{contest.MOST_BYTES:,} bytes" in text
    assert f"{contest.MINUTES} minutes" in text
    assert f"seed {contest.SEED:,}" in text
    assert f"{contest.TOLERANCE} nats" in text
    assert f"{contest.STORIES} fresh tales" in text
