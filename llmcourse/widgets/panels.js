// What the explorers share in which the reader gives a text or chooses sizes.

// What is wrong with a text of the reader's own; null if nothing is.
export function faultOf(text, most = 40000) {
  if (!text.trim()) return "There is no text: type or paste one.";
  if (text.length > most) return `At most ${thousands(most)} characters fit here; these are ${thousands(text.length)}.`;
  if (/\p{Surrogate}/u.test(text)) return "The text holds half of a character (a lone surrogate).";
  if (/[^\p{White_Space}]{2001}/u.test(text)) return "There are more than 2,000 characters without a space: put one in.";
  return null;
}

// A field for a text, with a line below it that says what is wrong, if anything is.
function textField(name, { value, rows = 3 }, onInput) {
  const area = make("textarea", { rows, spellcheck: false, dir: "auto", value });
  const fault = make("p", { className: "fault", role: "status" });
  area.addEventListener("input", onInput);
  const label = make("label", { className: "field" }, make("span", {}, name), area);
  return { area, label, fault, tell: (text) => (fault.textContent = text ?? "") };
}

// A list of choices, [value, text].
function choice(name, options, onChange) {
  const list = make("select", {}, ...options.map(([value, text]) => make("option", { value }, text)));
  list.addEventListener("change", onChange);
  return { list, label: make("label", { className: "wide" }, make("span", {}, name), list) };
}

// A panel with a heading, and numbers beside it.
const panel = (title, numbers, ...content) =>
  make("div", { className: "panel" }, make("div", { className: "head" }, make("strong", {}, title), numbers), ...content);

// One of several bars: a label, parts of the whole width from 0 to 1, what they stand for.
function barRow(label, shares, value, className = "") {
  const track = make("span", { className: "track" });
  for (const [i, share] of [shares].flat().entries()) {
    const bar = make("span", { className: "bar" });
    bar.style.width = `${100 * share}%`;
    bar.dataset.hue = i;
    track.append(bar);
  }
  return make("li", { className }, make("span", { className: "label" }, label), track, make("span", { className: "value" }, value));
}

// Bytes as a reader can compare them.
export function bytesText(n) {
  const unit = n < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(n) / 10));
  const value = n / 1024 ** unit;
  return `${value < 10 && unit ? value.toFixed(1) : thousands(Math.round(value))} ${["bytes", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}
