// A Bokeh document in the page's colours.
//
// BokehJS draws text, axes and grounds on a canvas, where no style sheet reaches: those colours are
// set on the models, from JupyterLab's --jp-* variables, without telling Python. What has HTML of its
// own (tables, sliders, buttons, tool bars) reads CSS variables inside a shadow root: a style sheet
// added to each such model points them at the page's, and follows the theme by itself.
// A colour set in Python is the user's, and stays.

const TEXT = "--jp-content-font-color1";
const GROUND = "--jp-layout-color0";
const LINE = "--jp-border-color1";
const FAINT = "--jp-border-color2";

const CANVAS_COLORS = {
  background_fill_color: GROUND,
  border_fill_color: GROUND,
  outline_line_color: LINE,
  axis_label_text_color: TEXT,
  major_label_text_color: TEXT,
  group_text_color: TEXT,
  subgroup_text_color: TEXT,
  axis_line_color: LINE,
  major_tick_line_color: LINE,
  minor_tick_line_color: LINE,
  grid_line_color: FAINT,
  label_text_color: TEXT,
  title_text_color: TEXT,
};
const HAS_GROUND = /^(Figure|Plot|GridPlot|.*Axis|Grid|Legend|.*ColorBar|ScaleBar)$/;
const IS_TEXT = /^(Title|Label|LabelSet|Text)$/;

const SHADOW_CSS = `
:host {
  color: var(--jp-content-font-color1);
  --color: var(--jp-content-font-color1);
  --background-color: var(--jp-layout-color0);
  --surface-background-color: var(--jp-layout-color2);
  --disabled-background-color: var(--jp-layout-color2);
  --hover-color: var(--jp-layout-color2);
  --border-color: var(--jp-border-color1);
  --divider-color: var(--jp-border-color2);
  --disabled-color: var(--jp-content-font-color2);
  --placeholder-color: var(--jp-content-font-color2);
  --shortcut-color: var(--jp-content-font-color2);
  --icon-color: var(--jp-content-font-color2);
  --icon-color-disabled: var(--jp-border-color1);
  --inverted-color: var(--jp-content-font-color1);
  --active-bg: color-mix(in srgb, var(--jp-brand-color1) 35%, var(--jp-layout-color0));
  --active-fg: var(--jp-content-font-color1);
  --inactive-bg: var(--jp-layout-color2);
  --inactive-fg: var(--jp-content-font-color1);
  --special: var(--jp-layout-color2);
  --odd: var(--jp-layout-color1);
  --muted-text: var(--jp-content-font-color2);
  --selected: color-mix(in srgb, var(--jp-brand-color1) 35%, var(--jp-layout-color0));
}
:host(:focus-visible), :focus-visible {
  outline: 2px solid var(--jp-brand-color1) !important;
  outline-offset: -2px;
}
.slick-row, .slick-cell, .slick-header-column { color: inherit; }
.slick-row.even { background: var(--jp-layout-color0); }
.slick-header-columns, .slick-header-column { background: var(--jp-layout-color2); }
.slick-header-column { border-right-color: var(--jp-border-color1) !important; }
.slick-row .slick-cell.selected, .slick-row.selected .slick-cell.bk-cell-index {
  background: var(--selected);
  color: inherit;
}
.slick-cell.active { border-color: var(--jp-brand-color1); }
.bk-btn-default { color: var(--jp-content-font-color1); background: var(--jp-layout-color2); }
`;

// what we set, so that it can be told from what Python set since
const painted = new WeakMap();

function same(a, b) {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}

function paintModel(model, color) {
  const mine = painted.get(model) ?? {};
  const set = {};
  const wish = (attr, variable) => {
    if (!(attr in model.properties) || !color(variable)) return;
    const property = model.property(attr);
    const value = property.get_value();
    const users = attr in mine ? !same(value, mine[attr]) : property.dirty;
    const drawn = value !== null && value?.value !== null; // what has no colour keeps none
    if (!users && drawn) set[attr] = color(variable);
  };
  if (HAS_GROUND.test(model.type)) {
    for (const [attr, variable] of Object.entries(CANVAS_COLORS)) wish(attr, variable);
  }
  if (model.type === "Legend") wish("border_line_color", LINE);
  if (IS_TEXT.test(model.type)) wish("text_color", TEXT);
  if ("stylesheets" in model.properties && !model.stylesheets.includes(SHADOW_CSS)) {
    // before the user's own sheets, which then have the last word
    model.setv({ stylesheets: [SHADOW_CSS, ...model.stylesheets] }, { sync: false });
  }
  if (!Object.keys(set).length) return;
  model.setv(set, { sync: false });
  for (const attr of Object.keys(set)) mine[attr] = model.property(attr).get_value();
  painted.set(model, mine);
}

function paint(doc) {
  const style = getComputedStyle(document.body);
  const color = (variable) => style.getPropertyValue(variable).trim();
  if (!color(TEXT)) return; // not a Jupyter page: Bokeh's own colours
  for (const model of doc.all_models) paintModel(model, color);
}

// BokehJS paints over what it painted before; where a figure ends between two pixels, the former
// theme's ground would shine through
function wipe(root) {
  for (const el of root.querySelectorAll("*")) {
    if (el.shadowRoot) wipe(el.shadowRoot);
    const context = el instanceof HTMLCanvasElement && el.getContext("2d");
    if (!context) continue;
    context.save();
    context.resetTransform();
    context.clearRect(0, 0, el.width, el.height);
    context.restore();
  }
}

function onThemeChange(callback) {
  const observer = new MutationObserver(() => requestAnimationFrame(callback));
  const attributeFilter = ["data-jp-theme-name", "data-jp-theme-light"];
  observer.observe(document.body, { attributes: true, attributeFilter });
  return () => observer.disconnect();
}
