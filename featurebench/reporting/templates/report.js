"use strict";
(() => {
  const root = document.documentElement;
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
  const store = {
    get() { try { return localStorage.getItem("featurebench-theme"); } catch { return null; } },
    set(value) { try { localStorage.setItem("featurebench-theme", value); } catch { /* a file may not keep it */ } },
  };
  // Before anything is painted, so that a dark page does not flash white.
  const kept = store.get();
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;

  const switchTheme = () => {
    const button = document.getElementById("theme");
    const label = () => {
      button.textContent = isDark() ? "Light" : "Dark";
      button.setAttribute("aria-label", isDark() ? "Light colours" : "Dark colours");
    };
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      store.set(root.dataset.theme);
      label();
    });
    prefersDark.addEventListener("change", label);
    label();
  };

  const expandAll = () => {
    const button = document.getElementById("expand");
    const all = () => [...document.querySelectorAll("main details")];
    if (!all().length) button.hidden = true;
    const label = () => {
      button.textContent = all().every((each) => each.open) ? "Collapse all" : "Expand all";
    };
    button.addEventListener("click", () => {
      const open = !all().every((each) => each.open);
      for (const each of all()) each.open = open;
      label();
    });
    document.addEventListener("toggle", label, true);
    let closed = [];
    window.addEventListener("beforeprint", () => {
      closed = all().filter((each) => !each.open);
      for (const each of closed) each.open = true;
    });
    window.addEventListener("afterprint", () => {
      for (const each of closed) each.open = false;
    });
  };

  const openTarget = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let each = target; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
    target.scrollIntoView();
  };

  const highlight = () => {
    const select = document.getElementById("lit");
    select.addEventListener("change", () => {
      for (const each of document.querySelectorAll(".lit")) each.classList.remove("lit");
      if (!select.value) return;
      for (const each of document.querySelectorAll("[data-arm]")) {
        if (each.dataset.arm === select.value) (each.closest("tr, li, figure") || each).classList.add("lit");
      }
    });
  };

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
  const sortTables = () => {
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
  };

  // A region is a stop of the Tab key only while it has something to scroll.
  const stops = () => {
    const watch = new ResizeObserver((entries) => {
      for (const { target } of entries) {
        if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
        else target.removeAttribute("tabindex");
      }
    });
    for (const each of document.querySelectorAll(".scroll")) watch.observe(each);
  };

  const followReading = () => {
    const links = new Map();
    for (const link of document.querySelectorAll("nav a")) links.set(link.hash.slice(1), link);
    const inView = new Set();
    const watch = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) inView[isIntersecting ? "add" : "delete"](target.id);
      const current = [...links.keys()].find((id) => inView.has(id));
      for (const [id, link] of links) {
        if (id !== current) link.removeAttribute("aria-current");
        else if (!link.hasAttribute("aria-current")) {
          link.setAttribute("aria-current", "true");
          const strip = link.closest("nav");
          if (strip.scrollWidth > strip.clientWidth) strip.scrollLeft = link.offsetLeft - strip.clientWidth / 3;
        }
      }
    }, { rootMargin: "-12% 0px -70% 0px" });
    for (const id of links.keys()) {
      const section = document.getElementById(id);
      if (section) watch.observe(section);
    }
  };

  document.addEventListener("DOMContentLoaded", () => {
    switchTheme();
    expandAll();
    highlight();
    sortTables();
    stops();
    followReading();
    document.querySelector(".tools").hidden = false;
    window.addEventListener("hashchange", openTarget);
    openTarget();
  });
})();
