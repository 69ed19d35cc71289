"""The command `align`: from a model that answers to one whose answers are preferred."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from llmcourse.alignment.dpo import DPOConfig
from llmcourse.alignment.losses import PAIR_LOSSES
from llmcourse.cli.console import Quiet, TrainingBar, app, bars, out
from llmcourse.cli.results import print_forgetting, print_scores
from llmcourse.cli.running import (
    Machine,
    OutFolder,
    Precision,
    Resume,
    Threads,
    command_line,
    given,
    in_precision,
    prepare_folders,
    stoppable,
    use_cores,
)
from llmcourse.recipes import align_model, align_recipe
from llmcourse.recipes.align_card import AlignQuality, RewardQuality, better_of
from llmcourse.recipes.align_model import AlignExam, make_aligned
from llmcourse.recipes.align_recipe import AlignConfig
from llmcourse.training.config import JSONLinesLog, Record, TrainingProgress


@app.command()
def align(
    method: Annotated[str, typer.Option(help="ppo, dpo or grpo.")] = "grpo",
    loss: Annotated[
        str | None, typer.Option(help=f"Of DPO: {', '.join(PAIR_LOSSES)}.")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="aligned-llm, study or tiny.")
    ] = "aligned-llm",
    model: Annotated[
        str | None, typer.Option(help="The policy: a folder or a name; instruct-llm.")
    ] = None,
    out_folder: OutFolder = None,
    resume: Resume = False,
    steps: Annotated[
        int | None, typer.Option(help="Of DPO; iterations of the others.", min=1)
    ] = None,
    reward_steps: Annotated[
        int | None, typer.Option(help="Of the reward model.", min=1)
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of the policy; the preset's.")
    ] = None,
    kl_coef: Annotated[
        float | None,
        typer.Option(help="What it costs to leave the start; beta of DPO."),
    ] = None,
    precision: Precision = None,
    prompts: Annotated[
        int | None, typer.Option(help="Whose answers are compared.", min=1)
    ] = None,
    agreement: Annotated[
        float | None, typer.Option(help="Of the annotator with gold, 0.5 … 1.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of prompts, answers and order.")] = 0,
    threads: Threads = None,
    stories: Annotated[
        int, typer.Option(help="Answers to measure, before and after.", min=2)
    ] = 400,
    questions: Annotated[
        int, typer.Option(help="Instructions of each kind, to measure.", min=0)
    ] = 30,
    machine: Machine = "",
    quiet: Quiet = False,
) -> None:
    """Ask a model for stories, learn from comparisons which are liked, and train by it.

    In the folder are then `reward/model/` and `model/`, what was compared in
    `pairs.jsonl`, and a `log.jsonl` of each training. Ctrl-C stops, and with `--resume`
    the same command goes on, to the same models.

    `llmcourse align --method grpo --model instruct-llm --out run/`
    """
    use_cores(threads)
    config = align_recipe.preset(preset, method)
    sizes = {"policy": model, "n_prompts": prompts, "agreement": agreement}
    config = replace(config, **given(sizes), seed=seed)
    config = _with(config, steps, reward_steps, learning_rate, kl_coef, precision, loss)
    folder = out_folder or Path(f"run-{preset}")
    words = ["llmcourse", "align", "--method", method, "--preset", preset]
    options: dict[str, Any] = {"steps": steps, "reward_steps": reward_steps}
    options |= {"learning_rate": learning_rate, "kl_coef": kl_coef}
    options |= {"loss": loss}
    options |= {"precision": precision}
    options |= {"model": model, "prompts": prompts, "agreement": agreement}
    options |= {"seed": seed or None, "threads": threads}
    exam = AlignExam(n_prompts=stories, n_per_kind=questions)
    if exam != AlignExam():
        options |= {"stories": stories, "questions": questions}
    words += ["--out", str(folder)]
    command = command_line(words, options)
    prepare_folders(folder, folder / "reward", resume=resume)
    with stoppable(command_line(words, options | {"machine": machine or None})):
        quality = _make(
            config, folder, quiet, command=command, exam=exam, machine=machine
        )
    print_reward(quality.reward)
    print_gain(quality)
    for name in ("reward/model", "model"):
        size = sum(path.stat().st_size for path in (folder / name).iterdir())
        out.print(f"{folder / name}: {size / 1e6:.1f} MB")


def _with(
    config: AlignConfig,
    steps: int | None,
    reward_steps: int | None,
    learning_rate: float | None,
    kl_coef: float | None,
    precision: str | None,
    loss: str | None,
) -> AlignConfig:
    """Return the recipe with what was asked for instead."""
    if loss is not None and not isinstance(config.training, DPOConfig):
        raise ValueError(f"--loss is an option of --method dpo, not of {config.method}")
    if steps is not None:
        config = align_model.with_steps(config, steps)
    cost = "beta" if isinstance(config.training, DPOConfig) else "kl_coef"
    wanted = given({"learning_rate": learning_rate, cost: kl_coef, "loss_type": loss})
    reward = in_precision(config.reward, precision)
    reward = replace(reward, **given({"steps": reward_steps}))
    training = replace(config.training, **wanted)
    if isinstance(training, DPOConfig):
        training = in_precision(training, precision)
    return replace(config, reward=reward, training=training)


def _make(config: AlignConfig, folder: Path, quiet: bool, **rest: Any) -> AlignQuality:
    """Train with logs and bars, save and measure."""
    out.print(
        f"{config.policy} answers {config.n_prompts + config.n_held_out:,} prompts "
        f"{config.answers_per_prompt} times; by {config.method.upper()} it learns what "
        "is preferred"
    )
    training = config.training
    n = training.steps if isinstance(training, DPOConfig) else training.iterations
    with ExitStack() as stack:
        draw = stack.enter_context(bars(quiet))

        def shown(name: str, place: Path, steps: int) -> TrainingProgress:
            bar = stack.enter_context(TrainingBar(steps, quiet, name=name))
            log = JSONLinesLog(place / "log.jsonl")

            def tell(record: Record) -> None:
                log(record)
                bar.show(record)
                if record.step == steps and "kl" not in record.metrics:
                    bar.close()

            return tell

        def iteration(record: Record) -> None:
            log(record)
            draw("iterations", record.step, n)

        log = JSONLinesLog(folder / "log.jsonl")
        is_dpo = isinstance(training, DPOConfig)
        return make_aligned(
            config,
            folder,
            teaching=shown("reward model", folder / "reward", config.reward.steps),
            progress=shown("policy", folder, n) if is_dpo else iteration,
            stages=draw,
            **rest,
        )


def print_reward(quality: RewardQuality) -> None:
    """Print how often a reward model is right, against what can be reached."""
    accuracy = quality.accuracy
    low, high = (100 * end for end in accuracy.interval)
    out.print(
        f"reward model: {100 * accuracy.rate:.1f} % of {accuracy.n} held-out pairs as "
        f"the annotator ({low:.0f} % … {high:.0f} %), whose ceiling is "
        f"{100 * quality.ceiling:.1f} %; {100 * quality.with_gold:.1f} % as gold; "
        f"calibration error {100 * quality.calibration_error:.1f} points of 100"
    )


def print_gain(quality: AlignQuality) -> None:
    """Print what a policy was before and after."""
    gold, before, after = quality.gold, quality.before, quality.after
    low, high = gold.interval
    out.print(
        f"gold reward: {gold.before:.2f} → {gold.after:.2f} points, {gold.gain:+.2f} "
        f"({low:+.2f} … {high:+.2f}), {gold.in_sd:+.2f} standard deviations"
    )
    out.print(f"the better answer, by gold: {better_of(gold.better)}")
    out.print(
        f"proxy reward: {before['proxy']:+.2f} → {after['proxy']:+.2f}; "
        f"KL {after['kl']:.1f} nats per answer; finished "
        f"{100 * before['finished']:.0f} % → {100 * after['finished']:.0f} %"
    )
    for name, scores in (("before", quality.scores_before), ("after", quality.scores)):
        for split, score in (scores or {}).items():
            print_scores({f"instructions {name}, {split}": score})
    if quality.forgetting is not None:
        print_forgetting(quality.forgetting)
