"""How long and how fast a model learns.

    learning rate
      peak ┤   ╭──╮
           │  ╱    ╲             up in a straight line: the first gradients are wild
           │ ╱      ╲            down along half a cosine: small steps at the end
         0 ┼╱        ╰──
           └──┬─────────┬─ step
           warm-up     end

The rest of the configuration says how much is read in a step, and how exactly.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeVar

import torch

_Config = TypeVar("_Config", bound="PretrainingConfig")


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig:
    """How long and how fast a model learns."""

    steps: int = 1000
    batch_size: int = 8  # in windows
    context_length: int = 128  # of a window, in tokens
    learning_rate: float | int = 4e-3  # at its peak
    embedding_speed: float | int = 1  # of the token embeddings, times learning_rate
    final_share: float | int = 0.0  # of the peak, where the learning rate ends
    warmup_steps: int = 50
    weight_decay: float | int = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float | int = 1.0
    eval_interval: int = 100  # in steps
    eval_windows: int = 64
    precision: Literal["float32", "bfloat16"] = "float32"
    accumulation: int = 1  # equal parts that a batch is processed in, to save memory

    def __post_init__(self) -> None:
        """Raise ValueError for a value that no training can have."""
        for name in (field.name for field in fields(PretrainingConfig)):
            value = getattr(self, name)
            if name == "betas":
                wanted, fine = "in [0, 1)", all(0 <= beta < 1 for beta in value)
            elif name == "precision":
                wanted, fine = "float32 or bfloat16", value in ("float32", "bfloat16")
            elif name == "final_share":
                wanted, fine = "in [0, 1]", 0 <= value <= 1
            elif name in ("warmup_steps", "weight_decay"):
                wanted, fine = "at least 0", value >= 0
            else:
                wanted, fine = "positive", value > 0
            if not fine:
                raise ValueError(f"{name} must be {wanted}, got {value}")
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"accumulation must divide batch_size {self.batch_size}, "
                f"got {self.accumulation}"
            )


def learning_rate(step: int, config: PretrainingConfig) -> float:
    """Return the learning rate of a step, in weight change per normalised gradient.

    It rises in a straight line over the first `warmup_steps` steps and then falls
    along half a cosine to `final_share` of its peak, where it stays after the end.

    Source: Loshchilov and Hutter (2017), "SGDR", equation 5, without restarts.

    >>> config = PretrainingConfig(steps=100, warmup_steps=4, learning_rate=0.8)
    >>> [round(learning_rate(step, config), 3) for step in (0, 1, 3, 52, 99)]
    [0.2, 0.4, 0.8, 0.4, 0.0]
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    fall = 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))  # 1 → 0
    return config.learning_rate * (config.final_share + (1 - config.final_share) * fall)


def best_precision(
    device: str | torch.device = "cpu",
) -> Literal["float32", "bfloat16"]:
    """Return bfloat16 where the processor has instructions for it, else float32.

    With such instructions a step of the course's models takes little more than half
    of float32's time. Without them bfloat16 is imitated and takes twice as long with
    AVX-512, ten times as long with AVX2 (the same processor, told to do without).

    Args:
        device: Where the model is.
    """
    if torch.device(device).type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if _has_bfloat16_instructions() else "float32"


def without_imitation(config: _Config) -> _Config:
    """Return a config in float32, if it asks for what this processor would imitate.

    On a processor with no more than AVX2 that is some twenty times as fast.

    Args:
        config: Of any training on the processor.

    >>> without_imitation(PretrainingConfig(steps=7)).precision
    'float32'
    """
    wanted = best_precision() if config.precision == "bfloat16" else "float32"
    return replace(config, precision=wanted)


def _has_bfloat16_instructions() -> bool:
    """Return whether this processor multiplies bfloat16, and torch may make use of it.

    Torch's own answer also says yes where AVX-512 imitates them, so newer versions
    are asked for the instructions by name too.
    """
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    if not hasattr(torch.cpu, "get_capabilities"):
        return True
    found = torch.cpu.get_capabilities()
    names = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16", "sve_bf16")
    return any(found.get(name, False) for name in names)
