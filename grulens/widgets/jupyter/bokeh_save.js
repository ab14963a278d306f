// What a person takes away of a view: its figures as PNG or SVG, drawn here by BokehJS as they are
// seen, and files that Python makes (offers: a table, a selection), which the page only hands on.
//
// Internal names used here: a plot view's export(type), CanvasLayer.to_blob.

const SVG = "http://www.w3.org/2000/svg";
const LONGEST = 100; // of a file's name

// the figures that are seen, and where each lies in the picture of them all
function seenFigures(view) {
  const found = [...plots(view)].map((plot) => ({ plot, box: plot.el.getBoundingClientRect() }));
  const seen = found.filter(({ box }) => box.width > 0 && box.height > 0);
  const left = Math.min(...seen.map(({ box }) => box.left));
  const top = Math.min(...seen.map(({ box }) => box.top));
  return {
    width: Math.ceil(Math.max(...seen.map(({ box }) => box.right)) - left),
    height: Math.ceil(Math.max(...seen.map(({ box }) => box.bottom)) - top),
    parts: seen.map(({ plot, box }) => ({ plot, x: box.left - left, y: box.top - top })),
  };
}

const ground = () => getComputedStyle(document.body).getPropertyValue(GROUND).trim() || "white";

async function asPng(view) {
  const { width, height, parts } = seenFigures(view);
  const scale = devicePixelRatio;
  const whole = document.createElement("canvas");
  Object.assign(whole, { width: Math.round(width * scale), height: Math.round(height * scale) });
  const context = whole.getContext("2d");
  context.fillStyle = ground();
  context.fillRect(0, 0, whole.width, whole.height);
  for (const { plot, x, y } of parts) {
    context.drawImage(plot.export("png").canvas, Math.round(x * scale), Math.round(y * scale));
  }
  return new Promise((resolve, reject) => {
    whole.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the picture is too large"))));
  });
}

async function asSvg(view) {
  const { width, height, parts } = seenFigures(view);
  const whole = document.implementation.createDocument(SVG, "svg");
  const root = whole.documentElement;
  const set = (el, values) => {
    for (const [name, value] of Object.entries(values)) el.setAttribute(name, String(value));
  };
  set(root, { width, height, viewBox: `0 0 ${width} ${height}` });
  const back = whole.createElementNS(SVG, "rect");
  set(back, { width, height, fill: ground() });
  root.append(back);
  for (const { plot, x, y } of parts) {
    const text = await (await plot.export("svg").to_blob()).text();
    const part = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
    set(part, { x: Math.round(x), y: Math.round(y) });
    // a map's cells have edges, as on the canvas
    for (const image of part.querySelectorAll("image")) image.style.imageRendering = "pixelated";
    root.append(whole.importNode(part, true));
  }
  return new Blob([new XMLSerializer().serializeToString(whole)], { type: "image/svg+xml" });
}

// words of any language, with a "-" between them: no part of a path, and no hidden file
function fileName(words, end) {
  const name = words.join(" ").replace(/[^\p{L}\p{M}\p{N}_.]+/gu, "-").replace(/^[-.]+|[-.]+$/g, "");
  return `${[...name].slice(0, LONGEST).join("") || "figure"}.${end}`;
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000); // the browser reads it meanwhile
}

function drawn(view, kind) {
  if (!view.doc || !seenFigures(view).parts.length) throw new Error("no figure is seen in the page");
  return kind === "png" ? asPng(view) : asSvg(view);
}

async function saveFigures(view, kind) {
  const blob = await drawn(view, kind);
  const [first] = seenFigures(view).parts;
  const words = [view.model.get("about"), nameOf(first.plot.model)].filter(Boolean);
  download(blob, fileName(words, kind));
}

// Python asks for the same
async function sendFigures(view, { as: kind, id }) {
  try {
    const blob = await drawn(view, kind);
    view.tell({ kind: "drawn", id }, [await blob.arrayBuffer()]);
  } catch (error) {
    view.tell({ kind: "drawn", id, why: String(error.message ?? error) });
  }
}

// one word, which opens to the kinds of file there are
function showSaving(view) {
  view.saving?.remove();
  view.watching?.disconnect();
  const offers = view.model.get("offers");
  const figures = [...plots(view)].length > 0;
  if (!figures && !offers.length) return;
  const menu = (view.saving = document.createElement("details"));
  menu.className = figures ? "grulens-save" : "grulens-save grulens-under";
  const word = document.createElement("summary");
  word.textContent = view.say("save");
  word.title = figures ? view.say("save this figure as a file") : view.say("save as a file");
  menu.append(word);
  const add = (text, tip, act) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.title = tip;
    button.addEventListener("click", async () => {
      menu.open = false;
      word.focus({ preventScroll: true });
      try {
        await act();
      } catch (error) {
        console.error(error);
        showError(view.el, {
          title: view.say("not saved: {why}", { why: error.message ?? error }), traceback: error.stack ?? "",
        });
      }
    });
    menu.append(button);
  };
  if (figures) {
    add("PNG", view.say("the figure as it is seen, in pixels"), () => saveFigures(view, "png"));
    add("SVG", view.say("the figure as it is seen, in lines and letters"), () => saveFigures(view, "svg"));
  }
  for (const offer of offers) {
    add(offer, view.say("a file for a spreadsheet, in UTF-8; its numbers are exact"), () => {
      if (!view.tell({ kind: "offer", offer })) {
        throw new Error(view.say("the kernel is gone: run the cell again"));
      }
    });
  }
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    word.focus();
    event.stopPropagation();
  });
  menu.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
  });
  view.el.append(menu);
  const there = () => (menu.hidden = view.host.offsetHeight < 2); // a view may hide what it has
  view.watching = new ResizeObserver(there);
  view.watching.observe(view.host);
  there();
}
