// Two buttons: the code to the clipboard, and into a new cell under the one that shows this.

// Without https or focus there is no clipboard interface: the old way is a selected text field.
async function copy(text, near) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    near.appendChild(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    if (!done) throw new Error("the browser does not allow copying here");
  }
}

// The notebook that shows the widget, as JupyterLab and Notebook 7 hand it to their widgets.
function insert(manager, text, el) {
  const shared = manager?.context?.model?.sharedModel;
  if (!shared?.insertCell) throw new Error("this front end does not let a widget add cells");
  const cells = [...document.querySelectorAll(".jp-Notebook .jp-Cell")];
  const here = cells.findIndex((cell) => cell.contains(el));
  shared.insertCell(here < 0 ? shared.cells.length : here + 1, { cell_type: "code", source: text });
}

function render({ model, el }) {
  el.classList.add("grulens", "grulens-copy");
  const say = (text, values = {}) => (model.get("words")?.[text] ?? text)
    .replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
  const said = document.createElement("span");
  said.setAttribute("role", "status");
  said.className = "grulens-quiet";
  const add = (label, tip, done, act) => {
    const button = document.createElement("button");
    button.className = "lm-Widget jupyter-widgets jupyter-button widget-button";
    button.textContent = label;
    button.title = tip;
    button.addEventListener("click", async () => {
      try {
        await act(model.get("code"));
        said.textContent = done;
      } catch (error) {
        said.textContent = String(error.message ?? error);
      }
    });
    el.appendChild(button);
  };
  add(say("copy as code"), say("the Python that makes this run, to the clipboard"), say("copied"),
    (code) => copy(code, el));
  add(say("into a new cell"), say("the Python that makes this run, as a cell below"), say("added"), (code) =>
    insert(model.widget_manager, code, el));
  el.appendChild(said);
}

export default heard({ render });
