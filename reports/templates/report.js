"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const text = (n) => data.strings[n];
  const STEP = 100;
  const columns = ["Candidate", "Way", "Technique", "Takes for granted", "Outcome", "Scope", "Stopped at, why, or what got through"];
  const trials = [];
  const families = new Map();
  data.candidates.forEach((candidate, place) => {
    candidate.trials.forEach(([variant, outcome, scope, stopped, reason, program]) => {
      const [name, family, technique, assumption, title] = data.variants[variant].map(text);
      const cells = [candidate.name, name, technique, assumption, text(outcome), text(scope),
        text(stopped) || text(reason) || (program === undefined ? "" : title)];
      const trial = { cells, family, program, place, more: [title, text(reason)], words: "" };
      trials.push(trial);
      if (!families.has(family)) families.set(family, []);
      families.get(family).push(trial);
    });
  });

  const make = (name, content, attributes = {}) => {
    const node = document.createElement(name);
    if (content !== undefined) node.textContent = content;
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };
  const table = document.getElementById("rows");
  const body = table.tBodies[0];
  const more = document.getElementById("more");
  const shown = document.getElementById("shown");
  const find = document.getElementById("find");
  const filters = [
    ["by-candidate", (t) => t.cells[0]], ["by-family", (t) => t.family], ["by-outcome", (t) => t.cells[4]],
    ["by-technique", (t) => t.cells[2]], ["by-scope", (t) => t.cells[5]],
  ].map(([id, value]) => {
    const node = document.getElementById(id);
    [...new Set(trials.map(value))].sort().forEach((choice) => {
      node.append(make("option", choice.length > 60 ? choice.slice(0, 60) + "\u2026" : choice, { value: choice }));
    });
    return { node, value };
  });
  let sorted = { column: -1, down: false };
  let found = trials;
  let count = STEP;

  const collate = new Intl.Collator("en", { numeric: true });
  const select = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const active = filters.filter((f) => f.node.value !== "");
    // Made when somebody searches, so that a large page opens without it.
    if (words.length) trials.forEach((t) => { t.words ||= [...t.cells, ...t.more].join("\n").toLowerCase(); });
    found = trials.filter((t) => active.every((f) => f.value(t) === f.node.value) &&
      words.every((word) => t.words.includes(word)));
    if (sorted.column >= 0) {
      const sign = sorted.down ? -1 : 1;
      found = found.slice().sort((a, b) => sign * collate.compare(a.cells[sorted.column], b.cells[sorted.column]));
    }
    count = STEP;
    body.replaceChildren();
    draw();
  };

  const labelled = (label, node, name) => {
    const cell = make("td", undefined, { "data-label": label, ...(name ? { class: name } : {}) });
    cell.append(node);
    return cell;
  };
  const result = (n, otherwise) => n === 0 ? make("span", otherwise, { class: "unknown" }) : make("code", text(n));
  const operations = (texts) => {
    const cell = make("td", undefined, { "data-label": "Operation" });
    let place = cell;
    if (texts.length > 2) {
      place = make("details", undefined, { class: "memory" });
      place.append(make("summary", `${texts.length} operations in memory`));
      cell.append(place);
    }
    texts.forEach((n, index) => place.append(...(index ? [make("br")] : []), make("code", text(n))));
    return cell;
  };
  const programLine = ([flags, slots, section, abi, control, mitigated, filter, ...texts]) => {
    const row = make("tr", undefined, { class: (flags & 1 ? "decisive " : "") + (flags & 2 ? "differs" : "") });
    const operation = operations(texts);
    const tags = [text(abi), text(section) === "attack" ? "" : text(section)];
    tags.filter(Boolean).forEach((tag) => operation.append(" ", make("span", tag, { class: "tag" })));
    if (flags & 1) operation.append(" ", make("span", "decisive", { class: "tag strong" }));
    row.append(labelled("Step", text(slots), "count"), operation);
    if (flags & 4) {
      row.append(...[0, 1, 2].map(() => make("td", undefined, { class: "none" })));
    } else {
      row.append(labelled("Without it", result(control, "not reached")),
        labelled("With it", result(mitigated, "not reached")), labelled("Filter says", result(filter, "not asked")));
    }
    return row;
  };
  const programTable = (program) => {
    const made = make("table", undefined, { class: "program stack" });
    const head = made.createTHead().insertRow();
    ["#", "Operation", "Without it", "With it", "Filter says"].forEach((label) => head.append(make("th", label, { scope: "col" })));
    made.createTBody().append(...data.programs[program].map((n) => programLine(data.steps[n])));
    return made;
  };

  const toggle = (button, row, program) => {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (open) { row.nextSibling.remove(); return; }
    const inner = make("tr", undefined, { class: "inner" });
    const cell = make("td", undefined, { colspan: columns.length });
    cell.append(programTable(program));
    inner.append(cell);
    row.after(inner);
  };

  // The matrix: an effect unfolds into its ways, a row each, with what became of them.
  const SYMBOLS = { BYPASSED: "\u2715 gets through", BLOCKED: "\u2713 stopped", UNSUPPORTED: "\u2013 not testable here",
    INEFFECTIVE: "? unexplained", NOT_ENFORCED: "! not in force", DISAGREEMENT: "! views disagree",
    HARNESS_ERROR: "! tool broke", SIMULATED: "predicted" };
  const became = (trial) => {
    const cell = make("td");
    if (!trial) { cell.append(make("span", "\u2013 not run", { class: "unknown" })); return cell; }
    const outcome = trial.cells[4];
    cell.append(make("span", SYMBOLS[outcome] || outcome, { class: "outcome " + outcome.replace(/\W/g, "") }));
    const notes = [trial.cells[5] === "in" ? "" : `does not count: ${trial.cells[5]}`, outcome === "BYPASSED" ? "" : trial.cells[6]];
    notes.filter(Boolean).forEach((note) => cell.append(make("br"), make("span", note, { class: "quiet" })));
    return cell;
  };
  const why = (family) => {
    const row = make("tr", undefined, { class: "way" });
    row.append(make("th", "What lets ways through, and what would close it", { scope: "row" }));
    let some = false;
    data.candidates.forEach((candidate) => {
      const cell = make("td");
      const [, ...causes] = candidate.causes.find(([name]) => text(name) === family) || [0];
      causes.forEach((n) => {
        const [call, said, where, fix, breaks] = data.causes[n].map(text);
        const place = make("p", (said || call) + ". ");
        if (where) place.append(make("code", where, { class: "quiet" }));
        if (fix) place.append(make("br"), make("b", "Fix: "), make("code", fix));
        if (breaks) place.append(make("br"), make("span", breaks, { class: "quiet" }));
        cell.append(place);
        some = true;
      });
      row.append(cell);
    });
    return some ? [row] : [];
  };
  const ways = (family) => {
    const byName = new Map();
    (families.get(family) || []).forEach((trial) => {
      if (!byName.has(trial.cells[1])) byName.set(trial.cells[1], []);
      byName.get(trial.cells[1])[trial.place] = trial;
    });
    const through = (of) => of.filter((t) => t && t.cells[4] === "BYPASSED").reduce((sum, t) => sum + (t.cells[5] === "in" ? 100 : 1), 0);
    const rows = [...byName].sort(([, a], [, b]) => through(b) - through(a)).map(([name, of]) => {
      const row = make("tr", undefined, { class: "way" });
      const head = make("th", undefined, { scope: "row" });
      const first = of.find(Boolean);
      head.append(make("code", name.slice(family.length + 1) || name), make("br"), make("span", first.cells[2], { class: "quiet" }));
      row.append(head, ...data.candidates.map((_, place) => became(of[place])));
      return row;
    });
    return [...why(family), ...rows];
  };
  document.querySelectorAll(".matrix th[data-family]").forEach((head) => {
    const title = head.firstElementChild;
    const button = make("button", title.textContent, { type: "button", "aria-expanded": "false" });
    let open = [];
    button.addEventListener("click", () => {
      const unfolds = open.length === 0;
      if (unfolds) head.parentElement.after(...(open = ways(head.dataset.family)));
      else { open.forEach((row) => row.remove()); open = []; }
      button.setAttribute("aria-expanded", String(unfolds));
    });
    title.replaceWith(button);
  });
  document.querySelectorAll(".needs-script").forEach((node) => { node.hidden = false; });

  const line = (trial) => {
    const row = make("tr");
    trial.cells.forEach((value, index) => {
      const cell = make(index === 1 ? "th" : "td");
      if (index === 1) cell.scope = "row";
      cell.dataset.label = index === 6 ? "Detail" : columns[index];
      if (index === 1 && trial.program !== undefined) {
        const button = make("button", value, { type: "button", "aria-expanded": "false", title: "Show the program" });
        button.addEventListener("click", () => toggle(button, row, trial.program));
        cell.append(button);
      } else if (index === 4) {
        cell.append(make("span", value, { class: "outcome " + value.replace(/\W/g, "") }));
      } else {
        cell.textContent = value;
      }
      row.append(cell);
    });
    return row;
  };

  const draw = () => {
    const from = body.querySelectorAll(":scope > tr:not(.inner)").length;
    body.append(...found.slice(from, count).map(line));
    const visible = Math.min(count, found.length);
    shown.textContent = found.length === 0 ? "No trial matches."
      : `${visible.toLocaleString("en")} of ${found.length.toLocaleString("en")} trials` +
        (found.length < trials.length ? `, out of ${trials.length.toLocaleString("en")} in all.` : ".");
    more.hidden = visible >= found.length;
  };

  columns.forEach((label, column) => {
    const head = make("th", undefined, { scope: "col" });
    const button = make("button", label + " \u2195", { type: "button" });
    button.addEventListener("click", () => {
      sorted = { column, down: sorted.column === column && !sorted.down };
      [...table.tHead.rows[0].cells].forEach((cell, index) => {
        const mine = index === column;
        if (mine) cell.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
        else cell.removeAttribute("aria-sort");
        cell.firstChild.textContent = columns[index] + (mine ? (sorted.down ? " \u2193" : " \u2191") : " \u2195");
      });
      select();
    });
    head.append(button);
    table.tHead.rows[0].append(head);
  });

  let timer = 0;
  find.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(select, 120); });
  filters.forEach((f) => f.node.addEventListener("change", select));
  document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => { count += STEP; draw(); });
  document.getElementById("controls").hidden = false;
  table.hidden = false;
  draw();
})();
