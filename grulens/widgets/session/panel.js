// The style sheet of the panels has nothing to show, but it stands in every one: it knows whether the
// kernel is still there. ipywidgets' own sliders and buttons would do nothing, and say nothing.

const AFTER = 300; // ms without another key or touch
// what JupyterLab and Notebook 7 call a kernel that forgets its widgets
const GONE = ["restarting", "autorestarting", "dead"];

// false when the kernel is gone
function reaches(model) {
  try {
    model.send({ kind: "there" });
    return true;
  } catch {
    return false;
  }
}

// its panel, unless that leaves it to another one around it
function outermost(el) {
  const panel = el.closest(".grulens-panel");
  return panel?.parentElement?.closest(".grulens-panel") ? null : panel;
}

function tellGone(el, model) {
  const panel = outermost(el);
  if (!panel || panel.querySelector(":scope > .grulens-gone")) return;
  const say = (text) => model.get("words")?.[text] ?? text;
  const box = document.createElement("div");
  box.className = "grulens-gone";
  box.setAttribute("role", "alert");
  box.textContent = say("The kernel is gone: run the cell again.");
  panel.prepend(box);
}

// a restart and the death of a kernel are told, and a kernel that is shut down or changed is disposed
function followKernel(el, model, signal) {
  const kernel = model.widget_manager?.kernel;
  if (!kernel?.statusChanged) return;
  const changed = (_, status) => GONE.includes(status) && tellGone(el, model);
  const disposed = () => tellGone(el, model);
  kernel.statusChanged.connect(changed);
  kernel.disposed.connect(disposed);
  signal.addEventListener("abort", () => {
    kernel.statusChanged.disconnect(changed);
    kernel.disposed.disconnect(disposed);
  });
}

// the handle of a slider has no name of its own: a screen reader would say a number, and not whose
function nameSliders(panel) {
  for (const handle of panel.querySelectorAll(".noUi-handle:not([aria-label])")) {
    const label = handle.closest(".widget-inline-hbox")?.querySelector(".widget-label");
    if (label?.textContent.trim()) handle.setAttribute("aria-label", label.textContent.trim());
  }
}

function named(el, signal) {
  const panel = el.closest(".grulens-panel");
  if (!panel || panel.parentElement?.closest(".grulens-panel")) return;
  let asked = 0;
  const soon = () => {
    asked ||= requestAnimationFrame(() => {
      asked = 0;
      nameSliders(panel);
    });
  };
  const watch = new MutationObserver(soon);
  watch.observe(panel, { childList: true, subtree: true });
  signal.addEventListener("abort", () => watch.disconnect());
  soon();
}

function render({ model, el }) {
  const ended = new AbortController();
  // an element is in its panel one frame after it is made
  requestAnimationFrame(() => named(el, ended.signal));
  followKernel(el, model, ended.signal);
  let asking;
  const acted = (event) => {
    if (!outermost(el)?.contains(event.target)) return;
    // a figure says so itself
    if (event.target.closest(".grulens-bokeh, .grulens-copy") || event.key === "Tab") return;
    clearTimeout(asking);
    // after what the person did, which must not wait for this on its way
    asking = setTimeout(() => reaches(model) || tellGone(el, model), AFTER);
  };
  for (const kind of ["pointerdown", "keydown"])
    window.addEventListener(kind, acted, { capture: true, signal: ended.signal });
  return () => {
    ended.abort();
    clearTimeout(asking);
  };
}

// JupyterLab 4.6 keeps every comm it ever had: each listens to its kernel's status and never stops. A
// comm keeps what it calls, its closed model, and that the view it made last, with all its elements.
// So the comm of a model that is closed is given nothing to call.
const nothing = () => {};

function letGo(model) {
  model.once("destroy", () => {
    model.comm?.on_close(nothing);
    model.comm?.on_msg(nothing);
  });
}

function initialize({ model }) {
  const manager = model.widget_manager;
  model.on("msg:custom", ({ closing, busy, on }) => {
    if (busy && manager?.has_model?.(busy))
      manager.get_model(busy).then((marked) => {
        for (const view of Object.values(marked.views ?? {}))
          view.then(({ el }) => el.setAttribute("aria-busy", String(on)), () => {});
      }, () => {});
    for (const id of closing ?? [])
      if (manager?.has_model?.(id)) manager.get_model(id).then(letGo, () => {});
  });
}

export default heard({ initialize, render });
