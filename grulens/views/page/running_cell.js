/* The cell, close up: what each input, each unit of the state before and each bias adds to every
   pre-activation of one unit at one step, the largest first, and the state that comes of them. */
"use strict";
function grulensCell({parts, signals, before, colors, named, number}) {
  const SHOWN = 6;

  // the largest parts by name, and the sum of all others
  function largest({inputs, units, biases, shift}) {
    const all = [
      ...Array.from(inputs, (value, j) => [named(j), value]),
      ...Array.from(units, (value, u) => [say("unit {unit}", {unit: u}), value]),
      [say("bias"), biases[0] + biases[1]],
    ].filter(([, value]) => value !== 0);
    all.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
    const rest = all.slice(SHOWN);
    const shown = all.slice(0, SHOWN);
    if (shift) shown.unshift([say("an edit"), shift]);
    if (rest.length) shown.push([say("{n} others", {n: rest.length}), rest.reduce((sum, [, value]) => sum + value, 0)]);
    return shown;
  }

  function card(part) {
    const signal = signals.find((one) => one.name === part.name), box = grulensMade("div", "sum", "");
    const title = grulensMade("p", "", `${signal.title} `);
    const mark = grulensMade("strong", "", number(part.signal));
    title.style.setProperty("--accent", colors[signal.role].accent);
    const told = {value: number(part.value)};
    title.append(mark, grulensMade("span", "quiet", (part.edited ? say(" from {value}, then an edit", told) : say(" from {value}", told))));
    const list = largest(part), most = Math.max(1e-9, ...list.map(([, value]) => Math.abs(value)));
    const rows = grulensMade("div", "parts", "");
    for (const [name, value] of list) {
      const track = grulensMade("span", "track", ""), bar = grulensMade("span", value < 0 ? "against" : "for", "");
      bar.style.width = `${50 * Math.abs(value) / most}%`;
      bar.style[value < 0 ? "right" : "left"] = "50%";
      track.append(bar);
      rows.append(grulensMade("span", "label", name), track, grulensMade("span", "numbers", number(value)));
    }
    box.append(title, rows);
    return box;
  }

  // the cell's last lines with their numbers
  function equations() {
    const s = Object.fromEntries(signals.map(({name}) => [name, before.signals[name]]));
    const n = (value) => (value < 0 ? `(${number(value)})` : number(value));
    const held = (name) => (before.edited[name] ? say(", after an edit {value}", {value: number(s[name])}) : "");
    const by = (value, name) => `${number(value)}${held(name)}`;
    if ("z" in s) {
      const h = (1 - s.z) * s.n + s.z * before.h;
      return [`h = (1 \u2212 z) n + z h\u208b = (1 \u2212 ${n(s.z)}) \u00d7 ${n(s.n)} + ${n(s.z)} \u00d7 ${n(before.h)} = ${by(h, "h")}`];
    }
    if ("c" in s) {
      const c = s.f * before.c + s.i * s.g;
      return [`c = f c\u208b + i g = ${n(s.f)} \u00d7 ${n(before.c)} + ${n(s.i)} \u00d7 ${n(s.g)} = ${by(c, "c")}`,
        `h = o tanh(c) = ${n(s.o)} \u00d7 tanh(${number(s.c)}) = ${by(s.o * Math.tanh(s.c), "h")}`];
    }
    const of = {h: number(s.h), a: number(s.a)};
    return [before.edited.h ? say("h = {h}, after an edit, of a = {a}", of) : say("h = {h}, of a = {a}", of)];
  }

  const cards = grulensMade("div", "sums", "");
  cards.append(...parts.map(card));
  return [cards, ...equations().map((line) => grulensMade("p", "equation", line))];
}
