// A trial under the mouse lights up in every picture and in the table; a click keeps it lit. Titles sort the table.
// The page is whole without any of this.
(() => {
  const tip = document.getElementById("tip");
  const kept = new Set();
  const of = (trial) => document.querySelectorAll(`[data-t="${trial}"]`);
  const light = (trial, on) => {
    of(trial).forEach((item) => item.classList.toggle("hot", on || kept.has(trial)));
    document.body.classList.toggle("pointing", on || kept.size > 0);
  };
  const trialAt = (event) => event.target.closest && event.target.closest("[data-t]");
  document.addEventListener("mouseover", (event) => {
    const item = trialAt(event);
    if (!item) return;
    light(item.dataset.t, true);
    if (item.closest("table")) return;
    tip.textContent = document.querySelector(`tr[data-t="${item.dataset.t}"]`).dataset.tip;
    tip.style.display = "block";
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 4))}px`;
  });
  document.addEventListener("mouseout", (event) => {
    const item = trialAt(event);
    if (item) light(item.dataset.t, false);
    tip.style.display = "none";
  });
  document.addEventListener("click", (event) => {
    const item = trialAt(event);
    if (!item) return;
    const trial = item.dataset.t;
    kept.has(trial) ? kept.delete(trial) : kept.add(trial);
    light(trial, kept.has(trial));
  });

  const table = document.querySelector(".trials table");
  const titles = [...table.tHead.rows[0].cells];
  const before = (a, b) => {  // numbers by size, words by letter, what is missing last
    if (a === "" || b === "") return (a === "") - (b === "");
    return isNaN(a) || isNaN(b) ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
  };
  titles.forEach((title, column) => title.querySelector("button").addEventListener("click", () => {
    const down = title.getAttribute("aria-sort") === "ascending";
    titles.forEach((other) => other.removeAttribute("aria-sort"));
    title.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const rows = [...table.tBodies[0].rows].map((row) => [value(row), row]);
    rows.sort(([a], [b]) => (down && a !== "" && b !== "" ? -before(a, b) : before(a, b)));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }));
})();
