# Plausible wrong answers, each with the tests that it fails, exactly.

# %% wrong="not-shifted" answer="examples" fails="test-examples,hidden-examples"
def examples(tokens, context_length):
    n_windows = max(0, len(tokens) - 1) // context_length
    ids = tokens[: n_windows * context_length].reshape(n_windows, context_length)
    return ids, ids


# %% wrong="windows-without-overlap" answer="examples" fails="test-examples,hidden-examples"
def examples(tokens, context_length):
    n_windows = len(tokens) // (context_length + 1)
    rows = tokens[: n_windows * (context_length + 1)]
    rows = rows.reshape(n_windows, context_length + 1)
    return rows[:, :-1], rows[:, 1:]


# %% wrong="one-window-too-many" answer="examples" fails="test-examples,hidden-examples"
def examples(tokens, context_length):
    n_windows = len(tokens) // context_length
    end, shape = n_windows * context_length, (n_windows, context_length)
    return tokens[:end].reshape(shape), tokens.roll(-1)[:end].reshape(shape)


# %% wrong="last-window-dropped" answer="examples" fails="test-examples,hidden-examples"
def examples(tokens, context_length):
    n_windows = max(0, len(tokens) - 2) // context_length
    end, shape = n_windows * context_length, (n_windows, context_length)
    return tokens[:end].reshape(shape), tokens[1 : end + 1].reshape(shape)


# %% wrong="log-of-softmax" answer="cross-entropy" fails="test-cross-entropy,hidden-cross-entropy"
def cross_entropy(logits, targets):
    counts = targets >= 0
    probs = logits.softmax(dim=-1)
    picked = probs.gather(-1, targets.clamp(min=0)[..., None])[..., 0].log()
    return -picked[counts].sum() / counts.sum().clamp(min=1)


# %% wrong="overflow" answer="cross-entropy" fails="test-cross-entropy,hidden-cross-entropy"
def cross_entropy(logits, targets):
    counts = targets >= 0
    log_probs = logits - logits.exp().sum(dim=-1, keepdim=True).log()
    picked = log_probs.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return -picked[counts].sum() / counts.sum().clamp(min=1)


# %% wrong="mean-over-padding" answer="cross-entropy" fails="test-cross-entropy,hidden-cross-entropy"
def cross_entropy(logits, targets):
    log_probs = logits.log_softmax(dim=-1)
    picked = log_probs.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return -picked.where(targets >= 0, 0.0).mean()


# %% wrong="padding-times-zero" answer="cross-entropy" fails="hidden-cross-entropy"
def cross_entropy(logits, targets):
    log_probs, counts = logits.log_softmax(dim=-1), targets >= 0
    picked = log_probs.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return -(picked * counts).sum() / counts.sum().clamp(min=1)


# %% wrong="mean-of-rows" answer="cross-entropy" fails="hidden-cross-entropy"
def cross_entropy(logits, targets):
    log_probs, counts = logits.log_softmax(dim=-1), targets >= 0
    picked = log_probs.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    sums = picked.where(counts, 0.0).sum(dim=1)
    return -(sums / counts.sum(dim=1).clamp(min=1)).mean()


# %% wrong="not-divided" answer="loss-gradient" fails="test-loss-gradient,hidden-loss-gradient"
def loss_gradient(logits, targets):
    is_target = torch.arange(logits.shape[-1]) == targets[..., None]
    counts = (targets >= 0)[..., None]
    return (logits.softmax(dim=-1) - is_target.float()) * counts


# %% wrong="sign-turned" answer="loss-gradient" fails="test-loss-gradient,hidden-loss-gradient"
def loss_gradient(logits, targets):
    is_target = torch.arange(logits.shape[-1]) == targets[..., None]
    counts = targets >= 0
    n = counts.sum().clamp(min=1)
    return (is_target.float() - logits.softmax(dim=-1)) * counts[..., None] / n


# %% wrong="padding-pushes" answer="loss-gradient" fails="test-loss-gradient,hidden-loss-gradient"
def loss_gradient(logits, targets):
    is_target = torch.arange(logits.shape[-1]) == targets[..., None]
    n = (targets >= 0).sum().clamp(min=1)
    return (logits.softmax(dim=-1) - is_target.float()) / n


# %% wrong="first-step-at-zero" answer="learning-rate" fails="test-learning-rate,hidden-learning-rate"
def learning_rate(step, steps, warmup, peak, final_share):
    if step < warmup:
        return peak * step / warmup
    done = min(1, (step - warmup) / max(1, steps - warmup))
    return peak * (final_share + (1 - final_share) * 0.5 * (1 + cos(pi * done)))


# %% wrong="cosine-from-the-start" answer="learning-rate" fails="test-learning-rate,hidden-learning-rate"
def learning_rate(step, steps, warmup, peak, final_share):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min(1, step / steps)
    return peak * (final_share + (1 - final_share) * 0.5 * (1 + cos(pi * done)))


# %% wrong="rises-again-after-the-end" answer="learning-rate" fails="hidden-learning-rate"
def learning_rate(step, steps, warmup, peak, final_share):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (final_share + (1 - final_share) * 0.5 * (1 + cos(pi * done)))


# %% wrong="each-by-itself" answer="clip" fails="test-clip,hidden-clip"
def clip(gradients, max_norm):
    norms = [each.norm() for each in gradients]
    factors = [(max_norm / norm).clamp(max=1) for norm in norms]
    norm = torch.stack(norms).norm()
    return [each * factor for each, factor in zip(gradients, factors)], norm


# %% wrong="each-number-by-itself" answer="clip" fails="test-clip,hidden-clip"
def clip(gradients, max_norm):
    norm = torch.cat([each.flatten() for each in gradients]).norm()
    return [each.clamp(-max_norm, max_norm) for each in gradients], norm


# %% wrong="always-scaled" answer="clip" fails="test-clip,hidden-clip"
def clip(gradients, max_norm):
    norm = torch.cat([each.flatten() for each in gradients]).norm()
    return [each * max_norm / norm for each in gradients], norm


# %% wrong="clipped-in-place" answer="clip" fails="hidden-clip"
def clip(gradients, max_norm):
    norm = torch.cat([each.flatten() for each in gradients]).norm()
    for each in gradients:
        each *= min(1.0, max_norm / max(float(norm), 1e-12))
    return gradients, norm


# %% wrong="decay-in-the-gradient" answer="adamw" fails="test-adamw,hidden-adamw"
def adamw(weight, gradient, state, rate, betas, eps, decay):
    mean, square, n_steps = state
    n_steps, gradient = n_steps + 1, gradient + decay * weight
    mean = betas[0] * mean + (1 - betas[0]) * gradient
    square = betas[1] * square + (1 - betas[1]) * gradient.square()
    direction = mean / (1 - betas[0] ** n_steps)
    size = (square / (1 - betas[1] ** n_steps)).sqrt()
    return weight - rate * direction / (size + eps), (mean, square, n_steps)


# %% wrong="not-corrected" answer="adamw" fails="test-adamw,hidden-adamw"
def adamw(weight, gradient, state, rate, betas, eps, decay):
    mean, square, n_steps = state
    mean = betas[0] * mean + (1 - betas[0]) * gradient
    square = betas[1] * square + (1 - betas[1]) * gradient.square()
    weight = (1 - rate * decay) * weight - rate * mean / (square.sqrt() + eps)
    return weight, (mean, square, n_steps + 1)


# %% wrong="corrected-state-kept" answer="adamw" fails="test-adamw,hidden-adamw"
def adamw(weight, gradient, state, rate, betas, eps, decay):
    mean, square, n_steps = state
    n_steps = n_steps + 1
    mean = (betas[0] * mean + (1 - betas[0]) * gradient) / (1 - betas[0] ** n_steps)
    square = betas[1] * square + (1 - betas[1]) * gradient.square()
    square = square / (1 - betas[1] ** n_steps)
    weight = (1 - rate * decay) * weight - rate * mean / (square.sqrt() + eps)
    return weight, (mean, square, n_steps)


# %% wrong="eps-under-the-root" answer="adamw" fails="test-adamw,hidden-adamw"
def adamw(weight, gradient, state, rate, betas, eps, decay):
    mean, square, n_steps = state
    n_steps = n_steps + 1
    mean = betas[0] * mean + (1 - betas[0]) * gradient
    square = betas[1] * square + (1 - betas[1]) * gradient.square()
    size = (square / (1 - betas[1] ** n_steps) + eps).sqrt()
    direction = mean / (1 - betas[0] ** n_steps)
    weight = (1 - rate * decay) * weight - rate * direction / size
    return weight, (mean, square, n_steps)


# %% wrong="decay-without-the-rate" answer="adamw" fails="test-adamw,hidden-adamw"
def adamw(weight, gradient, state, rate, betas, eps, decay):
    mean, square, n_steps = state
    n_steps = n_steps + 1
    mean = betas[0] * mean + (1 - betas[0]) * gradient
    square = betas[1] * square + (1 - betas[1]) * gradient.square()
    direction = mean / (1 - betas[0] ** n_steps)
    size = (square / (1 - betas[1] ** n_steps)).sqrt()
    weight = (1 - decay) * weight - rate * direction / (size + eps)
    return weight, (mean, square, n_steps)


# %% wrong="changed-in-place" answer="adamw" fails="test-adamw,hidden-adamw"
def adamw(weight, gradient, state, rate, betas, eps, decay):
    mean, square, n_steps = state
    n_steps = n_steps + 1
    mean.mul_(betas[0]).add_((1 - betas[0]) * gradient)
    square.mul_(betas[1]).add_((1 - betas[1]) * gradient.square())
    direction = mean / (1 - betas[0] ** n_steps)
    size = (square / (1 - betas[1] ** n_steps)).sqrt()
    weight = (1 - rate * decay) * weight - rate * direction / (size + eps)
    return weight, (mean, square, n_steps)


# %% wrong="bits-per-token" answer="reading" fails="test-reading"
def reading(losses, n_bytes, floor):
    loss = float(losses.mean())
    bits = loss / log(2)
    gap = loss / floor - 1
    return {"loss": loss, "perplexity": exp(loss), "bits_per_byte": bits, "gap": gap}


# %% wrong="gap-as-a-difference" answer="reading" fails="test-reading"
def reading(losses, n_bytes, floor):
    loss = float(losses.mean())
    bits = loss * len(losses) / log(2) / n_bytes
    gap = loss - floor
    return {"loss": loss, "perplexity": exp(loss), "bits_per_byte": bits, "gap": gap}


# %% wrong="gap-without-sign" answer="reading" fails="test-reading"
def reading(losses, n_bytes, floor):
    loss = losses.mean().item()
    bits = loss * len(losses) / log(2) / n_bytes
    gap = abs(loss - floor) / floor
    return {"loss": loss, "perplexity": exp(loss), "bits_per_byte": bits, "gap": gap}


# %% wrong="one-largest-of-all" answer="loss-gradient" fails="hidden-loss-gradient"
def loss_gradient(logits, targets):
    powers = (logits - logits.max()).exp()
    probs = powers / powers.sum(dim=-1, keepdim=True)
    counts = targets >= 0
    hot = torch.arange(logits.shape[-1]) == targets[..., None]
    slope = torch.zeros_like(logits)
    slope[counts] = ((probs - hot.float()) / counts.sum().clamp(min=1))[counts]
    return slope
