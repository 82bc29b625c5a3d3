// Draws the figures in the colours of the page, and keeps pictures and table together: the same trials are lit in all
// of them. Titles sort the table. All texts and the table are there without any of this.
(() => {
  const table = document.querySelector(".trials table");
  const rows = [...table.tBodies[0].rows];
  const charts = [...document.querySelectorAll(".figure")].map((place) => ({
    place,
    figure: JSON.parse(place.nextElementSibling.textContent),
  }));
  const buttons = [["toImage"], ["zoom2d", "pan2d", "select2d", "lasso2d"], ["resetScale2d"]];
  const config = { responsive: true, displaylogo: false, modeBarButtons: buttons };

  // "--text" as the colour that the style sheet gives it now.
  const style = getComputedStyle(document.documentElement);
  const coloured = (value) => {
    if (typeof value === "string") return value.startsWith("--") ? style.getPropertyValue(value).trim() || value : value;
    if (Array.isArray(value)) return value.map(coloured);
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, /color/.test(key) ? coloured(item) : nested(item)]));
    return value;
  };
  const nested = (value) => (value && typeof value === "object" && !Array.isArray(value) ? coloured(value) : value);
  const axis = () => coloured({ gridcolor: "--rule", zerolinecolor: "--rule", linecolor: "--rule", automargin: true });

  const draw = ({ place, figure }) => {
    const layout = nested(figure.layout);
    const font = { size: 12, family: "system-ui, sans-serif", color: coloured("--text") };
    Plotly.react(place, figure.data.map(nested), {
      ...layout, font, showlegend: false, hovermode: "closest",
      margin: { l: 64, r: 40, t: place.parentElement.className === "scroll" ? 60 : 40, b: 54 },
      title: { ...layout.title, x: 0.02, font: { ...font, size: 14 } },
      xaxis: { ...axis(), ...layout.xaxis }, yaxis: { ...axis(), ...layout.yaxis },
      ...coloured({ paper_bgcolor: "--page", plot_bgcolor: "--page" }),
      hoverlabel: { ...coloured({ bgcolor: "--panel", bordercolor: "--muted" }), font, align: "left" },
    }, config);
  };

  // lit: a Set of ranks, or null for all.
  const light = (lit) => {
    rows.forEach((row) => row.classList.toggle("out", lit !== null && !lit.has(+row.dataset.t)));
    for (const { place, figure } of charts) {
      if (figure.data[0].type === "parcoords") continue;
      figure.data.forEach((trace, number) => {
        if (!trace.customdata) return;
        const found = trace.customdata.flatMap((rank, at) => (lit === null || lit.has(rank) ? [at] : []));
        Plotly.restyle(place, trace.mode === "markers"
          ? { selectedpoints: [lit === null ? null : found] }
          : { opacity: found.length ? 1 : 0.12 }, [number]);
      });
    }
  };

  // Trials inside every range that is marked on an axis of the parallel coordinates.
  const brushed = (place) => {
    const { dimensions, customdata } = place.data[0];
    const marked = dimensions.filter((dimension) => dimension.constraintrange);
    if (!marked.length) return null;
    const inside = ({ values, constraintrange }, at) =>
      (Array.isArray(constraintrange[0]) ? constraintrange : [constraintrange])
        .some(([low, high]) => low <= values[at] && values[at] <= high);
    return new Set(customdata.filter((_, at) => marked.every((dimension) => inside(dimension, at))));
  };

  for (const chart of charts) {
    draw(chart);
    const { place, figure } = chart;
    if (figure.data[0].type === "parcoords") {
      place.on("plotly_restyle", () => light(brushed(place)));
      continue;
    }
    const ranks = (event) => event.points.map((point) => point.customdata).filter((rank) => rank !== undefined);
    const row = (rank) => rows.find((found) => +found.dataset.t === rank);
    place.on("plotly_hover", (event) => ranks(event).forEach((rank) => row(rank).classList.add("hot")));
    place.on("plotly_unhover", (event) => ranks(event).forEach((rank) => row(rank).classList.remove("hot")));
    place.on("plotly_click", (event) => light(new Set(ranks(event))));
    place.on("plotly_selected", (event) => event && light(new Set(ranks(event))));
    place.on("plotly_deselect", () => light(null));
    place.on("plotly_doubleclick", () => light(null));
  }
  rows.forEach((row) => row.addEventListener("click", () => light(row.classList.toggle("kept") ? new Set([+row.dataset.t]) : null)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach(draw));

  const titles = [...table.tHead.rows[0].cells];
  const before = (a, b) => {  // numbers by size, words by letter, what is missing last
    if (a === "" || b === "") return (a === "") - (b === "");
    return isNaN(a) || isNaN(b) ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
  };
  titles.forEach((title, column) => title.querySelector("button").addEventListener("click", () => {
    const down = title.getAttribute("aria-sort") === "ascending";
    titles.forEach((other) => other.removeAttribute("aria-sort"));
    title.setAttribute("aria-sort", down ? "descending" : "ascending");
    const sorted = rows.map((row) => [row.cells[column].dataset.v, row]);
    sorted.sort(([a], [b]) => (down && a !== "" && b !== "" ? -before(a, b) : before(a, b)));
    table.tBodies[0].append(...sorted.map(([, row]) => row));
  }));
})();
