// Places of a corpus, a line each: what was read there on the colours of a unit's values, or the
// values as a curve. Bars under a step say which labels hold at it. All text is text, never HTML.

const SVG = "http://www.w3.org/2000/svg";
// the strip of a unit's values ends so far over the first bar: both may be white, or black
const [WIDE, HIGH, STRIP, TRACK, GAP] = [640, 44, 9, 4, 3];
// bars stand on the page, and not on a step's ground, whose ink may be the page's own colour
const BAR = "var(--jp-content-font-color1, #222)";
// so many labels are named beside a line, the others when one points there
const NAMED = 3;

function made(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function drawn(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// on a light page and on a dark one: the sheet takes what the theme is
function looking(element, line, step) {
  const [ground, ink, darkGround, darkInk] = line.looks[line.look[step]] ?? [];
  if (!ground) return;
  element.classList.add("grulens-context-ground");
  for (const [name, value] of Object.entries({ ground, ink, "dark-ground": darkGround, "dark-ink": darkInk })) {
    element.style.setProperty(`--grulens-${name}`, value);
  }
}

function tokens(line) {
  const box = made("span", "grulens-context-text");
  box.classList.toggle("grulens-context-words", line.spaced);
  line.tokens.forEach((text, step) => {
    const token = made("span", line.inside[step] ? "" : "grulens-context-beside", text);
    token.title = line.tips[step];
    looking(token, line, step);
    // bar k belongs to label k of the legend, whichever of them hold
    const bars = line.holds[step] ?? [];
    token.style.boxShadow = bars
      .map((on, k) => `0 ${3 * k + 3}px 0 -0.5px ${on ? BAR : "var(--jp-layout-color0, #fff)"}`)
      .slice(0, bars.lastIndexOf(true) + 1)
      .join(", ");
    box.appendChild(token);
  });
  return box;
}

function curves(line) {
  const tracks = line.holds[0]?.length ?? 0;
  const high = HIGH + (tracks ? GAP + TRACK * tracks : 0);
  const box = drawn("svg", {
    viewBox: `0 0 ${WIDE} ${high}`, preserveAspectRatio: "none", role: "img",
    class: "grulens-context-curve", "aria-label": line.about,
  });
  box.style.height = `${high}px`;
  const [least, most] = line.ends;
  const foot = HIGH - 2 - (line.look.length ? STRIP : 0);
  const y = (value) => foot - ((value - least) / (most - least || 1)) * (foot - 2);
  const many = Math.max(1, ...line.curves.map((curve) => curve.values.length));
  const [from, to] = line.place;
  box.appendChild(drawn("rect", {
    x: (from / many) * WIDE, width: Math.max(2, ((to - from) / many) * WIDE), y: 0, height: HIGH,
    fill: "currentColor", "fill-opacity": 0.08,
  }));
  if (least <= 0 && most >= 0) {
    box.appendChild(drawn("line", { x1: 0, x2: WIDE, y1: y(0), y2: y(0), stroke: "currentColor", "stroke-opacity": 0.3 }));
  }
  // the values of the unit, as the ground of a text has them
  line.look.forEach((_, step) => {
    const [x, width] = [(step / many) * WIDE, WIDE / many + 0.5];
    const strip = drawn("rect", { x, width, y: HIGH - STRIP, height: STRIP, fill: "none" });
    looking(strip, line, step);
    box.appendChild(strip);
  });
  // bar k belongs to label k of the legend: a stretch of steps at which it holds
  for (let k = 0; k < tracks; k++) {
    line.holds.forEach((bars, step) => {
      if (!bars[k]) return;
      const wide = WIDE / line.holds.length;
      box.appendChild(drawn("rect", {
        x: step * wide, width: wide + 0.5, y: HIGH + GAP + TRACK * k, height: TRACK - 1, fill: "currentColor",
      }));
    });
  }
  for (const { values, color } of line.curves) {
    const wide = WIDE / many;
    const path = values.map((v, i) => `${i ? "L" : "M"}${i * wide} ${y(v)}H${(i + 1) * wide}`).join("");
    box.appendChild(drawn("path", { d: path, fill: "none", stroke: color, "stroke-width": 1.5, "vector-effect": "non-scaling-stroke" }));
  }
  return box;
}

// A list that is longer than its place ends below a whole line; its foot says how many follow.
function fit(list, foot, say) {
  list.style.maxHeight = "";
  const room = list.clientHeight;
  const ends = [...list.children].map((item) => item.offsetTop + item.offsetHeight);
  const whole = ends.filter((end) => end <= room + 1);
  if (whole.length && whole.length < ends.length) list.style.maxHeight = `${whole.at(-1)}px`;
  const tell = () => {
    const seen = list.scrollTop + list.clientHeight + 1;
    const below = ends.filter((end) => end > seen).length;
    foot.textContent = below ? `\u2193 ${say("{n} more: scroll.", { n: below })} ` : "";
  };
  list.onscroll = tell;
  tell();
}

function render({ model, el }) {
  let shown; // the list that stands there, and its foot
  const say = (text, values = {}) => (model.get("words")?.[text] ?? text)
    .replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
  const resized = new ResizeObserver(() => shown && fit(...shown));
  el.classList.add("grulens", "grulens-contexts");
  const draw = () => {
    const buttons = () => [...el.querySelectorAll("button")];
    const focused = buttons().indexOf(document.activeElement);
    const { lines, tracks, under, inputs, said, opens } = model.get("shown");
    const list = made("div", "grulens-context-list");
    list.setAttribute("role", "list");
    list.setAttribute("aria-label", model.get("name"));
    lines.forEach((line, number) => {
      const item = made("div", "grulens-context");
      item.setAttribute("role", "listitem");
      const open = made("button", "lm-Widget jupyter-widgets jupyter-button widget-button", line.name);
      const here = opens && !line.closed;
      open.disabled = !here;
      const why = line.closed ? `${line.about}: ${line.closed}` : line.about;
      open.title = here ? say("{place}: open in a lens", { place: line.about }) : why;
      open.setAttribute("aria-label", here
        ? say("open {place}, {name}", { place: line.about, name: line.name }) : `${line.about}, ${line.name}`);
      const what = line.tokens ? tokens(line) : curves(line);
      const chosen = () => {
        if (!here) return;
        for (const other of buttons()) other.classList.toggle("grulens-pressed", other === open);
        model.send({ kind: "open", line: number });
      };
      open.addEventListener("click", chosen);
      what.addEventListener("click", chosen);
      if (here) what.classList.add("grulens-context-opens");
      const more = line.labels.length - NAMED;
      const named = line.labels.slice(0, NAMED).join(", ");
      const some = more > 0 ? say("{named} and {n} more", { named, n: more }) : named;
      const labels = made("span", "grulens-quiet grulens-context-labels", some);
      labels.title = line.labels.join(", ");
      item.append(open, what, labels);
      list.appendChild(item);
    });
    const words = made("div", "grulens-quiet", said);
    words.setAttribute("role", "status");
    const legend = made("div", "grulens-quiet");
    shown = [list, made("span"), say];
    legend.append(shown[1]);
    if (inputs.length) legend.append(say("numbers of the input:"));
    for (const { name, color } of inputs) {
      const dash = made("span", "", " \u2501 ");
      dash.style.color = color;
      legend.append(dash, name);
    }
    if (inputs.length && tracks.length) legend.append(" \u00b7 ");
    if (tracks.length) {
      const names = tracks.join(", ");
      legend.append(say("bars under the {what}, from the top: {names}", { what: under, names }));
    };
    el.replaceChildren(words, list, legend);
    fit(...shown);
    if (focused >= 0) buttons()[Math.min(focused, lines.length - 1)]?.focus();
  };
  const age = () => {
    const old = model.get("old");
    el.classList.toggle("grulens-contexts-old", old);
    if (old) el.querySelector(".grulens-pressed")?.classList.remove("grulens-pressed");
  };
  model.on("change:shown", draw);
  model.on("change:old", age);
  draw();
  age();
  resized.observe(el);
  return () => {
    resized.disconnect();
    model.off("change:shown", draw);
    model.off("change:old", age);
  };
}

export default heard({ render });
