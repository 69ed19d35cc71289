"""A policy small enough to learn within seconds, and what it is asked and paid for."""

from dataclasses import replace

import torch
from model_cases import seeded

from llmcourse.alignment.grpo import GRPOConfig, grpo
from llmcourse.alignment.ppo import PPOConfig, ppo
from llmcourse.alignment.preferences import Prompt
from llmcourse.model.transformer import TINY, Transformer
from llmcourse.text.tokenizers import CharacterTokenizer
from llmcourse.training.checkpoints import Run

TINY_POLICY = replace(
    TINY, vocab_size=11, context_length=17, n_layers=1, d_model=16, d_ff=24
)
STOP = [0]
PROMPTS = [Prompt(f"p{n}", tuple(range(1, n))) for n in (2, 3, 5, 8)]
SHORT = {
    "iterations": 4,
    "prompts_per_iteration": 3,
    "answers_per_prompt": 2,
    "minibatch_size": 4,
    "max_new_tokens": 7,
    "learning_rate": 1e-2,
}
METHODS = {"ppo": (ppo, PPOConfig), "grpo": (grpo, GRPOConfig)}


class Letters(CharacterTokenizer):
    """Turns ids into letters."""

    def decode(self, ids):
        return "".join("abcdefghijk"[i] for i in ids)


def make_policy(seed=2, std=0.3, **changes):
    """Return a model that is far from sure and far from indifferent."""
    generator = seeded(seed)
    model = Transformer(replace(TINY_POLICY, **changes), generator)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=std, generator=generator)
    return model


def share_of_f(prompts, texts):
    """Return the share of the letter f in each text."""
    return torch.tensor([text.count("f") / max(1, len(text)) for text in texts])


def learn(method, policy, reward=share_of_f, seed=0, prompts=PROMPTS, **options):
    """Train by a method; those options that it has no field for go to the function."""
    function, config = METHODS[method]
    fields = set(config.__dataclass_fields__)
    settings = SHORT | {k: v for k, v in options.items() if k in fields}
    others = {k: v for k, v in options.items() if k not in fields}
    names = {"folder", "interval", "progress"} & others.keys()
    run = Run(**{name: others.pop(name) for name in names})
    return function(
        policy,
        prompts,
        reward,
        config(**settings),
        seeded(seed),
        tokenizer=Letters(),
        stop=STOP,
        run=run,
        **others,
    )
