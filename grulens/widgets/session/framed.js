// A page in a frame of its own: its script may run there, and reaches nothing outside of it.

// whether the front end is dark now; the frame's own preference would be that of the system
function isDark(el) {
  const scheme = getComputedStyle(el).colorScheme;
  if (scheme === "dark" || scheme === "light") return scheme === "dark";
  return window.matchMedia("(prefers-color-scheme: dark)").matches;
}

function render({ model, el }) {
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "allow-scripts allow-downloads");
  frame.style.cssText = "display: block; width: 100%; height: 780px; border: 1px solid #8886; border-radius: 4px; resize: vertical;";
  const tell = () => frame.contentWindow?.postMessage({ grulens: { dark: isDark(el) } }, "*");
  const fill = () => {
    frame.title = model.get("about");
    frame.srcdoc = model.get("html");
  };
  // a front end changes its theme by classes of whatever is around
  const watch = new MutationObserver(() => requestAnimationFrame(tell));
  frame.addEventListener("load", () => {
    tell();
    for (let at = el; at; at = at.parentElement ?? at.getRootNode().host)
      watch.observe(at, { attributes: true, attributeFilter: ["class", "style"] });
  });
  model.on("change:html", fill);
  fill();
  el.append(frame);
  return () => {
    watch.disconnect();
    model.off("change:html", fill);
  };
}

export default heard({ render });
