"use strict";
// Sorts tables, copies them, and saves figures. The page can be read without it.
const spread = (text) => text.replace(/\s+/g, " ").trim();
const words = (cell) => spread([...cell.childNodes].map((node) => node.textContent).join(" "));

function button(text, says, act) {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: text, title: says });
  made.addEventListener("click", () => act(made));
  return made;
}

function tools(after, ...buttons) {
  const box = Object.assign(document.createElement("p"), { className: "tools" });
  box.append(...buttons);
  after.after(box);
}

// Sorting: within each group of rows; dashes and empty cells come last.
function value(cell) {
  const text = spread(cell.firstChild ? cell.firstChild.textContent : "").replace(/^< /, "");
  if (text === "" || text === "–") return null;
  return /^[−+-]?[\d.,]+/.test(text) ? parseFloat(text.replace("−", "-").replaceAll(",", "")) : text;
}

function compare(one, other) {
  if (one === null || other === null) return (one === null) - (other === null);
  return typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other));
}

function sort(head, column, table) {
  const down = head.ariaSort === "descending" ? false : head.ariaSort === "ascending" || head.dataset.began !== "yes";
  for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
  head.dataset.began = "yes";
  head.ariaSort = down ? "descending" : "ascending";
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
    const keyed = rows.map((row) => [value(row.cells[column]), row]);
    keyed.sort(([a], [b]) => (down && a !== null && b !== null ? compare(b, a) : compare(a, b)));
    body.append(...keyed.map(([, row]) => row));
  }
}

// Copying: as the table is sorted now.
const cellsOf = (row) => [...row.cells].filter((cell) => !cell.classList.contains("drawn")).map(words);
const linesOf = (table) => {
  const lines = [...table.rows].map(cellsOf);
  return lines.map((line) => [...line, ...Array(lines[0].length - line.length).fill("")]);
};

function markdown(table) {
  const [head, ...rows] = linesOf(table).map((line) => `| ${line.map((x) => x.replaceAll("|", "\\|")).join(" | ")} |`);
  return [head, `|${linesOf(table)[0].map((_, n) => (n ? " ---: |" : " --- |")).join("")}`, ...rows].join("\n") + "\n";
}

function latex(table) {
  const special = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "−": "$-$", "–": "--" };
  const escape = (text) => text.replace(/[\\~^−–]|[&%$#_{}]/g, (found) => special[found] || `\\${found}`);
  const [head, ...rows] = linesOf(table).map((line) => `${line.map(escape).join(" & ")} \\\\`);
  const columns = "l" + "r".repeat(linesOf(table)[0].length - 1);
  return [`\\begin{tabular}{${columns}}`, "\\toprule", head, "\\midrule", ...rows, "\\bottomrule", "\\end{tabular}\n"].join("\n");
}

async function copy(text, from) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const before = from.textContent;
  from.textContent = "copied";
  setTimeout(() => (from.textContent = before), 1200);
}

for (const table of document.querySelectorAll("table.data")) {
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    if (head.classList.contains("drawn")) continue;
    head.tabIndex = 0;
    head.title = "sort";
    head.addEventListener("click", () => sort(head, column, table));
    head.addEventListener("keydown", (pressed) => pressed.key === "Enter" && sort(head, column, table));
  }
}
for (const table of document.querySelectorAll("table.heat, table.data:not(.claim table)")) {
  tools(
    table.parentElement,
    button("Markdown", "copy this table as Markdown", (from) => copy(markdown(table), from)),
    button("LaTeX", "copy this table as LaTeX (booktabs)", (from) => copy(latex(table), from)),
  );
}

// Saving: the drawing with the page's style inside, so that it needs no other file.
function svgOf(drawing) {
  const own = drawing.cloneNode(true);
  own.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  const style = document.createElementNS("http://www.w3.org/2000/svg", "style");
  style.textContent = document.querySelector("style.drawing").textContent + "svg { background: var(--page); font-family: sans-serif }";
  own.prepend(style);
  return new XMLSerializer().serializeToString(own);
}

function save(address, name) {
  Object.assign(document.createElement("a"), { href: address, download: name }).click();
}

function png(drawing, name) {
  const image = new Image();
  image.onload = () => {
    const { width, height } = drawing.viewBox.baseVal;
    const canvas = Object.assign(document.createElement("canvas"), { width: 3 * width, height: 3 * height });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    save(canvas.toDataURL("image/png"), name);
  };
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svgOf(drawing))}`;
}

for (const drawing of document.querySelectorAll("svg[role=img]")) {
  const name = drawing.getAttribute("aria-label").replace(/[^\p{L}\d]+/gu, "-").toLowerCase();
  const address = () => `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svgOf(drawing))}`;
  tools(
    drawing,
    button("SVG", "save this figure as SVG", () => save(address(), `${name}.svg`)),
    button("PNG", "save this figure as PNG", () => png(drawing, `${name}.png`)),
  );
}
