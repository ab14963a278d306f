// A Bokeh document between Python and the page: one BokehJS document per view.
//
// view -> Python   need {part}           a part of BokehJS; once per page
//                  open {view}           the document, as it is now
//                  patch {view, content} what a person changed; one in flight
//                  settled {}           nothing has changed for a while
//                  offer {view, offer}   a file that a person wants
//                  drawn {id, why}       the picture that Python asked for, or why there is none
//                  gone {view}
// Python -> views  js {part}, doc {view}, patch {skip}, ack {view}, error {title, traceback},
//                  file {view, name}, draw {as, id}
//
// BokehJS' internal names used here: require("document"), create_json_patch, apply_json_patch,
// embed.add_document_standalone, Bokeh.documents, views_manager, canvas.resize, request_repaint,
// InlineStyleSheet._update.

// Shared by every view of the page, whichever notebook or version it came from.
const page = (globalThis[Symbol.for("grulens.bokehjs")] ??= {
  scope: {}, // BokehJS defines `Bokeh` here, not on the window
  parts: new Map(), // name -> promise
  arrived: new Map(), // name -> function that takes the gzipped source
});

const PATIENCE = 5000; // ms until a second view asks its own kernel for BokehJS
const SETTLED = 1500; // ms without a change
const IN_FLIGHT = 10000; // ms until a patch without an answer is taken for lost
const UNSEEN = 100; // ms without a paint until a page is taken for one that nobody sees

// ---- BokehJS, from Python, once per page

async function evaluate(gzipped) {
  const unzipped = new Blob([gzipped]).stream().pipeThrough(new DecompressionStream("gzip"));
  const source = await new Response(unzipped).text();
  const scope = 'globalThis[Symbol.for("grulens.bokehjs")].scope';
  // A plot listens to `visualViewport` for as long as the page lives, and lives as long: BokehJS 3.9
  // never removes the listener. So here it finds no such thing, and each view listens for its plots.
  const parts = ["(function (visualViewport) {", source, `\n}).call(${scope}, undefined);`];
  const url = URL.createObjectURL(new Blob(parts, { type: "text/javascript" }));
  try {
    await import(url);
  } finally {
    URL.revokeObjectURL(url);
  }
  spareStyles(page.scope.Bokeh);
  fittingTables(page.scope.Bokeh);
}

// With every paint BokehJS 3.9 writes where each part of a figure lies into a style sheet of its own,
// and between two of these asks for a style: each time the browser computes styles anew, which took
// more than half of a paint. What a style sheet says already is not written again.
function spareStyles(Bokeh) {
  const sheet = Bokeh.require("core/dom").InlineStyleSheet.prototype;
  if (sheet.spares) return; // another part of BokehJS came before
  const update = sheet._update;
  sheet.spares = true;
  sheet._update = function (css) {
    if (this.el.textContent !== css) update.call(this, css);
  };
}

async function load(model, part) {
  const ask = () => model.send({ kind: "need", part });
  let loading = page.parts.get(part);
  if (!loading) {
    loading = new Promise((resolve, reject) => {
      page.arrived.set(part, (gzipped) => {
        page.arrived.delete(part);
        evaluate(gzipped).then(resolve, reject);
      });
    });
    page.parts.set(part, loading);
    loading.catch(() => page.parts.delete(part)); // the next view may try again
    ask();
    return loading;
  }
  // whoever asked first may have lost its kernel meanwhile
  const again = setTimeout(() => page.arrived.has(part) && ask(), PATIENCE);
  return loading.finally(() => clearTimeout(again));
}

const bytes = (view) => view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
const byId = (ids, buffers) => new Map((ids ?? []).map((id, i) => [id, bytes(buffers[i])]));

// ---- keys: Notebook 7 takes arrows in the capture phase, before a slider sees them. Lumino leaves
// alone what carries this attribute, and a listener on the window comes before its own.

const KEYS = new Set([
  "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown", " ",
  "Enter", "Escape",
]);

if (!page.keys) {
  page.keys = true;
  const listener = (event) => {
    const target = event.target;
    if (!(target instanceof Element) || !target.closest(".grulens")) return;
    const ours = KEYS.has(event.key) && !event.ctrlKey && !event.metaKey && !event.altKey;
    target.toggleAttribute("data-lm-suppress-shortcuts", ours);
    if (ours) target.setAttribute("data-lm-suppress-shortcuts", "true");
  };
  window.addEventListener("keydown", listener, true);
}

// ---- what a person changed, on its way to Python: one patch in flight, the newest value wins

const FLOWING = new Set(["mousemove", "rangesupdate", "selectiongeometry"]);

function replaces(next, queued) {
  if (next.kind !== queued.kind) return false;
  if (next.kind === "ModelChanged") return next.model === queued.model && next.attr === queued.attr;
  if (next.kind !== "MessageSent" || next.msg_type !== "bokeh_event") return false;
  const [now, then] = [next.msg_data, queued.msg_data];
  const sameEvent = now.event_name === then.event_name && now.origin === then.origin;
  return sameEvent && FLOWING.has(now.event_name) && then.final !== true;
}

class Outbox {
  constructor(post) {
    this.post = post;
    this.queue = [];
    this.inFlight = null;
    this.scheduled = false;
  }

  add(event) {
    const events = event.events ?? [event];
    if (event.events && event.sync === false) return;
    for (const e of events) {
      if (!e.sync) continue; // came from Python, or is a theme colour
      this.queue = this.queue.filter((queued) => !replaces(e, queued));
      this.queue.push(e);
    }
    this.schedule();
  }

  schedule() {
    if (this.scheduled || this.inFlight || !this.queue.length) return;
    this.scheduled = true;
    setTimeout(() => {
      this.scheduled = false;
      if (this.inFlight || !this.queue.length) return;
      const events = this.queue;
      this.queue = [];
      this.inFlight = setTimeout(() => this.acknowledge(), IN_FLIGHT);
      this.post(events);
    }, 0);
  }

  acknowledge() {
    clearTimeout(this.inFlight);
    this.inFlight = null;
    this.schedule();
  }

  close() {
    clearTimeout(this.inFlight);
    this.queue = [];
  }
}

// ---- Python's errors; everything in them is text

function showError(el, { title, traceback }) {
  let box = el.querySelector(":scope > .grulens-error");
  if (!title) return box?.remove();
  if (!box) {
    box = document.createElement("details");
    box.className = "grulens-error";
    box.setAttribute("role", "alert");
    el.prepend(box);
  }
  const summary = document.createElement("summary");
  const pre = document.createElement("pre");
  summary.textContent = title;
  pre.textContent = traceback;
  box.replaceChildren(summary, pre);
}

// BokehJS 3.9 redraws a table only when the rows it shows change, not for new values in them
function redrawTables(doc, events) {
  const changed = new Set();
  for (const { kind, attr, model } of events) {
    const data = attr === "data" || kind === "ColumnsPatched" || kind === "ColumnsStreamed";
    if (data && model) changed.add(model.id);
  }
  if (!changed.size) return;
  for (const model of doc.all_models) {
    if (isTable(model) && changed.has(model.source.id)) {
      model.view.change.emit();
    }
  }
}

const isTable = (model) => /^Data(Table|Cube)$/.test(model.type);

// What else the page has to paint goes first. A page that nobody sees paints nothing, and neither
// does a frame out of sight, which does not know that it is.
const pause = () => document.hidden ? undefined : new Promise((resolve) => {
  requestAnimationFrame(() => setTimeout(resolve));
  setTimeout(resolve, UNSEEN);
});

// What a figure or table is: its name and title; else what its axes are; else that it is one.
function nameOf(model, say) {
  const text = (one) => (typeof one?.text === "string" ? one.text : typeof one === "string" ? one : "").trim();
  const axes = [...(model.left ?? []), ...(model.below ?? [])].map((one) => text(one.axis_label));
  const said = [text(model.name), text(model.title)].filter(Boolean).join(": ");
  return said || axes.filter(Boolean).join(say(" by ")) || model.type.toLowerCase();
}

// a canvas tells a screen reader nothing: every figure and table has a name
function nameParts(doc, say) {
  for (const model of doc.all_models) {
    const role = { Figure: "figure", DataTable: "group" }[model.type];
    const view = role && doc.views_manager?.find_one(model);
    if (!view?.el) continue;
    const name = nameOf(model, say);
    view.el.setAttribute("role", role);
    view.el.setAttribute("aria-label", name);
    // Tab stops within: at the canvas that takes the events of a figure, at the panes of a table
    for (const stop of stops(view.el)) {
      const called = stop.title || stop.getAttribute("aria-label");
      if (called && called !== stop.dataset.grulensName) continue; // by itself: a tool, a slider
      const part = stop.matches(".slick-pane-header") ? say(": heads") : say(": rows");
      const own = name + (role === "group" ? part : "");
      if (!stop.hasAttribute("role")) stop.setAttribute("role", "group");
      stop.setAttribute("aria-label", own);
      stop.dataset.grulensName = own;
    }
  }
}

function* stops(el) {
  for (const one of el.shadowRoot?.querySelectorAll("*") ?? []) {
    if (one.getAttribute("tabindex") === "0") yield one;
    yield* stops(one);
  }
}

// ---- one view

// A table takes the focus when its rows are drawn anew, from whichever slider the person is at. So
// for a moment after a patch it comes into a table only by a person's own key or pointer.
function keepFocusElsewhere(view) {
  const STOLEN = 500; // ms after a patch
  let acted = -Infinity;
  for (const kind of ["keydown", "pointerdown"]) {
    window.addEventListener(kind, (event) => {
      if (kind === "pointerdown" ? view.host.contains(event.target) : event.key === "Tab")
        acted = performance.now();
    }, { capture: true, signal: view.ended.signal });
  }
  view.host.addEventListener("focusin", (event) => {
    if (view.doc && !view.host.contains(event.relatedTarget)) nameParts(view.doc, view.say); // a new table is in
    const from = event.relatedTarget, now = performance.now();
    const table = event.composedPath().some((el) => el.classList?.contains("bk-DataTable"));
    if (!table || !from?.isConnected || view.host.contains(from)) return;
    if (now - view.patched < STOLEN && now - acted > STOLEN) from.focus({ preventScroll: true });
  });
}

// Tab goes on to the next control. The table itself would take it from cell to cell through all of
// its rows, choosing each on the way; within it the arrow keys do that.
function letTabLeaveTables(view) {
  view.host.addEventListener("keydown", (event) => {
    if (event.key !== "Tab") return;
    if (event.composedPath().some((el) => el.classList?.contains("bk-DataTable"))) {
      event.stopPropagation();
    }
  }, { capture: true });
}

function* plots(view) {
  for (const model of view.doc?.all_models ?? []) {
    const plot = model.type === "Figure" && view.doc.views_manager?.find_one(model);
    if (plot?.canvas) yield plot;
  }
}

// a person zooms with two fingers: plots may need more, or fewer, pixels
function followZoom(view) {
  window.visualViewport?.addEventListener("resize", () => {
    for (const plot of plots(view)) if (plot.canvas.resize()) plot.request_repaint();
  }, { signal: view.ended.signal });
}

// Where there is no room for a plot of a fixed size, it is smaller, and its axes alike.
function fitFixed(view) {
  const room = view.host.clientWidth;
  for (const { model, el, frame } of room ? plots(view) : []) {
    if (!model.frame_width) continue;
    if (!view.full.has(model)) view.full.set(model, [model.frame_width, model.frame_height]);
    const [wide, high] = view.full.get(model);
    const width = Math.round(Math.min(wide, room - (el.offsetWidth - frame.bbox.width)));
    if (width < 1 || width === model.frame_width) continue;
    model.setv({ frame_width: width, frame_height: Math.round(high * width / wide) }, { sync: false });
  }
}

// While the window, or a panel beside, changes the width of the page, BokehJS 3.9 asks for the room
// of a plot's tools before the plot is laid out anew: they hide, and the edge of the last width
// stays. So it is painted once more when the width has settled.
function followWidth(view) {
  let width, frame;
  const observer = new ResizeObserver(([{ contentRect }]) => {
    if (!contentRect.width || width === contentRect.width) return; // hidden, or as it was seen last
    width = contentRect.width;
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => {
      fitFixed(view);
      frame = requestAnimationFrame(() => {
        for (const plot of plots(view)) {
          plot.canvas.resize();
          plot.request_repaint();
        }
      });
    });
  });
  observer.observe(view.host);
  view.ended.signal.addEventListener("abort", () => {
    observer.disconnect();
    cancelAnimationFrame(frame);
  });
}

class View {
  constructor(model, el) {
    this.model = model;
    this.say = (text, values = {}) => (model.get("words")?.[text] ?? text)
      .replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
    this.el = el;
    this.id = crypto.getRandomValues(new Uint32Array(4)).join("-");
    this.host = document.createElement("div");
    this.host.className = "grulens-bokeh";
    this.ended = new AbortController();
    keepFocusElsewhere(this);
    letTabLeaveTables(this);
    followZoom(this);
    followWidth(this);
    this.full = new WeakMap(); // plot of a fixed size -> its full width and height
    this.gone = false;
    this.turn = Promise.resolve(); // messages are handled in order, though loading takes time
    this.outbox = new Outbox((events) => this.sendPatch(events));
    this.changed = (event) => this.outbox.add(event);
    el.classList.add("grulens");
    el.appendChild(this.host);
  }

  received(message, buffers) {
    if (message.kind === "js") return page.arrived.get(message.part)?.(bytes(buffers[0]));
    if (message.kind === "ack") {
      if (message.view === this.id) this.outbox.acknowledge();
      return;
    }
    this.turn = this.turn.then(() => this.handle(message, buffers)).catch((error) => {
      console.error(error);
      showError(this.el, { title: String(error), traceback: error.stack ?? "" });
    });
  }

  async handle(message, buffers) {
    if (this.gone) return;
    const { kind } = message;
    if (kind === "error") showError(this.el, message);
    else if (kind === "draw") await sendFigures(this, message);
    else if (kind === "file") {
      if (message.view !== this.id) return;
      download(new Blob([bytes(buffers[0])], { type: "text/csv" }), fileName([message.name], "csv"));
    }
    else if (kind === "doc" && message.view === this.id) await this.open(message, buffers);
    else if (kind === "patch" && message.skip !== this.id && this.doc) {
      await this.apply(message, buffers);
    }
  }

  async loaded(parts) {
    for (const part of parts) await load(this.model, part);
    return page.scope.Bokeh;
  }

  async open(message, buffers) {
    this.bokeh = await this.loaded(message.parts);
    if (this.gone) return;
    this.dispose();
    const { Document } = this.bokeh.require("document");
    const content = JSON.parse(message.content);
    this.doc = Document.from_json(content, undefined, byId(message.ids, buffers));
    sayings.set(this.doc, this.say);
    paint(this.doc);
    this.doc.on_change(this.changed, true);
    this.views = await this.bokeh.embed.add_document_standalone(this.doc, this.host);
    if (this.gone) return this.dispose();
    fitFixed(this);
    nameParts(this.doc, this.say);
    showSaving(this);
  }

  async apply(message, buffers) {
    await this.loaded(message.parts);
    // rows of a table take longer than a picture, and a person looks at the picture
    if ([...(this.doc?.all_models ?? [])].some(isTable)) await pause();
    if (this.gone || !this.doc) return;
    const patch = JSON.parse(message.content);
    this.patched = performance.now();
    this.doc.apply_json_patch(patch, byId(message.ids, buffers));
    if (message.content.includes('"type":"object"')) paint(this.doc); // models that are new here
    redrawTables(this.doc, patch.events);
    if (message.content.includes('"attr":"text"')) nameParts(this.doc, this.say); // a title is another
    this.unsettle();
  }

  unsettle() {
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.tell({ kind: "settled" }), SETTLED);
  }

  // false when the kernel is gone
  tell(message, buffers = []) {
    try {
      this.model.send({ view: this.id, ...message }, undefined, buffers);
      return true;
    } catch {
      return false;
    }
  }

  sendPatch(events) {
    if (!this.doc) return;
    const patch = this.doc.create_json_patch(events);
    const buffers = [];
    const content = JSON.stringify(patch, (_, value) => {
      if (typeof value?.to_base64 !== "function") return value;
      buffers.push(value.buffer);
      return { id: String(buffers.length - 1) };
    });
    if (this.tell({ kind: "patch", content }, buffers)) this.unsettle();
    else showError(this.el, { title: this.say("The kernel is gone: run the cell again."), traceback: "" });
  }

  dispose() {
    if (!this.doc) return;
    this.doc.remove_on_change(this.changed);
    this.views?.clear();
    this.doc.clear({ sync: false });
    const at = this.bokeh.documents.indexOf(this.doc);
    if (at >= 0) this.bokeh.documents.splice(at, 1);
    this.doc = this.views = undefined;
    this.host.replaceChildren();
  }

  close() {
    this.gone = true;
    this.ended.abort();
    this.watching?.disconnect();
    clearTimeout(this.settling);
    this.outbox.close();
    this.dispose();
    this.tell({ kind: "gone" });
  }
}

function render({ model, el }) {
  const view = new View(model, el);
  const received = (message, buffers) => view.received(message, buffers);
  const forget = onThemeChange(() => {
    if (!view.doc) return;
    wipe(view.host);
    paint(view.doc);
  });
  const offered = () => view.doc && showSaving(view);
  model.on("msg:custom", received);
  model.on("change:offers", offered);
  model.send({ kind: "open", view: view.id });
  return () => {
    forget();
    model.off("msg:custom", received);
    model.off("change:offers", offered);
    view.close();
  };
}

export default heard({ render });
