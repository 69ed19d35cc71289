"""One check for each exercise that asks for code.

A check feeds small cases to the reader's function. It says nothing when all is right,
and otherwise raises `AssertionError` with a text that is the lesson:

    checks.merge(my_merge)
"""

from llmcourse.checks.context_window import (
    cache_bytes,
    join_halves,
    layers_needed,
    window_mask,
)
from llmcourse.checks.corpus import (
    choose_bands,
    containment,
    find_leaks,
    is_held_out,
)
from llmcourse.checks.deployment import (
    batch_steps,
    percentile,
    quantize_rows,
    sequences_that_fit,
    tokens_per_check,
)
from llmcourse.checks.embeddings import (
    first_direction,
    name_neighbours,
    nearest_words,
    noise_probs,
)
from llmcourse.checks.fine_tuning import (
    adapter_parameters,
    last_logits,
    merge_adapter,
    most_learned,
)
from llmcourse.checks.instruction_tuning import (
    answer_mask,
    count_targets,
    disarm,
    stories_for_share,
)
from llmcourse.checks.pipeline import bigram_probs, shift
from llmcourse.checks.pretraining import (
    accumulate,
    best_size,
    count_examples,
    cross_entropy,
    trapezoid,
)
from llmcourse.checks.retrieval import fuse, line_of, n_calls, n_chunks
from llmcourse.checks.rlhf import (
    best_of_n_kl,
    best_policy,
    reward_gap,
    token_advantages,
)
from llmcourse.checks.tokenization import (
    digit_groups,
    encode_pretoken,
    longest_match,
    predict_pieces,
)
from llmcourse.checks.transformer import (
    attention_head,
    cached_mask,
    layer_norm,
    parameter_count,
    rope_score,
    write_with_cache,
)

__all__ = [
    "accumulate",
    "adapter_parameters",
    "answer_mask",
    "attention_head",
    "batch_steps",
    "best_of_n_kl",
    "best_policy",
    "best_size",
    "bigram_probs",
    "cache_bytes",
    "cached_mask",
    "choose_bands",
    "containment",
    "count_examples",
    "count_targets",
    "cross_entropy",
    "digit_groups",
    "disarm",
    "encode_pretoken",
    "find_leaks",
    "first_direction",
    "fuse",
    "is_held_out",
    "join_halves",
    "last_logits",
    "layer_norm",
    "layers_needed",
    "line_of",
    "longest_match",
    "merge_adapter",
    "most_learned",
    "n_calls",
    "n_chunks",
    "name_neighbours",
    "nearest_words",
    "noise_probs",
    "parameter_count",
    "percentile",
    "predict_pieces",
    "quantize_rows",
    "reward_gap",
    "rope_score",
    "sequences_that_fit",
    "shift",
    "stories_for_share",
    "token_advantages",
    "tokens_per_check",
    "trapezoid",
    "window_mask",
    "write_with_cache",
]
