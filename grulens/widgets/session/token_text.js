// Tokens as a text that wraps, coloured by a byte each. A click or a drag chooses steps, the arrow
// keys walk over them, and a word can be sought. All text is text, never HTML.

// so many tokens are laid out together: what is far from the window costs nothing
const [FEW, MANY] = [400, 2000];
const EDGE = 14; // px from the top or bottom at which a drag scrolls

function made(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function bytes(view) {
  return view ? new Uint8Array(view.buffer, view.byteOffset, view.byteLength) : new Uint8Array();
}

function render({ model, el }) {
  el.classList.add("grulens", "grulens-text");
  const say = (text, values = {}) => (model.get("words")?.[text] ?? text)
    .replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
  const head = made("div", "grulens-text-head");
  const name = made("span"), low = made("span"), bar = made("span", "grulens-text-bar"), high = made("span");
  const scale = made("span");
  scale.append(low, bar, high);
  const seek = made("label", "grulens-text-find");
  const find = made("input");
  find.type = "search";
  find.placeholder = say("search");
  find.setAttribute("aria-label", say("search the text"));
  const count = made("span");
  count.setAttribute("role", "status");
  seek.append(count, find);
  head.append(name, scale, seek);
  const body = made("div", "grulens-text-body");
  body.tabIndex = 0;
  body.setAttribute("role", "listbox");
  body.setAttribute("aria-multiselectable", "true");
  body.setAttribute("aria-label", say("steps: click or drag to choose, arrow keys to walk, escape for all"));
  el.replaceChildren(head, body);

  const id = `grulens-${Math.random().toString(36).slice(2)}`;
  let spans = [], codes = new Uint8Array(), values = new Float32Array();
  let painted = { palette: null, codes: [] };
  let cursor = 0, anchor = 0, drag = null, scrolling = 0, found = [], at = -1;

  let written;

  // a second text under the first, step by step, where there is one
  const second = () => (model.get("under")?.texts ? model.get("under") : null);

  function ink(element, code, { palette }, white) {
    const color = code === undefined ? "" : palette[code];
    const blank = !color || color.endsWith("00") && color.length === 9;
    element.style.background = blank ? "" : color;
    element.style.color = blank ? "" : white[code] ? "#fff" : "#000";
  }

  function write() {
    const { texts, spaced, rtl } = model.get("tokens");
    written = second()?.texts;
    body.classList.toggle("grulens-text-words", spaced);
    body.dir = rtl ? "rtl" : "ltr";
    spans = texts.map((text, i) => {
      const below = second()?.texts;
      const span = made("span", below ? "grulens-pair" : "", below ? undefined : text);
      if (below) span.append(made("span", "", text), made("span", "", below[i]));
      span.dataset.i = i;
      span.setAttribute("role", "option");
      if (!text.trim()) span.setAttribute("aria-label", say("space"));
      return span;
    });
    const blocks = [];
    let block = made("div");
    block.setAttribute("role", "presentation");
    spans.forEach((span, i) => {
      block.append(span);
      const ends = texts[i].endsWith("\u23ce") || second()?.texts[i]?.endsWith("\u23ce");
      if (ends) block.append(made("br"));
      if ((ends && block.childNodes.length > FEW) || block.childNodes.length > MANY || i + 1 === spans.length) {
        blocks.push(block);
        block = made("div");
        block.setAttribute("role", "presentation");
      }
    });
    body.replaceChildren(...blocks);
    painted = { palette: null, codes: [] };
    [cursor, anchor, drag] = [0, 0, null];
    paint();
    mark();
    seekFor();
  }

  function paint() {
    const now = model.get("painted");
    if (!now?.palette) return;
    codes = bytes(now.codes);
    const held = bytes(now.values);
    values = new Float32Array(held.slice().buffer);
    const white = bytes(now.white);
    const same = painted.palette === now.palette.join();
    const below = second() && bytes(second().codes);
    spans.forEach((span, i) => {
      if (below) {
        ink(span.children[0], codes[i], now, white);
        ink(span.children[1], below[i], now, white);
      } else if (!same || painted.codes[i] !== codes[i]) ink(span, codes[i], now, white);
    });
    painted = { palette: now.palette.join(), codes };
    const stops = [0, 42, 84, 126, 168, 210, 252].map((i) => now.palette[i]);
    bar.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
    name.textContent = now.name;
    [low.textContent, high.textContent] = now.ends;
  }

  function mark() {
    const chosen = drag ? [[Math.min(...drag), Math.max(...drag)]] : model.get("times");
    const on = new Set();
    for (const [first, last] of chosen) for (let i = first; i <= last; i++) on.add(i);
    const step = model.get("step");
    spans.forEach((span, i) => {
      if (span.classList.contains("grulens-chosen") !== on.has(i)) {
        span.classList.toggle("grulens-chosen", on.has(i));
        span.setAttribute("aria-selected", String(on.has(i)));
      }
      if (span.classList.contains("grulens-now") !== (i === step)) span.classList.toggle("grulens-now", i === step);
    });
  }

  // The notebook must not scroll along. Lines that were never in sight have guessed heights until
  // they are scrolled to, so the place is looked at again.
  let sought = null;
  function show(i, frames = 10) {
    sought = i;
    const box = body.getBoundingClientRect(), one = spans[i]?.getBoundingClientRect();
    if (!one) return;
    if (one.top < box.top + 4) body.scrollTop -= box.top + 4 - one.top;
    else if (one.bottom > box.bottom - 4) body.scrollTop += one.bottom - box.bottom + 4;
    else return;
    if (frames) requestAnimationFrame(() => { if (sought === i) show(i, frames - 1); });
  }

  function step() {
    mark();
    const now = model.get("step");
    if (now >= 0 && !drag) show(now);
  }

  function choose(ends, toggle) {
    model.send({ kind: "times", ends, toggle: Boolean(toggle) });
  }

  function under(event) {
    const one = body.getRootNode().elementFromPoint(event.clientX, event.clientY)?.closest?.("[data-i]");
    return one && body.contains(one) ? Number(one.dataset.i) : null;
  }

  function stand(at) {
    spans[cursor]?.classList.remove("grulens-cursor");
    cursor = at;
  }

  function go(to) {
    stand(Math.max(0, Math.min(spans.length - 1, to)));
    const span = spans[cursor];
    if (!span) return;
    span.classList.toggle("grulens-cursor", body.matches(":focus-visible"));
    span.id = `${id}-${cursor}`;
    body.setAttribute("aria-activedescendant", span.id);
    show(cursor);
  }

  // the token over or under this one
  function line(way) {
    const here = spans[cursor].getBoundingClientRect();
    const middle = here.left + here.width / 2;
    let best = null, far = Infinity, row = null;
    for (let i = cursor + way; i >= 0 && i < spans.length; i += way) {
      const one = spans[i].getBoundingClientRect();
      if (Math.abs(one.top - here.top) < 8) continue;
      row ??= one.top;
      if (Math.abs(one.top - row) >= 8) break;
      const apart = Math.abs(one.left + one.width / 2 - middle);
      if (apart < far) [best, far] = [i, apart];
    }
    return best ?? cursor;
  }

  const digits = (held, kept, i) => i < held.length && kept[i] < 254 ? held[i].toPrecision(4).replace("-", "\u2212") : "";
  function told(i) {
    const one = digits(values, codes, i), below = second();
    if (!below) return one ? say("step {i}: {value}", { i, value: one }) : say("step {i}", { i });
    const other = digits(new Float32Array(bytes(below.values).slice().buffer), bytes(below.codes), i);
    return say("{one} over {other}", { one: one || say("no step"), other: other || say("no step") });
  }

  body.addEventListener("pointerdown", (event) => {
    const i = under(event);
    if (i === null || event.button) return;
    event.preventDefault();
    stand(i);
    anchor = i;
    body.focus({ preventScroll: true });
    spans[i].classList.remove("grulens-cursor");
    body.setPointerCapture(event.pointerId);
    drag = [i, i];
    mark();
  });
  body.addEventListener("pointermove", (event) => {
    if (!drag) {
      const i = under(event);
      if (i !== null) spans[i].title = told(i);
      return;
    }
    const box = body.getBoundingClientRect();
    clearInterval(scrolling);
    const way = event.clientY < box.top + EDGE ? -1 : event.clientY > box.bottom - EDGE ? 1 : 0;
    if (way) scrolling = setInterval(() => { body.scrollTop += 8 * way; }, 30);
    const i = under(event);
    if (i === null || i === drag[1]) return;
    drag[1] = i;
    mark();
  });
  const ended = (event) => {
    clearInterval(scrolling);
    if (!drag) return;
    const ends = drag;
    drag = null;
    stand(ends[1]);
    if (event.type === "pointerup") choose(ends, event.shiftKey || event.ctrlKey || event.metaKey);
    else mark();
  };
  body.addEventListener("pointerup", ended);
  body.addEventListener("pointercancel", ended);
  body.addEventListener("dblclick", () => choose(null));
  body.addEventListener("blur", () => spans[cursor]?.classList.remove("grulens-cursor"));
  body.addEventListener("focus", () => go(cursor));
  body.addEventListener("keydown", (event) => {
    if (!spans.length || event.ctrlKey && event.key !== " " || event.altKey || event.metaKey) return;
    const forth = body.dir === "rtl" ? -1 : 1;
    const to = {
      ArrowLeft: () => cursor - forth, ArrowRight: () => cursor + forth, ArrowUp: () => line(-1),
      ArrowDown: () => line(1), Home: () => 0, End: () => spans.length - 1,
    }[event.key];
    if (to) {
      go(to());
      if (!event.shiftKey) anchor = cursor;
      choose([anchor, cursor]);
    } else if (event.key === "Enter" || event.key === " ") {
      anchor = cursor;
      choose([cursor, cursor], event.ctrlKey);
    } else if (event.key === "Escape") choose(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  // the first Enter chooses what is shown, the next ones go on
  function seekFor(way = 0, take = false) {
    const { plain, spaced } = model.get("tokens");
    const wanted = find.value.toLowerCase();
    for (const [first, last] of found) for (let i = first; i <= last; i++) spans[i]?.classList.remove("grulens-found");
    found = [];
    if (!wanted) {
      count.textContent = "";
      return;
    }
    const starts = [];
    let text = "";
    for (const token of plain) {
      starts.push(text.length);
      text += token.toLowerCase() + (spaced ? " " : "");
    }
    let token = 0;
    for (let i = text.indexOf(wanted); i >= 0; i = text.indexOf(wanted, i + wanted.length)) {
      while (token + 1 < starts.length && starts[token + 1] <= i) token++;
      let last = token;
      while (last + 1 < starts.length && starts[last + 1] < i + wanted.length) last++;
      found.push([token, last]);
    }
    for (const [first, last] of found) for (let i = first; i <= last; i++) spans[i].classList.add("grulens-found");
    at = found.length ? ((Math.max(at, 0) + way) % found.length + found.length) % found.length : -1;
    count.textContent = found.length ? say("{n} of {all}", { n: at + 1, all: found.length }) : say("not found");
    if (found.length) {
      show(found[at][0]);
      if (take) choose(found[at]);
    }
  }
  let taken = false;
  find.addEventListener("input", () => {
    [taken, at] = [false, -1];
    seekFor();
  });
  find.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key !== "Enter") return;
    seekFor(!taken ? 0 : event.shiftKey ? -1 : 1, true);
    taken = true;
  });

  model.on("change:tokens", write);
  model.on("change:painted", paint);
  const lower = () => (second()?.texts.join("\0") === written?.join("\0") ? paint : write)();
  model.on("change:under", lower);
  model.on("change:times", mark);
  model.on("change:step", step);
  write();
  return () => {
    clearInterval(scrolling);
    model.off("change:tokens", write);
    model.off("change:painted", paint);
    model.off("change:under", lower);
    model.off("change:times", mark);
    model.off("change:step", step);
  };
}

export default heard({ render });
