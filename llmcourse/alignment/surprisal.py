"""Token-level surprisal as a feature of a reward model: an experiment.

    ids ──┬── table ─────────────────────────────────────────────(+)── layers
          └── reader ── four numbers, each times a learned vector ┘

Whether a word fits is what a language model knows best, and what a reward model would
have to work out anew from pairs: a name that was never mentioned, a word that breaks
the story. So it is given features from an auxiliary language model, the reader, which
is frozen and reads the answer alone, as if it were a text of its own. For each token it
gives

    surprisal   −log p(token | those before it in the answer), in nats
    entropy     what it expected the surprisal to be, in nats
    place       how many tokens it has read before, in hundreds
    repeated    1 if the token is one of those before it in the answer, else 0

Each of the four numbers is multiplied by a learned vector and added to the token's
vector. In the prompt, which the reader does not see, all four are zero. Where texts
have no answers in them, the whole text is read.

Repetition is there because surprisal is blind to it. Where a story may go on with any
of two dozen colours but the one that was mentioned, a reader that expects them all
alike is no more surprised by the wrong one than by the others.

`book/studies/reward_model_study.py` measures how much this helps on stories of
`instruct-llm`; the reader is `base-llm`, which has learned nothing but stories.

Source: the idea is ours; Gehrmann et al. (2019), "GLTR", show readers a token's
probability and the entropy there, to help them tell written from generated text.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmcourse.alignment.losses import entropy
from llmcourse.finetuning.chat import CHAT_TOKENS, has_chat_tokens
from llmcourse.model.transformer import Transformer
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.checkpoints import weights_fingerprint

N_FEATURES = 4  # surprisal, entropy, place, repeated


@dataclass(frozen=True, kw_only=True)
class SurprisalReader:
    """A language model that reads answers, and how it finds them.

    It may lack the tokens of conversations.
    """

    model: Transformer
    name: str | None = None  # a folder, or a shipped model's name, to find it
    start: int | None = None  # id; what follows the first is read; None: all
    mark: int | None = None  # read in place of `start` and of unknown ids

    @property
    def fingerprint(self) -> str:
        """A text that tells this reader from others."""
        return f"{weights_fingerprint(self.model)} from {self.start} by {self.mark}"

    @classmethod
    def of(
        cls,
        model: Transformer,
        own: BPETokenizer,
        tokenizer: BPETokenizer,
        name: str | None = None,
    ) -> "SurprisalReader":
        """Return a reader of texts made of another tokenizer's ids.

        Args:
            model: The language model.
            own: Its tokenizer.
            tokenizer: The texts', which has the same tokens; those of conversations
                may be missing in the reader's.
            name: Where the model is found: a folder, or a shipped model's name.

        Raises:
            ValueError: If the tokenizers differ in anything else.
        """
        there, missing = own.special_tokens, {*CHAT_TOKENS} - {*own.special_tokens}
        wanted = {k: n for k, n in tokenizer.special_tokens.items() if k not in missing}
        same = ("merges", "vocab", "pattern")
        unlike = [n for n in same if getattr(own, n) != getattr(tokenizer, n)]
        if unlike or wanted != there:
            raise ValueError(
                "except for those of conversations, the reader's tokens must be the "
                f"reward model's, {tokenizer.vocab_size} of them, got "
                f"{own.vocab_size} and other {', '.join(unlike) or 'special tokens'}"
            )
        chat = has_chat_tokens(tokenizer)
        return cls(
            model=model,
            name=name,
            start=tokenizer.special_tokens["<|assistant|>"] if chat else None,
            mark=tokenizer.special_tokens.get(END_OF_TEXT),
        )

    @torch.no_grad()
    def features(
        self, ids: Int[Tensor, "batch position"]
    ) -> Float[Tensor, "batch position 4"]:
        """Return surprisal, entropy and place of each token, and if it is repeated.

        For the first token that is read, all four are zero.

        Args:
            ids: Texts as rows; later tokens do not affect earlier ones. From the
                earliest `start` in any row to the end, they must fit into the reader's
                context.

        Raises:
            ValueError: If a text has no `start`, or as in `Transformer`.

        >>> from llmcourse.model.transformer import TINY
        >>> reader = SurprisalReader(model=Transformer(TINY), start=7)
        >>> found = reader.features(torch.tensor([[5, 7, 0, 3], [7, 6, 0, 1]]))
        >>> found.shape, found[:, :, 2].mul(100).int().tolist()
        (torch.Size([2, 4, 4]), [[0, 0, 1, 2], [0, 1, 2, 3]])
        >>> reader.features(torch.tensor([[7, 3, 0, 3]]))[0, :, 3].tolist()
        [0.0, 0.0, 0.0, 1.0]
        """
        first, there = self._first(ids), torch.arange(ids.shape[1], device=ids.device)
        length = int(ids.shape[1] - first.min())
        left = there[:length] + first[:, None]  # align the starts of the answers
        read = self._read(ids.gather(1, left.clamp(max=ids.shape[1] - 1)))
        places = there - first[:, None]
        back = places.clamp(min=0).unsqueeze(-1)  # and move them back
        found = read.gather(1, back.expand(-1, -1, 2))
        answer = places > 0
        same = (ids[:, :, None] == ids[:, None, :]) & answer[:, None, :]  # (B, T, T)
        repeated = same.tril(-1).any(dim=-1, keepdim=True)
        told = torch.cat((found, back / 100, repeated), dim=-1)
        return told.where(answer.unsqueeze(-1), 0.0)

    def _first(self, ids: Tensor) -> Tensor:
        """Return where the reading of each text begins (B)."""
        if self.start is None:
            return ids.new_zeros(len(ids))
        there = ids == self.start
        if (without := (~there.any(dim=1)).nonzero()).numel():
            raise ValueError(
                f"each text must have the id {self.start}, where an answer begins, "
                f"but text {int(without[0])} has none"
            )
        return there.int().argmax(dim=1)

    def _read(self, answers: Tensor) -> Tensor:
        """Return surprisal and entropy of each token; for the first, zeros."""
        if self.mark is not None:
            known = answers < self.model.config.vocab_size
            if self.start is not None:
                known[:, 0] = False
            answers = answers.where(known, self.mark)
        logits = self.model(answers).float()[:, :-1]  # (B, T - 1, V)
        log_probs = logits.log_softmax(dim=-1)
        surprisal = -log_probs.gather(-1, answers[:, 1:, None]).squeeze(-1)
        both = torch.stack((surprisal, entropy(logits)), dim=-1)
        return nn.functional.pad(both, (0, 0, 1, 0))


class SurprisalEmbedding(nn.Embedding):
    """A token embedding that adds how surprising each token was to a reader.

    The reader is not part of the weights: it is neither trained nor saved with them. It
    is on their device, but keeps its own dtype.

    Args:
        table: The embedding of the tokens; its weights are shared, not copied.
        reader: Its model is copied and frozen.
        generator: Source of the initial vectors; None draws from torch's global one.

    >>> from llmcourse.model.transformer import TINY
    >>> model = Transformer(TINY)
    >>> embedding = SurprisalEmbedding(model.embedding, SurprisalReader(model=model))
    >>> embedding(torch.tensor([[5, 0, 3]])).shape, embedding.surprise.weight.shape
    (torch.Size([1, 3, 64]), torch.Size([64, 4]))
    """

    def __init__(
        self,
        table: nn.Embedding,
        reader: SurprisalReader,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            table.num_embeddings, table.embedding_dim, _weight=table.weight.detach()
        )
        self.weight = table.weight
        self.surprise = nn.Linear(N_FEATURES, table.embedding_dim, bias=False)
        # A nat of surprise weighs about as much as a token's vector.
        std = table.weight.detach().std().item()
        nn.init.normal_(self.surprise.weight, std=std, generator=generator)
        self.surprise.to(table.weight)
        frozen = copy.deepcopy(reader.model).eval().requires_grad_(False)
        self.reader = replace(reader, model=frozen.to(table.weight.device))

    def _apply(
        self, fn: Callable[[Tensor], Tensor], recurse: bool = True
    ) -> "SurprisalEmbedding":
        """Change the weights, as `to` does, and move the reader to their device."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.reader.model.to(self.weight.device)
        return self

    def forward(
        self, input: Int[Tensor, "batch position"]
    ) -> Float[Tensor, "batch position d_model"]:
        """Return each token's vector, with its surprise added to it."""
        tokens = super().forward(input)
        surprise: Tensor = self.surprise(self.reader.features(input).to(tokens))
        return tokens + surprise
