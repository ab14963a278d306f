/* A recurrent network that runs in the page: the cells' steps, edits inside them, a linear readout.

   Plain loops over typed arrays. A run is one row of a batch: rows know nothing of one another, so
   padding is a row that ends sooner. Positions are those of the row as it is written down; a reverse
   layer reads them from the row's own end. Arrays are flat, step by step: value of unit u at position
   t is array[t * units + u]. Weights are float32 (or float16, widened); sums and states are float64,
   so that what the page shows is nearer to the exact number than a float32 run is.

   An edit acts as it does in grulens: additions before an activation first, then the other edits of
   that signal in the order given; r is edited before n is made of it; what is set forgets what was
   there, not even NaN stays of it. A changed run begins at the first step, in reading order, at which
   something of a layer differs from its unedited run.

   grulens/widgets/session/described.py writes the description that `Network` reads. */
"use strict";
const grulensEngine = (() => {
  // Activations by the names that grulens gives them; each makes a function of one number.
  const ACTIVATIONS = {
    sigmoid: () => (a) => 1 / (1 + Math.exp(-a)),
    tanh: () => Math.tanh,
    relu: () => (a) => (a <= 0 ? 0 : a), // NaN stays NaN
    hardsigmoid: () => (a) => Math.min(1, Math.max(0, a / 6 + 0.5)),
    identity: () => (a) => a,
    HardSigmoid: ({alpha, beta}) => (a) => Math.min(1, Math.max(0, alpha * a + beta)),
    Affine: ({alpha, beta}) => (a) => alpha * a + beta,
    ScaledTanh: ({alpha, beta}) => (a) => alpha * Math.tanh(beta * a),
    LeakyRelu: ({alpha}) => (a) => (a > 0 ? a : alpha * a),
    ThresholdedRelu: ({alpha}) => (a) => (a > alpha ? a : 0),
    Elu: ({alpha}) => (a) => (a > 0 ? a : alpha * Math.expm1(a)),
    Clipped: ({activation, limit}) => {
      const inner = activationOf(activation);
      return (a) => inner(Math.min(limit, Math.max(-limit, a)));
    },
  };

  function activationOf(described) {
    if (!Object.hasOwn(ACTIVATIONS, described.name))
      throw new Error(`this page does not know the activation ${described.name}`);
    return ACTIVATIONS[described.name](described);
  }

  // out[o + i] = bias[i] + sum over j of weight[from + i, j] times value[v + j], for i below `rows`
  function product(out, o, weight, from, rows, bias, value, v, width) {
    for (let i = 0; i < rows; i++) {
      let at = (from + i) * width, j = 0;
      let a = 0, b = 0, c = 0, d = 0; // four sums that do not wait for one another
      for (; j + 3 < width; j += 4, at += 4) {
        a += weight[at] * value[v + j];
        b += weight[at + 1] * value[v + j + 1];
        c += weight[at + 2] * value[v + j + 2];
        d += weight[at + 3] * value[v + j + 3];
      }
      for (; j < width; j++, at++) a += weight[at] * value[v + j];
      out[o + i] = a + b + (c + d) + (bias ? bias[from + i] : 0);
    }
  }

  /* What the edits of one layer do to a run of `steps` positions, in one map a signal.

     An edit is {layer, signal, how, value, units, steps}: how is "set", "scale", "add" or "before"
     (added to the pre-activation); value a number, one for every unit of the layer, or one for every
     position and unit; units and steps lists, or null for all. */
  class Program {
    constructor(edits, steps, units, signals) {
      this.changed = new Uint8Array(steps);
      this.before = {};
      this.after = {};
      for (const edit of edits) {
        const signal = signals.find((s) => s.name === edit.signal);
        if (!signal)
          throw new Error(`layer ${edit.layer} has no signal ${edit.signal} that can be edited; ` +
            `it has ${signals.map((s) => s.name).join(", ")}`);
        if (!["set", "scale", "add", "before"].includes(edit.how))
          throw new Error(`an edit is set, scale, add or before, not ${edit.how}`);
        if (edit.how === "before" && !signal.activated)
          throw new Error(`${edit.signal} comes out of no activation: add to it instead`);
        const size = edit.value.length;
        if (size !== undefined && size !== units && size !== steps * units)
          throw new Error(`an edit of ${edit.signal} needs 1, ${units} or ${steps * units} ` +
            `numbers, got ${size}`);
        const of = places(edit.units, units, "unit"), at = places(edit.steps, steps, "step");
        const map = edit.how === "before"
          ? (this.before[edit.signal] ??= new Float64Array(steps * units))
          : (this.after[edit.signal] ??= {
              factor: new Float64Array(steps * units).fill(1),
              offset: new Float64Array(steps * units),
            });
        for (const t of at) {
          this.changed[t] = 1;
          for (const u of of) {
            const i = t * units + u;
            const value = size === undefined ? edit.value
              : size === steps * units && steps > 1 ? edit.value[i] : edit.value[u];
            if (edit.how === "before") map[i] += value;
            else if (edit.how === "add") map.offset[i] += value;
            else if (edit.how === "set") { map.factor[i] = 0; map.offset[i] = value; }
            else if (value === 0) { map.factor[i] = 0; map.offset[i] = 0; }
            else { map.factor[i] *= value; map.offset[i] *= value; }
          }
        }
      }
    }

    // The value of a signal that stands at `i`, after its edits.
    edited(signal, i, value) {
      const map = this.after[signal];
      if (!map) return value;
      // where a signal is set, what it was does not count, not even NaN
      return map.factor[i] === 0 ? map.offset[i] : map.factor[i] * value + map.offset[i];
    }

    shifted(signal, i, pre) {
      const map = this.before[signal];
      return map ? pre + map[i] : pre;
    }
  }

  const NO_EDITS = {edited: (_, __, value) => value, shifted: (_, __, pre) => pre};

  // Each place once, whatever was named twice; a place that is not there is an error.
  function places(chosen, count, word) {
    if (chosen === null || chosen === undefined) return Array.from({length: count}, (_, i) => i);
    const found = [...new Set(chosen)];
    for (const i of found)
      if (!Number.isInteger(i) || i < 0 || i >= count)
        throw new Error(`there is no ${word} ${i}: there are ${count}`);
    return found;
  }

  /* The steps of each kind. `step` makes position t: `own` holds the layer's signals, `pre` the
     products of its input, `h` and `c` the state before and after, which it overwrites. */
  const KINDS = {
    GRU: {
      blocks: 3,
      signals: [["r", true], ["z", true], ["n", true], ["h", false]],
      step(layer, program, own, pre, t, h) {
        const {units: U, recurrent: W, recurrentBias: b, gate, candidate, work} = layer;
        const i0 = t * U, p0 = 3 * i0, after = layer.reset_after;
        product(work, 0, W, 0, after ? 3 * U : 2 * U, b, h, 0, U);
        for (let u = 0; u < U; u++) {
          const i = i0 + u;
          const r = gate(program.shifted("r", i, pre[p0 + u] + work[u]));
          own.r[i] = program.edited("r", i, r);
          const z = gate(program.shifted("z", i, pre[p0 + U + u] + work[U + u]));
          own.z[i] = program.edited("z", i, z);
        }
        if (!after) {
          for (let u = 0; u < U; u++) layer.gated[u] = own.r[i0 + u] * h[u];
          product(work, 2 * U, W, 2 * U, U, b, layer.gated, 0, U);
        }
        for (let u = 0; u < U; u++) {
          const i = i0 + u, inner = work[2 * U + u];
          const sum = pre[p0 + 2 * U + u] + (after ? own.r[i] * inner : inner);
          own.n[i] = program.edited("n", i, candidate(program.shifted("n", i, sum)));
          const z = own.z[i], n = own.n[i];
          // as torch.lerp rounds, and as it treats a state that is no finite number
          const mixed = z < 0.5 ? n + z * (h[u] - n) : h[u] - (h[u] - n) * (1 - z);
          h[u] = own.h[i] = program.edited("h", i, mixed);
        }
      },
    },
    RNN: {
      blocks: 1,
      signals: [["a", false], ["h", false]],
      step(layer, program, own, pre, t, h) {
        const {units: U, activation, work} = layer;
        product(work, 0, layer.recurrent, 0, U, layer.recurrentBias, h, 0, U);
        for (let u = 0; u < U; u++) {
          const i = t * U + u;
          own.a[i] = program.edited("a", i, pre[i] + work[u]);
          h[u] = own.h[i] = program.edited("h", i, activation(own.a[i]));
        }
      },
    },
    LSTM: {
      blocks: 4,
      signals: [["i", true], ["f", true], ["g", true], ["o", true], ["c", false], ["h", false]],
      step(layer, program, own, pre, t, h, c) {
        const {units: U, work} = layer, sigmoid = layer.sigmoid, p0 = 4 * t * U;
        product(work, 0, layer.recurrent, 0, 4 * U, layer.recurrentBias, h, 0, U);
        for (let u = 0; u < U; u++) {
          const i = t * U + u;
          ["i", "f", "g", "o"].forEach((name, block) => {
            const sum = pre[p0 + block * U + u] + work[block * U + u];
            const argument = program.shifted(name, i, sum);
            const value = name === "g" ? Math.tanh(argument) : sigmoid(argument);
            own[name][i] = program.edited(name, i, value);
          });
          c[u] = own.c[i] = program.edited("c", i, own.f[i] * c[u] + own.i[i] * own.g[i]);
          h[u] = own.h[i] = program.edited("h", i, own.o[i] * Math.tanh(c[u]));
        }
      },
    },
  };

  /* The network that a description and its arrays say. `run` gives every layer's signals and the
     answer; `before` is a run of the same input that this one differs from by its edits only. */
  class Network {
    constructor(description, arrays) {
      const array = (name) => (name === null || name === undefined ? null : arrays[name]);
      this.input = {...description.input, table: array(description.input.table)};
      this.layers = description.layers.map((told) => {
        if (!Object.hasOwn(KINDS, told.kind))
          throw new Error(`this page does not know the cell ${told.kind}`);
        const kind = KINDS[told.kind];
        return {
          ...told,
          form: kind,
          signals: kind.signals.map(([name, activated]) => ({name, activated})),
          weight: array(told.weight_ih), bias: array(told.bias_ih),
          recurrent: array(told.weight_hh), recurrentBias: array(told.bias_hh),
          start: array(told.start), // the state before the first step, or null for zeros
          gate: told.gate && activationOf(told.gate),
          candidate: told.candidate && activationOf(told.candidate),
          activation: told.activation && activationOf(told.activation),
          sigmoid: ACTIVATIONS.sigmoid(),
          work: new Float64Array(kind.blocks * told.units),
          gated: new Float64Array(told.units),
        };
      });
      const head = description.head;
      this.head = head && {
        ...head,
        bias: array(head.bias),
        reads: head.reads.map((part) => ({...part, weight: array(part.weight)})),
      };
    }

    // What the lowest layers read (position by position): rows of the table, or the numbers given.
    inputs(given) {
      const {table, size} = this.input;
      if (!table) {
        if (given.length % size) throw new Error(`a step has ${size} numbers`);
        return Float64Array.from(given);
      }
      const out = new Float64Array(given.length * size), rows = table.length / size;
      given.forEach((token, t) => {
        if (!Number.isInteger(token) || token < 0 || token >= rows)
          throw new Error(`there is no token ${token}: the vocabulary has ${rows}`);
        for (let j = 0; j < size; j++) out[t * size + j] = table[token * size + j];
      });
      return out;
    }

    run(given, edits = [], before = null) {
      for (const edit of edits)
        if (!this.layers.some((layer) => layer.name === edit.layer))
          throw new Error(`there is no layer ${edit.layer}`);
      const x = before ? before.x : this.inputs(given);
      const steps = x.length / this.input.size;
      const made = {x, steps, layers: {}};
      for (const layer of this.layers) {
        const own = edits.filter((edit) => edit.layer === layer.name);
        made.layers[layer.name] = this.#layer(layer, made, own, before);
      }
      made.answer = this.head && this.#answer(made);
      return made;
    }

    #layer(layer, made, edits, before) {
      const {units: U, width, form} = layer, steps = made.steps, last = before?.layers[layer.name];
      const program = edits.length ? new Program(edits, steps, U, layer.signals) : null;
      // which positions of its input are not what they were
      const moved = new Uint8Array(steps).fill(last ? 0 : 1);
      if (last) for (const name of layer.reads) made.layers[name].moved.forEach((m, t) => { moved[t] |= m; });
      const order = Array.from({length: steps}, (_, k) => (layer.reverse ? steps - 1 - k : k));
      let first = order.findIndex((t) => moved[t] || program?.changed[t]);
      if (first < 0) return {...last, moved};
      const own = {};
      for (const {name} of layer.signals)
        own[name] = last ? last.signals[name].slice() : new Float64Array(steps * U);
      const G = form.blocks * U;
      const pre = last ? last.pre.slice() : new Float64Array(steps * G);
      const x = new Float64Array(width);
      for (let t = 0; t < steps; t++) {
        if (!moved[t]) continue;
        if (!layer.reads.length) x.set(made.x.subarray(t * width, (t + 1) * width));
        let at = 0;
        for (const name of layer.reads) {
          const below = made.layers[name], n = below.units;
          x.set(below.signals.h.subarray(t * n, (t + 1) * n), at);
          at += n;
        }
        product(pre, t * G, layer.weight, 0, G, layer.bias, x, 0, width);
      }
      // the state before the first of these steps, and from there on
      const h = new Float64Array(U), c = new Float64Array(U);
      if (first > 0) {
        const from = order[first - 1] * U;
        h.set(own.h.subarray(from, from + U));
        if (own.c) c.set(own.c.subarray(from, from + U));
      } else if (layer.start) {
        h.set(layer.start.subarray(0, U));
        if (own.c) c.set(layer.start.subarray(U));
      }
      for (let k = first; k < steps; k++)
        form.step(layer, program ?? NO_EDITS, own, pre, order[k], h, c);
      const felt = new Uint8Array(steps).fill(last ? 0 : 1);
      if (last) {
        const was = last.signals.h;
        for (let i = 0; i < was.length; i++)
          if (!Object.is(was[i], own.h[i])) felt[Math.floor(i / U)] = 1;
      }
      return {signals: own, pre, units: U, moved: felt, program};
    }

    /* One unit at one position: what adds up to each of its pre-activations, and the state before.
       Where r acts after the product, each term of n's recurrent part carries the r of this unit;
       where it acts before, the r of the unit that the term comes from. */
    closeUp(made, name, t, unit) {
      const layer = this.layers.find((one) => one.name === name), {units: U, width, form} = layer;
      const {signals, program} = made.layers[name], i = t * U + unit;
      const x = layer.reads.length
        ? layer.reads.flatMap((low) => {
            const below = made.layers[low];
            return [...below.signals.h.subarray(t * below.units, (t + 1) * below.units)];
          })
        : made.x.subarray(t * width, (t + 1) * width);
      const last = layer.reverse ? t + 1 : t - 1, from = last >= 0 && last < made.steps;
      const before = (state, at) => Array.from({length: U}, (_, u) =>
        from ? signals[state][last * U + u] : layer.start ? layer.start[at + u] : 0);
      const h = before("h", 0);
      const parts = form.signals.slice(0, form.blocks).map(([signal], block) => {
        const row = block * U + unit, isN = layer.kind === "GRU" && signal === "n";
        const own = isN && layer.reset_after ? signals.r[i] : 1;
        const by = (u) => (isN && !layer.reset_after ? signals.r[t * U + u] : own);
        const inputs = Array.from(x, (value, j) => layer.weight[row * width + j] * value);
        const units = h.map((value, u) => layer.recurrent[row * U + u] * value * by(u));
        const biases = [layer.bias?.[row] ?? 0, own * (layer.recurrentBias?.[row] ?? 0)];
        const shift = program?.before[signal]?.[i] ?? 0;
        const value = [...inputs, ...units, ...biases, shift].reduce((a, b) => a + b, 0);
        return {name: signal, inputs, units, biases, shift, value, signal: signals[signal][i]};
      });
      const edited = (signal) => {
        const map = program?.after[signal];
        return Boolean(map) && (map.factor[i] !== 1 || map.offset[i] !== 0);
      };
      const names = layer.signals.map((one) => one.name);
      return {
        parts: parts.map((part) => ({...part, edited: edited(part.name)})),
        before: {
          h: h[unit], c: signals.c ? before("c", U)[unit] : null,
          signals: Object.fromEntries(names.map((one) => [one, signals[one][i]])),
          edited: Object.fromEntries(names.map((one) => [one, edited(one)])),
        },
      };
    }

    // The readout, class by class: of every position, or one of the states that are read last.
    #answer(made) {
      const {bias, reads, classes, each} = this.head, count = each ? made.steps : 1;
      const out = new Float64Array(count * classes), part = new Float64Array(classes);
      for (let t = 0; t < count; t++) {
        if (bias) out.set(bias, t * classes);
        for (const {layer: name, weight, position} of reads) {
          const {signals, units} = made.layers[name];
          const at = each ? t : position === "first" ? 0 : made.steps - 1;
          product(part, 0, weight, 0, classes, null, signals.h, at * units, units);
          for (let k = 0; k < classes; k++) out[t * classes + k] += part[k];
        }
      }
      return out;
    }
  }

  // What is done with the numbers of the linear readout, by the name that the page is told.
  function finished(how, values) {
    if (how === "sigmoid") return Array.from(values, (value) => 1 / (1 + Math.exp(-value)));
    if (how === "none") return [...values];
    const top = Math.max(...values), powers = Array.from(values, (value) => Math.exp(value - top));
    const sum = powers.reduce((a, b) => a + b, 0);
    if (how === "log_softmax") return Array.from(values, (value) => value - top - Math.log(sum));
    return powers.map((power) => power / sum);
  }

  /* Arrays of the page: base64 of little-endian float32 ("f4") or float16 ("f2"). */
  function unpacked(packed) {
    const arrays = {};
    for (const [name, {dtype, data}] of Object.entries(packed)) {
      const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
      const view = new DataView(bytes.buffer), size = dtype === "f2" ? 2 : 4;
      const read = dtype === "f2" ? (i) => half(view.getUint16(i, true)) : (i) => view.getFloat32(i, true);
      arrays[name] = Float32Array.from({length: bytes.length / size}, (_, i) => read(i * size));
    }
    return arrays;
  }

  function half(bits) {
    const sign = bits & 0x8000 ? -1 : 1, power = (bits >> 10) & 31, rest = bits & 1023;
    if (power === 31) return rest ? NaN : sign * Infinity;
    return sign * (power ? 2 ** (power - 15) * (1 + rest / 1024) : 2 ** -14 * (rest / 1024));
  }

  // How far the last states of a run are from those that the model had, by layer, in parts of the
  // largest; NaN where one is no number.
  function apart(run, recorded) {
    return Math.max(...Object.entries(recorded).map(([name, states]) => {
      const {signals: {h}, units} = run.layers[name], from = h.length - units;
      const largest = Math.max(1, ...states.map(Math.abs));
      return Math.max(...states.map((value, u) => Math.abs(value - h[from + u]))) / largest;
    }));
  }

  return {Network, Program, unpacked, finished, apart, ACTIVATIONS: Object.keys(ACTIVATIONS)};
})();
