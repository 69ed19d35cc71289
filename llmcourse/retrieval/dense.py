"""Dense retrieval: turn passages and questions into vectors, and find the nearest.

    passage   "He wore a black coat."   →  (0.1, -0.7, …) ┐
    question  "What was he dressed in?" →  (0.2, -0.6, …) ┘ cosine 0.93

The two need not share a word: which texts are close is learned. A `DualEncoder` starts
from the rows of a language model's embedding, rare tokens weighted up, and is trained
on questions whose right passages are known. `mean_hidden_states` makes vectors of the
language model's own hidden states: without such training they find little.
"""

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding_bag, normalize

from llmcourse.arguments import check_multiple, check_one_of, check_range
from llmcourse.model.transformer import Transformer, hidden_states
from llmcourse.text.tokenizers import BPETokenizer

_NEIGHBOURS = 8  # consecutive questions that enter a batch together


class DualEncoder(nn.Module):
    """Two tables of token vectors, one for questions and one for passages.

    A text's vector is the sum of its tokens' vectors, scaled to length 1: it reflects
    which tokens occur, but not in which order.

    Args:
        model: Both tables start from its embedding; it is not changed.
        tokenizer: The model's.
        passages: What will be searched. A token that is in few of them gets a long
            vector, weighted as in BM25; one that is in all of them, a short one.

    Raises:
        ValueError: If there are no passages.

    Source: Two encoders as in Karpukhin et al. (2020), "Dense passage retrieval for
    open-domain question answering"; unlike theirs, without a transformer on top.
    """

    def __init__(
        self, model: Transformer, tokenizer: BPETokenizer, passages: Sequence[str]
    ) -> None:
        super().__init__()
        check_range(1, passages=len(passages))
        self.tokenizer = tokenizer
        rows = model.embedding.weight.detach().float().cpu()  # (V, D)
        n_with = torch.zeros(len(rows))
        for text in passages:
            n_with[sorted(set(self.ids(text).tolist()))] += 1
        rarity = torch.log1p((len(passages) - n_with + 0.5) / (n_with + 0.5))
        self.question = nn.Parameter(rows * rarity[:, None])
        self.passage = nn.Parameter(rows * rarity[:, None])

    def ids(self, text: str) -> Int[Tensor, "token"]:
        """Return the token ids of a text, with a space before its first word."""
        return torch.tensor(self.tokenizer.encode(f" {text.strip()}"))

    def question_vectors(self, texts: Sequence[str]) -> Float[Tensor, "text d_model"]:
        """Return a vector of length 1 for each question, at least one, no unit."""
        return _bags(self.question, [self.ids(text) for text in texts])

    def passage_vectors(self, texts: Sequence[str]) -> Float[Tensor, "text d_model"]:
        """Return a vector of length 1 for each passage, at least one, no unit."""
        return _bags(self.passage, [self.ids(text) for text in texts])


def _bags(
    table: Float[Tensor, "vocab d_model"], texts: Sequence[Int[Tensor, "_"]]
) -> Float[Tensor, "text d_model"]:
    """Return the sum of the rows of each text's tokens, scaled to length 1."""
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
) -> list[float]:
    """Train an encoder to put questions near their passages; return losses, in nats.

    The negatives of a question are the passages of the others in its batch. Eight
    consecutive questions are drawn together: if those about one text are neighbours,
    its other passages are among the negatives, and these are the hard ones.

    Args:
        encoder: Changed in place.
        questions: Those about one text in a row.
        passages: All of them.
        right: For each question, the indices of its right passages, at least one.
        generator: Draws the batches.
        steps: How many batches.
        batch_size: Questions in each, a multiple of 8.
        learning_rate: Of Adam.

    Raises:
        ValueError: If sizes do not agree, a question has no right passage, or there
            are fewer than eight questions.

    Source: Karpukhin et al. (2020), section 3.2, in-batch negatives.
    """
    check_range(_NEIGHBOURS, batch_size=batch_size, questions=len(questions))
    check_multiple(batch_size=batch_size, neighbours=_NEIGHBOURS)
    n_right = sum(map(bool, right))
    check_one_of("questions with right passages", n_right, [len(questions)])
    question_ids = [encoder.ids(text) for text in questions]
    passage_ids = [encoder.ids(text) for text in passages]
    rights = [sorted(numbers) for numbers in right]
    optimizer = torch.optim.Adam(encoder.parameters(), lr=learning_rate)
    n_starts, shape = len(questions) - _NEIGHBOURS + 1, (batch_size // _NEIGHBOURS,)
    losses = []
    for _ in range(steps):
        starts = torch.randint(n_starts, shape, generator=generator)
        rows = [i + n for i in starts.tolist() for n in range(_NEIGHBOURS)]
        draws = torch.rand(len(rows), generator=generator).tolist()
        pairs = zip(rows, draws, strict=True)
        own = [rights[i][int(x * len(rights[i]))] for i, x in pairs]
        vectors = _bags(encoder.question, [question_ids[i] for i in rows])
        others = _bags(encoder.passage, [passage_ids[j] for j in own])
        loss = contrastive_loss(
            20 * vectors @ others.T,  # lets the softmax be confident
            torch.tensor([[j in rights[i] for j in own] for i in rows]),
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses


def contrastive_loss(
    scores: Float[Tensor, "batch batch"], is_right: Bool[Tensor, "batch batch"]
) -> Float[Tensor, ""]:
    """Return the cross-entropy of a question's own passage, in nats per question.

    Args:
        scores: Of each question with its own passage, on the diagonal, and with those
            of the other questions in the batch, which are its negatives.
        is_right: Which passages are right for which questions. Right ones off the
            diagonal are masked: they are not negatives.

    Source: Oord, Li and Vinyals (2018), "Representation learning with contrastive
    predictive coding", where it is called InfoNCE.

    >>> contrastive_loss(torch.zeros(2, 2), torch.eye(2).bool())  # log 2
    tensor(0.6931)
    """
    places = torch.arange(len(scores), device=scores.device)
    others = is_right & (places != places[:, None])
    return cross_entropy(scores.masked_fill(others, float("-inf")), places)


@torch.no_grad()
def mean_hidden_states(
    model: Transformer, tokenizer: BPETokenizer, texts: Sequence[str]
) -> Float[Tensor, "text d_model"]:
    """Return the mean of the last hidden state over each text's tokens, no unit.

    A text longer than the model's window is read window by window.

    Raises:
        ValueError: If there is no text, or one has no tokens.
    """
    check_range(1, n_texts=len(texts))
    limit, vectors = model.config.context_length, []
    device = model.embedding.weight.device
    for text in texts:
        ids = torch.tensor(tokenizer.encode(text), dtype=torch.long, device=device)
        check_range(1, n_tokens=len(ids))
        windows = [hidden_states(model, part)[-1] for part in torch.split(ids, limit)]
        vectors.append(torch.cat(windows).mean(dim=0))
    return torch.stack(vectors)
