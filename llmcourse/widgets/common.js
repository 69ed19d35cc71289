// What all explorers share. Python puts this text before each explorer's own.

// An element with properties, attributes (aria-*, role, ...) and children. Text goes
// in as text nodes, never as markup.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  // JupyterLab would take the arrow keys for its own.
  if (/^(select|input|button)$/.test(tag)) element.dataset.lmSuppressShortcuts = "true";
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// The same for SVG, whose properties are attributes alone.
function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function card(el, name) {
  const root = make("div", { className: "llmcourse-explorer", role: "group", "aria-label": name });
  el.append(root);
  return root;
}

// A labelled slider; `show` turns its position into the text beside it.
function slider(name, { min, max, step = 1, value, show = String }, onInput) {
  const shown = make("span", { className: "shown" }); // an <output> would take the label
  const input = make("input", { type: "range", min, max, step, value });
  const refresh = () => {
    shown.textContent = show(Number(input.value));
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  input.addEventListener("input", () => {
    refresh();
    onInput();
  });
  refresh();
  const label = make("label", { className: "slider" }, make("span", {}, name), shown);
  label.append(input);
  return { label, input, refresh };
}

const button = (text, onClick) => {
  const element = make("button", { type: "button" }, text);
  element.addEventListener("click", onClick);
  return element;
};

// A button that can no longer be used hands the focus of the keyboard to another one.
function enable(element, on, other) {
  const focused = document.activeElement === element;
  element.disabled = !on;
  if (focused && !on) other.focus();
}

const VISIBLE = { " ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍" };

// A piece of text as a reader can see it.
export const visible = (text) => text.replace(/[ \n\t\r]/g, (c) => VISIBLE[c]);

// One coloured piece; the hue says nothing but "this is another one".
function piece(text, hue, className = "") {
  const element = make("span", { className: `piece ${className}` }, visible(text));
  if (hue !== null) element.dataset.hue = hue % 6;
  return element;
}

export const thousands = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");

const count = (n, noun) => `${thousands(n)} ${noun}${n === 1 ? "" : "s"}`;
