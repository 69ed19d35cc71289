// The model writes on from the reader's own words, in the page. What comes next is shown
// for the whole vocabulary; a click on a bar takes that token.

const LAST_TOKENS = 40; // shown of a long text
const HOTTEST = 8; // nats; what is more surprising has the same colour

function writingExplorer(place) {
  const model = pageModels.get("base-llm");
  const first = examplesOf(place)[0] ?? "Once there was";
  const card = modelCard(place, "writing", "Writing explorer", "Write");
  const { root, tell } = card;

  // What the model has read last: its text, its ids, how surprising each was, and the
  // scores of what comes next; only the text if it has not been read yet.
  let state = { text: first, ids: null, logits: null };
  let history = []; // earlier states, for "Undo"
  let typing = false; // whether the last change was typed, too
  let writing = false;
  let order = []; // the tokens that have a bar, the most probable first

  // Settings
  const sizes = steps(model.place.vocabulary);
  const last = sizes.length - 1;
  const temperature = slider("Temperature", { min: 0, max: 3, step: 0.05, value: 0.8, show: (t) => t.toFixed(2) }, changed);
  const topK = slider("Top-k", { min: 0, max: last, value: last, show: (i) => (i === last ? "all" : String(sizes[i])) }, changed);
  const topP = slider("Top-p", { min: 0.05, max: 1, step: 0.05, value: 1, show: (p) => p.toFixed(2) }, changed);
  const { input: seed, label: seedLabel } = seedField(changed);

  // What is shown
  const area = make("textarea", { rows: 3, spellcheck: false, value: first });
  const write = mainButton("Write", () => (writing ? (writing = false) : run(writeOn)));
  const one = button("One token", () => run(() => take(chosen())));
  const undo = button("Undo", () => run(takeBack, false));
  const settingsRow = make("div", { className: "controls thirds" }, temperature.label, topK.label, topP.label);
  const numbers = make("span", { className: "numbers" });
  const heat = make("input", { type: "checkbox" });
  heat.addEventListener("change", () => showPieces());
  const pieces = make("p", { className: "pieces" });
  const sentence = make("p", { className: "sentence" });
  const bars = Array.from({ length: SHOWN }, (_, rank) => makeBar(button("", () => {
    const id = order[rank];
    run(() => take(id));
  })));
  const others = makeBar(make("div"));
  const after = make("div", { className: "after" },
    make("div", { className: "panel" }, make("div", { className: "head" }, make("strong", {}, "What the model has read"), numbers),
      make("label", { className: "check" }, heat, make("span", {}, "colour each token by its surprise, −ln p")),
      pieces),
    make("div", { className: "panel" },
      make("div", { className: "head" }, make("strong", {}, "What may come next: press one to take it")),
      sentence,
      make("ol", { className: "bars" }, ...bars.map(({ row }) => row), others.row),
      make("p", { className: "legend" }, "Bar: probability now. Line: at temperature 1, nothing removed. Orange: what this seed draws.")));

  function makeBar(control) {
    const [label, bar, mark, value] = ["label", "bar", "before", "value"].map((className) => make("span", { className }));
    control.classList.add("choice");
    control.append(label, make("span", { className: "track" }, bar, mark), value);
    return { row: make("li", {}, control), control, label, bar, mark, value };
  }

  const settings = () => ({
    temperature: Number(temperature.input.value),
    topK: sizes[topK.input.value],
    topP: Number(topP.input.value),
    seed: Number(seed.value),
  });
  const chosen = () => seededToken(state.logits, settings(), state.ids.length);
  const probabilities = () => shape(state.logits, settings());
  const name = (id) => model.about.tokens[id];

  // Do something with what is in the field, which is read first unless that is not wanted
  // any more.
  async function run(action, readFirst = true) {
    writing = false; // whatever is asked for ends the writing
    if (card.fetching) return;
    await card.run(async () => {
      await card.fetch(model);
      let text; // what was read; more may have been typed meanwhile
      while (readFirst && text !== area.value && (!state.logits || area.value !== state.text)) {
        text = area.value;
        await read({ text });
      }
      await action();
    });
    writing = false;
    show();
  }

  // Let the model read a text, or tokens; then the field shows what they stand for.
  async function read(wanted) {
    state = { text: area.value, ids: null, logits: null };
    state = await model.ask("read", wanted);
    if (wanted.ids) area.value = state.text;
  }

  function remember() {
    history.push(state);
    typing = false;
  }

  async function take(id) {
    if (id === model.about.start) return tell("The text may end here. To go on, take another token or type more words.");
    if (state.ids.length === model.about.limit) return tell("The window is full: the model cannot read another token.");
    remember();
    await read({ ids: [...state.ids, id] });
    tell(`Taken: ${visible(name(id))}`);
  }

  async function writeOn() {
    const before = state;
    const { limit } = model.about;
    remember();
    state = { ...state, ended: false };
    writing = true;
    tell("The model writes …");
    while (writing && !state.ended && state.ids.length < limit) {
      show();
      state = await model.ask("write", { ids: state.ids, settings: settings() });
      area.value = state.text;
    }
    const reason = state.ended
      ? "The model ended its text; another seed may go on"
      : state.ids.length === limit ? "The window is full" : "You stopped it";
    const written = state.ids.length - before.ids.length;
    if (!written) history.pop();
    tell(`${count(written, "token")} written. ${reason}.`);
  }

  async function takeBack() {
    if (!history.length) return tell("There is nothing to take back.");
    state = history.pop();
    typing = false;
    area.value = state.text;
    if (!state.logits) await read({ text: state.text });
    tell("Taken back.");
  }

  // Showing
  function show() {
    root.classList.toggle("busy", writing);
    write.textContent = writing ? "Stop" : "Write";
    area.readOnly = writing;
    area.scrollTop = writing ? area.scrollHeight : area.scrollTop;
    if (!state.logits) return after.remove();
    showPieces();
    showBars();
    if (!after.isConnected) settingsRow.after(after);
  }

  function showPieces() {
    const { ids, surprises } = state;
    const hidden = Math.max(0, ids.length - LAST_TOKENS);
    const mean = surprises.reduce((a, b) => a + b, 0) / ids.length;
    numbers.textContent = `${count(ids.length, "token")} of ${model.about.limit}${ids.length ? ` · ${mean.toFixed(2)} nats a token` : ""}`;
    pieces.replaceChildren(...ids.slice(hidden).map((id, i) => {
      const surprise = surprises[hidden + i];
      const element = heat.checked ? piece(name(id), null, "heated-piece") : piece(name(id), hidden + i);
      element.style.setProperty("--share", Math.min(1, surprise / HOTTEST).toFixed(3));
      element.title = `${surprise.toFixed(2)} nats, id ${id}`;
      return element;
    }));
    if (hidden) pieces.prepend(`… ${thousands(hidden)} before `);
    if (!ids.length) pieces.replaceChildren("Nothing yet: the model begins the text itself.");
  }

  function showBars() {
    const probs = probabilities();
    const before = shape(state.logits, { temperature: 1, topK: probs.length, topP: 1 });
    const next = chosen();
    order = before.map((_, i) => i).sort((a, b) => before[b] - before[a]).slice(0, SHOWN);
    const rest = (values) => Math.max(0, 1 - order.reduce((sum, i) => sum + values[i], 0));
    const scale = Math.max(probs[order[0]], before[order[0]]);
    const fill = ({ control, bar, mark, value }, now, was, isNext) => {
      bar.style.width = `${Math.min(100, (100 * now) / scale)}%`;
      mark.style.left = `${Math.min(100, (100 * was) / scale)}%`;
      value.textContent = percent(now);
      control.classList.toggle("chosen", isNext);
      control.classList.toggle("removed", now === 0);
      control.classList.toggle("beyond", now > scale);
    };
    bars.forEach((bar, rank) => {
      const id = order[rank];
      bar.label.replaceChildren(id === model.about.start ? "end of text" : piece(name(id), rank));
      fill(bar, probs[id], before[id], id === next);
    });
    others.label.textContent = `all ${thousands(probs.length - SHOWN)} others`;
    fill(others, rest(probs), rest(before), !order.includes(next));
    const h = entropy(probs);
    sentence.textContent = `Entropy ${h.toFixed(2)} nats: as uncertain as an even choice among ${Math.exp(h).toFixed(1)} tokens. Seed ${seed.value || 0} draws ${next === model.about.start ? "the end of the text" : visible(name(next))}.`;
  }

  // A setting was changed: it acts at once, on the next token if the model is writing.
  function changed() {
    if (writing) return;
    if (state.logits) show();
    else run(() => {});
  }

  area.addEventListener("input", () => {
    if (!typing) remember();
    typing = true;
    run(() => {});
  });
  root.addEventListener("keydown", ({ key, target, ctrlKey, metaKey }) => {
    if (key === "Escape") writing = false;
    if (key === "Enter" && target === area && (ctrlKey || metaKey)) run(writeOn);
  });

  root.append(
    make("label", { className: "field" }, make("span", {}, "Begin a text, in your own words"), area),
    make("div", { className: "controls" },
      make("div", { className: "buttons" }, write, one, undo),
      seedLabel),
    card.progress,
    card.status,
    settingsRow,
  );
  tell(`Press Write to fetch a language model made in this course (${model.size}). It continues your text in the browser.`);
  show();
}

for (const place of document.querySelectorAll(".llmcourse-writing")) writingExplorer(place);
