/* A page that runs: the session of a lens without a kernel.

   `data` says everything (grulens/widgets/session/told.py); the engine makes the runs; here is what a
   person does and what is then seen. All that is shown of the model is text, never HTML. */
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("grulens-data").textContent);
  say.words = data.words;
  const network = new grulensEngine.Network(data.network, grulensEngine.unpacked(data.arrays));
  const main = document.getElementById("grulens-main");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const theme = (isDark) => { document.documentElement.dataset.theme = isDark ? "dark" : "light"; };
  theme(dark.matches);
  const MODES = {
    scale: [say("scale"), say("multiply the gate"), (signal, how) => say("scale the {signal}: {how}", {signal, how})],
    set: [say("set"), say("hold the gate at a value"), (signal, how) => say("set the {signal}: {how}", {signal, how})],
    shift: [say("shift"), say("add before the activation: the gate leans one way"),
      (signal, how) => say("shift the {signal}: {how}", {signal, how})],
  };
  const REACHES = {
    "all it can be": say("all it can be"), "1st to 99th percentile": say("1st to 99th percentile"), "all it is": say("all it is"),
  };
  const ORDERS = {index: say("index"), activity: say("activity"), similarity: say("similarity")};

  const state = {
    ...data.shown, edits: data.edits, history: [], pins: data.pins, given: data.given,
    tokens: data.tokens, failed: "",
  };
  let keys = Math.max(0, ...data.edits.map((edit) => edit.key)) + 1;
  let before = null, after = null, moves = [], spent = 0, dragging = null, asked = 0;

  // elements

  const made = grulensMade;
  function button(text, title, act) {
    const element = made("button", "", text, {type: "button", title});
    element.addEventListener("click", act);
    return element;
  }
  // one of several, as buttons of which one is down
  function choice(label, className, options, chosen, act) {
    const group = made("span", `choice ${className}`, null, {role: "group", "aria-label": label});
    const buttons = options.map(([value, text, title]) => {
      const one = button(text, title, () => act(value));
      one.dataset.value = value;
      return one;
    });
    group.append(...buttons);
    group.show = () => buttons.forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.value === chosen())));
    group.show();
    return group;
  }
  // other children, and the keyboard's focus where it was
  function refill(box, children) {
    const at = box.contains(document.activeElement) ? document.activeElement.dataset.at : undefined;
    box.replaceChildren(...children);
    if (at) box.querySelector(`[data-at="${at}"]`)?.focus();
  }
  function labelled(text, element) {
    const label = made("label", "pair");
    label.append(made("span", "", text), element);
    return label;
  }
  function select(options, value, act) {
    const element = made("select");
    for (const [key, text] of options) element.append(new Option(text, key));
    element.value = value;
    element.addEventListener("change", () => act(element.value));
    return element;
  }

  // words

  const minus = (text) => text.replace(/-/g, "\u2212");
  function number(value, digits = 3) {
    if (!Number.isFinite(value)) return Number.isNaN(value) ? say("no number") : value > 0 ? "\u221e" : "\u2212\u221e";
    return minus(String(Number(value.toPrecision(digits))));
  }
  function positions(list, word) {
    const of = word === "unit";
    if (list === null) return of ? say("all units") : say("all steps");
    const runs = runsOf(list).map(([low, high]) => (low === high ? `${low}` : high === low + 1 ? `${low}, ${high}`
      : say("{low} to {high}", {low, high})));
    const numbers = runs.join(", ");
    if (list.length > 1) return of ? say("units {numbers}", {numbers}) : say("steps {numbers}", {numbers});
    return of ? say("unit {numbers}", {numbers}) : say("step {numbers}", {numbers});
  }
  function runsOf(list) {
    const runs = [];
    for (const i of [...list].sort((a, b) => a - b)) {
      const last = runs.at(-1);
      if (last && i === last[1] + 1) last[1] = i;
      else runs.push([i, i]);
    }
    return runs;
  }
  const layer = () => data.layers[state.layer];
  const signalOf = (name, of = state.layer) => data.layers[of].signals.find((one) => one.name === name);
  function words(edit) {
    const amount = typeof edit.value === "number" ? number(edit.value, 6) : say("given values");
    const where = Object.keys(data.layers).length > 1 ? `${edit.layer}: ` : "";
    const of = {signal: signalOf(edit.signal, edit.layer).words, units: positions(edit.units, "unit"), amount};
    const does = edit.how === "scale" ? say("{signal} of {units} times {amount}", of)
      : edit.how === "set" ? say("{signal} of {units} set to {amount}", of) : say("{signal} of {units} plus {amount}", of);
    return where + does + (edit.how === "before" ? say(" (before the activation)") : "") +
      (edit.steps ? say(", ") + positions(edit.steps, "step") : "");
  }
  // a token as the page shows it: itself, but for what nobody could see
  function seen(token) {
    const cut = [...token].slice(0, 80).map((letter) => (letter === "\n" ? "\u23ce" : letter === "\t" ? "\u21e5"
      : /[\p{Cc}\p{Zl}\p{Zp}]/u.test(letter) ? `\\x${letter.codePointAt(0).toString(16).padStart(2, "0")}` : letter)).join("");
    return cut || "\u2205";
  }
  function named(token) {
    return token.trim() ? seen(token) : `\u2018${seen(token)}\u2019`;
  }

  // runs

  const steps = () => before.steps;
  const units = () => before.layers[state.layer].units;
  function misfit(edit) {
    const past = (edit.steps ?? []).filter((t) => t >= steps());
    if (past.length) return say("this input has no {steps}", {steps: positions(past, "step")});
    const count = data.network.layers.find((one) => one.name === edit.layer).units;
    const size = edit.value.length;
    return size > count && size !== count * steps() ? say("its values are of another input") : "";
  }
  const acting = () => state.edits.filter((edit) => edit.on && !misfit(edit));
  function run() {
    const began = performance.now();
    const on = acting();
    after = on.length ? network.run(state.given, on, before) : before;
    spent = performance.now() - began;
    moves = Array.from({length: answers()}, (_, t) => (after === before ? 0 : moved(t)));
  }
  function begin() {
    before = network.run(state.given);
    state.times = state.times.filter((t) => t < steps());
    state.at = answers() > 1 ? Math.min(state.step, steps() - 1) : steps() - 1;
    state.step = Math.max(0, Math.min(state.step, answers() - 1));
    run();
  }
  // one drawing a frame, however fast a hand moves
  function soon() {
    asked ||= requestAnimationFrame(() => {
      asked = 0;
      run();
      draw();
    });
  }
  function change(edits, {drag = null, now = false} = {}) {
    if (drag === null || drag !== dragging) state.history.push(state.edits);
    dragging = drag;
    state.edits = edits;
    if (!now) return soon();
    run();
    draw();
  }

  // answers

  const head = data.answer;
  const answers = () => (!head ? 0 : head.each ? steps() : 1);
  const linear = (made, t) => made.answer.subarray(t * head.read, (t + 1) * head.read);
  // the numbers of the answer, as the readout gives them
  function answer(made, t) {
    const values = grulensEngine.finished(head.finish, linear(made, t));
    return head.pick === null ? values : [values[head.pick]];
  }
  const shown = (made, t) => (head.scale === "logits" ? grulensEngine.finished("softmax", answer(made, t)) : answer(made, t));
  function moved(t) {
    const [was, now] = [answer(before, t), answer(after, t)];
    if (head.scale === "value")
      return was.length === 1 ? now[0] - was[0] : Math.hypot(...was.map((value, k) => now[k] - value));
    const logs = (values) => {
      if (head.scale !== "logits") return values.map(Math.log);
      const top = Math.max(...values), all = top + Math.log(values.reduce((sum, v) => sum + Math.exp(v - top), 0));
      return values.map((value) => value - all);
    };
    const [p, q] = [logs(was), logs(now)];
    const sum = p.reduce((total, log, k) => total + (Math.exp(log) > 0 ? Math.exp(log) * (log - q[k]) : 0), 0);
    return Math.max(0, sum / Math.LN2);
  }
  const percent = (share) => (share >= 0.0995 ? (100 * share).toFixed(0) : (100 * share).toFixed(1));
  function top(t, most = 8) {
    const [was, now] = [shown(before, t), shown(after, t)];
    return was.map((_, k) => k)
      .sort((a, b) => Math.max(Math.abs(was[b]), Math.abs(now[b])) - Math.max(Math.abs(was[a]), Math.abs(now[a])))
      .slice(0, most).sort((a, b) => was[b] - was[a])
      .map((k) => ({name: named(head.labels[k]), was: was[k], now: now[k]}));
  }
  function sentence(classes) {
    const [first] = classes;
    if (head.scale === "value") return `${first.name} ${number(first.was)} \u2192 ${number(first.now)}`;
    const best = classes.reduce((a, b) => (b.now > a.now ? b : a));
    const moved = `${first.name} ${percent(first.was)} \u2192 ${percent(first.now)} %`;
    return best === first ? moved : say("{said}, now {name} {share} %", {said: moved, name: best.name, share: percent(best.now)});
  }

  // the selection

  // all of them are said as all of them: an edit of all is the same however they were chosen
  const some = (list, count) => (list.length && list.length < count ? [...list].sort((a, b) => a - b) : null);
  const chosenUnits = () => some(state.units, units());
  const chosenSteps = () => some(state.times, steps());
  const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
  const how = (signal) => ({scale: "scale", set: "set", shift: signal.activated ? "before" : "add"})[state.mode];
  function held(signal) {
    return state.edits.find((edit) => edit.layer === state.layer && edit.signal === signal.name
      && edit.how === how(signal) && typeof edit.value === "number"
      && same(edit.units, chosenUnits()) && same(edit.steps, chosenSteps()));
  }
  function put(signal, value) {
    const there = held(signal);
    const edit = {
      layer: state.layer, signal: signal.name, how: how(signal), value, units: chosenUnits(),
      steps: chosenSteps(), on: true, key: there ? there.key : keys++,
    };
    change(there ? state.edits.map((one) => (one === there ? edit : one)) : [...state.edits, edit], {drag: edit.key});
  }
  function rest(signal) {
    if (state.mode !== "set") return state.mode === "scale" ? 1 : 0;
    const values = before.layers[state.layer].signals[signal.name], count = units();
    const of = chosenUnits() ?? Array.from({length: count}, (_, u) => u);
    let sum = 0;
    for (let t = 0; t < steps(); t++) for (const u of of) sum += values[t * count + u];
    return Math.round(100 * sum / (steps() * of.length)) / 100;
  }
  function chooseUnit(unit, more) {
    const on = state.units.includes(unit);
    if (more) state.units = on ? state.units.filter((one) => one !== unit) : [...state.units, unit];
    else state.units = on && state.units.length === 1 ? [] : [unit];
    dragging = null;
    draw();
  }
  // the step that is looked at, and where each has an answer, whose answer is
  function go(t) {
    state.at = Math.max(0, Math.min(steps() - 1, t));
    if (answers() > 1) state.step = state.at;
  }
  function chooseSteps(list) {
    state.times = [...new Set(list)].sort((a, b) => a - b);
    if (state.times.length) go(state.times.at(-1));
    dragging = null;
    draw();
  }

  // values to draw

  function values(name = state.signal) {
    const now = after.layers[state.layer].signals[name];
    if (!state.difference) return now;
    const was = before.layers[state.layer].signals[name];
    return now.map((value, i) => value - was[i]);
  }
  function colorOf() {
    if (state.difference) return data.colors.difference;
    const signal = signalOf(state.signal);
    return {...data.colors[signal.role], ends: signal.ends, floor: data.colors.difference.floor, fromZero: signal.fromZero, diverging: signal.diverging};
  }
  function lookedAt(drawn) {
    const count = units();
    if (state.units.length) return state.units.at(-1);
    let best = 0, most = -1;
    for (let u = 0; u < count; u++) {
      let sum = 0, square = 0;
      for (let t = 0; t < steps(); t++) {
        const value = drawn[t * count + u];
        sum += value;
        square += value * value;
      }
      const spread = square - sum * sum / steps();
      if (spread > most) [best, most] = [u, spread];
    }
    return best;
  }

  // the page

  const bar = made("header");
  const about = made("span", "quiet");
  const desk = made("div", "desk");
  const areas = Object.fromEntries(["words", "hand", "answer", "map", "edits"].map((name) => [name, made("section", `area-${name}`)]));
  desk.append(...Object.values(areas));

  // the text: the same script as in the notebook, given what it asks of a widget's model
  const heard = {};
  const told = {tokens: {texts: [], plain: [], spaced: false, rtl: false}, painted: {}, times: [], step: -1, words: data.words};
  const textBox = made("div");
  areas.words.append(textBox);
  function tell(name, value) {
    if (same(told[name], value) && name !== "painted") return;
    told[name] = value;
    heard[`change:${name}`]?.();
  }
  grulensText.render({
    el: textBox,
    model: {
      get: (name) => told[name],
      on: (event, act) => { heard[event] = act; },
      off: () => {},
      send: ({ends, toggle}) => {
        if (!ends) return chooseSteps([]);
        const [low, high] = [...ends].sort((a, b) => a - b);
        const meant = Array.from({length: high - low + 1}, (_, i) => low + i);
        if (!toggle) return chooseSteps(meant);
        chooseSteps([...state.times.filter((t) => !meant.includes(t)), ...meant.filter((t) => !state.times.includes(t))]);
      },
    },
  });
  function nameSteps() {
    const tokens = state.tokens ?? Array.from({length: steps()}, (_, t) => String(t));
    const long = tokens.filter((token) => [...token].length > 1).length;
    const ids = long > 0 && tokens.every((token) => /^\d+$/.test(token)); // 1 and 10 are not 110
    const parted = tokens.some((token) => token !== token.trim() || !token);
    tell("tokens", {
      texts: tokens.map(seen), plain: tokens,
      spaced: state.tokens === null || ids || (2 * long > tokens.length && !parted),
      rtl: 2 * tokens.filter((token) => /[\p{Script=Hebrew}\p{Script=Arabic}]/u.test(token)).length > tokens.length,
    });
  }

  // another text
  const typed = made("textarea", "", null, {rows: "2", "aria-label": say("another text"), spellcheck: "false"});
  const refused = made("p", "failed", null, {role: "alert"});
  function encoded(text) {
    const {words: byWord, ids} = data.spelling;
    const parts = byWord ? text.split(/\s+/).filter(Boolean) : [...text];
    const strange = [...new Set(parts.filter((part) => !Object.hasOwn(ids, part)))];
    if (!parts.length) throw new Error(say("there is nothing in it"));
    if (strange.length)
    {
      const which = strange.slice(0, 8).map(named).join(", ");
      throw new Error(byWord ? say("the model has no word {which}", {which}) : say("the model has no character {which}", {which}));
    }
    return [parts.map((part) => ids[part]), parts];
  }
  function runText() {
    try {
      const [given, tokens] = encoded(typed.value);
      Object.assign(state, {given, tokens, times: [], step: given.length - 1});
      refused.textContent = "";
      begin();
      nameSteps();
      draw();
    } catch (error) {
      refused.textContent = say("This text cannot be run: {why}.", {why: error.message});
    }
  }
  if (data.spelling) {
    const box = made("div", "asked");
    typed.value = (data.tokens ?? []).join(data.spelling.words ? " " : "");
    typed.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) runText();
    });
    box.append(labelled(say("input"), typed), button(say("run"), say("run the network on this text; the edits stay (Ctrl Enter)"), runText));
    areas.words.prepend(box, refused);
  }

  // the hand: selection, mode and a slider a signal
  const selection = made("p", "selection", null, {role: "status"});
  const clear = button(say("clear"), say("choose no unit and all steps"), () => {
    [state.units, state.times] = [[], []];
    draw();
  });
  const chosen = made("div", "row");
  const find = made("input", "", null, {type: "number", min: "0", "aria-label": say("choose a unit by its number"), placeholder: say("unit")});
  find.addEventListener("change", () => {
    const unit = Number(find.value);
    if (find.value !== "" && Number.isInteger(unit) && unit >= 0 && unit < units()) {
      state.units = [unit];
      draw();
    }
    find.value = "";
  });
  chosen.append(selection, find, clear);
  const modes = choice(say("act by"), "modes", Object.entries(MODES).map(([mode, [name, does]]) => [mode, name, does]), () => state.mode, (mode) => {
    state.mode = mode;
    dragging = null;
    draw();
  });
  const modeRow = made("div", "row");
  modeRow.append(made("span", "quiet", say("Act by")), modes);
  const sliders = made("div", "sliders");
  let handles = [];
  function offer() {
    handles = layer().signals.filter((signal) => !signal.state).map((signal) => {
      const id = `slider-${signal.name}`;
      const label = made("label", "", `${signal.name}  ${signal.words}`, {for: id});
      const handle = made("input", "", null, {type: "range", id, step: "0.01"});
      const value = made("output", "", "", {for: id});
      const reset = button(say("reset"), say("take the {signal}'s edit of this selection away", {signal: signal.words}), () => {
        const there = held(signal);
        if (there) change(state.edits.filter((edit) => edit !== there));
      });
      handle.style.setProperty("--accent", data.colors[signal.role].accent);
      handle.addEventListener("input", () => {
        value.textContent = number(Number(handle.value), 4);
        put(signal, Number(handle.value));
      });
      // steps by keyboard are one change until the hand goes elsewhere, and so is each drag
      for (const begins of ["pointerdown", "blur"]) handle.addEventListener(begins, () => { dragging = null; });
      const line = made("div", "slider");
      line.append(label, handle, value, reset);
      return {signal, handle, value, reset, line};
    });
    sliders.replaceChildren(...handles.map(({line}) => line));
  }
  function showSliders() {
    for (const {signal, handle, value, reset} of handles) {
      const [low, high] = state.mode === "scale" ? [0, 2] : state.mode === "shift" ? [-8, 8] : signal.range;
      const there = held(signal);
      const now = there ? there.value : rest(signal);
      [handle.min, handle.max] = [low, high];
      if (document.activeElement !== handle || Number(handle.value) !== now) handle.value = now;
      const [, how, does] = MODES[state.mode];
      handle.title = does(signal.words, how);
      value.textContent = number(now, 4);
      handle.setAttribute("aria-valuetext", value.textContent);
      reset.disabled = !there;
    }
  }
  const ablate = button(say("ablate"), say("set the state of the chosen units to 0 at the chosen steps"), () => {
    const edit = {layer: state.layer, signal: "h", how: "set", value: 0, units: chosenUnits(), steps: chosenSteps(), on: true, key: keys++};
    change([...state.edits, edit]);
  });
  const undo = button(say("undo"), say("take the last change of the edits back"), () => {
    state.edits = state.history.pop() ?? state.edits;
    dragging = null;
    soon();
  });
  const pin = button(`\u2605 ${say("pin")}`, say("show the chosen units as lines over the steps"), () => {
    for (const unit of state.units.length ? state.units : [lookedAt(values())])
      if (!state.pins.some((one) => one.layer === state.layer && one.unit === unit)) state.pins.push({layer: state.layer, unit, name: ""});
    draw();
  });
  const acts = made("div", "row");
  acts.append(ablate, pin, undo);
  // gates that an edit takes to where no gate goes by itself
  const beyond = made("p", "quiet", null, {role: "status"});
  function showBeyond() {
    const edited = new Set(acting().filter((edit) => edit.layer === state.layer).map((edit) => edit.signal));
    const cut = state.colors === Object.keys(data.reaches)[0] && !state.difference;
    const remarks = layer().signals.filter(({gate, name}) => gate && edited.has(name)).flatMap(({name, gate: [low, high]}) => {
      const values = after.layers[state.layer].signals[name], count = units();
      const out = Array.from({length: steps()}, (_, t) => values.subarray(t * count, (t + 1) * count).some((value) => value < low || value > high));
      const n = out.filter(Boolean).length;
      const text = n === 1 ? say("{gate} is out of 0 to 1 at 1 step, where no gate goes by itself", {gate: name})
        : say("{gate} is out of 0 to 1 at {n} steps, where no gate goes by itself", {gate: name, n});
      return n ? [cut ? say("{text}; its colours end there.", {text}) : say("{sentence}.", {sentence: text})] : [];
    });
    beyond.textContent = remarks.join(" ");
    beyond.hidden = !remarks.length;
  }
  areas.hand.append(chosen, modeRow, sliders, beyond, acts);

  // the answer
  const said = made("p", "said", null, {role: "status"});
  const extent = made("p", "quiet");
  const classes = made("div", "classes");
  const at = made("p", "quiet");
  areas.answer.append(at, said, classes, extent);
  // where it is narrow the answer stays in sight
  const slim = made("p", "slim", "", {"aria-hidden": "true"});
  function showAnswer() {
    areas.answer.hidden = !head;
    if (!head) return;
    const list = top(state.step);
    const where = {step: state.step, token: state.tokens ? named(state.tokens[state.step]) : ""};
    at.textContent = !head.each ? say("The answer") : state.tokens ? say("The answer at step {step}, after {token}", where)
      : say("The answer at step {step}", where);
    said.textContent = slim.textContent = sentence(list);
    // bars begin at 0, which stands where the lowest number leaves it; of shares at the left
    const all = head.scale === "value" ? [0, ...list.flatMap(({was, now}) => [was, now])] : [0, 1];
    const low = Math.min(...all), reach = Math.max(1e-9, Math.max(...all) - low), zero = -low / reach;
    const at100 = (share) => `${100 * Math.max(0, Math.min(1, share))}%`;
    classes.replaceChildren(...list.map(({name, was, now}) => {
      const line = made("div", "class"), both = made("span", "both");
      for (const [kind, value] of [["was", was], ["now", now]]) {
        const one = made("span", kind);
        one.style.width = at100(Math.abs(value) / reach);
        one.style.marginLeft = at100(zero + Math.min(0, value) / reach);
        both.append(one);
      }
      both.style.setProperty("--zero", at100(zero));
      const numbers = head.scale === "value" ? `${number(was)} \u2192 ${number(now)}` : `${percent(was)} \u2192 ${percent(now)} %`;
      line.append(made("span", "label", name, {title: name}), both, made("span", "numbers", numbers));
      return line;
    }));
    const mean = moves.reduce((sum, move) => sum + Math.abs(move), 0) / moves.length;
    const amount = mean > 0 && mean < 0.001 ? say("less than 0.001") : number(mean, 2), bits = head.scale !== "value";
    extent.textContent = !acting().length ? say("Grey is the run as it was, orange the run with the edits.")
      : bits && head.each ? say("The edits move the answer by {amount} bits a step.", {amount})
      : bits ? say("The edits move the answer by {amount} bits.", {amount})
      : head.each ? say("The edits move the answer by {amount} a step.", {amount})
      : say("The edits move the answer by {amount}.", {amount});
  }

  // the map
  const shows = made("div", "row");
  let signalChoice = null;
  const differenceBox = button(say("edited − baseline"), say("show what the edits changed in this signal"), () => {
    state.difference = !state.difference;
    draw();
  });
  const orders = select([], "", (order) => {
    state.order = order;
    draw();
  });
  const reaches = labelled(say("Colours over"), select(Object.keys(data.reaches).map((name) => [name, REACHES[name]]), state.colors, (name) => {
    state.colors = name;
    draw();
  }));
  function offerSignals() {
    const [h, ...inside] = [...layer().signals].reverse();
    signalChoice = choice(say("show"), "signals", [h, ...inside.reverse()].map((s) => [s.name, `${s.name} ${s.words}`, say("show the {signal}", {signal: s.words})]),
      () => state.signal, (name) => {
        state.signal = name;
        draw();
      });
    for (const one of signalChoice.children) one.style.setProperty("--accent", data.colors[signalOf(one.dataset.value).role].accent);
    orders.replaceChildren(...Object.keys(layer().orders).map((order) => new Option(ORDERS[order], order)));
    orders.value = state.order;
    shows.replaceChildren(made("span", "quiet", say("Show")), signalChoice, differenceBox, labelled(say("Order units by"), orders), reaches);
  }
  const canvas = made("canvas", "map", null, {tabindex: "0", role: "img"});
  const under = made("p", "quiet under", null, {role: "status"});
  const strip = made("canvas", "strip", null, {role: "img", "aria-label": say("how far the answer moved at each step")});
  const caption = made("p", "quiet");
  // numbers that the network reads, where they are few, on the axis of the map
  const {size: wide, table: ids} = data.network.input;
  const fed = ids === null && wide <= data.inputs.length ? made("canvas", "fed", null, {role: "img"}) : null;
  function showInput() {
    if (!fed) return;
    const drawn = Array.from({length: wide}, (_, i) => ({
      values: Array.from({length: steps()}, (_, t) => state.given[t * wide + i]), color: data.inputs[i], thick: 1.5, dash: [],
    }));
    const all = drawn.flatMap(({values: line}) => line).filter(Number.isFinite), low = Math.min(...all), high = Math.max(...all);
    const span = {low: number(low), high: number(high), n: wide};
    fed.title = wide === 1 ? say("the input, from {low} to {high}", span) : say("the input, {n} numbers a step, from {low} to {high}", span);
    fed.setAttribute("aria-label", fed.title);
    const room = high > low ? 0 : 1;
    grulensDraw.lines(fed, {
      steps: steps(), span: [low - room, high + room], drawn, step: answers() > 1 ? state.step : null,
      grid: getComputedStyle(main).getPropertyValue("--faint"),
    });
  }
  areas.map.append(shows, ...(fed ? [made("p", "quiet", say("Input")), fed] : []), canvas, strip, caption, under);
  let cursor = [0, 0];
  const rows = () => layer().orders[state.order];
  function place(event) {
    const box = canvas.getBoundingClientRect();
    const row = Math.floor((event.clientY - box.top) / box.height * units());
    const t = Math.floor((event.clientX - box.left) / box.width * steps());
    return [Math.max(0, Math.min(units() - 1, row)), Math.max(0, Math.min(steps() - 1, t))];
  }
  function describe([row, t]) {
    const unit = rows()[row], i = t * units() + unit, of = (made) => made.layers[state.layer].signals[state.signal][i];
    const token = state.tokens ? ` ${named(state.tokens[t])}` : "";
    const was = of(before), now = of(after);
    const told = {unit, step: t, token, signal: state.signal, now: number(now), was: number(was)};
    under.textContent = now === was ? say("unit {unit} · step {step}{token} · {signal} {now}", told)
      : say("unit {unit} · step {step}{token} · {signal} {now}, was {was}", told);
  }
  function hint() {
    under.textContent = say("Click chooses a unit (with Shift more of them); arrow keys walk, Enter chooses.");
  }
  canvas.addEventListener("pointermove", (event) => describe(place(event)));
  canvas.addEventListener("pointerleave", hint);
  canvas.addEventListener("click", (event) => {
    const [row, t] = cursor = place(event);
    go(t);
    chooseUnit(rows()[row], event.shiftKey || event.ctrlKey || event.metaKey);
  });
  canvas.addEventListener("keydown", (event) => {
    const [row, t] = cursor;
    const to = {ArrowUp: [row - 1, t], ArrowDown: [row + 1, t], ArrowLeft: [row, t - 1], ArrowRight: [row, t + 1]}[event.key];
    if (to) {
      cursor = [Math.max(0, Math.min(units() - 1, to[0])), Math.max(0, Math.min(steps() - 1, to[1]))];
      go(cursor[1]);
      draw();
      describe(cursor);
    } else if (event.key === "Enter" || event.key === " ") chooseUnit(rows()[row], event.shiftKey || event.key === " ");
    else if (event.key === "Escape") clear.click();
    else return;
    event.preventDefault();
  });

  // edits and pins
  const list = made("ul", "edits");
  const pins = made("div", "pins");
  areas.edits.append(made("h2", "", say("Edits")), list, pins);
  function showEdits() {
    undo.disabled = !state.history.length;
    refill(list, state.edits.map((edit) => {
      const line = made("li"), why = misfit(edit), on = made("input", "", null, {type: "checkbox"});
      on.checked = edit.on && !why;
      on.disabled = Boolean(why);
      on.addEventListener("change", () => change(state.edits.map((one) => (one === edit ? {...edit, on: on.checked} : one))));
      const text = made("label", why || !edit.on ? "off" : "");
      text.append(on, made("span", "", words(edit) + (why ? say(" · off: {why}", {why}) : "")));
      const remove = button(say("remove"), say("take this edit away"), () => change(state.edits.filter((one) => one !== edit)));
      [on.dataset.at, remove.dataset.at] = [`on ${edit.key}`, `remove ${edit.key}`];
      line.append(text, remove);
      return line;
    }));
    if (!state.edits.length) list.append(made("li", "quiet", say("none yet: choose steps or a unit, then move a gate")));
  }
  function showPins() {
    const ink = getComputedStyle(main).getPropertyValue("--faint");
    refill(pins, state.pins.map((one) => {
      const card = made("figure"), title = made("figcaption"), picture = made("canvas", "", null, {role: "img", "aria-label": say("unit {unit} of {layer} over the steps", one)});
      title.append(made("strong", "", `${say("unit {unit}", one)}${one.name ? ` \u00b7 ${one.name}` : ""}`), made("span", "quiet", Object.keys(data.layers).length > 1 ? one.layer : ""));
      const {signals} = data.layers[one.layer], count = before.layers[one.layer].units;
      const of = (made, name) => Array.from({length: steps()}, (_, t) => made.layers[one.layer].signals[name][t * count + one.unit]);
      for (const signal of signals) {
        const mark = made("span", "mark", signal.name, {title: signal.words});
        mark.style.setProperty("--accent", data.colors[signal.role].accent);
        title.append(mark);
      }
      title.append(button("\u00d7", say("unpin unit {unit}", one), () => {
        state.pins = state.pins.filter((other) => other !== one);
        draw();
      }));
      card.append(title, picture);
      one.draw = () => {
        const drawn = signals.flatMap((signal) => {
          const accent = data.colors[signal.role].accent, thick = signal.state ? 2 : 1;
          const now = {values: of(after, signal.name), color: accent, thick, dash: []};
          return after === before ? [now] : [{...now, values: of(before, signal.name), thick: 1, dash: [3, 3]}, now];
        });
        const all = drawn.flatMap(({values: line}) => line).filter(Number.isFinite);
        const span = [Math.min(-1, ...all), Math.max(1, ...all)];
        grulensDraw.lines(picture, {steps: steps(), span, drawn, step: answers() > 1 ? state.step : null, grid: ink});
      };
      return card;
    }));
    for (const one of state.pins) one.draw();
  }

  function drawMap() {
    showInput();
    const drawn = values(), color = colorOf(), span = grulensDraw.ends(color, drawn, data.reaches[state.colors]), count = units(), order = rows();
    const where = new Map(order.map((unit, row) => [unit, row]));
    const step = answers() > 1 ? state.step : null, style = getComputedStyle(main);
    grulensDraw.map(canvas, {
      rows: count, steps: steps(), at: (row, t) => drawn[t * count + order[row]], color, span,
      chosen: state.units.map((unit) => where.get(unit)), times: runsOf(state.times), step, ink: style.getPropertyValue("--ink"),
    });
    const what = state.difference ? say("edited − baseline") : signalOf(state.signal).title;
    canvas.setAttribute("aria-label", say("{what} of {units} units over {steps} steps", {what, units: count, steps: steps()}));
    strip.hidden = !(answers() > 1);
    if (!strip.hidden) grulensDraw.bars(strip, {values: moves, color: "#E69F00", grid: style.getPropertyValue("--faint")});
    caption.textContent =
      say("{units} units by {order}, from the top; steps 0 to {last}.", {units: count, order: ORDERS[state.order], last: steps() - 1}) +
      (strip.hidden ? "" : head.scale === "value" ? say(" Below: how far the answer moved.")
        : say(" Below: how far the answer moved, in bits."));
    const unit = lookedAt(drawn), row = Float32Array.from({length: steps()}, (_, t) => drawn[t * count + unit]);
    tell("painted", {
      codes: Uint8Array.from(row, (value) => grulensDraw.code(value, span)), values: row, palette: color.palette,
      white: Uint8Array.from(color.white), ends: span.map((end) => number(end)), name: `${say("unit {unit}", {unit})} \u00b7 ${what}`,
    });
    tell("times", runsOf(state.times));
    tell("step", step ?? -1);
  }

  function draw() {
    selection.textContent = say("Selected: {units} · {steps}",
      {units: positions(chosenUnits(), "unit"), steps: positions(chosenSteps(), "step")});
    clear.disabled = !(state.units.length || state.times.length);
    modes.show();
    signalChoice.show();
    differenceBox.setAttribute("aria-pressed", String(state.difference));
    const size = [units() === 1 ? say("1 unit") : say("{n} units", {n: units()}),
      steps() === 1 ? say("1 step") : say("{n} steps", {n: steps()})];
    about.textContent = `${size.join(" × ")} · ${say("last run {ms} ms", {ms: Math.max(1, Math.round(spent))})}`;
    showSliders();
    showBeyond();
    showAnswer();
    showEdits();
    drawMap();
    showPins();
    showCell();
    units_.hidden = state.layer !== of;
    table?.mark(state.units);
  }
  function showLayer(name) {
    state.layer = name;
    state.units = [];
    if (!signalOf(state.signal)) state.signal = "h";
    if (!layer().orders[state.order]) state.order = "index";
    offer();
    offerSignals();
    draw();
  }

  const several = Object.keys(data.layers).length > 1;
  bar.append(made("h1", "", several ? data.model : data.title));
  if (several)
    bar.append(labelled(say("layer"), select(Object.keys(data.layers).map((name) => [name, name]), state.layer, showLayer)));
  bar.append(about);
  // the table, of the layer and the run that were saved
  const of = state.layer, units_ = made("details", "table");
  const table = data.table.length ? grulensTable(data.table, (unit, more) => chooseUnit(unit, more)) : null;
  if (table) {
    units_.open = true;
    units_.append(made("summary", "quiet", say("The units of {layer} in the run that was saved", {layer: of})), table);
  }
  // the cell, close up
  const cell = made("details", "cell"), cellTitle = made("span"), cellBody = made("div");
  const cellHead = made("summary", "quiet"), walk = made("div", "row");
  for (const [text, way] of [[`\u2190 ${say("step before")}`, -1], [`${say("step after")} \u2192`, 1]])
    walk.append(button(text, say("look at the cell one step on"), () => {
      go(state.at + way);
      draw();
    }));
  cellHead.append(cellTitle);
  cell.append(cellHead, walk, cellBody);
  cell.addEventListener("toggle", () => showCell());
  function showCell() {
    const unit = lookedAt(values()), t = state.at, token = state.tokens ? ` ${named(state.tokens[t])}` : "";
    cellTitle.textContent = say("The cell, close up: unit {unit} at step {step}{token}", {unit, step: t, token});
    if (!cell.open) return;
    const reads = data.network.layers.find((one) => one.name === state.layer).reads;
    const names = reads.flatMap((low) => Array.from({length: before.layers[low].units}, (_, unit) => say("{layer} unit {unit}", {layer: low, unit})));
    cellBody.replaceChildren(...grulensCell({
      ...network.closeUp(after, state.layer, t, unit), signals: layer().signals, colors: data.colors, number,
      named: (j) => names[j] ?? say("input {n}", {n: j}),
    }));
  }
  const notes = made("details", "notes");
  notes.append(made("summary", "quiet", say("This page runs the network by itself.")), ...data.notes.map((note) => made("p", "", note)));
  begin();
  // what a page made otherwise than the model is not shown as the model's
  const apart = grulensEngine.apart(before, data.recorded);
  if (!(apart <= data.tolerance)) {
    main.replaceChildren(made("p", "failed", say("This browser makes other numbers than the model did (apart by {n}): nothing is shown.", {n: number(apart, 2)}), {role: "alert"}));
    return;
  }
  main.replaceChildren(bar, ...data.warnings.map((warning) => made("p", "note", warning)), notes, ...(head ? [slim] : []), desk, cell, ...(table ? [units_] : []));
  nameSteps();
  offer();
  offerSignals();
  hint();
  draw();
  let resized = 0;
  new ResizeObserver(() => {
    resized ||= requestAnimationFrame(() => {
      resized = 0;
      drawMap();
      for (const one of state.pins) one.draw?.();
    });
  }).observe(main);
  const show = (isDark) => {
    theme(isDark);
    draw();
  };
  dark.addEventListener("change", () => show(dark.matches));
  // in a frame of a notebook, whose theme may be another than the system's
  window.addEventListener("message", ({source, data: said}) => {
    if (source === window.parent && typeof said?.grulens?.dark === "boolean") show(said.grulens.dark);
  });
  // for whoever asks the page from a console or a test
  window.grulens = {state, change, span: () => grulensDraw.ends(colorOf(), values(), data.reaches[state.colors]), runs: () => ({before, after}), network, answer: (made, t) => answer(made, t)};
})();
