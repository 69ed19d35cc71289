// Runs between require.js and embed-amd.js, on pages with widgets only: tells RequireJS
// where the self-hosted bundles are, whatever the page's depth.
(() => {
  const here = new URL("./vendor/widgets/", document.currentScript.src).href;
  requirejs.config({
    paths: {
      anywidget: `${here}anywidget`, // else it is asked of a CDN
      // embed-amd.js takes its icon fonts from the folder of these modules
      "@jupyter-widgets": `${here}fonts`,
      "@jupyter-widgets/html-manager/dist": `${here}fonts`,
    },
  });
})();

// ipywidgets calls MathJax 2 (MathJax.Hub.Queue); Sphinx loads MathJax 3, deferred, and
// on pages with maths only.
document.addEventListener("DOMContentLoaded", () => {
  const mathjax = window.MathJax;
  if (!mathjax?.startup || mathjax.Hub) return;
  const typeset = ([, , element]) => mathjax.startup.promise.then(() => mathjax.typesetPromise([element]));
  mathjax.Hub = { Queue: typeset };
});
