// One order to three models, side by side: the base model, the instruction-tuned one and
// the aligned one; and what the reward model says of each answer.

const ASKED = ["base-llm", "instruct-llm", "aligned-llm"]; // the first is the reader, too

// The reward of an answer. The reward model is told of each token of the answer how
// surprising it is to its reader, who reads the answer alone, and if it is a repetition.
async function rewardOf(judge, reader, messages) {
  const ids = await judge.ask("frame", { messages });
  const first = ids.indexOf(judge.about.special["<|assistant|>"]);
  const known = (id) => (id < reader.about.tokens.length ? id : reader.about.start);
  const { surprises, entropies } = await reader.ask("read", { ids: ids.slice(first + 1).map(known) });
  const told = ids.map((_, t) => {
    const place = t - first;
    if (place <= 0) return [0, 0, 0, 0];
    const repeated = Number(ids.indexOf(ids[t], first + 1) < t);
    return [surprises[place - 1], entropies[place - 1], place / 100, repeated];
  });
  return judge.ask("judge", { ids, told });
}

function comparisonExplorer(place) {
  const examples = examplesOf(place);
  const card = modelCard(place, "comparison", "Three models side by side", "Ask all three");
  const models = ASKED.map((name) => pageModels.get(name));
  const judge = pageModels.get("reward-model");
  let answering = false;

  const area = make("textarea", { rows: 2, spellcheck: false });
  const ask = mainButton("Ask all three", () => (answering ? (answering = false) : askAll()));
  const temperature = slider("Temperature", { min: 0, max: 2, step: 0.05, value: 0.8, show: (t) => t.toFixed(2) }, () => {});
  const seed = seedField(() => {});
  const columns = models.map(({ name }) => {
    const reward = make("span", { className: "numbers" });
    const text = make("p", { className: "answer" }, "–");
    const panel = make("div", { className: "panel" }, make("div", { className: "head" }, make("strong", {}, name), reward), text);
    return { panel, reward, text };
  });

  async function askAll() {
    if (card.fetching) return;
    await card.run(async () => {
      const order = { role: "user", content: area.value };
      if (!order.content.trim()) throw new Error("Type an order: there is nothing to answer.");
      const settings = { temperature: Number(temperature.input.value), topK: Infinity, topP: 1, seed: Number(seed.input.value) };
      answering = true;
      ask.textContent = "Stop";
      columns.forEach(({ panel, reward, text }) => {
        panel.classList.remove("best");
        reward.textContent = "";
        text.textContent = "–";
      });
      const answers = [];
      for (const [i, model] of models.entries()) {
        if (!answering) break;
        await card.fetch(model);
        card.tell(`${model.name} answers …`);
        const { text } = await answerTo(model, [order], settings, (part) => {
          columns[i].text.textContent = part.text || "…";
          return answering;
        });
        columns[i].text.textContent = text.trim() || "(nothing)";
        answers.push(text);
      }
      if (!answering) return card.tell("You stopped it.");
      await card.fetch(judge);
      card.tell("reward-model reads …");
      const rewards = [];
      for (const content of answers) {
        rewards.push(await rewardOf(judge, models[0], [order, { role: "assistant", content }]));
      }
      rewards.forEach((reward, i) => {
        columns[i].reward.textContent = `reward ${reward < 0 ? "−" : "+"}${Math.abs(reward).toFixed(2)}`;
        columns[i].panel.classList.toggle("best", reward === Math.max(...rewards));
      });
      card.tell(`reward-model prefers the answer of ${ASKED[rewards.indexOf(Math.max(...rewards))]}.`);
    });
    answering = false;
    ask.textContent = "Ask all three";
  }

  answerKeys(card.root, area, { ask: askAll, stop: () => (answering = false), busy: () => answering });
  card.root.append(
    make("label", { className: "field" }, make("span", {}, "An order"), area),
    make("div", { className: "controls" }, make("div", { className: "buttons" }, ask), exampleList(examples, area)),
    make("div", { className: "controls" }, temperature.label, seed.label),
    card.progress,
    card.status,
    make("div", { className: "answers" }, ...columns.map(({ panel }) => panel)));
  const bytes = [...models, judge].reduce((sum, { place }) => sum + place.bytes, 0);
  card.tell(`Press Ask all three to fetch the models one after another (${(bytes / 1e6).toFixed(0)} MB, with the one that judges). They answer in your browser.`);
}

for (const place of document.querySelectorAll(".llmcourse-comparison")) comparisonExplorer(place);
