# Plausible wrong answers, each with the tests that it fails, exactly.

# %% wrong="floor-added" answer="excess" fails="test-excess,hidden-excess"
def excess(losses, log_probs):
    sums = torch.tensor([each.double().sum() for each in losses], dtype=torch.float64)
    return sums - torch.tensor(log_probs, dtype=torch.float64)


# %% wrong="mean-per-token" answer="excess" fails="test-excess,hidden-excess"
def excess(losses, log_probs):
    pairs = zip(losses, log_probs)
    values = [((x.double().sum() + p) / len(x)).item() for x, p in pairs]
    return torch.tensor(values, dtype=torch.float64)


# %% wrong="summed-in-float32" answer="excess" fails="hidden-excess"
def excess(losses, log_probs):
    sums = torch.tensor([each.sum().item() for each in losses], dtype=torch.float64)
    return sums + torch.tensor(log_probs, dtype=torch.float64)


# %% wrong="errors-of-two-means" answer="paired" fails="test-paired,hidden-paired"
def paired(a, b):
    n = len(a)
    error = sqrt(a.var().item() / n + b.var().item() / n) if n > 1 else inf
    return (a.double() - b.double()).mean().item(), error


# %% wrong="spread-for-error" answer="paired" fails="test-paired,hidden-paired"
def paired(a, b):
    gaps = a.double() - b.double()
    return gaps.mean().item(), gaps.std().item() if len(gaps) > 1 else inf


# %% wrong="divided-by-n" answer="paired" fails="test-paired,hidden-paired"
def paired(a, b):
    gaps = a.double() - b.double()
    n = len(gaps)
    error = gaps.std(correction=0).item() / sqrt(n) if n > 1 else inf
    return gaps.mean().item(), error


# %% wrong="one-story-nan" answer="paired" fails="hidden-paired"
def paired(a, b):
    gaps = a.double() - b.double()
    return gaps.mean().item(), gaps.std().item() / sqrt(len(gaps))


# %% wrong="one-side" answer="bootstrap" fails="test-bootstrap,hidden-bootstrap"
def bootstrap(differences, picks, level):
    means = differences.double()[picks].mean(dim=1)
    return means.quantile(1 - level).item(), means.quantile(level).item()


# %% wrong="means-of-columns" answer="bootstrap" fails="test-bootstrap,hidden-bootstrap"
def bootstrap(differences, picks, level):
    means = differences.double()[picks].mean(dim=0)
    outside = (1 - level) / 2
    return means.quantile(outside).item(), means.quantile(1 - outside).item()


# %% wrong="stories-not-means" answer="bootstrap" fails="test-bootstrap,hidden-bootstrap"
def bootstrap(differences, picks, level):
    values = differences.double()[picks].flatten()
    outside = (1 - level) / 2
    return values.quantile(outside).item(), values.quantile(1 - outside).item()


# %% wrong="no-interval" answer="bootstrap" fails="test-bootstrap,hidden-bootstrap"
def bootstrap(differences, picks, level):
    return ()


# %% wrong="higher-is-better" answer="verdict" fails="test-verdict,hidden-verdict"
def verdict(one, other):
    if min(len(one), len(other)) < 3:
        return "open"
    gap = mean(other) - mean(one)
    error = sqrt(stdev(one) ** 2 / len(one) + stdev(other) ** 2 / len(other))
    if abs(gap) <= 2 * error:
        return "open"
    return "second" if gap > 0 else "first"


def ranks(entries):
    return {
        name: 1 + sum(verdict(other, own) == "first" for other in entries.values())
        for name, own in entries.items()
    }


# %% wrong="two-deviations" answer="verdict" fails="test-verdict,hidden-verdict"
def verdict(one, other):
    if min(len(one), len(other)) < 3:
        return "open"
    gap = mean(other) - mean(one)
    error = sqrt(stdev(one) ** 2 + stdev(other) ** 2)
    if abs(gap) <= 2 * error:
        return "open"
    return "first" if gap > 0 else "second"


def ranks(entries):
    return {
        name: 1 + sum(verdict(other, own) == "first" for other in entries.values())
        for name, own in entries.items()
    }


# %% wrong="two-seeds-are-enough" answer="verdict" fails="test-verdict,hidden-verdict"
def verdict(one, other):
    if min(len(one), len(other)) < 2:
        return "open"
    gap = mean(other) - mean(one)
    error = sqrt(stdev(one) ** 2 / len(one) + stdev(other) ** 2 / len(other))
    if abs(gap) <= 2 * error:
        return "open"
    return "first" if gap > 0 else "second"


def ranks(entries):
    return {
        name: 1 + sum(verdict(other, own) == "first" for other in entries.values())
        for name, own in entries.items()
    }


# %% wrong="sorted-by-mean" answer="verdict" fails="test-verdict,hidden-verdict"
def verdict(one, other):
    if min(len(one), len(other)) < 3:
        return "open"
    gap = mean(other) - mean(one)
    error = sqrt(stdev(one) ** 2 / len(one) + stdev(other) ** 2 / len(other))
    if abs(gap) <= 2 * error:
        return "open"
    return "first" if gap > 0 else "second"


def ranks(entries):
    names = sorted(entries, key=lambda name: mean(entries[name]))
    return {name: 1 + i for i, name in enumerate(names)}


# %% wrong="other-number-of-seeds" answer="verdict" fails="hidden-verdict"
def verdict(one, other):
    if min(len(one), len(other)) < 3:
        return "open"
    gap = mean(other) - mean(one)
    error = sqrt(stdev(one) ** 2 / len(other) + stdev(other) ** 2 / len(one))
    if abs(gap) <= 2 * error:
        return "open"
    return "first" if gap > 0 else "second"


def ranks(entries):
    return {
        name: 1 + sum(verdict(other, own) == "first" for other in entries.values())
        for name, own in entries.items()
    }


# %% wrong="open-passed-on" answer="verdict" fails="hidden-verdict"
def verdict(one, other):
    if min(len(one), len(other)) < 3:
        return "open"
    gap = mean(other) - mean(one)
    error = sqrt(stdev(one) ** 2 / len(one) + stdev(other) ** 2 / len(other))
    if abs(gap) <= 2 * error:
        return "open"
    return "first" if gap > 0 else "second"


def ranks(entries):
    names, found = sorted(entries, key=lambda name: mean(entries[name])), {}
    for i, name in enumerate(names):
        alike = i and verdict(entries[names[i - 1]], entries[name]) == "open"
        found[name] = found[names[i - 1]] if alike else i + 1
    return found


# %% wrong="dense-ranks" answer="verdict" fails="test-verdict,hidden-verdict"
def verdict(one, other):
    if min(len(one), len(other)) < 3:
        return "open"
    gap = mean(other) - mean(one)
    error = sqrt(stdev(one) ** 2 / len(one) + stdev(other) ** 2 / len(other))
    if abs(gap) <= 2 * error:
        return "open"
    return "first" if gap > 0 else "second"


def ranks(entries):
    beaten = {
        name: sum(verdict(other, own) == "first" for other in entries.values())
        for name, own in entries.items()
    }
    levels = sorted(set(beaten.values()))
    return {name: 1 + levels.index(n) for name, n in beaten.items()}


# %% wrong="tied-stored-twice" answer="stored" fails="test-stored,hidden-stored"
def stored(shapes, bits, tied, besides):
    total = besides
    for name, shape in shapes.items():
        n = torch.Size(shape).numel()
        total += (n * bits.get(name, 16) + 7) // 8
    return total


# %% wrong="rounded-once" answer="stored" fails="hidden-stored"
def stored(shapes, bits, tied, besides):
    total = 0
    for name, shape in shapes.items():
        if name not in tied:
            total += torch.Size(shape).numel() * bits.get(name, 16)
    return besides + (total + 7) // 8


# %% wrong="rounded-down" answer="stored" fails="test-stored,hidden-stored"
def stored(shapes, bits, tied, besides):
    total = besides
    for name, shape in shapes.items():
        if name not in tied:
            total += torch.Size(shape).numel() * bits.get(name, 16) // 8
    return total


# %% wrong="last-check-forgotten" answer="schedule" fails="test-schedule,hidden-schedule"
def steps_within(budget, fixed, per_step, interval, per_check):
    room = max(0, budget - fixed)
    rounds, left = divmod(room, interval * per_step + per_check)
    return rounds * interval + min(interval - 1, left // per_step)


def rate_at(spent, budget, warmup, peak):
    share = spent / budget
    if share < warmup:
        return peak * share / warmup
    return peak * max(0.0, (1 - share) / (1 - warmup))


# %% wrong="negative-after-the-end" answer="schedule" fails="test-schedule,hidden-schedule"
def steps_within(budget, fixed, per_step, interval, per_check):
    room = max(0, budget - fixed)
    per_round = interval * per_step + per_check
    rounds, left = divmod(room, per_round)
    return rounds * interval + max(0, (left - per_check) // per_step)


def rate_at(spent, budget, warmup, peak):
    share = spent / budget
    if share < warmup:
        return peak * share / warmup
    return peak * (1 - share) / (1 - warmup)
