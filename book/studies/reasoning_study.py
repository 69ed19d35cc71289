"""The runs of the reasoning study: sums in words, learned from labels and from rewards.

    python book/studies/reasoning_study.py --out reasoning.json

takes about an hour on one core and goes on where it was stopped. All begins with
`instruct-llm`. For each seed:

    labels ──► worked ──► more labels     measured on the way, each label read once
                 │
                 ├──► GRPO                rewards of the outcome, no labels, two rates
                 │      └──► distilled    its answers in place of labels, from the start
                 └──► rejection           as many answers, the right ones imitated
    labels ──► direct

Questions to learn from have one to three steps, those to measure on one to four. The
chapter *reasoning* tells what comes out.
"""

import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from random import Random
from statistics import fmean

import torch
from baselines_study import cooled
from study_command import resumed, run_study_command, with_points
from torch import Tensor
from torch.nn.functional import cross_entropy

from llmcourse.alignment.grpo import GRPOConfig, grpo
from llmcourse.alignment.preferences import end_of_answer, prompt_of
from llmcourse.alignment.rollouts import sample_rollouts
from llmcourse.alignment.verifiable import (
    Question,
    direct_answer,
    last_number,
    outcome_is_right,
    process_is_right,
    questions,
    vote,
    worked_answer,
)
from llmcourse.finetuning.chat import Message, tokenized
from llmcourse.finetuning.examples import TokenizedExample, collate
from llmcourse.finetuning.finetuning import FinetuningConfig, answer_loss
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.studies import Study
from llmcourse.text import tales
from llmcourse.training.checkpoints import weights_fingerprint
from llmcourse.training.evaluation import text_loss
from llmcourse.training.loop import update_weights
from llmcourse.training.optimizers import make_optimizer

LEARNED_STEPS = (1, 2, 3)
VOTERS = (1, 2, 4, 8, 16)
FORMS = {"worked": worked_answer, "direct": direct_answer}
STUDENTS = {"distilled": False, "distilled, soft": True}  # by soft targets
FROM_WEAK = ("grpo", *STUDENTS, "grpo, fast", "rejection")


@dataclass(frozen=True, kw_only=True)
class ReasoningPoint:
    """One model, and what it answers."""

    way: str
    seed: int
    n_labels: int  # worked or direct answers that it learned from
    n_answers: int  # to each question
    right: Sequence[int]  # right ones among them, for each question
    process: Sequence[int]  # those of them with a right chain
    votes: Sequence[float]  # share of questions that 1, 2, 4, … voters get right
    greedy: float  # share of questions
    cool: float  # the same at temperature 1/2
    numbers: float  # different last numbers among the answers to a question
    chains: float  # different answers, word by word
    tales: float  # what plain tales cost more than before, in nats per token
    rewards: Sequence[float] = ()  # of GRPO, by iteration


@dataclass(frozen=True, kw_only=True)
class ReasoningStudyConfig:
    """What all runs share."""

    looks: tuple[int, ...] = (60, 120, 200)  # steps after which labels are measured
    weak: int = 120  # steps of labels after which rewards begin
    batch_size: int = 16
    rate: float = 1.5e-3
    warmup_steps: int = 10
    iterations: int = 100
    groups: int = 8  # questions of an iteration
    group_size: int = 8
    reward_rate: float = 2e-4
    fast_rate: float = 1e-3  # of GRPO, to see what too high a rate does
    n_questions: int = 48  # to measure on, as many of each number of steps
    n_answers: int = 16  # of models that are compared at many answers
    few_answers: int = 4  # of all others
    n_tales: int = 4
    max_new_tokens: int = 40


class Bench:
    """What all runs of a study use: the start, and the questions to measure on."""

    def __init__(self, config: ReasoningStudyConfig) -> None:
        self.config = config
        self.start, self.tokenizer = load_pretrained("instruct-llm")
        self.asked = list(questions(config.n_questions, seed=1_000_003))
        self.texts = [story.text for story in tales.generate(config.n_tales, seed=13)]
        self.before = self.tale_loss(self.start)

    def tale_loss(self, model: Transformer) -> float:
        """Return the loss on plain tales, in nats per token."""
        return text_loss(model, self.tokenizer, self.texts).loss

    def answers(
        self, model: Transformer, asked: Iterable[Question], n: int, seed: int
    ) -> list[tuple[str, str]]:
        """Return n answers to each question, with the question's text."""
        prompts = [prompt_of(q.text, self.tokenizer) for q in asked for _ in range(n)]
        said = sample_rollouts(
            model,
            prompts,
            self.config.max_new_tokens,
            tokenizer=self.tokenizer,
            stop=[end_of_answer(self.tokenizer)],
            generator=torch.Generator().manual_seed(seed),
        ).texts
        return [(prompt.text, text) for prompt, text in zip(prompts, said, strict=True)]

    def measure(
        self,
        way: str,
        seed: int,
        n_labels: int,
        model: Transformer,
        n: int,
        rewards: Sequence[float] = (),
    ) -> ReasoningPoint:
        """Return what a model answers, n times each question that it is measured on."""
        pairs = self.answers(model, self.asked, n, seed)
        groups = [pairs[at : at + n] for at in range(0, len(pairs), n)]
        said = [[answer for _, answer in group] for group in groups]
        rng = Random(seed)
        voters = [v for v in VOTERS if v <= n]

        def share_of(temperature: float) -> float:
            one = self.answers(cooled(model, temperature), self.asked, 1, seed)
            return round(fmean(outcome_is_right(*pair) for pair in one), 4)

        def voted(size: int) -> float:
            ways = [
                vote(rng.sample(answers, size)) == question.totals[-1]
                for question, answers in zip(self.asked, said, strict=True)
                for _ in range(8)
            ]
            return round(fmean(ways), 4)

        return ReasoningPoint(
            way=way,
            seed=seed,
            n_labels=n_labels,
            n_answers=n,
            right=[sum(outcome_is_right(*pair) for pair in group) for group in groups],
            process=[
                sum(process_is_right(*pair) for pair in group) for group in groups
            ],
            votes=[voted(size) for size in voters],
            greedy=share_of(0.01),
            cool=share_of(0.5),
            numbers=fmean(len(set(map(last_number, answers))) for answers in said),
            chains=fmean(len(set(answers)) for answers in said),
            tales=round(self.tale_loss(model) - self.before, 4),
            rewards=list(rewards),
        )

    def learn(
        self,
        model: Transformer,
        batches: Iterable[Sequence[TokenizedExample]],
        rate: float,
        teacher: Transformer | None = None,
    ) -> Iterator[int]:
        """Make a step for each batch, in place; yield the number of steps made.

        The targets are the tokens, or a teacher's probabilities if there is one.
        """
        plan = FinetuningConfig(
            steps=10**9,  # the rate stays as it is after warm-up
            learning_rate=rate,
            warmup_steps=self.config.warmup_steps,
            weight_decay=0.0,
        )
        optimizer = make_optimizer(model, plan)
        for step, batch in enumerate(batches):
            if teacher is None:
                loss = answer_loss(model, batch, plan)
            else:
                loss = soft_loss(model, teacher, batch)
            update_weights(model, optimizer, [loss], step, plan)
            yield step + 1

    def batches(
        self, pairs: Iterable[tuple[str, str]]
    ) -> Iterator[list[TokenizedExample]]:
        """Yield examples of questions with answers, a batch at a time."""
        talks = [[Message("user", q), Message("assistant", a)] for q, a in pairs]
        longest = self.start.config.context_length
        examples = iter(tokenized(talks, self.tokenizer, longest))
        while len(batch := list(islice(examples, self.config.batch_size))) > 1:
            yield batch

    def labels(
        self, form: Callable[[Question], str], n: int, seed: int
    ) -> list[tuple[str, str]]:
        """Return n questions with their answers."""
        return [(q.text, form(q)) for q in questions(n, seed, LEARNED_STEPS)]


def reinforce(bench: Bench, policy: Transformer, seed: int, rate: float) -> list[float]:
    """Train a policy in place by GRPO on checked outcomes; return rewards by round."""
    config = bench.config
    asked = questions(config.iterations * config.groups, 5_000 + seed, LEARNED_STEPS)

    def check(prompts: Sequence[str], texts: Sequence[str]) -> Tensor:
        pairs = zip(prompts, texts, strict=True)
        return torch.tensor([float(outcome_is_right(*pair)) for pair in pairs])

    made = grpo(
        policy,
        [prompt_of(question.text, bench.tokenizer) for question in asked],
        check,
        GRPOConfig(
            iterations=config.iterations,
            prompts_per_iteration=config.groups,
            answers_per_prompt=config.group_size,
            minibatch_size=config.groups * config.group_size,
            max_new_tokens=config.max_new_tokens,
            learning_rate=rate,
            warmup_updates=config.warmup_steps,
            epochs=1,
            kl_coef=0,
        ),
        torch.Generator().manual_seed(seed),
        tokenizer=bench.tokenizer,
        stop=[end_of_answer(bench.tokenizer)],
    )
    return [round(iteration.reward, 4) for iteration in made]


def learned(
    bench: Bench, seed: int, way: str, last: int
) -> Iterator[tuple[int, Transformer]]:
    """Yield a model after each look's steps of labels, up to a last one."""
    config, model = bench.config, copy.deepcopy(bench.start)
    labels = bench.labels(FORMS[way], config.batch_size * last, 100 + seed)
    for step in bench.learn(model, bench.batches(labels), config.rate):
        if step in config.looks:
            yield step, model


def rejection(bench: Bench, start: Transformer, seed: int) -> Transformer:
    """Return a model that imitates its own right answers, each different one twice."""
    config, model = bench.config, copy.deepcopy(start)
    n_asked = config.iterations * config.groups
    asked = questions(n_asked, 5_000 + seed, LEARNED_STEPS)
    drawn = bench.answers(start, asked, config.group_size, seed)
    kept = sorted({pair for pair in drawn if outcome_is_right(*pair)})
    Random(seed).shuffle(kept)
    batches = bench.batches(kept * 2)
    for _ in bench.learn(model, batches, config.reward_rate):
        pass
    return model


def soft_loss(
    student: Transformer, teacher: Transformer, examples: Sequence[TokenizedExample]
) -> Tensor:
    """Return the cross-entropy to the teacher's probabilities, in nats per target."""
    batch = collate(examples)
    with torch.no_grad():
        wanted = teacher(batch.ids)[batch.mask].softmax(-1)
    return cross_entropy(student(batch.ids)[batch.mask], wanted)


def distilled(
    bench: Bench, teacher: Transformer, seed: int, *, soft: bool
) -> Transformer:
    """Return a student that learns from one answer of the teacher's to a question.

    The student begins where labels do, and reads as many answers as `weak` labels.
    """
    config, student = bench.config, copy.deepcopy(bench.start)
    asked = questions(config.weak * config.batch_size, 100 + seed, LEARNED_STEPS)
    batches = bench.batches(bench.answers(teacher, asked, 1, seed))
    targets = teacher if soft else None
    for _ in bench.learn(student, batches, config.rate, targets):
        pass
    return student


def run_from_weak(
    bench: Bench, weak: Transformer, seed: int, missing: Collection[str]
) -> Iterator[ReasoningPoint]:
    """Yield what the ways that are missing make of the weak model."""
    config = bench.config

    def measure(
        way: str, model: Transformer, rewards: Sequence[float] = ()
    ) -> ReasoningPoint:
        n_labels = config.weak * config.batch_size
        return bench.measure(way, seed, n_labels, model, config.n_answers, rewards)

    students = [way for way in STUDENTS if way in missing]
    if "grpo" in missing or students:
        policy = copy.deepcopy(weak)
        rewards = reinforce(bench, policy, seed, config.reward_rate)
        if "grpo" in missing:
            yield measure("grpo", policy, rewards)
        for way in students:
            yield measure(way, distilled(bench, policy, seed, soft=STUDENTS[way]))
    if "grpo, fast" in missing:
        policy = copy.deepcopy(weak)
        rewards = reinforce(bench, policy, seed, config.fast_rate)
        yield measure("grpo, fast", policy, rewards)
    if "rejection" in missing:
        yield measure("rejection", rejection(bench, weak, seed))


def run_seed(
    bench: Bench, seed: int, done: Collection[tuple[str, int]]
) -> Iterator[ReasoningPoint]:
    """Yield what came out of those runs of a seed that are not done."""
    config = bench.config
    many, few, size = config.n_answers, config.few_answers, config.batch_size
    if seed == 0 and ("start", 0) not in done:  # it is the same for all
        yield bench.measure("start", seed, 0, bench.start, few)
    later = {way for way in FROM_WEAK if (way, config.weak * size) not in done}
    for way in FORMS:
        missing = [look for look in config.looks if (way, look * size) not in done]
        if way == "worked" and later:
            missing.append(config.weak)
        for step, model in learned(bench, seed, way, max(missing, default=0)):
            if (way, step * size) not in done:
                n = many if way == "worked" and step >= config.weak else few
                yield bench.measure(way, seed, step * size, model, n)
            if way == "worked" and step == config.weak:
                yield from run_from_weak(bench, model, seed, later)


def run_reasoning_study(
    path: str | Path,
    seeds: Sequence[int] = (0, 1, 2),
    config: ReasoningStudyConfig = ReasoningStudyConfig(),
    progress: Callable[[ReasoningPoint], None] | None = None,
) -> Study[ReasoningPoint]:
    """Do all runs, write the results after each, and return them.

    Runs that the file has are not done again.

    Args:
        path: The file of the results.
        seeds: Of labels, order and draws.
        config: What the runs share.
        progress: Called with each run that was done.

    Raises:
        ValueError: If the file holds results of another recipe or start.
        OSError: If it cannot be written.
    """
    bench = Bench(config)
    start = weights_fingerprint(bench.start)[:16]
    recipe = {**asdict(config), "looks": list(config.looks), "start": start}
    study = resumed(path, recipe, ReasoningPoint)
    for seed in seeds:
        done = {(p.way, p.n_labels) for p in study.points if p.seed == seed}
        for point in run_seed(bench, seed, done):
            study = with_points(study, [point], path, progress)
    return study


if __name__ == "__main__":
    run_study_command(run_reasoning_study, __doc__)
