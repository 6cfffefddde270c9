"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
  const label = () => {
    theme.textContent = isDark() ? "Light" : "Dark";
    theme.setAttribute("aria-label", isDark() ? "Switch to light colours" : "Switch to dark colours");
  };
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  prefersDark.addEventListener("change", label);
  theme.hidden = false;
  label();

  const compare = (a, b, kind) => {
    if (kind === "text") return a.localeCompare(b, "en", { numeric: true });
    return Number(a) - Number(b);
  };
  const sortBy = (table, header) => {
    const column = header.cellIndex;
    const kind = header.dataset.sort;
    const first = kind === "text" ? "ascending" : "descending";
    const other = { ascending: "descending", descending: "ascending" };
    const order = other[header.getAttribute("aria-sort")] || first;
    const sign = order === "ascending" ? 1 : -1;
    const value = (row) => (row.cells[column] ? row.cells[column].dataset.value : "") || "";
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => {
      const x = value(a);
      const y = value(b);
      if (!x || !y) return (x ? 0 : 1) - (y ? 0 : 1);
      return sign * compare(x, y, kind);
    });
    table.tBodies[0].append(...rows);
    for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", order);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    for (const header of table.tHead.rows[0].cells) {
      if (!header.dataset.sort) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => sortBy(table, header));
    }
  }
})();
