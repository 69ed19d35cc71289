// A conversation with instruct-llm, and what the model reads of it: the marks of the chat
// template, and what the assistant wrote.

// Of each id whether the assistant wrote it: what follows its mark, the end included.
function writtenByAssistant(ids, special) {
  let writing = false;
  return ids.map((id) => {
    const written = writing;
    if (id === special["<|assistant|>"]) writing = true;
    if (id === special["<|end|>"]) writing = false;
    return written;
  });
}

function chatExplorer(place) {
  const model = pageModels.get("instruct-llm");
  const examples = examplesOf(place);
  const card = modelCard(place, "chat", "Chat with instruct-llm", "Send");
  let messages = []; // { role, content }, user and assistant in turn
  let answering = false;

  const log = make("ol", { className: "turns", "aria-live": "polite" });
  const area = make("textarea", { rows: 2, spellcheck: false });
  const send = mainButton("Send", () => (answering ? (answering = false) : talk()));
  const clear = button("New conversation", () => {
    answering = false;
    card.run(() => {
      messages = [];
      showTurns();
      read.remove();
      card.tell("A new conversation: the model remembers nothing of the last one.");
    });
  });
  const temperature = slider("Temperature", { min: 0, max: 2, step: 0.05, value: 0, show: (t) => t.toFixed(2) }, () => {});
  const seed = seedField(() => {});
  const pieces = make("p", { className: "pieces" });
  const numbers = make("span", { className: "numbers" });
  const read = make("div", { className: "panel" },
    make("div", { className: "head" }, make("strong", {}, "What the model reads"), numbers),
    pieces,
    make("p", { className: "legend" }, "Underlined: what the assistant wrote, its end included. In training, the loss counts there alone."));

  function showTurns() {
    log.replaceChildren(...messages.map(({ role, content }) =>
      make("li", { className: role }, make("small", {}, role), make("p", {}, content || "…"))));
    send.textContent = answering ? "Stop" : "Send";
  }

  function showRead({ ids, ended }) {
    const { tokens, special, start, limit } = model.about;
    const all = [start, ...ids, ...(ended ? [special["<|end|>"]] : [])];
    const written = writtenByAssistant(all, special);
    const marks = new Set(Object.values(special));
    pieces.replaceChildren(...all.map((id, i) =>
      piece(tokens[id], null, `${marks.has(id) ? "mark" : ""} ${written[i] ? "written" : ""}`)));
    numbers.textContent = `${count(ids.length, "token")} of ${limit}`;
    card.status.after(read);
  }

  async function talk() {
    if (card.fetching) return;
    await card.run(async () => {
      const content = area.value;
      if (!content.trim()) throw new Error("Type something: there is nothing to answer.");
      await card.fetch(model);
      const asked = [...messages, { role: "user", content }];
      const settings = { temperature: Number(temperature.input.value), topK: Infinity, topP: 1, seed: Number(seed.input.value) };
      answering = true;
      card.tell("The model answers …");
      const { ended, ids } = await answerTo(model, asked, settings, (part) => {
        messages = [...asked, { role: "assistant", content: part.text }];
        if (area.value === content) area.value = ""; // not what is typed meanwhile
        showTurns();
        showRead(part);
        return answering;
      });
      card.tell(ended ? "The model ended its turn." : ids.length < model.about.limit ? "You stopped it." : "The window is full: begin a new conversation.");
    });
    answering = false;
    showTurns();
  }

  answerKeys(card.root, area, { ask: talk, stop: () => (answering = false), busy: () => answering });
  card.root.append(
    log,
    make("label", { className: "field" }, make("span", {}, "Your turn"), area),
    make("div", { className: "controls" },
      make("div", { className: "buttons" }, send, clear), exampleList(examples, area)),
    make("div", { className: "controls" }, temperature.label, seed.label),
    card.progress,
    card.status);
  card.tell(`Press Send to fetch instruct-llm, made in this course (${model.size}). It answers in your browser, and knows tales and nothing else.`);
}

for (const place of document.querySelectorAll(".llmcourse-chat")) chatExplorer(place);
