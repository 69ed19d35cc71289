// What the explorers of the models in the page share: a card with a line that tells how
// it stands, and a bar while weights are fetched. One thing is done after the other, and a
// fault is told: no control dies of it.
function modelCard(place, kind, name, again) {
  const root = make("div", { className: `llmcourse-explorer in-page ${kind}`, role: "group", "aria-label": name });
  const status = make("p", { className: "status", role: "status" });
  const progress = make("progress", { max: 1, value: 0, hidden: true, "aria-label": "The model is being fetched" });
  const card = { root, status, progress, fetching: false, tell, fetch, run };
  let queue = Promise.resolve();

  function tell(text, fault = false) {
    status.textContent = text;
    status.classList.toggle("fault", fault);
  }

  // Fetch a model that is not there yet.
  async function fetch(model) {
    if (model.about) return;
    tell(`Fetching ${model.name}, ${model.size} …`);
    card.fetching = true;
    progress.hidden = false;
    try {
      await model.load((share) => (progress.value = share));
    } catch (error) {
      throw new Error(`The model cannot be used: ${error.message}. Press ${again} to try again.`);
    } finally {
      card.fetching = false;
      progress.hidden = true;
    }
    tell(model.inPage
      ? "This browser cannot start a worker here, so the model runs in the page itself, which may stutter."
      : "The model runs in your browser: what you write stays here.");
  }

  function run(action) {
    queue = queue.then(action).catch((error) => tell(error.message, true));
    return queue;
  }

  // A fault that was told is of another text than the one that is typed now.
  const clear = ({ target }) => target.matches("textarea") && status.matches(".fault") && tell("");
  root.addEventListener("input", clear, { capture: true });
  place.replaceChildren(root);
  return card;
}

// The button that starts and stops; the second click of a double click counts for nothing.
function mainButton(text, onClick) {
  const element = button(text, ({ detail }) => detail > 1 || onClick());
  element.classList.add("first");
  return element;
}

// What a place in a text gives to begin with: its emphasised words, with straight quotes.
const examplesOf = (place) => [...place.querySelectorAll("em")].map((element) =>
  element.textContent.replace(/[“”]/g, '"').replace(/[‘’]/g, "'"));

// The setting of a seed.
function seedField(onInput) {
  const input = make("input", { type: "number", min: 0, max: 999999, step: 1, value: 0 });
  input.addEventListener("input", onInput);
  return { input, label: make("label", { className: "seed" }, make("span", {}, "Seed"), input) };
}

// Texts to begin with, in a list that puts one into a field.
function exampleList(texts, area) {
  const list = make("select", {}, make("option", { value: "" }, "choose one"), ...texts.map((text) => make("option", { value: text }, text)));
  list.addEventListener("change", () => {
    if (list.value) area.value = list.value;
  });
  list.addEventListener("blur", () => (list.value = "")); // so that one can be chosen again
  area.value = texts[0] ?? "";
  return make("label", { className: "wide" }, make("span", {}, "Examples"), list);
}

// Enter in a field asks, with Shift it begins a new line; Escape anywhere stops. While
// `busy`, Enter does nothing; nor does one that only ends a composed character, for which
// Safari has the key code 229.
function answerKeys(root, area, { ask, stop = () => {}, busy = () => false }) {
  area.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229 || busy()) return;
    event.preventDefault();
    ask();
  });
  root.addEventListener("keydown", ({ key }) => {
    if (key === "Escape") stop();
  });
}

// A model's answer to a conversation. `onPart` is told it as it grows, and says whether
// to go on: { text, ids, ended }, the ids being those of the whole conversation.
async function answerTo(model, messages, settings, onPart) {
  const { ids } = await model.ask("read", { messages });
  let part = { ids };
  do {
    part = await model.ask("write", { ids: part.ids, settings, from: ids.length });
  } while (onPart(part) && !part.ended && part.ids.length < model.about.limit);
  return part;
}
