// A text under several tokenizers, side by side. Those with a `spec` run here, on
// anything that is typed; the others show what Python computed for the given texts.

const TOO_LARGE = "This vocabulary is too large to come with the page: choose one of the given texts.";
const OWN = "-1"; // the choice "your own text"

function tokenRow({ name, spec, given }) {
  const encode = spec ? encoder(spec) : null;
  const numbers = make("span", { className: "numbers" });
  const bar = make("span", { className: "bar" });
  const pieces = make("p", { className: "pieces" });
  const head = make("div", { className: "head" }, make("strong", {}, name), numbers);
  const row = make("div", { className: "tokens" }, head, make("div", { className: "track" }, bar), pieces);

  const tokensOf = (text, choice) => encode?.(text) ?? given[choice] ?? null;

  function draw(tokens, text, longest) {
    const n = tokens?.ids.length ?? 0;
    const characters = [...text].length;
    bar.style.width = `${(100 * n) / Math.max(1, longest)}%`;
    row.classList.toggle("missing", tokens === null);
    if (tokens === null) {
      numbers.textContent = "";
      pieces.replaceChildren(TOO_LARGE);
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
  return { row, tokensOf, draw };
}

function render({ model, el }) {
  const texts = model.get("texts");
  const rows = model.get("tokenizers").map(tokenRow);
  const root = card(el, "Token explorer");

  const options = texts.map((text, i) =>
    make("option", { value: String(i) }, text.length > 48 ? `${text.slice(0, 47)}…` : text),
  );
  options.push(make("option", { value: OWN }, "… your own text"));
  const choice = make("select", {}, ...options);
  const ids = make("input", { type: "checkbox" });
  const area = make("textarea", { rows: 2, maxLength: 2000, spellcheck: false });

  function draw() {
    const results = rows.map((row) => row.tokensOf(area.value, Number(choice.value)));
    const longest = Math.max(...results.map((tokens) => tokens?.ids.length ?? 0));
    rows.forEach((row, i) => row.draw(results[i], area.value, longest));
    root.classList.toggle("with-ids", ids.checked);
  }
  choice.addEventListener("change", () => {
    if (choice.value !== OWN) area.value = texts[choice.value];
    else area.select();
    draw();
  });
  area.addEventListener("input", () => {
    const same = texts.indexOf(area.value);
    choice.value = String(same);
    draw();
  });
  ids.addEventListener("change", draw);

  root.append(
    make("div", { className: "controls" },
      make("label", { className: "wide" }, make("span", {}, "Text"), choice),
      make("label", { className: "check" }, ids, make("span", {}, "show ids")),
    ),
    make("label", { className: "field" }, make("span", {}, "Type what you like"), area),
    ...rows.map(({ row }) => row),
  );
  area.value = texts[0];
  draw();
}

export default { render };
