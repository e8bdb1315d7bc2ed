// A heading sorts its table: numbers as numbers, text as text, what has no value last in either direction.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.querySelectorAll("th")];
  headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
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
