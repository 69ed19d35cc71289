"""When to stop GRPO: gold and learned reward along one long run.

    python tests/benchmarks/bench_stopping.py [ITERATIONS]

The run is that of `aligned-llm`, by the shipped reward model, but of 480 iterations and
without its cooldown. At some of them the policy carries out 256 orders that neither the
training nor any card has, with the same luck each time.

    iteration    KL      gold    learned
    0             0.0    4.45    -0.21
    190          10.4    5.96    +0.53
    250          13.2    6.17    +0.57
    320          19.2    6.71    +0.75
    380          24.9    6.97    +0.84
    430          30.9    6.03    +0.88
    480          40.0    6.17    +0.95

in nats per answer, points and without unit; the standard error of gold is 0.2. The run
was stopped and resumed, and the checkpoints were looked at afterwards. An hour and a
quarter on two cores without instructions for bfloat16.
"""

import sys
from copy import deepcopy
from dataclasses import replace

from llmcourse.alignment.evaluation import evaluate_policy
from llmcourse.alignment.preferences import make_prompts
from llmcourse.alignment.reward_model import load_reward_model, text_reward
from llmcourse.model.folders import load_pretrained
from llmcourse.recipes.align import ALIGNED_LLM, Preferences, configured, train_policy
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import Record
from llmcourse.training.loop import keep_freed_memory

LOOKS = (190, 250, 320, 380, 430, 480)


def main(iterations: int) -> None:
    """Print a row for the start, and one each time that the policy is looked at."""
    keep_freed_memory()
    recipe = configured(ALIGNED_LLM["grpo"], steps=iterations)
    recipe = replace(recipe, training=replace(recipe.training, cooldown=0))
    start, tokenizer = load_pretrained(recipe.policy)
    reward_model, _ = load_reward_model("reward-model")
    orders = make_prompts(256, 777, tokenizer)
    policy, proxy = deepcopy(start), text_reward(reward_model, tokenizer)

    def look(step: int) -> None:
        n = recipe.max_new_tokens
        found = evaluate_policy(policy, start, tokenizer, orders, proxy, n).summary()
        kl, gold, learned = (found[name] for name in ("kl", "gold", "proxy"))
        print(f"{step:<9} {abs(kl):7.1f} {gold:7.2f} {learned:+8.2f}", flush=True)

    def progress(record: Record) -> None:
        if record.step in {*LOOKS, iterations}:
            look(record.step)

    print("iteration    KL      gold    learned")
    look(0)
    pairs = Preferences(train=[], valid=[])
    train_policy(recipe, policy, tokenizer, pairs, reward_model, Run(progress=progress))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else LOOKS[-1])
