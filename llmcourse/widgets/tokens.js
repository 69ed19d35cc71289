// A text under several tokenizers, side by side. Those with a `spec` run here, on
// anything that is typed; so does one whose merges are a file of the site, once the reader
// has typed something. Others show what Python computed for the given texts.

const TOO_LARGE = "This vocabulary is too large to come with the page: choose one of the given texts.";
const OWN = "-1"; // the choice "your own text"
const MOST = 2000; // characters of a text

const SITE = globalThis.document?.documentElement.dataset.content_root; // as Sphinx says it

const faultIn = (text) => (text.trim() || text.length > MOST ? faultOf(text, MOST) : null);

// Merges from the site: by a script, for a page that was opened from a folder may fetch
// nothing else.
function fetchMerges(name, { file, n_merges: wanted }) {
  return new Promise((resolve, reject) => {
    const script = make("script", { src: new URL(`${SITE}_static/model/${file}`, document.baseURI).href });
    script.onerror = () => reject(new Error(`The merges of ${name} could not be fetched: their file is not there, or the network is not.`));
    script.onload = () => {
      const merges = window.llmcourseMerges?.[file]?.split("\n");
      if (merges?.length === wanted) resolve(merges);
      else reject(new Error(`The merges of ${name} cannot be used: their file is damaged.`));
    };
    document.head.append(script);
  });
}

function tokenRow({ name, spec, given = [], fetched }, redraw) {
  let encode = spec ? encoder(spec) : null;
  let fetching = false;
  const numbers = make("span", { className: "numbers" });
  const bar = make("span", { className: "bar" });
  const pieces = make("p", { className: "pieces" });
  const told = make("p", { className: "pieces", role: "status", tabIndex: -1 });
  const head = make("div", { className: "head" }, make("strong", {}, name), numbers);
  const row = make("div", { className: "tokens" }, head, make("div", { className: "track" }, bar), pieces, told);

  const tokensOf = (text, choice) => encode?.(text) ?? given[choice] ?? null;

  // A text of the reader's own: fetch what it takes, once.
  async function ask() {
    if (encode || fetching) return;
    if (!fetched || SITE === undefined) {
      told.textContent = fetched ? `In a notebook, ${name} works only on the given texts; on the course's site, also on yours.` : TOO_LARGE;
      return;
    }
    fetching = true;
    told.textContent = `Fetching the merges of ${name}, ${(fetched.bytes / 1e6).toFixed(1)} MB …`;
    try {
      const merges = await fetchMerges(name, fetched);
      encode = encoder({ kind: "bpe", ...fetched, merges });
      told.textContent = "";
    } catch (error) {
      told.replaceChildren(error.message, " ", button("Try again", again));
    }
    redraw();
  }

  function again() {
    fetching = false;
    told.focus(); // the button goes away
    ask();
  }

  function draw(tokens, text, longest) {
    const n = tokens?.ids.length ?? 0;
    const characters = [...text].length;
    bar.style.width = `${(100 * n) / Math.max(1, longest)}%`;
    row.classList.toggle("missing", tokens === null);
    told.hidden = tokens !== null;
    if (tokens === null) {
      numbers.textContent = "";
      pieces.replaceChildren();
      return;
    }
    const perToken = n ? (characters / n).toFixed(1) : "–";
    numbers.textContent = `${count(n, "token")} · ${perToken} characters per token`;
    pieces.replaceChildren(
      ...tokens.pieces.map((text, i) => {
        const unknown = text === "<unk>";
        const element = piece(text, unknown ? null : i, unknown ? "unknown" : "");
        element.title = `id ${tokens.ids[i]}`;
        element.append(make("small", {}, String(tokens.ids[i])));
        return element;
      }),
    );
  }
  return { row, tokensOf, ask, draw };
}

function render({ model, el }) {
  const texts = model.get("texts");
  const rows = model.get("tokenizers").map((state) => tokenRow(state, draw));
  const root = card(el, "Token explorer");

  const shortened = (text) => (text.length > 48 ? `${text.slice(0, 47)}…` : text);
  const options = [...texts.map((text, i) => [String(i), shortened(text)]), [OWN, "… your own text"]];
  const which = choice("Text", options, chosen);
  const ids = make("input", { type: "checkbox" });
  const own = textField("Type what you like", { value: texts[0], rows: 2 }, typed);

  function draw() {
    const text = own.area.value;
    const fault = faultIn(text);
    own.tell(fault);
    root.classList.toggle("with-ids", ids.checked);
    if (fault) return;
    const results = rows.map((row) => row.tokensOf(text, Number(which.list.value)));
    const longest = Math.max(...results.map((tokens) => tokens?.ids.length ?? 0));
    rows.forEach((row, i) => {
      row.draw(results[i], text, longest);
      if (!results[i]) row.ask();
    });
  }

  function typed() {
    which.list.value = String(texts.indexOf(own.area.value));
    draw();
  }

  function chosen() {
    if (which.list.value !== OWN) own.area.value = texts[which.list.value];
    else own.area.select();
    draw();
  }

  ids.addEventListener("change", draw);

  root.append(
    make("div", { className: "controls" },
      which.label,
      make("label", { className: "check" }, ids, make("span", {}, "show ids")),
    ),
    own.label,
    own.fault,
    ...rows.map(({ row }) => row),
  );
  draw();
}

export default { render };
