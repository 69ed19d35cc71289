"""Diagrams of *rlhf*: blue is given, orange the reward model, green the policy."""

import math
import statistics

from drawing import Drawing, drawing


@drawing
def rewards_on_a_scale() -> Drawing:
    """Three answers as points on a line: only their distances were observed."""
    d = Drawing(205)
    places = {"C": -math.log(3), "B": 0.0, "A": math.log(3)}
    x = {name: 280 + 155 * reward for name, reward in places.items()}
    d.line((40, 95), (515, 95), colour="grey")
    d.text(520, 95, "r", anchor="start", italic=True)
    for name, reward in places.items():
        d.circle(x[name], 95, 17, name, tint="grey")
        d.text(x[name], 128, f"{reward:+.2f}".replace("-", "−") if reward else "0")
    d.bracket(x["C"], 66, x["A"] - x["C"], below=False)
    d.text(280, 38, "2 ln 3 apart, so A wins 9 : 1", colour="green", bold=True)
    for left, right in ("CB", "BA"):
        d.bracket(x[left] + 3, 148, x[right] - x[left] - 6)
        words = f"ln 3 apart: {right} won 3 : 1"
        d.text((x[left] + x[right]) / 2, 178, words, colour="blue", size=15)
    return d


@drawing
def two_ways_from_pairs() -> Drawing:
    """PPO and GRPO use a reward model and the policy's answers, DPO uses neither."""
    d = Drawing(450)
    d.text(16, 22, "PPO and GRPO", bold=True, anchor="start")
    d.box(20, 62, 96, 66, "pairs\ny⁺ over y⁻", tint="blue")
    d.arrow((116, 95), (190, 95))
    d.text(153, 79, "trains", size=15)
    d.box(190, 62, 116, 66, "reward\nmodel", tint="orange", bold=True)
    d.box(418, 62, 122, 66, "policy", tint="green", bold=True)
    d.arrow((418, 80), (306, 80))
    d.text(362, 64, "answers", size=15)
    d.arrow((306, 110), (418, 110))
    d.text(362, 127, "rewards", size=15)
    d.arrow((479, 30), (479, 62))
    d.text(468, 36, "prompts", size=15, anchor="end")
    d.line((479, 128), (479, 172), dashed=True, colour="pink", width=3)
    d.text(465, 150, "the leash: KL", size=15, anchor="end", colour="pink")
    d.box(418, 172, 122, 42, "reference", tint="grey")
    d.line((16, 246), (544, 246), colour="grey", dashed=True)
    d.text(16, 274, "DPO", bold=True, anchor="start")
    d.box(20, 300, 96, 66, "pairs\ny⁺ over y⁻", tint="blue")
    d.arrow((116, 333), (418, 333))
    d.text(267, 316, "trains", size=15)
    d.text(267, 352, "the policy is the reward model", size=15)
    d.box(418, 300, 122, 66, "policy", tint="green", bold=True)
    d.line((479, 366), (479, 392), dashed=True, colour="pink", width=3)
    d.box(418, 392, 122, 42, "reference", tint="grey")
    d.text(374, 413, "r = β ln (π / π", anchor="end", colour="pink")
    d.text(375, 418, "ref", size=13, anchor="start", colour="pink")
    d.text(392, 413, ")", anchor="start", colour="pink")
    return d


@drawing
def advantages_in_two_groups() -> Drawing:
    """The same reward, 5, is the worst of one group and the best of the other."""
    d = Drawing(345)
    groups = {"first prompt": (7, 6, 6, 5), "second prompt": (1, 1, 1, 5)}
    for number, (name, rewards) in enumerate(groups.items()):
        top = 170 * number
        mean, s = statistics.mean(rewards), statistics.stdev(rewards)
        d.text(14, top + 22, name, bold=True, anchor="start")
        d.text(14, top + 120, "reward", anchor="start", size=15, colour="grey")
        d.text(14, top + 148, "advantage", anchor="start", size=15)
        d.line((105, top + 102), (545, top + 102), colour="grey")
        for tick in range(9):
            at = 115 + 52 * tick
            d.line((at, top + 102), (at, top + 107), colour="grey")
            d.text(at, top + 120, f"{tick}", size=15, colour="grey")
        at = 115 + 52 * mean
        d.line((at, top + 32), (at, top + 102), dashed=True, colour="blue", width=2.5)
        d.text(at + 8, top + 20, f"mean {mean}", colour="blue", size=15)
        for reward in sorted(set(rewards)):
            for height in range(rewards.count(reward)):
                tint = "orange" if reward == 5 else "grey"
                d.circle(115 + 52 * reward, top + 91 - 21 * height, 10, tint=tint)
            value = (reward - mean) / s
            sign = "−" if value < 0 else "+" if value > 0 else ""
            words = f"{sign}{abs(value):.2f}"
            colour = "green" if value > 0 else "pink" if value < 0 else "ink"
            at = 115 + 52 * reward
            d.text(at, top + 148, words, colour=colour, bold=True, size=15)
    return d


@drawing
def clipped_ratio() -> Drawing:
    """What a token earns over the ratio: flat where the gradient stops."""
    d = Drawing(268)
    for left, advantage in ((36, 1), (320, -1)):
        base, end = (226, 56) if advantage > 0 else (72, 236)
        word, colour = ("good", "green") if advantage > 0 else ("bad", "pink")
        sign = "+" if advantage > 0 else "−"
        x = [left + 115 * ratio for ratio in (0.1, 0.5, 0.8, 1.2, 1.5, 1.8)]
        y = [
            base - 100 * min(r * advantage, min(max(r, 0.8), 1.2) * advantage)
            for r in (0.1, 0.5, 0.8, 1.2, 1.5, 1.8)
        ]
        d.text(left + 110, 20, f"A = {sign}1: a {word} token", bold=True)
        d.arrow((left, base), (left, end), colour="grey")
        d.line((left, base), (left + 215, base), colour="grey")
        d.text(left + 225, base, "ρ", italic=True)
        for number, words in ((2, "0.8"), (3, "1.2")):
            d.line((x[number], base), (x[number], y[number]), dashed=True)
            d.text(x[number], base + 17 * advantage, words, size=15)
        d.line(*zip(x, y, strict=True), colour=colour, width=3)
        stops, goes_on = (4, 1) if advantage > 0 else (1, 4)
        d.circle(x[stops], y[stops], 6)
        d.circle(x[goes_on], y[goes_on], 6, tint="orange")
        d.text(left + 8, end - 4, "earned" if advantage > 0 else "", size=15,
               anchor="start", colour="grey")  # fmt: skip
        if advantage > 0:
            d.text(x[4], y[4] - 20, "1.5: stops", size=15)
            d.text(x[1], y[1] - 48, "0.5: goes on", size=15)
        else:
            d.text(x[1], y[1] + 20, "0.5: stops", size=15)
            d.text(x[4] - 12, y[4] + 14, "1.5: goes on", size=15, anchor="end")
            d.text(left + 8, 240, "lost", size=15, anchor="start", colour="grey")
    return d


@drawing
def two_leashes() -> Drawing:
    """PPO's pull grows with the distance, GRPO's never exceeds beta."""
    d = Drawing(285)

    def at(distance: float, pull: float) -> tuple[float, float]:
        return 64 + 110 * distance, 230 - 50 * pull

    d.line(at(0, 4.1), at(0, 0), at(4.2, 0), colour="grey")
    for tick in range(1, 5):
        d.line(at(tick, 0), at(tick, -0.1), colour="grey")
        d.text(at(tick, 0)[0], 248, f"{tick}", size=15, colour="grey")
        words = "β" if tick == 1 else f"{tick} β"
        d.text(54, at(0, tick)[1], words, size=15, colour="grey", anchor="end")
    d.text(295, 270, "δ: how much more likely the token has become, in nats", size=15)
    d.line(at(0, 1), at(4.2, 1), dashed=True, colour="grey")
    d.line(at(0, 0), at(4, 4), colour="orange", width=3)
    bend = [at(x / 10, 1 - math.exp(-x / 10)) for x in range(43)]
    d.line(*bend, colour="green", width=3)
    d.text(400, 58, "PPO: its pull, β δ", anchor="end", size=15,
           colour="orange", bold=True)  # fmt: skip
    d.text(524, 206, "GRPO: its pull, at most β", anchor="end", size=15,
           colour="green", bold=True)  # fmt: skip
    return d


@drawing
def who_sees_the_points() -> Drawing:
    """Gold decides "which of two", and is not seen again until the end."""
    d = Drawing(282)
    d.box(16, 30, 130, 62, "gold\npoints", tint="pink", bold=True)
    d.arrow((146, 61), (210, 61))
    d.box(210, 30, 140, 62, "annotator:\nwhich of two?", tint="blue")
    d.text(280, 110, "sometimes errs", size=15, colour="grey")
    d.arrow((350, 61), (414, 61))
    d.box(414, 30, 130, 62, "pairs", tint="blue")
    d.arrow((479, 92), (479, 190))
    d.text(468, 150, "trains", size=15, anchor="end")
    d.box(414, 190, 130, 62, "reward\nmodel", tint="orange", bold=True)
    d.arrow((414, 221), (350, 221))
    d.text(382, 204, "trains", size=15)
    d.box(220, 190, 130, 62, "policy", tint="green", bold=True)
    d.arrow((220, 221), (81, 221), (81, 94), dashed=True, colour="pink", width=2.5)
    d.text(92, 150, "its stories: looked at,\nbut not learned from", size=15,
           anchor="start", colour="pink")  # fmt: skip
    return d


@drawing
def best_policy_for_three_answers() -> Drawing:
    """The smaller beta is, the more the best answer takes."""
    d = Drawing(236)
    rewards = {"A": math.log(3), "B": 0.0, "C": -math.log(3)}
    for number, beta in enumerate((None, 2, 1, 0.5)):
        left = 22 + 134 * number
        shares = {
            name: 1.0 if beta is None else math.exp(reward / beta)
            for name, reward in rewards.items()
        }
        whole = sum(shares.values())
        words = "reference" if beta is None else f"β = {'1/2' if beta < 1 else beta}"
        d.text(left + 57, 18, words, bold=True)
        for k, (name, share) in enumerate(shares.items()):
            height = 140 * share / whole
            x = left + 38 * k
            tint = "grey" if beta is None else "green"
            d.box(x, 198 - height, 34, height, tint=tint, rounded=0)
            percent = f"{100 * share / whole:.0f} %"
            d.text(x + 17, 198 - height - 12, percent, size=14)
            d.text(x + 17, 214, name, size=15)
        d.line((left - 4, 198), (left + 116, 198), colour="grey")
    return d


@drawing
def who_earned_it() -> Drawing:
    """Errors of the critic's expectations, added up from the end."""
    d = Drawing(300)
    rewards, values, fade = (0, -1, 8), (4, 5, 6), 0.5
    errors, advantages = [], []
    after, expected = 0.0, 0
    for reward, value in zip(reversed(rewards), reversed(values), strict=True):
        error = reward + expected - value
        after = error + fade * after
        errors.insert(0, error)
        advantages.insert(0, after)
        expected = value

    def signed(number: float) -> str:
        return f"{number:+g}".replace("-", "−") if number else "0"

    for y, words in (
        (30, "expected"),
        (94, "reward"),
        (162, "error"),
        (246, "advantage"),
    ):
        d.text(14, y, words, anchor="start", bold=y > 200)
    places = [160 + 118 * k for k in range(4)]
    for k, value in enumerate((*values, 0)):
        d.circle(places[k], 30, 18, f"{value}", tint="blue")
        if k < 3:
            d.line((places[k] + 18, 30), (places[k + 1] - 18, 30), colour="grey")
            middle = places[k] + 59
            d.text(middle, 66, f"token {k + 1}", size=15, colour="grey")
            d.text(middle, 94, signed(rewards[k]), colour="orange", bold=True)
            before, then = value, (*values, 0)[k + 1]
            sign = "−" if rewards[k] < 0 else ""
            d.text(middle, 140, f"{sign}{abs(rewards[k])} + {then} − {before}", size=15)
            d.text(middle, 164, f"= {signed(errors[k])}")
            box = (middle - 34, 228, 68, 36)
            d.box(*box, signed(advantages[k]), tint="green", bold=True)
            d.arrow((middle, 178), (middle, 226))
            if k < 2:
                d.arrow((middle + 84, 246), (middle + 36, 246), colour="pink")
                d.text(middle + 60, 282, "× 1/2", size=15, colour="pink")
    return d


@drawing
def one_round_of_grpo() -> Drawing:
    """Five steps in a ring, with one prompt of four answers as the example."""
    d = Drawing(306)
    rewards = (5, 6, 6, 7)
    mean, deviation = statistics.mean(rewards), statistics.stdev(rewards)
    values = [(reward - mean) / deviation for reward in rewards]
    told = [f"{v:+.2f}".replace("-", "−") if v else "0" for v in values]
    d.box(14, 30, 108, 52, "1. sample", tint="green", bold=True)
    d.box(226, 30, 108, 52, "2. reward", tint="orange", bold=True)
    d.box(426, 30, 120, 52, "3. advantage", tint="blue", bold=True)
    d.box(426, 246, 120, 52, "4. loss", tint="blue", bold=True)
    d.box(14, 246, 108, 52, "5. step", tint="green", bold=True)
    d.arrow((122, 56), (226, 56))
    d.text(174, 74, "4 answers", size=15)
    d.arrow((334, 56), (426, 56))
    d.text(380, 74, "5, 6, 6, 7", size=15)
    d.arrow((486, 82), (486, 246))
    for number, words in enumerate(told):
        colour = "green" if "+" in words else "pink" if "−" in words else "ink"
        d.text(474, 112 + 34 * number, words, anchor="end", colour=colour, bold=True)
        d.text(498, 112 + 34 * number, f"answer {number + 1}"[:8], anchor="start",
               size=13, colour="grey")  # fmt: skip
    d.arrow((426, 272), (122, 272))
    d.text(274, 254, "one number, and its gradient", size=15)
    d.arrow((68, 246), (68, 82))
    d.text(80, 164, "new weights:\nanswer 4 more probable,\nanswer 1 less probable",
           anchor="start", size=15)  # fmt: skip
    return d
