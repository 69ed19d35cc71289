"""The command `align`: from a model that answers to one whose answers are preferred."""

from typing import Annotated, Literal

import typer

from llmcourse.cli import options as opt


def align(
    method: Annotated[
        Literal["ppo", "dpo", "grpo"], typer.Option(help="How the policy learns.")
    ] = "grpo",
    loss: Annotated[
        Literal["sigmoid", "ipo", "hinge"] | None,
        typer.Option(help="Loss for DPO. Default: sigmoid."),
    ] = None,
    preset: Annotated[
        Literal["aligned-llm", "study", "tiny"], typer.Option(help="The recipe.")
    ] = "aligned-llm",
    out_folder: opt.OutFolder = None,
    resume: opt.Resume = False,
    steps: Annotated[
        int | None,
        typer.Option(help="Steps for DPO, or iterations for PPO and GRPO.", min=1),
    ] = None,
    learning_rate: opt.LearningRate = None,
    kl_coef: Annotated[
        float | None, typer.Option(help="Coefficient of the KL penalty; for DPO, beta.")
    ] = None,
    dtype: opt.TrainedIn = "auto",
    model: Annotated[
        str | None,
        typer.Option(help="The policy: a folder or a name. Default: instruct-llm."),
    ] = None,
    seed: opt.Seed = 0,
    threads: opt.Threads = None,
    stories: Annotated[
        int | None,
        typer.Option(
            help="Answers to measure before and after training. Default: 400; "
            "tiny, 20.",
            min=2,
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(
            help="How often to measure, with new random numbers each time.", min=1
        ),
    ] = 1,
    questions: Annotated[
        int | None,
        typer.Option(
            help="Instructions of each kind to measure on; 0: none. Default: 30; "
            "tiny, 2.",
            min=0,
        ),
    ] = None,
    machine: opt.Machine = "",
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Train a reward model on comparisons, and a policy on its rewards.

    The model writes stories, and an annotator compares them. The folder then holds
    `reward/model/` and `model/`, the comparisons in `pairs.json`, and a `log.jsonl`
    for each training run. Ctrl-C stops, and the same command with `--resume` goes on
    to the same models.

    `llmcourse align --method grpo --model instruct-llm --out run/`

    `torchrun --nproc-per-node 2 -m llmcourse align --out run/`
    """
    from llmcourse.cli.running import Command, run_command, show, show_model
    from llmcourse.recipes import align as recipes
    from llmcourse.recipes.cards import tables
    from llmcourse.recipes.instruct import Exam

    command = Command(align, locals())
    config = recipes.configured(
        recipes.PRESETS[preset][method],
        policy=model,
        seed=seed,
        steps=steps,
        learning_rate=learning_rate,
        kl_coef=kl_coef,
        precision=dtype,
        loss=loss,
    )
    is_tiny = preset == "tiny"
    stories = (20 if is_tiny else 400) if stories is None else stories
    questions = (2 if is_tiny else 30) if questions is None else questions
    exam = Exam(
        n_prompts=stories,
        n_seeds=seeds,
        n_per_kind=questions,
        n_stories=max(2, stories // 2),
    )
    folder, quality = run_command(
        command, lambda run: recipes.make_aligned(config, run, exam), name="aligned-llm"
    )
    if as_json or not quality:
        return  # another process has measured, or all is printed already
    show(*tables("reward_tables", quality=quality["reward_model"]))
    show(*tables("aligned_tables", quality=quality))
    show_model(folder / "reward" / "model")
    show_model(folder / "model", "generate")
