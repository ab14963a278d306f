/* The pages in frames have the theme of the manual, which may be another than the system's; a frame
   is as high as its page, where this says so. */
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
  window.addEventListener("message", ({source, data}) => {
    const height = data?.grulens?.height;
    const said = [...frames()].find((frame) => frame.contentWindow === source);
    if (said && typeof height === "number") said.style.height = `${height}px`;
  });
  document.addEventListener("DOMContentLoaded", () => {
    frames().forEach((frame) => frame.addEventListener("load", () => tell(frame)));
    new MutationObserver(all).observe(document.body, {attributeFilter: ["data-theme"]});
    system.addEventListener("change", all);
    all();
  });
})();
