/* The cell as a drawing: what comes in on the left, the gates, the candidate, the new state on the right.

   Every box has the number of the unit that is looked at, and a bar for each unit. A way behind a
   product is as thick as what the gate lets through. */
"use strict";
function grulensCellDrawing(accents) {
  const SVG = "http://www.w3.org/2000/svg", WIDE = 100, TALL = 58, THICK = 8;
  const AT = {before: [2, 16], z: [122, 112], h: [298, 16], x: [2, 226], r: [122, 226], n: [298, 226]};
  const made = (name, set, parent, text = null) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(set)) element.setAttribute(key, value);
    if (text !== null) element.textContent = text;
    parent.append(element);
    return element;
  };
  const root = document.createElementNS(SVG, "svg");
  root.setAttribute("viewBox", "0 0 400 332");
  root.setAttribute("role", "img");
  root.setAttribute("class", "drawn");
  const way = (path, of, thick = 2) => made("path", {d: path, fill: "none", stroke: accents[of], "stroke-width": thick, "stroke-linejoin": "round"}, root);
  const dot = (x, y, of) => made("circle", {cx: x, cy: y, r: 3, fill: accents[of]}, root);
  const note = (x, y, anchor, name) => made("text", {x, y, "text-anchor": anchor, class: name}, root, "");

  // the state: straight on to what is kept of it, and down to whatever reads it
  way("M102 45H161", "h");
  way("M114 45V308H260V266M114 132H122M114 246H122", "h", 1.5);
  dot(114, 45, "h");
  dot(114, 132, "h");
  dot(114, 246, "h");
  // the input
  way("M102 264H122M108 264V150H122M48 284V322H348V284", "x", 1.5);
  dot(108, 264, "x");
  // gates to their products
  way("M172 112V56", "z");
  way("M222 141H249", "z");
  way("M222 255H249", "r");
  way("M348 226V141H271", "n");
  const kept = way("M183 45H249", "h"), taken = way("M260 130V56", "n"), read = way("M271 255H298", "h");
  way("M271 45H298", "h", 3);
  for (const [x, y, sign] of [[172, 45, "\u00d7"], [260, 45, "+"], [260, 141, "\u00d7"], [260, 255, "\u00d7"]]) {
    made("circle", {cx: x, cy: y, r: 11, class: "node"}, root);
    made("text", {x, y: y + 5, "text-anchor": "middle", class: "sign"}, root, sign);
  }
  const notes = {
    keeps: note(216, 19, "middle", "by"), kept: note(216, 33, "middle", "size"),
    takes: note(271, 95, "start", "by"), taken: note(271, 112, "start", "size"),
    rest: note(260, 170, "middle", "by"),
  };
  const boxes = Object.fromEntries(Object.entries(AT).map(([name, [x, y]]) => {
    const box = made("g", {}, root), accent = accents[name === "before" ? "h" : name];
    made("rect", {x, y, width: WIDE, height: TALL, rx: 6, class: "ground"}, box);
    made("rect", {x, y, width: WIDE, height: TALL, rx: 6, fill: accent, "fill-opacity": 0.14, stroke: accent, "stroke-width": 1.5}, box);
    const hand = made("rect", {x: x - 3, y: y - 3, width: WIDE + 6, height: TALL + 6, rx: 8, fill: "none", stroke: accent, "stroke-width": 3, "stroke-dasharray": "5 3"}, box);
    hand.style.display = "none";
    return [name, {
      hand, accent, x, y, title: made("text", {x: x + 7, y: y + 17, class: "title"}, box, ""),
      value: made("text", {x: x + 7, y: y + 43, class: "value"}, box, ""), bars: made("g", {}, box),
    }];
  }));

  // a bar for each unit, from zero; that of the unit looked at has its full colour
  function bars({bars: group, accent, x, y}, values, low, chosen) {
    group.replaceChildren();
    const tall = 30, pitch = Math.min(9, 36 / values.length), from = x + WIDE - 5 - pitch * values.length, top = y + 23;
    const at = (value) => top + tall * (1 - (Math.min(1, Math.max(low, value)) - low) / (1 - low));
    made("rect", {x: from - 1, y: at(0) - 0.5, width: pitch * values.length + 1, height: 1, fill: accent}, group);
    values.forEach((value, u) => {
      const [a, b] = [at(Math.max(0, value)), at(Math.min(0, value))];
      made("rect", {x: from + u * pitch, y: a, width: pitch - 2, height: Math.max(0.75, b - a), fill: accent, "fill-opacity": u === chosen ? 1 : 0.35}, group);
    });
  }

  /* Shows a step: `values` has (unit,) of before, r, z, n and h, `numbers` those of the unit looked at
     as texts; `texts` says what the boxes are called and what x is, `held` the signals that a hand holds. */
  root.show = ({values, numbers, chosen, texts, held, number, label}) => {
    const of = (name) => values[name][chosen];
    for (const [name, box] of Object.entries(boxes)) {
      box.title.textContent = texts.titles[name];
      box.hand.style.display = held.includes(name) ? "" : "none";
      if (name === "x") continue;
      box.value.textContent = numbers[name];
      bars(box, values[name], name === "r" || name === "z" ? 0 : -1, chosen);
    }
    boxes.x.value.textContent = texts.x;
    boxes.x.value.setAttribute("class", [...texts.x].length > 7 ? "value small" : "value");
    const z = of("z");
    kept.setAttribute("stroke-width", 0.75 + THICK * z);
    taken.setAttribute("stroke-width", 0.75 + THICK * (1 - z));
    read.setAttribute("stroke-width", 0.75 + THICK * of("r"));
    notes.keeps.textContent = "z \u00b7 h\u208b";
    notes.kept.textContent = number(z * of("before"));
    notes.takes.textContent = "(1 \u2212 z) \u00b7 n";
    notes.taken.textContent = number((1 - z) * of("n"));
    notes.rest.textContent = "1 \u2212 z";
    root.setAttribute("aria-label", label);
  };
  return root;
}
