// Tables sort by a click on a heading and show the rows that a reader asks for; of several charts, one is shown.

function sortable(table) {
  const headings = [...table.tHead.querySelectorAll("th")];
  headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
    // Numbers as numbers, text as text, what has no value last in either direction.
    const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const numeric = heading.classList.contains("number");
    const key = row => row.cells[column].dataset.key;
    const compare = (a, b) => numeric ? Math.sign(a - b) || 0 : a.localeCompare(b, undefined, { numeric: true });
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      return x === "" || y === "" ? (x === "") - (y === "") : sign * compare(x, y);
    });
    headings.forEach(other => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    body.append(...rows);
  }));
}

function filtered(block) {
  const bar = block.querySelector(".filter");
  const table = block.querySelector("table");
  if (!bar) return;
  const [words, label, count] = [bar.querySelector("input"), bar.querySelector("select"), bar.querySelector("output")];
  const column = [...table.tHead.querySelectorAll("th")].findIndex(heading => heading.dataset.name === "label");
  const show = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...table.tBodies[0].rows];
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const named = !label || label.value === "" || row.cells[column].dataset.key === label.value;
      row.hidden = !named || !wanted.every(word => text.includes(word));
    }
    const shown = rows.filter(row => !row.hidden).length;
    count.value = shown === rows.length ? `${rows.length} rows` : `${shown} of ${rows.length} rows`;
  };
  bar.hidden = false;
  words.addEventListener("input", show);
  if (label) label.addEventListener("change", show);
  show();
}

function chosen(choice) {
  const list = choice.querySelector("select");
  const charts = [...choice.querySelectorAll("figure")];
  const show = () => charts.forEach((chart, place) => { chart.hidden = place !== list.selectedIndex; });
  choice.querySelector(".choose").hidden = false;
  list.addEventListener("change", show);
  show();
}

document.querySelectorAll("table.sortable").forEach(sortable);
document.querySelectorAll(".data").forEach(filtered);
document.querySelectorAll(".choice:has(select)").forEach(chosen);
