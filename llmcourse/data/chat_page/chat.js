// A conversation with the model behind this page, over the interface that it serves.
"use strict";

const at = (id) => document.getElementById(id);
const log = at("log");
let model = null; // what /v1/models says of it
let turns = []; // {role, content}
let writing = null; // the AbortController of the answer that is being written

const headers = () => {
  const key = at("key").value.trim();
  return { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
};

const reason = async (response) => {
  try {
    return (await response.json()).error.message;
  } catch {
    return `HTTP status ${response.status}`;
  }
};

const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 60;
const toEnd = () => { log.scrollTop = log.scrollHeight; };

const addNote = (text, isError = false) => {
  const note = document.createElement("p");
  note.className = isError ? "note error" : "note";
  note.textContent = text;
  log.append(note);
  toEnd();
};

const addTurn = (role, name, text) => {
  const turn = document.createElement("article");
  const title = document.createElement("h2");
  const content = document.createElement("p");
  turn.className = `turn ${role}`;
  title.textContent = name;
  content.textContent = text;
  turn.append(title, content);
  log.append(turn);
  toEnd();
  return turn;
};

const connect = async () => {
  try {
    const response = await fetch("v1/models", { headers: headers() });
    if (response.status === 401) {
      at("status").textContent = "needs a key: see “How it writes”";
      document.querySelector("details").open = true;
      return;
    }
    if (!response.ok) throw new Error(await reason(response));
    model = (await response.json()).data[0];
  } catch (error) {
    at("status").textContent = `cannot be reached: ${error.message}`;
    return;
  }
  at("title").textContent = model.chat ? `Talk with ${model.id}` : `Write with ${model.id}`;
  document.title = at("title").textContent;
  at("status").textContent = `remembers ${model.context_length} tokens`;
  const most = at("max-tokens");
  most.max = model.context_length - 1;
  if (Number(most.value) > most.max) most.value = Math.max(1, Math.floor(model.context_length / 2));
  if (!model.chat) {
    at("text-label").textContent = "The beginning of a text";
    at("new").textContent = "Clear";
  }
};

// Yield the pieces of an answer as they come.
async function* pieces(path, body, signal) {
  const response = await fetch(path, {
    method: "POST", headers: headers(), body: JSON.stringify({ ...body, stream: true }), signal,
  });
  if (!response.ok) throw new Error(await reason(response));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    buffer += value;
    const events = buffer.split("\n\n");
    buffer = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const found = JSON.parse(data);
      if (found.error) throw new Error(found.error.message);
      const choice = found.choices[0];
      yield { text: (model.chat ? choice.delta.content : choice.text) ?? "", finish: choice.finish_reason };
    }
  }
}

const options = () => {
  const number = (id) => (at(id).value === "" ? undefined : Number(at(id).value));
  return {
    model: model.id, temperature: number("temperature"), top_p: number("top-p"),
    max_tokens: number("max-tokens"), seed: number("seed"),
  };
};

const setBusy = (busy) => {
  at("send").disabled = busy;
  at("stop").disabled = !busy;
  if (!busy) at("text").focus();
};

const answer = async (text) => {
  const before = turns;
  const asking = [...turns, { role: "user", content: text }];
  turns = asking; // is something else once the conversation has been forgotten
  if (model.chat) addTurn("user", "You", text);
  const turn = addTurn("model", model.id, model.chat ? "" : text);
  const content = turn.querySelector("p");
  // What is read aloud is the whole answer, not each piece.
  log.setAttribute("aria-busy", "true");
  turn.classList.add("writing");
  writing = new AbortController();
  setBusy(true);
  let finish = null;
  let said = "";
  try {
    const [path, asked] = model.chat
      ? ["v1/chat/completions", { messages: asking }]
      : ["v1/completions", { prompt: text }];
    for await (const piece of pieces(path, { ...options(), ...asked }, writing.signal)) {
      const follow = atEnd();
      said += piece.text;
      content.append(piece.text);
      finish = piece.finish ?? finish;
      if (follow) toEnd();
    }
    if (finish === "length") addNote("cut off: it had used up its tokens");
  } catch (error) {
    if (turns !== asking) return;
    if (error.name === "AbortError") addNote("stopped");
    else addNote(error.message, true);
    if (!said && model.chat) {
      at("text").value = at("text").value || text;
      turn.remove();
    }
  } finally {
    if (turns === asking) turns = said ? [...asking, { role: "assistant", content: said }] : before;
    turn.classList.remove("writing");
    log.removeAttribute("aria-busy");
    writing = null;
    setBusy(false);
  }
};

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = at("text").value;
  if (writing || !text.trim()) return;
  if (!model) await connect();
  if (!model) return;
  at("text").value = "";
  await answer(text);
});

at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("form").requestSubmit();
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && writing) writing.abort();
});

at("stop").addEventListener("click", () => writing?.abort());
at("key").addEventListener("change", connect);
at("new").addEventListener("click", () => {
  writing?.abort();
  turns = [];
  log.replaceChildren();
  at("text").focus();
});

connect();
