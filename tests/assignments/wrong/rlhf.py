# Plausible wrong answers, each with the tests that it fails, exactly.

# %% wrong="log-of-sigmoid" answer="preference-loss" fails="hidden-preference-loss,hidden-dpo-loss"
def preference_loss(chosen, rejected):
    return -torch.log(torch.sigmoid(chosen - rejected)).mean()


# %% wrong="summed-pairs" answer="preference-loss" fails="test-preference-loss,hidden-preference-loss,test-dpo-loss,hidden-dpo-loss"
def preference_loss(chosen, rejected):
    return -logsigmoid(chosen - rejected).sum()


# %% wrong="gold-chooses" answer="best-of-n" fails="test-best-of-n,hidden-best-of-n"
def best_of_n(rewards, gold, n):
    ways = list(combinations(gold, n))
    return sum(map(max, ways)) / len(ways)


# %% wrong="drawn-with-replacement" answer="best-of-n" fails="test-best-of-n,hidden-best-of-n"
def best_of_n(rewards, gold, n):
    m = len(rewards)
    order = sorted(range(m), key=lambda i: rewards[i])
    shares = [((k + 1) / m) ** n - (k / m) ** n for k in range(m)]
    return sum(share * gold[i] for share, i in zip(shares, order))


# %% wrong="shares-multiplied" answer="pass-at-k" fails="test-pass-at-k,hidden-pass-at-k"
def pass_at_k(n, n_right, k):
    return 1 - (1 - n_right / n) ** k


# %% wrong="all-must-be-right" answer="pass-at-k" fails="test-pass-at-k,hidden-pass-at-k"
def pass_at_k(n, n_right, k):
    return comb(n_right, k) / comb(n, k)


# %% wrong="not-shifted" answer="answer-log-probs" fails="test-answer-log-probs,hidden-answer-log-probs"
def answer_log_probs(logits, ids, mask):
    log_probs = logits.log_softmax(dim=-1)
    asked = log_probs.gather(2, ids[:, :, None])[:, :, 0]
    return asked.where(mask, 0.0)[:, 1:]


# %% wrong="mask-not-shifted" answer="answer-log-probs" fails="test-answer-log-probs,hidden-answer-log-probs"
def answer_log_probs(logits, ids, mask):
    log_probs = logits[:, :-1].log_softmax(dim=-1)
    asked = log_probs.gather(2, ids[:, 1:, None])[:, :, 0]
    return asked.where(mask[:, :-1], 0.0)


# %% wrong="multiplied-by-the-mask" answer="answer-log-probs" fails="hidden-answer-log-probs"
def answer_log_probs(logits, ids, mask):
    log_probs = logits[:, :-1].log_softmax(dim=-1)
    return log_probs.gather(2, ids[:, 1:, None])[:, :, 0] * mask[:, 1:]


# %% wrong="log-of-softmax" answer="answer-log-probs" fails="hidden-answer-log-probs"
def answer_log_probs(logits, ids, mask):
    weights = logits[:, :-1].exp()
    log_probs = (weights / weights.sum(dim=-1, keepdim=True)).log()
    asked = log_probs.gather(2, ids[:, 1:, None])[:, :, 0]
    return asked.where(mask[:, 1:], 0.0)


# %% wrong="other-direction" answer="kl-terms" fails="test-kl-terms,hidden-kl-terms,test-grpo,hidden-grpo"
def kl_terms(log_probs, reference_log_probs):
    delta = reference_log_probs - log_probs
    return delta, (-delta).exp() - 1 + delta


# %% wrong="reverse-k3" answer="kl-terms" fails="test-kl-terms,hidden-kl-terms,test-grpo,hidden-grpo"
def kl_terms(log_probs, reference_log_probs):
    delta = log_probs - reference_log_probs
    return delta, delta.exp() - 1 - delta


# %% wrong="mean-over-tokens" answer="dpo-loss" fails="test-dpo-loss,hidden-dpo-loss"
def dpo_loss(
    policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta
):
    chosen = (policy_chosen - reference_chosen).mean(dim=1)
    rejected = (policy_rejected - reference_rejected).mean(dim=1)
    return preference_loss(beta * chosen, beta * rejected)


# %% wrong="no-reference" answer="dpo-loss" fails="test-dpo-loss,hidden-dpo-loss"
def dpo_loss(
    policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta
):
    margin = policy_chosen.sum(dim=1) - policy_rejected.sum(dim=1)
    return -logsigmoid(beta * margin).mean()


# %% wrong="value-of-the-padding" answer="gae" fails="test-gae,hidden-gae"
def gae(rewards, values, mask, gamma, gae_lambda):
    advantages = torch.zeros_like(values)
    value = advantage = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        error = rewards[:, t] + gamma * value - values[:, t]
        advantage = error + gamma * gae_lambda * advantage
        advantages[:, t] = advantage
        value = values[:, t]
    return advantages.where(mask, 0.0)


# %% wrong="gamma-forgotten-with-lambda" answer="gae" fails="test-gae,hidden-gae"
def gae(rewards, values, mask, gamma, gae_lambda):
    rewards, values = rewards.where(mask, 0.0), values.where(mask, 0.0)
    advantages = torch.zeros_like(values)
    value = advantage = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        error = rewards[:, t] + gamma * value - values[:, t]
        advantage = error + gae_lambda * advantage
        advantages[:, t] = advantage
        value = values[:, t]
    return advantages.where(mask, 0.0)


# %% wrong="only-clipped" answer="ppo-loss" fails="test-ppo-loss,hidden-ppo-loss,hidden-grpo"
def ppo_loss(log_probs, old_log_probs, advantages, mask, clip_range):
    ratio = (log_probs - old_log_probs).exp()
    gain = ratio.clamp(1 - clip_range, 1 + clip_range) * advantages
    return -gain[mask].mean()


# %% wrong="mean-over-all-positions" answer="ppo-loss" fails="test-ppo-loss,hidden-ppo-loss,test-grpo,hidden-grpo"
def ppo_loss(log_probs, old_log_probs, advantages, mask, clip_range):
    ratio = (log_probs - old_log_probs).exp()
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    gain = torch.minimum(ratio * advantages, clipped * advantages)
    return -gain.where(mask, 0.0).mean()


# %% wrong="mean-of-the-batch" answer="group-advantages" fails="test-grpo,hidden-grpo"
def group_advantages(scores):
    return (scores - scores.mean()) / (scores.std() + 1e-4)


# %% wrong="deviation-of-a-population" answer="group-advantages" fails="test-grpo,hidden-grpo"
def group_advantages(scores):
    centred = scores - scores.mean(dim=1, keepdim=True)
    return centred / (scores.std(dim=1, keepdim=True, correction=0) + 1e-4)


# %% wrong="all-tokens-alike" answer="grpo-loss" fails="test-grpo,hidden-grpo"
def grpo_loss(
    log_probs, old_log_probs, reference_log_probs, advantages, mask, clip_range, beta
):
    gains = advantages[:, None].expand_as(log_probs)
    _, k3 = kl_terms(log_probs, reference_log_probs)
    policy = ppo_loss(log_probs, old_log_probs, gains, mask, clip_range)
    return policy + beta * k3[mask].mean()


# %% wrong="penalty-subtracted" answer="grpo-loss" fails="test-grpo,hidden-grpo"
def grpo_loss(
    log_probs, old_log_probs, reference_log_probs, advantages, mask, clip_range, beta
):
    _, k3 = kl_terms(log_probs, reference_log_probs)
    losses = []
    for i in range(len(mask)):
        own = mask[i]
        gains = advantages[i].expand_as(own)
        policy = ppo_loss(log_probs[i], old_log_probs[i], gains, own, clip_range)
        losses.append(policy - beta * k3[i][own].mean())
    return torch.stack(losses).mean()


# %% wrong="where-too-late" answer="grpo-loss" fails="hidden-grpo"
def grpo_loss(
    log_probs, old_log_probs, reference_log_probs, advantages, mask, clip_range, beta
):
    ratio, gains = (log_probs - old_log_probs).exp(), advantages[:, None]
    _, k3 = kl_terms(log_probs, reference_log_probs)
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    losses = beta * k3 - torch.minimum(ratio * gains, clipped * gains)
    return (torch.where(mask, losses, 0.0).sum(1) / mask.sum(1)).mean()


# %% wrong="inputs-zeroed" answer="grpo-loss" fails="hidden-grpo"
def grpo_loss(
    log_probs, old_log_probs, reference_log_probs, advantages, mask, clip_range, beta
):
    with torch.no_grad():
        old_log_probs[~mask] = 0.0
        reference_log_probs[~mask] = 0.0
    log_probs = log_probs.masked_fill(~mask, 0.0)
    ratio, gains = (log_probs - old_log_probs).exp(), advantages[:, None]
    _, k3 = kl_terms(log_probs, reference_log_probs)
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    losses = beta * k3 - torch.minimum(ratio * gains, clipped * gains)
    return (torch.where(mask, losses, 0.0).sum(1) / mask.sum(1)).mean()
