/* A cell that one steps through: it reads a short sequence, and every number is there to be seen.

   `data` is that of the page that runs (grulens/widgets/session/told.py), and `data.cell` what this
   page needs beside it. The engine makes the runs; a held gate is an edit of one unit at all steps. */
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("grulens-data").textContent);
  const network = new grulensEngine.Network(data.network, grulensEngine.unpacked(data.arrays));
  const main = document.getElementById("grulens-main"), page = document.documentElement;
  const {layer: name, units: shown, words, about} = data.cell;
  // by their English words, which are looked up in whatever language is spoken
  const signals = data.layers[name].signals.map((one) => ({...one, words: data.cell.named[one.name]}));
  const layer = network.layers.find((one) => one.name === name);
  const accents = Object.fromEntries(signals.map((one) => [one.name, data.colors[one.role].accent]));
  accents.x = data.cell.input;
  const HELD = ["r", "z"], head = data.answer;
  const state = {unit: shown[0], at: 0, held: {}, given: data.given, tokens: data.tokens, language: "en"};
  let before = null, after = null;

  // elements and numbers

  const made = grulensMade;
  function button(text, act, set = {}) {
    const element = made("button", "", text, {type: "button", ...set});
    element.addEventListener("click", act);
    return element;
  }
  const minus = (text) => text.replace("-", "\u2212");
  const number = (value, digits = 2) => {
    const text = value.toFixed(digits);
    return minus(Number(text) === 0 ? (0).toFixed(digits) : text);
  };
  // near its ends a gate has one digit more: there it is what is left that counts
  const fine = (share) => (share > 0 && share < 1 && Math.min(share, 1 - share) < 0.0995 ? 1 : 0);
  const gate = (share) => number(share, 2 + fine(share));
  // a share and what it leaves of 100 %, which add up as they are written
  function shares(share) {
    const digits = fine(share);
    const part = Number((100 * share).toFixed(digits));
    const text = (value) => say("{n} %", {n: value.toFixed(digits)});
    return [text(part), text(100 - part)];
  }
  const joined = (texts) => texts.filter(Boolean).join(state.language === "zh" ? "" : " ");
  const seen = (token) => (token.trim() ? token : `\u2018${token}\u2019`);
  const token = (t) => (state.tokens ? seen(state.tokens[t]) : "");
  const called = (t) => (state.tokens ? say("step {t} ({token})", {t, token: token(t)}) : say("step {t}", {t}));

  // runs

  const order = () => Array.from({length: before.steps}, (_, i) => (layer.reverse ? before.steps - 1 - i : i));
  const here = () => order()[state.at];
  const edits = () => Object.entries(state.held).flatMap(([unit, gates]) => Object.entries(gates).map(
    ([signal, value]) => ({layer: name, signal, how: "set", value, units: [Number(unit)], steps: null})));
  function run() {
    const now = edits();
    after = now.length ? network.run(state.given, now, before) : before;
  }
  function begin() {
    before = network.run(state.given);
    run();
    state.at = Math.min(state.at, before.steps - 1);
  }
  const signal = (made_, one, t, u) => made_.layers[name].signals[one][t * layer.units + u];
  // the state before a step
  const held = (made_, t, u) => {
    const at = order().indexOf(t);
    return at > 0 ? signal(made_, "h", order()[at - 1], u) : layer.start ? layer.start[u] : 0;
  };
  // what a gate would be here if the hand let it go, in the run as it is
  function own(one, t, u) {
    const {parts} = network.closeUp(after, name, t, u);
    return layer.gate(parts.find((part) => part.name === one).value);
  }
  // of the state after each step read so far: how much of it is still in the state that is there now
  function left(u) {
    const found = new Map();
    let share = 1;
    for (let i = state.at; i >= 0; i--) {
      found.set(order()[i], share);
      share *= signal(after, "z", order()[i], u);
    }
    return [found, share];
  }

  // answers

  const answers = () => (!head ? 0 : head.each ? before.steps : 1);
  function answer(made_, t) {
    const values = grulensEngine.finished(head.finish, made_.answer.subarray(t * head.read, (t + 1) * head.read));
    const picked = head.pick === null ? values : [values[head.pick]];
    return head.scale === "logits" ? grulensEngine.finished("softmax", picked) : picked;
  }
  // the answer in short, and with its number
  function told(made_, t) {
    const values = answer(made_, t);
    if (head.scale === "value" || values.length === 1) return [number(values[0]), number(values[0])];
    const best = values.indexOf(Math.max(...values));
    return [seen(head.labels[best]), say("{answer} ({share})", {answer: seen(head.labels[best]), share: shares(values[best])[0]})];
  }

  // what happened, in words

  function happened() {
    const t = here(), u = state.unit, said = [];
    const z = signal(after, "z", t, u), r = signal(after, "r", t, u), n = signal(after, "n", t, u);
    const was = held(after, t, u), now = signal(after, "h", t, u), [keep, take] = shares(z);
    const lead = z >= 0.9 ? say("Unit {u} keeps what it held.", {u})
      : z <= 0.1 ? say("Unit {u} writes something new.", {u}) : say("Unit {u} mixes the old with the new.", {u});
    said.push(joined([say("z of unit {u} is {z}: it keeps {keep} of what it held ({was}) and takes {take} of the candidate ({n}).",
      {u, z: gate(z), keep, was: number(was), take, n: number(n)}),
    number(was) === number(now) ? say("So h stays at {now}.", {now: number(now)}) : say("So h goes from {was} to {now}.", {was: number(was), now: number(now)})]));
    const through = {u, r: gate(r), share: shares(r)[0]};
    said.push(joined([layer.reset_after
      ? say("r is {r}: of what the old state adds to the candidate, {share} gets through.", through)
      : say("r is {r}: all candidates see {share} of what unit {u} held.", through),
    1 - z < 0.05 && say("It hardly matters here, where so little of the candidate is taken.")]));
    for (const one of HELD)
      if (state.held[u]?.[one] !== undefined)
        said.push(say("You hold {gate} at {value}; let go, it would be {own} here.",
          {gate: one, value: number(state.held[u][one]), own: gate(own(one, t, u))}));
    if (answers() > 1 || (answers() && state.at === before.steps - 1)) {
      const place = head.each ? t : 0, [short, long] = told(after, place), [plain] = told(before, place);
      said.push(joined([say("The network answers {answer}.", {answer: long}),
        short !== plain && say("With no gate held it would answer {answer}.", {answer: plain})]));
    }
    return [lead, said];
  }
  // where what is held now was written
  function remembered() {
    const t = here(), u = state.unit, [found, first] = left(u);
    let most = first, from = null;
    for (const [k, share] of found) {
      const weight = share * (1 - signal(after, "z", k, u));
      if (weight > most) [most, from] = [weight, k];
    }
    const share = shares(most)[0];
    return from === null
      ? say("Of what unit {u} holds now, the largest part, {share}, is the state it began with.", {u, share})
      : from === t ? say("Of what unit {u} holds now, the largest part, {share}, was written at this step.", {u, share})
        : say("Of what unit {u} holds now, the largest part, {share}, was written at {step}.", {u, share, step: called(from)});
  }

  // the page

  const title = made("h1"), lead = made("p", "lead"), tongues = made("span", "choice tongues", null, {role: "group", "aria-label": "language / \u8bed\u8a00"});
  const tongue = {en: "English", zh: "\u4e2d\u6587"};
  for (const language of Object.keys(words))
    tongues.append(button(tongue[language] ?? language, () => speak(language), {lang: language, "data-value": language}));
  const top = made("header");
  top.append(title, tongues);
  const tape = made("table", "tape"), scroll = made("div", "scroll");
  scroll.append(tape);
  const walk = made("div", "walk"), where = made("span", "where");
  const back = button("", () => go(state.at - 1)), on = button("", () => go(state.at + 1), {class: "on"});
  walk.append(back, where, on);
  const drawing = grulensCellDrawing(accents), whole = made("div", "whole"), side = made("div", "side"), picture = made("div", "picture");
  const which = made("div", "row which"), whichName = made("span", "quiet"), whichUnit = made("span", "choice", null, {role: "group"});
  which.append(whichName, whichUnit);
  for (const u of shown) whichUnit.append(button(String(u), () => choose(u), {"data-value": u}));
  picture.append(which, drawing);
  const status = made("div", "status", null, {role: "status"}), sliders = made("div", "sliders"), holding = made("h2");
  const handles = HELD.map((one) => {
    const line = made("div", "slider"), id = `hold-${one}`, label = made("label", "", "", {for: id});
    const handle = made("input", "", null, {type: "range", id, min: "0", max: "1", step: "0.01"}), value = made("span", "numbers", "", {"aria-hidden": "true"});
    const release = button("", () => hold(one, null));
    line.style.setProperty("--accent", accents[one]);
    handle.addEventListener("input", () => hold(one, Number(handle.value)));
    line.append(label, handle, value, release);
    sliders.append(line);
    return {one, line, label, handle, value, release};
  });
  side.append(status, holding, sliders);
  whole.append(picture, side);
  const sums = made("details", "cell"), sumsHead = made("summary", "quiet"), sumsBody = made("div");
  sums.append(sumsHead, sumsBody);
  sums.addEventListener("toggle", showSums);
  const typed = made("input", "typed", null, {type: "text", spellcheck: "false", autocomplete: "off"}), read = button("", readText);
  const refused = made("p", "failed", null, {role: "alert"}), ask = made("div", "row ask"), typedName = made("label", "quiet");
  typed.id = "grulens-typed";
  typedName.htmlFor = typed.id;
  typed.addEventListener("keydown", (event) => { if (event.key === "Enter") readText(); });
  ask.append(typedName, typed, read);
  const keys = made("p", "quiet keys"), notes = made("div", "quiet warned");
  main.replaceChildren(top, lead, ...(data.spelling ? [ask, refused] : []), scroll, walk, whole, sums, keys, notes);

  // what a person does

  function go(at) {
    state.at = Math.max(0, Math.min(before.steps - 1, at));
    draw();
  }
  function choose(unit) {
    state.unit = unit;
    draw();
  }
  function hold(one, value) {
    const gates = {...state.held[state.unit]};
    if (value === null) delete gates[one];
    else gates[one] = value;
    state.held = {...state.held, [state.unit]: gates};
    run();
    draw();
  }
  function readText() {
    const {words: byWord, ids} = data.spelling;
    const parts = byWord ? typed.value.split(/\s+/).filter(Boolean) : [...typed.value];
    const strange = [...new Set(parts.filter((part) => !Object.hasOwn(ids, part)))].slice(0, 8).map(seen).join(" ");
    const known = Object.keys(ids).slice(0, 40).map(seen).join(" ");
    refused.textContent = !parts.length ? say("There is nothing to read.")
      : strange ? say("The network does not know {strange}; it reads {known}.", {strange, known})
        : parts.length > data.cell.most ? say("This page reads {most} steps at most.", {most: data.cell.most}) : "";
    if (refused.textContent) return;
    Object.assign(state, {given: parts.map((part) => ids[part]), tokens: parts, at: 0});
    begin();
    draw();
  }
  function speak(language) {
    state.language = language;
    page.lang = language === "zh" ? "zh-CN" : language;
    say.words = words[language];
    draw();
  }
  window.addEventListener("keydown", (event) => {
    if (event.target.closest?.("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = shown.indexOf(state.unit), last = before.steps - 1;
    const act = {
      ArrowRight: () => go(state.at + 1), ArrowLeft: () => go(state.at - 1), Home: () => go(0), End: () => go(last),
      ArrowDown: () => choose(shown[Math.min(shown.length - 1, at + 1)]), ArrowUp: () => choose(shown[Math.max(0, at - 1)]),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  // what is seen

  const cell = (text, className = "") => made("td", className, text);
  function line(text, head_, cells, className = "") {
    const row = made("tr", className), name_ = made("th", "", null, {scope: "row"});
    name_.append(head_ ?? text);
    row.append(name_, ...cells);
    return row;
  }
  function drawTape() {
    const t = here(), read_ = new Set(order().slice(0, state.at + 1)), all = Array.from({length: before.steps}, (_, k) => k);
    const focus = tape.contains(document.activeElement) ? document.activeElement.dataset.step : undefined;
    const at = (k) => (k === t ? " current" : read_.has(k) ? "" : " later");
    const first = made("tr"), corner = made("th", "", state.tokens ? say("reads") : say("step"), {scope: "row"});
    first.append(corner, ...all.map((k) => {
      const box = made("th", at(k), null, {scope: "col"});
      const one = button(state.tokens ? token(k) : String(k), () => go(order().indexOf(k)), {"data-step": k, "aria-label": called(k)});
      if (k === t) one.setAttribute("aria-current", "step");
      box.append(one);
      return box;
    }));
    const lines = [first];
    tape.style.setProperty("--steps", before.steps);
    tape.style.setProperty("--z", accents.z);
    if (answers() > 1 || answers() && read_.has(before.steps - 1))
      lines.push(line(say("its answer"), null, all.map((k) => {
        const there = read_.has(k) && (head.each || k === before.steps - 1);
        if (!there) return cell("", at(k));
        const place = head.each ? k : 0, [now] = told(after, place), [was] = told(before, place);
        return cell(now, `${at(k)} says${now === was ? "" : " moved"}`);
      }), "answers"));
    const {state: color} = data.colors, span = signals.find((one) => one.name === "h").ends ?? [-1, 1];
    for (const u of shown) {
      const name_ = button(say("h of unit {u}", {u}), () => choose(u), {"aria-pressed": String(u === state.unit)});
      lines.push(line("", name_, all.map((k) => {
        if (!read_.has(k)) return cell("", at(k));
        const value = signal(after, "h", k, u), code = grulensDraw.code(value, span);
        const box = cell("", `${at(k)} h`);
        box.style.background = color.palette[code];
        box.style.color = color.white[code] ? "#fff" : "#000";
        box.append(made("span", "fine", number(value)), made("span", "rough", number(value, 1)));
        return box;
      })));
    }
    for (const u of shown) {
      const [found] = left(u);
      lines.push(line(say("left, unit {u}", {u}), null, all.map((k) => {
        if (!read_.has(k)) return cell("", at(k));
        const share = found.get(k), box = cell("", `${at(k)} left`), bar = made("span", "bar");
        bar.style.height = `${26 * share}px`;
        box.append(bar, made("span", "size", (100 * share).toFixed(0)));
        return box;
      }), "shares"));
    }
    const caption = made("caption", "", say("h after each step; and how much of it is still in h now, in percent: the product of every z since."));
    const body = made("tbody");
    body.append(...lines.slice(1));
    const headRow = made("thead");
    headRow.append(first);
    tape.replaceChildren(caption, headRow, body);
    if (focus !== undefined) tape.querySelector(`[data-step="${focus}"]`)?.focus();
    const box = tape.querySelector("th.current");
    if (box.offsetLeft < scroll.scrollLeft + 90 || box.offsetLeft + box.offsetWidth > scroll.scrollLeft + scroll.clientWidth)
      scroll.scrollLeft = box.offsetLeft - scroll.clientWidth / 2;
  }
  function given(t) {
    if (state.tokens) return token(t);
    if (layer.reads.length) return layer.reads.map((low) => `h ${low}`).join(", ");
    const size = layer.width, x = before.x.subarray(t * size, (t + 1) * size);
    return Array.from(x.subarray(0, 2), (value) => number(value)).join(", ") + (size > 2 ? " \u2026" : "");
  }
  function drawCell() {
    const t = here(), values = Object.fromEntries(["r", "z", "n", "h"].map((one) => [one, shown.map((u) => signal(after, one, t, u))]));
    values.before = shown.map((u) => held(after, t, u));
    const chosen = shown.indexOf(state.unit), x = given(t);
    const titles = {before: `h\u208b ${say("previous")}`, x: `x ${say("input")}`, h: `h ${say("now")}`};
    for (const one of signals) if (one.name !== "h") titles[one.name] = `${one.name} ${say(one.words)}`;
    const numbers = Object.fromEntries(Object.entries(values).map(([one, all]) => [one, (HELD.includes(one) ? gate : number)(all[chosen])]));
    drawing.show({
      values, chosen, numbers, number, texts: {titles, x}, held: Object.keys(state.held[state.unit] ?? {}),
      label: say("The cell at {step}: x is {x}; of unit {u}, h before is {before}, r {r}, z {z}, n {n}, and h now {h}.", {step: called(t), x, u: state.unit, ...numbers}),
    });
  }
  function showSums() {
    sumsHead.textContent = say("What adds up to r, z and n of unit {u}", {u: state.unit});
    if (!sums.open) return;
    const inputs = network.layers.find((one) => one.name === name).reads;
    const names = inputs.flatMap((low) => Array.from({length: before.layers[low].units}, (_, u) => `${low} ${say("unit {unit}", {unit: u})}`));
    const symbols = data.cell.symbols;
    sumsBody.replaceChildren(...grulensCell({
      ...network.closeUp(after, name, here(), state.unit), colors: data.colors,
      signals: signals.map((one) => ({...one, title: `${say(one.words)} ${one.name}`})), 
      number: (value) => number(value, 3), named: (j) => names[j] ?? (symbols ? `x ${seen(symbols[j])}` : `x ${j}`),
    }));
  }
  function draw() {
    const u = state.unit, t = here();
    const by = (texts, otherwise) => (texts ? texts[state.language] ?? texts.en : otherwise);
    title.textContent = by(data.cell.title, say("A GRU cell, step by step"));
    document.title = title.textContent;
    lead.textContent = by(about, say("The cell reads one step at a time. Its gates, the numbers r and z between 0 and 1, decide what it remembers and what it forgets."));
    for (const one of tongues.children) one.setAttribute("aria-pressed", String(one.dataset.value === state.language));
    tongues.hidden = tongues.children.length < 2;
    drawTape();
    back.textContent = `\u2190 ${say("step back")}`;
    on.textContent = `${say("next step")} \u2192`;
    back.disabled = state.at === 0;
    on.disabled = state.at === before.steps - 1;
    where.textContent = say("step {t} (0–{last})", {t, last: before.steps - 1});
    whichName.textContent = say("The cell, its numbers those of unit");
    whichUnit.setAttribute("aria-label", say("unit"));
    for (const one of whichUnit.children) one.setAttribute("aria-pressed", String(Number(one.dataset.value) === u));
    which.hidden = shown.length < 2;
    drawCell();
    const [first, said] = happened();
    status.replaceChildren(made("p", "said", first), ...said.map((text) => made("p", "", text)), made("p", "", remembered()));
    holding.textContent = say("Hold a gate of unit {u}, at all steps", {u});
    for (const {one, label, handle, value, release, line: row} of handles) {
      const there = state.held[u]?.[one], value_ = signal(after, one, t, u);
      label.textContent = `${one}  ${say(signals.find((s) => s.name === one).words)}`;
      if (document.activeElement !== handle || there === undefined) handle.value = value_;
      row.classList.toggle("held", there !== undefined);
      value.textContent = gate(value_);
      handle.setAttribute("aria-valuetext", there === undefined ? say("{value}, its own", {value: gate(value_)}) : say("held at {value}", {value: gate(value_)}));
      release.textContent = there === undefined ? say("its own") : say("let go");
      release.disabled = there === undefined;
      release.setAttribute("aria-label", say("let {gate} go", {gate: one}));
    }
    showSums();
    typedName.textContent = say("Another sequence");
    read.textContent = say("read it");
    if (document.activeElement !== typed && !refused.textContent && state.tokens) typed.value = state.tokens.join(data.spelling?.words ? " " : "");
    keys.textContent = shown.length > 1 ? say("Arrow keys: ← and → go from step to step, ↑ and ↓ from unit to unit.") : say("Arrow keys: ← and → go from step to step.");
    notes.replaceChildren(...data.warnings.map((text) => made("p", "", text)),
      ...(data.cell.all > shown.length ? [made("p", "", say("{some} of {all} units are here: those whose state moves most.", {some: shown.length, all: data.cell.all}))] : []),
      made("p", "", say("All numbers are made in this page, in float64, from the network's own weights.")));
  }

  begin();
  // what a page made otherwise than the model is not shown as the model's
  const apart = grulensEngine.apart(before, data.recorded);
  if (!(apart <= data.tolerance)) {
    main.replaceChildren(made("p", "failed", `This browser makes other numbers than the model did (apart by ${number(apart, 6)}): nothing is shown.`, {role: "alert"}));
    return;
  }
  const wished = [data.cell.language, ...navigator.languages.map((one) => one.split("-")[0])];
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const theme = (isDark) => { page.dataset.theme = isDark ? "dark" : "light"; };
  theme(dark.matches);
  dark.addEventListener("change", () => theme(dark.matches));
  // in a frame: its theme may be another than the system's, and it may be made as high as this page
  const sayHeight = () => window.parent.postMessage({grulens: {height: page.offsetHeight}}, "*");
  window.addEventListener("message", ({source, data: told_}) => {
    if (source !== window.parent || typeof told_?.grulens?.dark !== "boolean") return;
    theme(told_.grulens.dark);
    sayHeight();
  });
  if (window.parent !== window) new ResizeObserver(sayHeight).observe(page);
  speak(wished.find((one) => one && Object.hasOwn(words, one)) ?? "en");
  // for whoever asks the page from a console or a test
  window.grulens = {state, go, choose, hold, runs: () => ({before, after}), network, answer: (made_, t) => answer(made_, t), left};
})();
