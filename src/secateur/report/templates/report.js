"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("script");

  // A page opened from a file may have no storage: the choice then lasts as long as the page.
  const store = {
    get() { try { return localStorage.getItem("secateur-theme"); } catch { return null; } },
    set(value) { try { localStorage.setItem("secateur-theme", value); } catch { return; } },
  };
  const dark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const toggle = document.querySelector(".theme");
  const label = () => { toggle.textContent = dark() ? "Light" : "Dark"; };
  const kept = store.get();
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  toggle.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    store.set(root.dataset.theme);
    label();
  });
  label();

  const value = (row, index) => {
    const cell = row.cells[index];
    return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number"
    ? a - b
    : String(a).localeCompare(String(b), undefined, { numeric: true });
  const missing = (row, index) => row.cells[index].textContent === "–";
  for (const head of document.querySelectorAll("thead th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const table = head.closest("table");
      const body = table.tBodies[0];
      const down = head.getAttribute("aria-sort") === "ascending";
      const index = head.cellIndex;
      for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      // What is missing stays at the end in either direction.
      body.append(...[...body.rows].sort((a, b) =>
        missing(a, index) - missing(b, index)
        || (down ? -1 : 1) * compare(value(a, index), value(b, index))));
    });
  }

  const links = new Map([...document.querySelectorAll(".contents a")].map((a) => [a.hash.slice(1), a]));
  const seen = new Set();
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) seen[entry.isIntersecting ? "add" : "delete"](entry.target.id);
    const current = [...links.keys()].find((id) => seen.has(id));
    for (const [id, link] of links) {
      if (id === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-5% 0px -60% 0px" });
  for (const section of document.querySelectorAll("main section")) watch.observe(section);
})();
