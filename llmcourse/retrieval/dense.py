"""Dense retrieval: passages and questions as vectors, and the nearest ones found.

    passage   "He wore a black coat."   →  (0.1, -0.7, …) ┐
    question  "What was he dressed in?" →  (0.2, -0.6, …) ┘ cosine 0.93

No word has to be shared; what must be near what is learned. A `DualEncoder` begins with
the rows of a language model's embedding, rare tokens weighted up, and is trained on
questions whose right passages are known. What the language model's own hidden states
are worth as vectors is seen with `mean_hidden_states`: little, before such a training.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding_bag, normalize

from llmcourse.model.inspection import hidden_states
from llmcourse.model.transformer import Transformer
from llmcourse.text.embeddings import similarities
from llmcourse.text.tokenizers import BPETokenizer

_NEIGHBOURS = 8  # questions in a row that come into a batch together


class DualEncoder(nn.Module):
    """Two tables of token vectors, one for questions and one for passages.

    A text's vector is the sum of those of its tokens, brought to length 1: it knows
    which tokens there are, and not in which order.

    Args:
        model: Whose embedding both tables begin with; it is not changed.
        tokenizer: The model's.
        passages: What will be searched. A token that is in few of them gets a long
            vector, by the same count as in `bm25`, one that is in all a short one.

    Raises:
        ValueError: If there is no passage.

    Source: Two encoders as in Karpukhin et al. (2020), "Dense passage retrieval for
    open-domain question answering"; unlike theirs, without any transformer on top.
    """

    def __init__(
        self, model: Transformer, tokenizer: BPETokenizer, passages: Sequence[str]
    ) -> None:
        super().__init__()
        if not passages:
            raise ValueError("a dual encoder needs at least one passage, got none")
        self.tokenizer = tokenizer
        rows = model.embedding.weight.detach()  # (V, D)
        n_with = torch.zeros(len(rows))
        for text in passages:
            n_with[sorted(set(self.ids(text).tolist()))] += 1
        rarity = torch.log1p((len(passages) - n_with + 0.5) / (n_with + 0.5))
        self.question = nn.Parameter(rows * rarity[:, None])
        self.passage = nn.Parameter(rows * rarity[:, None])

    def ids(self, text: str) -> Int[Tensor, "token"]:
        """Return the tokens of a text; its first word is one like all others."""
        return torch.tensor(self.tokenizer.encode(f" {text.strip()}"))

    def question_vectors(self, texts: Sequence[str]) -> Float[Tensor, "text d_model"]:
        """Return a vector of length 1 for each question, no unit."""
        return _bags(self.question, [self.ids(text) for text in texts])

    def passage_vectors(self, texts: Sequence[str]) -> Float[Tensor, "text d_model"]:
        """Return a vector of length 1 for each passage, no unit."""
        return _bags(self.passage, [self.ids(text) for text in texts])


def _bags(
    table: Float[Tensor, "vocab d_model"], texts: Sequence[Int[Tensor, "_"]]
) -> Float[Tensor, "text d_model"]:
    """Return the sum of the rows of each text's tokens, brought to length 1."""
    ends = torch.tensor([0, *(len(ids) for ids in texts)]).cumsum(0)
    return normalize(embedding_bag(torch.cat([*texts]), table, ends[:-1], mode="sum"))


def train_encoder(
    encoder: DualEncoder,
    questions: Sequence[str],
    passages: Sequence[str],
    right: Sequence[Collection[int]],
    generator: torch.Generator,
    *,
    steps: int = 300,
    batch_size: int = 64,
    learning_rate: float = 0.02,
    scale: float | int = 20,
) -> list[float]:
    """Train an encoder to put questions near their passages; return losses, in nats.

    In each step some questions look for one of their right passages each, among those
    of all of them: the others' are the wrong ones. Eight questions in a row come
    together, so if those about one text stand together, its other passages are among
    the wrong ones, and they are the hard ones.

    Args:
        encoder: Is changed.
        questions: Those about one text one after the other.
        passages: All there are.
        right: For each question the numbers of its right passages, at least one.
        generator: Draws the batches.
        steps: How many batches.
        batch_size: Questions in each, a multiple of 8.
        learning_rate: Of Adam.
        scale: Cosines are multiplied with it before the softmax.

    Raises:
        ValueError: If sizes do not agree, a question has no right passage, or there
            are fewer than eight questions.

    Source: Karpukhin et al. (2020), section 3.2, in-batch negatives.
    """
    if batch_size % _NEIGHBOURS or batch_size < 1 or len(questions) < _NEIGHBOURS:
        raise ValueError(
            f"wanted batches of a multiple of {_NEIGHBOURS}, and as many questions, "
            f"got {batch_size} and {len(questions)}"
        )
    if len(right) != len(questions) or not all(right):
        raise ValueError(
            f"wanted right passages for each of {len(questions)} questions, got "
            f"{sum(map(bool, right))}"
        )
    asked = [encoder.ids(text) for text in questions]
    told = [encoder.ids(text) for text in passages]
    rights = [sorted(numbers) for numbers in right]
    optimizer = torch.optim.Adam(encoder.parameters(), lr=learning_rate)
    losses = []
    for _ in range(steps):
        starts = torch.randint(
            len(asked) - _NEIGHBOURS + 1,
            (batch_size // _NEIGHBOURS,),
            generator=generator,
        )
        rows = [i + n for i in starts.tolist() for n in range(_NEIGHBOURS)]
        draws = torch.rand(len(rows), generator=generator).tolist()
        pairs = zip(rows, draws, strict=True)
        found = [rights[i][int(x * len(rights[i]))] for i, x in pairs]
        vectors = _bags(encoder.question, [asked[i] for i in rows])
        others = _bags(encoder.passage, [told[j] for j in found])
        loss = contrastive_loss(
            scale * vectors @ others.T,
            torch.tensor([[j in rights[i] for j in found] for i in rows]),
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses


def contrastive_loss(
    scores: Float[Tensor, "batch batch"], is_right: Any
) -> Float[Tensor, ""]:
    """Return the mean price of finding one's own among all, in nats per question.

    Args:
        scores: Of each question with its own passage, on the diagonal, and those of
            the other questions.
        is_right: Where a passage is right for a question. Off the diagonal such ones
            do not count, for they are no wrong answers.

    >>> contrastive_loss(torch.zeros(2, 2), torch.eye(2).bool())  # log 2
    tensor(0.6931)
    """
    own = torch.eye(len(scores)).bool()
    others = scores.masked_fill(is_right & ~own, float("-inf"))
    return cross_entropy(others, torch.arange(len(scores)))


@torch.no_grad()
def mean_hidden_states(
    model: Transformer, tokenizer: BPETokenizer, texts: Sequence[str]
) -> Float[Tensor, "text d_model"]:
    """Return the mean of the last hidden state over each text's tokens, no unit.

    A text that is longer than the model's window is read in windows.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        texts: None of them empty.

    Raises:
        ValueError: If a text has no token.
    """
    limit, vectors = model.config.context_length, []
    for text in texts:
        ids = torch.tensor(tokenizer.encode(text), dtype=torch.long)
        if not len(ids):
            raise ValueError("a text must have at least one token, got an empty one")
        windows = [hidden_states(model, part)[-1] for part in torch.split(ids, limit)]
        vectors.append(torch.cat(windows).mean(dim=0))
    return torch.stack(vectors)


class Nearest(NamedTuple):
    """What an index finds for each query, the nearest first."""

    ids: Int[Tensor, "query k"]
    scores: Float[Tensor, "query k"]  # cosines


class ExactIndex:
    """Vectors, each of which is compared with each query.

    Args:
        vectors: Of any length; cosines are compared.

    Raises:
        ValueError: If there is none.

    >>> index = ExactIndex(torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]))
    >>> index.search(torch.tensor([[0.0, 1.0]]), k=2).ids
    tensor([[1, 2]])
    """

    def __init__(self, vectors: Float[Tensor, "document d_model"]) -> None:
        if not len(vectors):
            raise ValueError("an index needs at least one vector, got none")
        self.vectors = normalize(vectors)

    def search(self, queries: Float[Tensor, "query d_model"], k: int) -> Nearest:
        """Return the k nearest vectors of each query, or all if there are fewer.

        Raises:
            ValueError: If k is less than 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        found = similarities(queries, self.vectors).topk(min(k, len(self.vectors)))
        return Nearest(found.indices, found.values)


class FaissIndex(ExactIndex):
    """The same with the library FAISS, for so many vectors that all are too many.

    Vectors are put into cells, and of these only the ones nearest to a query are looked
    through. What lies in another cell is missed.

    Args:
        vectors: As in `ExactIndex`.
        n_cells: How many cells; 1 looks through everything, exactly.
        n_probed: How many of them a query looks through.

    Raises:
        ValueError: If there are more cells than vectors, or as `ExactIndex`.
        ImportError: If FAISS is not installed (`pip install faiss-cpu`).

    Source: Johnson, Douze and Jégou (2019), "Billion-scale similarity search with
    GPUs".
    """

    def __init__(
        self,
        vectors: Float[Tensor, "document d_model"],
        n_cells: int = 1,
        n_probed: int = 1,
    ) -> None:
        super().__init__(vectors)
        if not 1 <= n_probed <= n_cells <= len(vectors):
            raise ValueError(
                f"wanted 1 ≤ probed ≤ cells ≤ {len(vectors)} vectors, got "
                f"{n_probed} and {n_cells}"
            )
        import faiss

        kind = "Flat" if n_cells == 1 else f"IVF{n_cells},Flat"
        width, inner = vectors.shape[1], faiss.METRIC_INNER_PRODUCT
        index: Any = faiss.index_factory(width, kind, inner)
        rows = self.vectors.detach().numpy()
        index.train(rows)
        index.add(rows)
        if n_cells > 1:
            index.nprobe = n_probed
        self._index = index

    def search(self, queries: Float[Tensor, "query d_model"], k: int) -> Nearest:
        """Return the nearest vectors that were looked at; -1 stands for none.

        Raises:
            ValueError: If k is less than 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        most = min(k, len(self.vectors))
        scores, ids = self._index.search(normalize(queries).detach().numpy(), most)
        return Nearest(torch.from_numpy(ids), torch.from_numpy(scores))
