"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (id) => document.getElementById(id);
  const on = (id, event, act) => { const node = one(id); if (node) node.addEventListener(event, act); };

  // Sorting: values that are not defined come last in both directions.
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y;
  };
  for (const table of all("table.sortable")) {
    const head = table.tHead.rows[0], body = table.tBodies[0];
    all("th button", head).forEach((button) => button.addEventListener("click", () => {
      const th = button.closest("th"), at = th.cellIndex;
      const first = at === 0 || th.dataset.down === "1" ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = th.getAttribute("aria-sort") === first ? other : first;
      for (const cell of head.cells) cell.removeAttribute("aria-sort");
      th.setAttribute("aria-sort", order);
      const key = (row) => row.cells[at].dataset.sort ?? "";
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        return order === "ascending" ? compare(x, y) : compare(y, x);
      });
      body.append(...rows);
    }));
  }

  // One filter for the whole page: table, plots, breakdowns, images and runs.
  on("entry-filter", "input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    for (const node of all("[data-entry]")) {
      node.toggleAttribute("hidden", !node.dataset.entry.toLowerCase().includes(wanted));
    }
    const rows = all(".main tbody tr");
    one("shown").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} entries`;
  });

  const showColumns = (group) => {
    const table = document.querySelector(".main");
    [...table.tHead.rows[0].cells].forEach((th, i) => {
      const show = i === 0 || group === "all" || th.dataset.group === group ||
        (group === "headline" && "headline" in th.dataset);
      for (const row of table.rows) row.cells[i].hidden = !show;
    });
  };
  on("column-group", "change", (event) => showColumns(event.target.value));

  on("breakdown-metric", "change", (event) => {
    for (const part of all(".breakdown")) part.hidden = part.dataset.metric !== event.target.value;
  });

  const value = (id) => one(id)?.value ?? "";
  const filterSheets = () => {
    const subject = value("subject"), kind = value("prompt-class"), missed = one("missed").checked;
    const sample = value("sample") || "0";
    let shown = 0;
    for (const sheet of all(".sheet")) {
      let columns = 0;
      for (const cell of all("[data-class]", sheet)) {
        cell.hidden = (kind !== "" && cell.dataset.class !== kind) || (missed && cell.dataset.missed !== "1");
        columns += !cell.hidden;
      }
      sheet.hidden = (subject !== "" && sheet.dataset.subject !== subject) || columns === 0;
      shown += !sheet.hidden;
    }
    for (const shot of all(".shot")) shot.hidden = shot.dataset.sample !== sample && !missed;
    one("no-sheet").hidden = shown > 0;
  };
  for (const id of ["subject", "prompt-class", "sample", "missed"]) on(id, "change", filterSheets);

  // The viewer: every entry's answer to one request, beside the reference.
  const viewer = one("viewer");
  let current = null;
  const figure = (img, name, text, missed) => {
    const box = document.createElement("figure"), caption = document.createElement("figcaption");
    const title = document.createElement("b");
    const picture = img.cloneNode();
    picture.removeAttribute("width"); picture.removeAttribute("height"); picture.loading = "eager";
    title.textContent = name;
    const scores = document.createElement("span");
    scores.className = "scores"; scores.textContent = text;
    caption.append(title, scores);
    if (missed) {
      const mark = document.createElement("div");
      mark.className = "no-face"; mark.textContent = "✕ no face found";
      caption.append(mark);
    }
    box.append(picture, caption);
    return box;
  };
  const show = (shot) => {
    current = shot;
    one("viewer-title").textContent = shot.dataset.title;
    one("viewer-text").textContent = shot.dataset.text;
    const sheet = shot.closest(".sheet");
    const same = all(".shot", sheet).filter((other) => other.dataset.key === shot.dataset.key && !other.closest("tr").hidden);
    one("viewer-images").replaceChildren(
      figure(sheet.querySelector(".reference"), "reference", "what methods saw", false),
      ...same.map((other) => {
        const row = other.closest("tr");
        const box = figure(other.querySelector("img"), row.dataset.entry, other.dataset.scores, other.classList.contains("missed"));
        box.classList.toggle("chosen", other === shot);
        return box;
      }));
    if (!viewer.open) viewer.showModal();
    one("viewer-title").focus();
  };
  const step = (by) => {
    const row = current.closest("tr").dataset.entry;
    const visible = all(".shot").filter((shot) => shot.closest("tr").dataset.entry === row && shot.offsetParent !== null);
    const next = visible[visible.indexOf(current) + by];
    if (next) show(next);
  };
  document.addEventListener("click", (event) => {
    const shot = event.target.closest(".shot");
    if (shot) show(shot);
    else if (event.target.closest("[data-step]")) step(Number(event.target.closest("[data-step]").dataset.step));
    else if (event.target.closest("[data-close]") || event.target === viewer) viewer.close();
  });
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });

  // Paper shows what is folded on the screen, and of a table that must be scrolled what fits: it cannot be scrolled.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("details:not([open])");
    folded.forEach((node) => { node.open = true; });
    if (value("column-group") === "all") showColumns("headline");
  });
  addEventListener("afterprint", () => {
    folded.forEach((node) => { node.open = false; });
    showColumns(value("column-group"));
  });
})();
