"use strict";
(() => {
  // A link into something folded opens it, and paper has no folds.
  const unfold = () => {
    const target = location.hash.length > 1 ? document.getElementById(location.hash.slice(1)) : null;
    for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details:not([open]):not(.memory):not(.aside)").forEach((node) => { node.open = true; node.dataset.folded = ""; });
  });
  addEventListener("afterprint", () => {
    document.querySelectorAll("details[data-folded]").forEach((node) => { node.open = false; delete node.dataset.folded; });
  });
})();
