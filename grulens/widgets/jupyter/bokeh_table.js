// A table of BokehJS as wide as its place: what every table tagged "fits" does beyond BokehJS 3.9.
//
// - Columns fill the width. Where there is too little, those with the highest fold number go first,
//   and a button under the table brings them back: each view by itself.
// - The order of the rows is in the tags of the table's CDSView, [[field, ascending], ...], so that
//   it outlives new columns, and Python knows it. NaN stands last either way.
// - Roles and names, and keys: in the head ← → and Enter; in the rows ↑ ↓ from the first on.
//
// A column's tags: [fold, least width]; 0 never goes. Internal names used here: DataTableView's
// _render_table, updateGrid, _after_resize, _after_layout, _in_selection_update, grid, data,
// wrapper_el.

const ARROW = 14; // px that the arrow of a sorted column takes beside its title
const GROW = 1.3; // so much wider numbers stand before the rest goes to the bars of the state

// the same order as Python's UnitTable.order
function compare(a, b, sign) {
  if (typeof a === "number" && typeof b === "number") {
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return sign * ((a > b) - (a < b));
  }
  const [one, other] = [`${a}`.toLowerCase(), `${b}`.toLowerCase()];
  return sign * ((one > other) - (one < other) || (`${a}` > `${b}`) - (`${a}` < `${b}`));
}

function sortRows(data, columns) {
  const of = columns.map(({ sortCol, sortAsc }) => [data.source.data[sortCol.field], sortAsc ? 1 : -1]);
  data.index.sort((i, j) => {
    for (const [values, sign] of of) {
      const found = values ? compare(values[i], values[j], sign) : 0;
      if (found) return found;
    }
    return i - j;
  });
}

const total = (columns, width) => columns.reduce((sum, column) => sum + width(column), 0);

// copies of the columns that stand in so much room, with their widths
function arrange(all, room, unfolded, sorted) {
  const shown = all.map((column) => ({ ...column }));
  for (const column of shown) if (sorted.has(column.field)) column.usual += ARROW;
  const least = (column) => (column.field === "bars" ? column.least : column.usual);
  while (!unfolded && total(shown, least) > room) {
    const fold = (column) => (sorted.has(column.field) ? 0 : column.fold);
    const most = Math.max(...shown.map(fold));
    if (most <= 0) break;
    shown.splice(shown.findLastIndex((column) => fold(column) === most), 1);
  }
  const bars = shown.find((column) => column.field === "bars");
  const others = shown.filter((column) => column !== bars);
  const free = room - total(others, (column) => column.usual);
  const wish = bars ? bars.usual : 0;
  const grow = Math.max(0, free - wish) / Math.max(1, total(others, (column) => column.usual));
  for (const column of others) {
    column.width = Math.floor(column.usual * (1 + (bars ? Math.min(grow, GROW - 1) : grow)));
  }
  const last = bars ?? others.at(-1);
  const rest = room - total(shown.filter((column) => column !== last), (column) => column.width);
  if (last) last.width = Math.max(bars ? least(bars) : last.usual, rest);
  return shown;
}

const rowsOf = (view) => view.wrapper_el.querySelector(".slick-viewport-top.slick-viewport-left");
const orderOf = (view) => view.model.view.tags.filter((one) => Array.isArray(one));

function fit(view) {
  const room = rowsOf(view)?.clientWidth;
  if (!room) return;
  const sorted = new Set(orderOf(view).map(([field]) => field));
  const now = JSON.stringify([room, view.unfolded, [...sorted]]);
  if (view.fitted === now) return;
  view.fitted = now;
  const shown = arrange(view.everyColumn, room, view.unfolded, sorted);
  view.grid.setColumns(shown);
  markSelected(view);
  tellFolded(view, shown);
  nameHeads(view);
}

// SlickGrid marks a chosen row in the columns that stood there when it was chosen
function markSelected(view) {
  if (view._in_selection_update || !view.grid.getSelectionModel()) return;
  view._in_selection_update = true; // nothing else is chosen
  view.grid.setSelectedRows(view.grid.getSelectedRows());
  view._in_selection_update = false;
}

function tellFolded(view, shown) {
  const fields = new Set(shown.map(({ field }) => field)); // SlickGrid has copies of its columns
  const folded = view.everyColumn.filter(({ field }) => !fields.has(field));
  const there = folded.length > 0 || view.unfolded;
  if (!view.more && !there) return;
  if (!view.more) {
    view.more = document.createElement("button");
    view.more.className = "grulens-more-columns";
    view.more.style.cssText =
      "border: 0; background: none; padding: 2px; cursor: pointer; font-size: 12px;" +
      "font-family: inherit; color: var(--jp-content-font-color2, #555)";
    view.more.addEventListener("click", () => {
      view.unfolded = !view.unfolded;
      fit(view);
    });
  }
  if (view.more.previousSibling !== view.el) view.el.after(view.more);
  view.more.hidden = !there;
  view.more.setAttribute("aria-expanded", String(Boolean(view.unfolded)));
  const count = folded.length;
  const say = sayOf(view);
  view.more.textContent = view.unfolded
    ? `▾ ${say("only the columns that fit")}`
    : `▸ ${count === 1 ? say("1 more column") : say("{n} more columns", { n: count })}`;
  view.more.title = folded.map(titleOf).join(", ");
}

// BokehJS' own view of a table knows its document, and that which of ours it is in: see `View.open`.
// Shared over the page: each view has a copy of this code, and the tables that of the first.
const sayings = (globalThis[Symbol.for("grulens.sayings")] ??= new WeakMap());
const sayOf = (view) => sayings.get(view.model.document) ?? ((text) => text); // none: it is gone

const plain = document.createElement("template");
function titleOf({ name }) {
  plain.innerHTML = name; // inert: titles are made in Python, escaped there
  return plain.content.textContent;
}

function sortAsTold(view) {
  const ids = new Map(view.everyColumn.map((column) => [column.field, column.id]));
  const known = orderOf(view).filter(([field]) => ids.has(field));
  fit(view); // a column that is sorted by does not fold
  view.grid.setSortColumns(known.map(([field, sortAsc]) => ({ columnId: ids.get(field), sortAsc })));
  nameHeads(view);
}

// ---- roles, names and keys

function nameHeads(view) {
  const sorted = new Map(orderOf(view));
  const head = view.wrapper_el.querySelector(".slick-header-columns");
  head.setAttribute("role", "row");
  head.setAttribute("aria-rowindex", "1");
  view.grid.getColumns().forEach((column, i) => {
    const cell = head.children[i];
    cell.setAttribute("role", "columnheader");
    cell.setAttribute("aria-colindex", String(i + 1));
    const way = sorted.has(column.field) ? (sorted.get(column.field) ? "ascending" : "descending") : "none";
    if (column.sortable) cell.setAttribute("aria-sort", way);
  });
  view.wrapper_el.setAttribute("aria-colcount", String(view.grid.getColumns().length));
  view.wrapper_el.setAttribute("aria-rowcount", String(view.data.getLength() + 1));
}

function nameRows(view) {
  for (const row of view.wrapper_el.querySelectorAll(".grid-canvas-left > .slick-row")) {
    const cells = [...row.children];
    row.setAttribute("role", "row");
    // a row of a hundred thousand is made when it is scrolled to: its place says which it is
    row.setAttribute("aria-rowindex", String(Math.round(row.offsetTop / view.model.row_height) + 2));
    row.setAttribute("aria-selected", String(cells.some((cell) => cell.classList.contains("selected"))));
    cells.forEach((cell) => {
      cell.setAttribute("role", "gridcell");
      const at = /\bl(\d+)\b/.exec(cell.className);
      if (at) cell.setAttribute("aria-colindex", String(+at[1] + 1));
    });
  }
}

function name(view) {
  const grid = view.wrapper_el;
  grid.setAttribute("role", "grid");
  grid.setAttribute("aria-multiselectable", "true");
  grid.setAttribute("aria-label", view.model.name ?? "table");
  // of the many Tab stops of SlickGrid two are left: the head, and the rows
  const stops = ".slick-pane-header-left, .slick-pane-header.slick-pane-left, .grid-canvas-top.grid-canvas-left";
  for (const stop of grid.querySelectorAll("[tabindex]")) {
    stop.setAttribute("tabindex", stop.matches(stops) ? "0" : "-1");
  }
  view.said = document.createElement("div");
  view.said.setAttribute("role", "status");
  view.said.style.cssText = "position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%)";
  grid.append(view.said);
  const rows = grid.querySelector(".grid-canvas-left");
  const changed = () => nameRows(view);
  new MutationObserver(changed).observe(rows, { childList: true }); // goes with its canvas
  view.grid.onSelectedRowsChanged.subscribe(changed);
  changed();

  const head = grid.querySelector(".slick-pane-header.slick-pane-left");
  head.addEventListener("keydown", (event) => headKey(view, event));
  head.addEventListener("focus", () => point(view, view.head ?? 0));
  head.addEventListener("blur", () => point(view, -1));
  grid.addEventListener("keydown", (event) => {
    const start = event.key === "ArrowDown" || event.key === "ArrowUp";
    if (!start || head.contains(event.target) || !view.data.getLength()) return;
    if (view.grid.getActiveCell()) {
      queueMicrotask(() => sayRow(view));
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    view.grid.setActiveCell(view.grid.getViewport().top, 0);
    sayRow(view);
  }, { capture: true });
}

function headKey(view, event) {
  const last = view.grid.getColumns().length - 1;
  const at = Math.min(view.head ?? 0, last);
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last }[event.key];
  if (to !== undefined) point(view, Math.max(0, Math.min(last, to)));
  else if (event.key === "Enter" || event.key === " ") {
    heads(view)[at]?.click();
    point(view, at);
  } else return;
  event.preventDefault();
  event.stopPropagation();
}

const heads = (view) => view.wrapper_el.querySelectorAll(".slick-header-columns-left > *, .slick-header-columns > *");

// the head that the keys are at: seen by its edge, and said
function point(view, at) {
  heads(view).forEach((cell, i) => cell.classList.toggle("at", i === at));
  if (at < 0) return;
  view.head = at;
  const column = view.grid.getColumns()[at];
  if (!column) return;
  heads(view)[at].scrollIntoView?.({ block: "nearest", inline: "nearest" });
  const way = new Map(orderOf(view)).get(column.field);
  const say = sayOf(view);
  const sorted = way === undefined ? "" : way ? say(", sorted upwards") : say(", sorted downwards");
  view.said.textContent = `${titleOf(column)}${sorted}`;
}

function sayRow(view) {
  const at = view.grid.getActiveCell();
  const item = at && view.data.getItem(at.row);
  if (!item) return;
  const cells = [...(view.grid.getActiveCellNode()?.parentElement?.children ?? [])];
  const columns = view.grid.getColumns();
  const words = cells.map((cell, i) => [columns[i], cell.textContent.trim()]).filter(([c, text]) => c && text);
  view.said.textContent = words.map(([column, text]) => `${titleOf(column)} ${text}`).join(", ");
}

// ---- what BokehJS' own view of a table does more

function fittingTables(Bokeh) {
  const made = Bokeh.Models.get("DataTable");
  const proto = made?.prototype.default_view.prototype;
  if (!proto || proto.fits) return; // its part comes later, or came before
  proto.fits = true;
  const { _render_table: draw, updateGrid: update, remove } = proto;
  const ours = (view) => view.model.tags.includes("fits");

  proto._render_table = function () {
    const focused = this.grid && this.shadow_el.activeElement;
    const top = this.grid && rowsOf(this)?.scrollTop;
    draw.call(this);
    if (!ours(this)) return;
    const made = this.model.columns.filter((column) => column.visible);
    this.everyColumn = this.grid.getColumns();
    this.everyColumn.forEach((column, i) => {
      const [fold, least] = made[i].tags;
      Object.assign(column, { fold: fold ?? 0, usual: column.width, least: least ?? column.width });
    });
    this.fitted = undefined;
    this.data.sort = (columns) => sortRows(this.data, columns);
    this.grid.onSort.subscribe((_, { sortCols }) => {
      this.model.view.tags = sortCols.map(({ sortCol, sortAsc }) => [sortCol.field, sortAsc]);
    });
    name(this);
    this.updateGrid();
    if (top) rowsOf(this).scrollTop = top;
    if (focused) this.wrapper_el.querySelector(".slick-pane-header").blur();
  };
  proto.updateGrid = function () {
    if (ours(this)) sortAsTold(this);
    update.call(this);
    if (ours(this)) nameHeads(this);
  };
  for (const after of ["_after_resize", "_after_layout"]) {
    const before = proto[after];
    proto[after] = function () {
      before.call(this);
      if (ours(this)) fit(this);
    };
  }
  proto.remove = function () {
    this.more?.remove();
    remove.call(this);
  };
}
