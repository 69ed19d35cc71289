// Draws a page's explorers, without a kernel. Each is an anywidget: its state, with its
// script (_esm) and style (_css), stands in the page, where MyST-NB put what the
// notebook holds of it. What anywidget passes to `render`, this does, as far as it can
// be had with no Python behind.
(() => {
  const VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]';
  const STATE = 'script[type="application/vnd.jupyter.widget-state+json"]';

  const once = (make) => {
    const made = new Map();
    return (key) => {
      if (!made.has(key)) made.set(key, make(key));
      return made.get(key);
    };
  };

  // A page opened from a folder may import no file, but a text that it holds itself.
  const module = once(async (esm) => {
    const url = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
    const { default: widget } = await import(url);
    return typeof widget === "function" ? widget() : widget;
  });

  const style = once((css) => {
    const element = document.createElement("style");
    element.textContent = css;
    document.head.append(element);
  });

  const bytes = ({ data }) => new DataView(Uint8Array.from(atob(data), (c) => c.charCodeAt(0)).buffer);

  // The model that an explorer sees: its values, and who wants to hear when one changes.
  class Model {
    constructor({ state, buffers = [] }) {
      this.values = { ...state };
      for (const buffer of buffers) {
        const inner = buffer.path.slice(0, -1).reduce((value, key) => value[key], this.values);
        inner[buffer.path.at(-1)] = bytes(buffer);
      }
      this.listeners = new Map();
    }
    get(name) {
      return this.values[name];
    }
    set(name, value) {
      if (this.values[name] === value) return;
      this.values[name] = value;
      for (const event of [`change:${name}`, "change"]) {
        for (const listener of this.listeners.get(event) ?? []) listener();
      }
    }
    on(events, listener) {
      for (const event of events.split(" ")) {
        this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
      }
    }
    off(event, listener) {
      const kept = (this.listeners.get(event) ?? []).filter((one) => listener && one !== listener);
      this.listeners.set(event, kept);
    }
    save_changes() {} // nobody to tell
    send() {}
  }

  async function draw(script, entry) {
    const el = document.createElement("div");
    script.after(el);
    try {
      if (!entry?.state._esm) throw new Error("it needs a running notebook");
      entry.model ??= new Model(entry);
      if (entry.state._css) style(entry.state._css);
      const widget = await module(entry.state._esm);
      await (entry.ready ??= Promise.resolve(widget.initialize?.({ model: entry.model })));
      await widget.render({ model: entry.model, el });
    } catch (error) {
      el.replaceChildren(`This part of the page could not be drawn: ${error.message}`);
      el.setAttribute("role", "alert");
      console.error(error);
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    const states = document.querySelector(STATE);
    if (!states) return;
    const entries = JSON.parse(states.textContent).state;
    for (const script of document.querySelectorAll(VIEW)) {
      draw(script, entries[JSON.parse(script.textContent).model_id]);
    }
  });
})();
