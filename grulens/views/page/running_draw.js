/* How the page that runs draws: the map of a signal, lines of a pinned unit, bars along the steps.

   Colours come as the palettes of grulens.views.figure.palette, and values become colours as in
   raster.py: a cell of the picture is its value farthest from the middle of the map. */
"use strict";
const grulensDraw = (() => {
  const NAN = 253;

  // the ends of a map: those of the signal, or symmetric and rounded up where it has none
  function ends(color, values, over = null) {
    const reached = over && reach(color, values, over);
    if (reached) return reached;
    if (color.ends) return color.ends;
    let top = color.floor;
    for (const value of values) if (Number.isFinite(value)) top = Math.max(top, Math.abs(value));
    const power = 10 ** Math.floor(Math.log10(top));
    const end = [1, 2, 5, 10].map((m) => m * power).find((m) => m * (1 + 1e-6) >= top);
    return [color.fromZero ? 0 : -end, end];
  }

  // as far as the values go from one share of them to another, both ways alike where zero is white
  function reach(color, values, over) {
    const sorted = Float64Array.from(values).filter(Number.isFinite).sort();
    if (!sorted.length) return null;
    const [low, high] = over.map((share) => {
      const at = share * (sorted.length - 1), below = Math.floor(at), above = Math.min(below + 1, sorted.length - 1);
      return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
    });
    const far = Math.max(Math.abs(low), Math.abs(high));
    const made = color.diverging ? [-far, far] : [low, high];
    return made[1] - made[0] < color.floor / 100 ? null : made;
  }

  function code(value, [low, high]) {
    if (Number.isNaN(value)) return NAN;
    return Math.max(0, Math.min(252, Math.round((value - low) * 252 / (high - low))));
  }

  function sized(canvas, width, height) {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(width * ratio));
    canvas.height = Math.max(1, Math.round(height * ratio));
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    return pen;
  }

  // a colour as a pixel's four bytes, whichever way this machine writes a number
  function shade(hex) {
    const bytes = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    return new Uint32Array(Uint8Array.of(...bytes, 255).buffer)[0];
  }

  /* The map: `at(row, step)` gives a value; rows stand below each other. Marks are drawn over it. */
  function map(canvas, {rows, steps, at, color, span, chosen, times, step, ink}) {
    const width = canvas.clientWidth, height = canvas.clientHeight || 230;
    const pen = sized(canvas, width, height), [low, high] = span, middle = (low + high) / 2;
    const over = Math.max(1, Math.ceil(rows / canvas.height)), across = Math.max(1, Math.ceil(steps / canvas.width));
    const down = Math.ceil(rows / over), along = Math.ceil(steps / across);
    const image = new ImageData(along, down), pixels = new Uint32Array(image.data.buffer);
    const shades = Uint32Array.from(color.palette, shade);
    for (let y = 0; y < down; y++)
      for (let x = 0; x < along; x++) {
        let far = middle;
        for (let row = y * over; row < Math.min(rows, (y + 1) * over); row++)
          for (let t = x * across; t < Math.min(steps, (x + 1) * across); t++) {
            const value = at(row, t);
            if (!(Math.abs(value - middle) <= Math.abs(far - middle))) far = value;
          }
        pixels[y * along + x] = shades[code(far, span)];
      }
    const small = document.createElement("canvas");
    [small.width, small.height] = [along, down];
    small.getContext("2d").putImageData(image, 0, 0);
    pen.imageSmoothingEnabled = false;
    const wide = width * along * across / steps, tall = height * down * over / rows;
    pen.drawImage(small, 0, 0, wide, tall);
    const dx = width / steps, dy = height / rows;
    for (const [first, last] of times) {
      pen.fillStyle = ink;
      pen.fillRect(first * dx, 0, (last - first + 1) * dx, 2);
      pen.fillRect(first * dx, height - 2, (last - first + 1) * dx, 2);
    }
    for (const row of chosen) {
      // a thin row has arrows at its ends, which hide nothing of it; a tall one a frame
      if (dy < 6) {
        for (const [x, tip] of [[0, 9], [width, width - 9]]) {
          pen.beginPath();
          pen.moveTo(x, (row + 0.5) * dy - 5);
          pen.lineTo(tip, (row + 0.5) * dy);
          pen.lineTo(x, (row + 0.5) * dy + 5);
          pen.closePath();
          pen.fillStyle = "#fff";
          pen.fill();
          pen.strokeStyle = "#000";
          pen.lineWidth = 1.5;
          pen.stroke();
        }
        continue;
      }
      pen.lineWidth = 1;
      pen.strokeStyle = "#000";
      pen.strokeRect(0.5, row * dy + 0.5, width - 1, dy - 1);
      pen.strokeStyle = "#fff";
      pen.strokeRect(1.5, row * dy + 1.5, width - 3, dy - 3);
    }
    if (step !== null) {
      pen.fillStyle = "#000";
      pen.fillRect((step + 0.5) * dx - 1.5, 0, 3, height);
      pen.fillStyle = "#E69F00";
      pen.fillRect((step + 0.5) * dx - 0.5, 0, 1, height);
    }
  }

  // lines over the steps, each {values, color, width, dash}
  function lines(canvas, {steps, span: [low, high], drawn, step, grid}) {
    const width = canvas.clientWidth, height = canvas.clientHeight || 72;
    const pen = sized(canvas, width, height);
    const x = (t) => (t + 0.5) * width / steps, y = (v) => 3 + (height - 6) * (high - v) / (high - low);
    pen.fillStyle = grid;
    if (low < 0 && high > 0) pen.fillRect(0, y(0), width, 1);
    if (step !== null) pen.fillRect(x(step), 0, 1, height);
    for (const {values, color, thick, dash} of drawn) {
      pen.strokeStyle = color;
      pen.lineWidth = thick;
      pen.setLineDash(dash);
      pen.beginPath();
      let down = false;
      values.forEach((value, t) => {
        if (!Number.isFinite(value)) down = false;
        else if (down) pen.lineTo(x(t), y(value));
        else {
          pen.moveTo(x(t), y(value));
          down = true;
        }
      });
      if (steps === 1) pen.lineTo(x(0) + 3, y(values[0]));
      pen.stroke();
    }
  }

  // bars of numbers along the steps, up and down from zero
  function bars(canvas, {values, color, grid}) {
    const width = canvas.clientWidth, height = canvas.clientHeight || 40;
    const pen = sized(canvas, width, height), dx = width / values.length;
    const most = Math.max(1e-9, ...values.map(Math.abs).filter(Number.isFinite));
    const signed = values.some((value) => value < 0), base = signed ? height / 2 : height - 1;
    pen.fillStyle = color;
    values.forEach((value, t) => {
      const tall = (signed ? height / 2 - 1 : height - 2) * value / most;
      pen.fillRect(t * dx + Math.min(1, dx / 8), base - Math.max(tall, 0), Math.max(1, dx - 1), Math.abs(tall));
    });
    pen.fillStyle = grid;
    pen.fillRect(0, base, width, 1);
  }

  return {ends, code, map, lines, bars};
})();
