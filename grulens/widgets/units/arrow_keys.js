// A bar of four buttons that also takes the arrow keys: left and right, up and down. A press on the
// rest of its screen brings the focus here, unless it is on a control that has keys of its own. One
// message is on its way at a time: what is pressed meanwhile is added up.

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const CONTROLS = "input, textarea, select, button, a, [contenteditable], [role=slider]";

function render({ model, el }) {
  el.classList.add("grulens", "grulens-keys");
  const say = (text, values = {}) => (model.get("words")?.[text] ?? text)
    .replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
  el.tabIndex = 0;
  el.setAttribute("role", "group");
  el.setAttribute("aria-label", model.get("label"));
  let waiting = false, across = 0, down = 0;

  const flush = () => {
    if (waiting || !(across || down)) return;
    waiting = true;
    model.send({ across, down });
    across = down = 0;
  };
  const move = ([x, y]) => {
    across += x;
    down += y;
    flush();
  };
  const answered = (message) => {
    if (!message.done) return;
    waiting = false;
    flush();
  };
  model.on("msg:custom", answered);

  for (const [key, sign, name] of [
    ["ArrowLeft", "←", say("step back")], ["ArrowRight", "→", say("step on")],
    ["ArrowUp", "↑", say("unit before")], ["ArrowDown", "↓", say("unit after")],
  ]) {
    const button = document.createElement("button");
    button.className = "lm-Widget jupyter-widgets jupyter-button widget-button";
    button.textContent = sign;
    button.title = name;
    button.setAttribute("aria-label", name);
    button.addEventListener("click", () => move(MOVES[key]));
    el.appendChild(button);
  }
  const said = document.createElement("span");
  said.className = "grulens-quiet";
  said.textContent = model.get("label");
  el.appendChild(said);

  const ended = new AbortController();
  el.addEventListener("keydown", (event) => {
    if (!(event.key in MOVES) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    move(MOVES[event.key]);
  }, { signal: ended.signal });
  window.addEventListener("click", (event) => {
    const screen = el.closest(".grulens-cell");
    if (!screen?.contains(event.target) || event.target.closest(CONTROLS)) return;
    el.focus({ preventScroll: true });
  }, { signal: ended.signal });
  return () => {
    ended.abort();
    model.off("msg:custom", answered);
  };
}

export default heard({ render });
