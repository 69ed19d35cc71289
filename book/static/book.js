// On every page: mends what the theme and docutils leave undone. tests/site
// finds out, with axe-core, when an upgrade brings something new.

(() => {
  const all = (selector) => document.querySelectorAll(selector);
  const name = (element, text) => {
    if (element.getAttribute("aria-label") !== text) element.setAttribute("aria-label", text);
  };

  function nameControls() {
    // A button is called what it shows.
    for (const element of all(".search-button-field[aria-label], summary[aria-label]")) {
      if (element.textContent.trim()) element.removeAttribute("aria-label");
    }
    // The arrows of the sidebar show no text.
    for (const arrow of all("summary")) {
      if (!arrow.textContent.trim()) name(arrow, "Show or hide the pages of this part");
    }
    // Roles of docutils that exist no more.
    for (const element of all(".citation-list[role], .citation[role]")) element.removeAttribute("role");
    for (const logo of all(".sidebar-primary-items__start > .sidebar-primary-item:has(.logo)")) {
      logo.setAttribute("role", "navigation");
      name(logo, "Home");
    }
  }
  document.addEventListener("DOMContentLoaded", () => {
    nameControls();
    const watch = { subtree: true, childList: true, attributeFilter: ["class"] };
    new MutationObserver(nameControls).observe(document.body, watch);
  });
})();

// What a term means and what a citation cites: the link's title, in a box beside the link
// when the mouse or the focus is on it. Escape closes it.
document.addEventListener("DOMContentLoaded", () => {
  const box = document.createElement("div");
  box.className = "preview";
  box.id = "preview";
  box.role = "tooltip";
  box.hidden = true;
  (document.querySelector("main") ?? document.body).append(box); // all text is in a landmark
  let waiting;
  const hide = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => (box.hidden = true), 150); // time to move into the box
  };
  const show = (link) => {
    clearTimeout(waiting);
    box.textContent = link.dataset.preview;
    box.hidden = false;
    const { left, top, bottom } = link.getBoundingClientRect();
    const origin = box.offsetParent.getBoundingClientRect();
    const fits = bottom + box.offsetHeight + 8 < innerHeight;
    box.style.left = `${Math.max(8, Math.min(left, innerWidth - box.offsetWidth - 8)) - origin.left}px`;
    box.style.top = `${(fits ? bottom + 6 : top - box.offsetHeight - 6) - origin.top}px`;
  };
  box.addEventListener("mouseenter", () => clearTimeout(waiting));
  box.addEventListener("mouseleave", hide);
  document.addEventListener("keydown", ({ key }) => key === "Escape" && (box.hidden = true));
  const links = 'article a[title]:is([href*="glossary.html#"], [href*="references.html#"])';
  for (const link of document.querySelectorAll(links)) {
    link.dataset.preview = link.title;
    link.removeAttribute("title");
    link.setAttribute("aria-describedby", "preview");
    for (const event of ["mouseenter", "focus"]) link.addEventListener(event, () => show(link));
    for (const event of ["mouseleave", "blur"]) link.addEventListener(event, hide);
  }
});

// A picture is seen larger at a click; the keyboard reaches it, too.
document.addEventListener("DOMContentLoaded", () => {
  const dialog = document.createElement("dialog");
  dialog.className = "enlarged";
  dialog.setAttribute("aria-label", "Enlarged picture");
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", ({ key }) => key === "Escape" && dialog.close()); // the theme stops it else
  document.body.append(dialog);
  for (const picture of document.querySelectorAll("article img:not(.sd-card-img-top, a img)")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "enlarge";
    picture.replaceWith(button);
    button.append(picture);
    button.addEventListener("click", () => {
      dialog.replaceChildren(picture.cloneNode());
      dialog.showModal();
    });
  }
});

// Paper is white: what is printed has the colours of the light mode.
{
  const { dataset } = document.documentElement;
  let theme;
  addEventListener("beforeprint", () => ([theme, dataset.theme] = [dataset.theme, "light"]));
  addEventListener("afterprint", () => (dataset.theme = theme));
}
