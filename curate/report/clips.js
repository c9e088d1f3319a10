// All clips, a page of rows at a time: search, filter by decision, sort by any score. Follows the explorer's thresholds.

const ROWS_PER_PAGE = 25;

function clipList(explorer) {
  const { clips } = explorer;
  const search = element("input", { type: "search", placeholder: "file, clip id, your columns", "aria-label": "search all clips" });
  const which = select("show", [["", "all"], ...DECISIONS.map((name, code) => [code, DECISION_NAMES[name]]), ["changed", "changed by thresholds"]]);
  const sort = select("sort by", [["", "file and time"], ...clips.columns.map(({ name }) => [name, name])]);
  const descending = element("button", { className: "chip", textContent: "descending", "aria-pressed": "false" });
  const body = element("tbody"), head = element("tr");
  const note = element("span", { className: "muted", "aria-live": "polite" });
  const [back, on] = ["‹", "›"].map((textContent) => element("button", { className: "chip", textContent }));
  back.ariaLabel = "previous page", on.ariaLabel = "next page";
  let page = 0;

  function draw() {
    const column = clips.columns.find(({ name }) => name === sort.value);
    const rows = filtered(explorer, search.value, which.value);
    if (column) rows.sort(byValue(column, descending.ariaPressed === "true" ? -1 : 1));
    const last = Math.max(0, Math.ceil(rows.length / ROWS_PER_PAGE) - 1);
    page = Math.min(page, last);
    note.textContent = `${grouped(rows.length)} of ${grouped(clips.count)} clips, page ${page + 1} of ${last + 1}`;
    [back.disabled, on.disabled] = [page === 0, page === last];
    const names = ["clip", "decision", ...(column ? [column.name] : []), ...clips.own.map(({ name }) => name)];
    head.replaceChildren(...names.map((textContent) => element("th", { textContent })));
    const shown = rows.subarray(page * ROWS_PER_PAGE, (page + 1) * ROWS_PER_PAGE);
    body.replaceChildren(...Array.from(shown, (row) => clipRow(explorer, row, column)));
  }
  const restart = () => ((page = 0), draw());
  for (const input of [search, which, sort]) input.addEventListener("input", restart);
  descending.addEventListener("click", () => {
    descending.ariaPressed = String(descending.ariaPressed !== "true");
    restart();
  });
  back.addEventListener("click", () => (page--, draw()));
  on.addEventListener("click", () => (page++, draw()));
  explorer.listeners.push(draw);
  draw();
  return element(
    "div", { className: "cliplist" }, element("h3", { textContent: "All clips under these thresholds" }),
    element("div", { className: "controls" }, search, which.parentNode, sort.parentNode, descending, note, back, on),
    element("div", { className: "scroll" }, element("table", { className: "clips" }, element("thead", {}, head), body)),
  );
}

/** A labelled choice of `[value, text]`; the label is its parent. */
function select(label, options) {
  const node = element("select", {}, ...options.map(([value, textContent]) => element("option", { value, textContent })));
  element("label", {}, `${label} `, node);
  return node;
}

/** Rows whose file, id or own columns hold the words, and that have the decision that is asked for. */
function filtered({ clips, outcome, before }, words, which) {
  const wanted = words.trim().toLowerCase();
  const holds = (text) => text !== null && text.toLowerCase().includes(wanted);
  const texts = [clips.uris, ...clips.own].map(({ codes, values }) => ({ codes, hits: values.map(holds) }));
  const rows = new Int32Array(clips.count);
  let count = 0;
  for (let row = 0; row < clips.count; row++) {
    const now = outcome.decisions[row];
    if (which === "changed" ? now === before.decisions[row] : which !== "" && now !== Number(which)) continue;
    if (wanted === "" || texts.some(({ codes, hits }) => hits[codes[row]]) || clips.ids[row].startsWith(wanted)) rows[count++] = row;
  }
  return rows.subarray(0, count);
}

/** Order of rows by a score, those without a value last. */
function byValue({ values, valid }, sign) {
  const key = (row) => ((valid !== null && !valid[row]) || Number.isNaN(values[row]) ? Infinity : sign * values[row]);
  return (a, b) => {
    const [one, other] = [key(a), key(b)];
    return one < other ? -1 : one > other ? 1 : a - b;
  };
}

function clipRow({ clips, policy, outcome, before, packed }, row, sortedBy) {
  const { ids, uris, start_s, end_s, isImage, columns, own } = clips;
  const uri = uris.values[uris.codes[row]];
  const time = isImage[row] ? "image" : `${clock(start_s[row])}–${clock(end_s[row])}`;
  const value = ({ values, valid }) => (valid !== null && !valid[row] ? "–" : String(Number(values[row].toPrecision(6))));
  const scores = columns.map((column) => element("div", {}, element("dt", { textContent: column.name }), element("dd", { textContent: value(column) })));
  const explain = packed.command.replace("reelpack select", "reelpack explain");
  const decision = DECISION_NAMES[DECISIONS[outcome.decisions[row]]], was = DECISION_NAMES[DECISIONS[before.decisions[row]]];
  const reasons = reasonsOf(clips, policy, outcome, row).join(" ");
  const more = element(
    "details", {}, element("summary", { title: uri }, `${baseName(uri)} `, element("span", { className: "muted", textContent: time })),
    element("dl", {}, ...scores), element("code", { textContent: `${explain} ${ids[row]}` }),
  );
  return element(
    "tr", { "data-clip": ids[row] }, element("td", {}, more),
    element("td", {}, element("b", { className: DECISIONS[outcome.decisions[row]], textContent: decision === was ? decision : `${was} → ${decision}` }), " ",
      element("span", { className: "reason", textContent: reasons })),
    ...(sortedBy ? [element("td", { textContent: value(sortedBy) })] : []),
    ...own.map(({ codes, values }) => element("td", { textContent: values[codes[row]] ?? "" })),
  );
}
