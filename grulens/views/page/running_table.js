/* The table of the units as it was when the page was saved: a click on a head sorts, on a row chooses.
   Where there is little room the columns that say least fold away, but for the one that is sorted by. */
"use strict";
function grulensTable(columns, choose) {
  const minus = (text) => text.replace(/^-(?=[0.]*%?$)/, "").replace("-", "\u2212");
  // a 0 with as many decimals as are shown, a % behind it for shares, or "any"
  function written(value, format) {
    if (value === null) return "\u2013";
    if (typeof value === "string") return value;
    if (format === "any") {
      if (value === 0) return "0";
      return minus(Math.abs(value) < 0.0005 ? value.toExponential(0) : Math.abs(value) < 1e5 ? value.toFixed(3) : value.toExponential(1));
    }
    const decimals = (format.replace("%", "").split(".")[1] ?? "").length;
    return minus(format.endsWith("%") ? `${(100 * value).toFixed(decimals)}%` : value.toFixed(decimals));
  }

  const whole = document.createElement("div"), box = document.createElement("div"), table = document.createElement("table");
  box.className = "units";
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", say("table of units"));
  box.append(table);
  const head = table.createTHead().insertRow(), body = table.createTBody();
  const rows = columns[0].values.map((unit, i) => {
    const row = document.createElement("tr");
    row.dataset.unit = unit;
    for (const {values, format} of columns) {
      const cell = row.insertCell();
      cell.textContent = written(values[i], format);
      if (typeof values[i] === "string") cell.className = "words";
    }
    row.addEventListener("click", (event) => choose(unit, event.shiftKey || event.ctrlKey || event.metaKey));
    return {row, i};
  });
  let by = null, down = true;
  const heads = columns.map(({title, meaning, values}) => {
    const cell = document.createElement("th"), sort = document.createElement("button");
    sort.type = "button";
    sort.textContent = title;
    sort.title = say("{meaning}; a click sorts", {meaning});
    sort.addEventListener("click", () => {
      [by, down] = by === values ? [by, !down] : [values, values !== columns[0].values];
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      const way = down ? -1 : 1;
      rows.sort((a, b) => {
        const [one, other] = [by[a.i], by[b.i]];
        if (one === null || other === null) return (one === null) - (other === null);
        return way * (one < other ? -1 : one > other ? 1 : 0) || a.i - b.i;
      });
      body.replaceChildren(...rows.map(({row}) => row));
      fit();
    });
    cell.scope = "col";
    cell.append(sort);
    head.append(cell);
    return cell;
  });
  body.replaceChildren(...rows.map(({row}) => row));

  const more = document.createElement("button");
  more.type = "button";
  more.className = "more";
  let unfolded = false;
  more.addEventListener("click", () => {
    unfolded = !unfolded;
    fit();
  });
  function hide(folded) {
    for (const row of table.rows)
      columns.forEach((column, i) => { row.cells[i].hidden = folded.has(column); });
  }
  function fit() {
    if (!box.clientWidth) return; // nobody sees it
    hide(new Set());
    const widths = heads.map((head) => head.offsetWidth), folded = new Set();
    let over = table.offsetWidth - box.clientWidth;
    const least = columns.map((_, i) => i).filter((i) => columns[i].fold && columns[i].values !== by)
      .sort((a, b) => columns[b].fold - columns[a].fold || b - a);
    for (const i of least) {
      if (over <= 0) break;
      folded.add(columns[i]);
      over -= widths[i];
    }
    const there = folded.size > 0;
    if (unfolded) folded.clear();
    hide(folded);
    more.hidden = !there;
    more.setAttribute("aria-expanded", String(unfolded));
    more.textContent = unfolded ? `\u25be ${say("only the columns that fit")}`
      : `\u25b8 ${folded.size === 1 ? say("1 more column") : say("{n} more columns", {n: folded.size})}`;
    more.title = [...folded].map(({title}) => title).join(", ");
  }
  let width = -1;
  new ResizeObserver(() => {
    if (box.clientWidth === width) return;
    width = box.clientWidth;
    fit();
  }).observe(box);
  whole.append(box, more);
  whole.mark = (units) => rows.forEach(({row}) => row.setAttribute("aria-selected", String(units.includes(Number(row.dataset.unit)))));
  return whole;
}
