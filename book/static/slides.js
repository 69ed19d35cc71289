// A chapter as slides: its pictures, formulas, tables, code, questions and explorers one
// at a time, large, under the heading and the paragraph that they belong to. The rest of
// the text is what a teacher says, and can be shown below.
//
//     #slides-7    the seventh slide        → ←   on and back        N   notes
//     #the-idea    the page as ever         Esc   back to the page
//
// No element is moved, and only notes are copies: what does not belong to the slide is
// hidden, so explorers, quizzes and models work as they do on the page.
document.addEventListener("DOMContentLoaded", () => {
  const article = document.querySelector("article.bd-article");
  if (!article?.querySelector(".opening")) return;
  const OMITTED = "#setup, #exercises, #sources";
  const PICTURE = "p:has(> img, > button.enlarge)";
  const SHOWN = `${PICTURE}, table, ul, ol, pre, .formula:not(p *), .admonition, .cell_output, .sd-dropdown, .sd-tab-set`;
  const LONGEST = 75; // words above a picture or a table
  const REST = ".formula, ul, ol"; // of the sentence before, so it needs all its words
  const TOGETHER = 20; // lines of cells with no text between them
  const words = (block) => block.textContent.split(/\s+/).length;
  const isCaption = (block) => block.matches("p") && block.childNodes.length === 1 && block.firstChild.localName === "em";
  const isFolded = (block) => block.matches(".cell:has(> details)") && !block.querySelector(":scope > .cell_output");

  const lines = (block) => (block.querySelector("img, .llmcourse-explorer, fieldset") ? TOGETHER : block.innerText.trim().split("\n").length);
  const isMore = (slide, block) =>
    block.matches(".cell") && slide.at(-1).matches(".cell") &&
    [...slide.filter((one) => one.matches(".cell")), block].reduce((sum, one) => sum + lines(one), 0) <= TOGETHER;

  // The blocks of a section in order; what is in its subsections, too.
  const blocks = (section) =>
    [...section.children].flatMap((child) => {
      if (child.localName === "section") return child.matches(OMITTED) ? [] : blocks(child);
      return child.matches("span[id]") || isFolded(child) ? [] : [child];
    });

  function cut() {
    const slides = [];
    let heading = null, lead = [], n = 0; // paragraphs, and slides, since the last slide and heading
    const add = (...body) => {
      const near = lead.at(-1);
      const above = near && (body[0].matches(REST) || words(near) <= LONGEST) ? [near] : [];
      slides.push({ blocks: [heading, ...above, ...body].filter(Boolean), notes: lead.filter((one) => !above.includes(one)) });
      lead = [];
      n += 1;
    };
    const end = () => {
      const last = lead.pop();
      if (n && last && words(last) <= LONGEST) {
        slides.at(-1).blocks.push(last); // what is concluded from it
        slides.at(-1).notes.push(...lead);
      } else if (last) {
        for (const one of n ? [last] : [...lead, last]) slides.push({ blocks: [heading, one].filter(Boolean), notes: n ? lead : [] });
      }
      lead = [];
      n = 0;
    };
    for (const block of blocks(article)) {
      const questions = block.querySelectorAll(".llmcourse-quiz > fieldset");
      if (/^H[1-4]$/.test(block.tagName)) {
        end();
        heading = block;
      } else if (n && !lead.length && (isCaption(block) || block.matches(".sd-dropdown") || isMore(slides.at(-1).blocks, block))) {
        slides.at(-1).blocks.push(block);
      } else if (questions.length) {
        for (const question of questions) add(block, question);
      } else if (block.matches(SHOWN) || block.querySelector(SHOWN)) {
        add(block);
      } else {
        lead.push(block);
      }
    }
    end();
    return slides;
  }

  let slides = [], at = -1, bar;

  function show(number) {
    at = Math.max(0, Math.min(number, slides.length - 1));
    for (const block of article.querySelectorAll(".on-slide")) block.classList.remove("on-slide");
    for (const block of slides[at].blocks) block.classList.add("on-slide");
    bar.notes.replaceChildren(...slides[at].notes.map((block) => {
      const copy = block.cloneNode(true);
      for (const one of [copy, ...copy.querySelectorAll("[id]")]) one.removeAttribute("id");
      return copy;
    }));
    bar.place.textContent = `${at + 1} / ${slides.length}`;
    history.replaceState(null, "", `#slides-${at + 1}`);
    fit();
    scrollTo(0, 0);
    dispatchEvent(new Event("resize")); // for what is drawn to the size of its box
  }

  // Smaller letters, down to a point, where a slide is higher than the window.
  function fit() {
    const { documentElement: root } = document;
    for (const part of [1, 0.92, 0.84, 0.76, 0.68]) {
      root.style.setProperty("--fit", part);
      if (root.scrollHeight <= innerHeight) break;
    }
  }

  function next() {
    const answer = slides[at].blocks.find((block) => block.matches("details:not([open])"));
    if (!answer) return show(at + 1);
    answer.open = true;
    fit();
  }

  function makeBar() {
    const make = (text, label, action) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.title = label;
      button.setAttribute("aria-label", label.replace(/ \(.*/, ""));
      button.addEventListener("click", action);
      return button;
    };
    bar = document.createElement("nav");
    bar.className = "slides-bar";
    bar.setAttribute("aria-label", "Slides");
    bar.place = document.createElement("span");
    bar.place.setAttribute("role", "status");
    bar.notes = document.createElement("div");
    bar.notes.className = "slides-notes";
    bar.notes.hidden = true;
    bar.notes.tabIndex = 0;
    bar.notes.role = "region";
    bar.notes.setAttribute("aria-label", "Notes");
    bar.append(
      make("←", "Previous slide (left arrow)", () => show(at - 1)),
      bar.place,
      make("→", "Next slide (right arrow)", next),
      make("notes", "Show or hide the notes (N)", () => (bar.notes.hidden = !bar.notes.hidden)),
      make("×", "Back to the page (Escape)", stop),
    );
    (document.querySelector("main") ?? document.body).append(bar.notes, bar);
  }

  function start(number) {
    slides = slides.length ? slides : cut();
    if (!bar) makeBar();
    document.documentElement.classList.add("slides");
    show(number);
  }

  function leave(place) {
    document.documentElement.classList.remove("slides");
    bar.notes.hidden = true;
    at = -1;
    place?.scrollIntoView();
  }

  function stop() {
    const [place] = slides[at].blocks;
    history.replaceState(null, "", `#${place.closest("section[id]").id}`);
    leave(place);
  }

  const KEYS = {
    ArrowRight: next, PageDown: next, " ": next, ArrowLeft: () => show(at - 1), PageUp: () => show(at - 1),
    Home: () => show(0), End: () => show(slides.length - 1), Escape: stop,
    n: () => (bar.notes.hidden = !bar.notes.hidden),
  };
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    const action = KEYS[key.length > 1 ? key : key.toLowerCase()];
    const OWN = "input, select, textarea, [tabindex]:not(body, pre, main)"; // keys move these,
    const isUsed = target.closest(OWN) || (key === " " && target.closest("button, summary")); // space presses those
    if (at < 0 || !action || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (isUsed && key !== "Escape") return;
    event.preventDefault();
    action();
  });
  const follow = () => {
    const [, number] = /^#slides-(\d+)$/.exec(location.hash) ?? [];
    if (number) start(number - 1);
    else if (at >= 0) leave(document.querySelector(":target"));
  };
  addEventListener("hashchange", follow);
  follow();
});
