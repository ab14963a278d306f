"""What a standalone page does by itself where the notebook asks Python: constants, no data."""

from __future__ import annotations

from typing import Final

# Another signal or run: the picture of it, its map and its words; then the strip follows.
SHOW: Final = """
const key = `${run.value} ${signal.value}`;
const map = run.value == runs[2] ? "difference" : signal.value;
const at = store.data.key.indexOf(key), d = {...image.data};
for (const name of ["low", "high", "over", "under", "digits", "image"])
  d[name] = [store.data[name][at]];
mapper.palette = palettes[map];
bar_mapper.setv({palette: colors[map], low: d.low[0], high: d.high[0]});
bar.title = store.data.bar[at];
title.text = store.data.title[at];
image.data = d;
"""

# The strip shows the first selected unit; the heatmap outlines all of them.
FOLLOW: Final = """
const d = image.data, height = rows.data.unit.length, chosen = new Set(table.selected.indices);
const marks = {left: [], right: [], top: [], bottom: []};
let first = -1;
for (let i = 0; i < height; i++) {
  const units = [];
  for (let j = 0; j < d.row_block[0]; j++) units.push(i * d.row_block[0] + j);
  if (!units.some((u) => chosen.has(u))) continue;
  if (first < 0) first = i;
  marks.left.push(-0.5); marks.right.push(d.steps[0] - 0.5);
  marks.top.push(units[0] - 0.5); marks.bottom.push(units.at(-1) + 0.5);
}
unit_marks.data = marks;
const shown = Math.max(first, 0), picture = d.image[0], width = picture.shape[1];
const codes = Array.prototype.slice.call(picture, shown * width, (shown + 1) * width);
// the picture's own array type, with its shape
const line = new picture.constructor(new Uint8Array(codes), [1, width]);
const map = run.value == runs[2] ? "difference" : signal.value;
cells.data = {...cells.data, white: codes.map((code) => ink[map][code])};
strip_mapper.palette = palettes[map];
const unit = rows.data.unit[shown];
const name = typeof unit == "string" ? unit : unit_name.replace("{unit}", unit);
strip.data = {...d, image: [line], name: [name], numbered: strip.data.numbered};
"""

TAP_UNIT: Final = """
const row = Math.round(cb_obj.y);
if (row < 0 || row >= image.data.units[0]) return;
const held = cb_obj.modifiers;
const chosen = new Set(held?.shift || held?.ctrl ? table.selected.indices : []);
if (!chosen.delete(row)) chosen.add(row);
table.selected.indices = [...chosen];
"""
DRAG: Final = """
const g = cb_obj.geometry;
if (!cb_obj.final || g.type != "rect") return;
const low = Math.max(0, Math.round(Math.min(g.y0, g.y1)));
const high = Math.min(image.data.units[0] - 1, Math.round(Math.max(g.y0, g.y1)));
table.selected.indices = Array.from({length: high - low + 1}, (_, i) => low + i);
"""
TAP_STEP: Final = """
const step = Math.round(cb_obj.x);
if (step < 0 || step >= steps || steps === 1) return;
mark.data = {step: [step]};
const from = step * count, to = from + count;
if (!count || to > outputs.data.label.length) return;
bars.data = {...bars.data, label: outputs.data.label.slice(from, to),
  before: outputs.data.before.slice(from, to), after: outputs.data.after.slice(from, to)};
title.text = at_step.replace("{step}", step);
"""
