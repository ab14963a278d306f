/* The pages in frames have the theme of the manual, which may be another than the system's. */
"use strict";
(() => {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const dark = () => {
    const chosen = document.body.dataset.theme;
    return chosen === "dark" || (chosen !== "light" && system.matches);
  };
  const tell = (frame) => frame.contentWindow.postMessage({grulens: {dark: dark()}}, "*");
  const frames = () => document.querySelectorAll("iframe.live, iframe.stepped");
  const all = () => frames().forEach(tell);
  document.addEventListener("DOMContentLoaded", () => {
    frames().forEach((frame) => frame.addEventListener("load", () => tell(frame)));
    new MutationObserver(all).observe(document.body, {attributeFilter: ["data-theme"]});
    system.addEventListener("change", all);
    all();
  });
})();
