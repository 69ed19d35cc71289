// On every page: mends what the theme, docutils and ipywidgets leave undone. tests/site
// finds out, with axe-core, when an upgrade brings something new.

// The theme's Font Awesome replaces each <i class="fa ..."> with an <svg>, also those
// that widgets add later; the Play widget then throws and stays dead. Look once, and
// leave the <i> in place.
window.FontAwesomeConfig = { observeMutations: false, autoReplaceSvg: "nest" };

(() => {
  const PLAY = { "fa-play": "Play", "fa-pause": "Pause", "fa-stop": "Stop", "fa-retweet": "Repeat" };
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
    for (const title of all(".theme-switch-button svg > title")) {
      title.parentElement.setAttribute("aria-hidden", "true");
      title.remove();
    }
    // Roles of docutils that exist no more.
    for (const element of all(".citation-list[role], .citation[role]")) element.removeAttribute("role");
    for (const logo of all(".sidebar-primary-items__start > .sidebar-primary-item:has(.logo)")) {
      logo.setAttribute("role", "navigation");
      name(logo, "Home");
    }
    // ipywidgets' own sliders and players have no names.
    for (const row of all(".widget-slider")) {
      const label = row.querySelector(".widget-label")?.textContent.trim() || "Value";
      for (const handle of row.querySelectorAll(".noUi-handle")) name(handle, label);
    }
    for (const icon of all(".widget-play button > i")) {
      for (const [cls, text] of Object.entries(PLAY)) if (icon.classList.contains(cls)) name(icon.parentElement, text);
    }
  }
  document.addEventListener("DOMContentLoaded", () => {
    nameControls();
    const watch = { subtree: true, childList: true, attributeFilter: ["class"] };
    new MutationObserver(nameControls).observe(document.body, watch);
  });
})();
