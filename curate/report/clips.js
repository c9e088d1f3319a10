// All clips, a page of rows at a time: search, filter by decision, sort by a score. Follows the explorer's thresholds.

const ROWS_PER_PAGE = 25;

function clipList(explorer) {
  const { clips } = explorer;
  const placeholder = "file, clip id, your columns";
  const search = element("input", { type: "search", placeholder, "aria-label": "search all clips" });
  const decisions = DECISIONS.map((name, code) => [code, DECISION_NAMES[name]]);
  const shown = [["", "all"], ...decisions, ["changed", "changed by thresholds"]];
  const which = choice("show", shown);
  const sort = choice("sort by", [["", "file and time"], ...clips.columns.map(({ name }) => [name, name])]);
  const descending = element("button", { className: "chip", textContent: "descending", "aria-pressed": "false" });
  const note = element("span", { className: "muted", "aria-live": "polite" });
  const back = element("button", { className: "chip", textContent: "‹", "aria-label": "previous page" });
  const on = element("button", { className: "chip", textContent: "›", "aria-label": "next page" });
  const head = element("tr"), body = element("tbody");
  const fields = { q: search, show: which, sort };
  let page = 0;

  /** What can be shown besides, where another decision lies beside this one. */
  function offer() {
    const differing = explorer.other ? Object.entries(DIFFERS).map(([key, { words }]) => [key, words(explorer.other.name)]) : [];
    which.replaceChildren(...optionsOf([...shown, ...differing]));
    read();
  }

  /** From the address. */
  function read() {
    for (const [name, field] of Object.entries(fields)) field.value = address.get(`list.${name}`);
    descending.ariaPressed = String(address.get("list.descending") === "1");
    page = Math.max(0, (Number.parseInt(address.get("list.page"), 10) || 1) - 1);
    draw();
  }

  function changed() {
    const said = Object.entries(fields).map(([name, field]) => [`list.${name}`, field.value.trim()]);
    address.set({
      ...Object.fromEntries(said), "list.descending": descending.ariaPressed === "true" ? "1" : "",
      "list.page": page ? String(page + 1) : "",
    });
    draw();
  }

  function draw() {
    const column = clips.columns.find(({ name }) => name === sort.value);
    const rows = filtered(explorer, search.value, which.value);
    if (column) rows.sort(byValue(column, descending.ariaPressed === "true" ? -1 : 1));
    const last = Math.max(0, Math.ceil(rows.length / ROWS_PER_PAGE) - 1);
    page = Math.min(page, last);
    const [found, all] = [rows.length, clips.count].map(grouped);
    note.textContent = `${found} of ${all} clips, page ${grouped(page + 1)} of ${grouped(last + 1)}`;
    [back.disabled, on.disabled] = [page === 0, page === last];
    const names = ["clip", "decision", ...(column ? [column.name] : []), ...clips.own.map(({ name }) => name)];
    head.replaceChildren(...names.map((name) => words("th", "", name)));
    const shown = rows.subarray(page * ROWS_PER_PAGE, (page + 1) * ROWS_PER_PAGE);
    body.replaceChildren(...Array.from(shown, (row) => clipRow(explorer, row, column)));
  }
  const restart = () => ((page = 0), changed());
  for (const input of [search, which, sort]) input.addEventListener("input", restart);
  descending.addEventListener("click", () => {
    descending.ariaPressed = String(descending.ariaPressed !== "true");
    restart();
  });
  back.addEventListener("click", () => (page--, changed()));
  on.addEventListener("click", () => (page++, changed()));
  explorer.listeners.push(draw);
  explorer.layListeners.push(offer);
  address.listeners.push(read);
  chosen.listeners.push(draw);
  read();
  const table = element("table", { className: "clips" }, element("thead", {}, head), body);
  const controls = [search, which.parentNode, sort.parentNode, descending, note, back, on];
  return element(
    "div", { className: "cliplist" }, words("h3", "", "All clips under these thresholds"),
    element("div", { className: "controls" }, ...controls), element("div", { className: "scroll" }, table),
  );
}

/** A choice of `[value, text]`, inside its label. */
function choice(label, options) {
  const node = element("select", {}, ...optionsOf(options));
  element("label", {}, `${label} `, node);
  return node;
}

const optionsOf = (options) => options.map(([value, text]) => element("option", { value, textContent: text }));

/** Rows whose file, id or own columns hold the words, and that have the decision that is asked for. */
function filtered({ clips, outcome, before, other }, typed, which) {
  const wanted = typed.trim().toLowerCase(), holds = (text) => text !== null && text.toLowerCase().includes(wanted);
  const columns = wanted === "" ? [] : [clips.uris, ...clips.own];
  const texts = columns.map(({ codes, values }) => ({ codes, hits: values.map(holds) }));
  const matches = (row) => wanted === "" || clips.ids[row].startsWith(wanted)
    || texts.some(({ codes, hits }) => hits[codes[row]]);
  const differs = DIFFERS[which]?.holds;
  const isAsked = differs ? (row, now) => differs(now, other.decisions[row])
    : (row, now) => which === "" || (which === "changed" ? now !== before.decisions[row] : now === Number(which));
  const rows = new Int32Array(clips.count);
  let count = 0;
  for (let row = 0; row < clips.count; row++) {
    const now = outcome.decisions[row];
    if (isAsked(row, now) && matches(row) && (chosen.ids === null || chosen.ids.has(clips.ids[row]))) rows[count++] = row;
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

function clipRow({ clips, policy, outcome, before, other, packed }, row, sortedBy) {
  const { ids, uris, start_s, end_s, isImage, columns, own } = clips;
  const uri = uris.values[uris.codes[row]];
  const time = isImage[row] ? "image" : `${clock(start_s[row])}–${clock(end_s[row])}`;
  const number = (value) => String(Number(value.toPrecision(6)));
  const value = ({ values, valid }) => (valid !== null && !valid[row] ? "–" : number(values[row]));
  const score = (column) => element("div", {}, words("dt", "", column.name), words("dd", "", value(column)));
  const explain = `${packed.command.replace("reelpack select", "reelpack explain")} ${ids[row]}`;
  const more = element(
    "details", {}, element("summary", { title: uri }, `${baseName(uri)} `, words("span", "muted", time)),
    element("dl", {}, ...columns.map(score)), words("code", "", explain),
  );
  const [now, was] = [outcome, before].map(({ decisions }) => DECISIONS[decisions[row]]);
  const decision = now === was ? DECISION_NAMES[now] : `${DECISION_NAMES[was]} → ${DECISION_NAMES[now]}`;
  const there = other ? DECISION_NAMES[DECISIONS[other.decisions[row]]] ?? "not there" : "";
  const reasons = words("span", "reason", reasonsOf(clips, policy, outcome, row).join(" "));
  return element(
    "tr", { "data-clip": ids[row] }, element("td", {}, more), element("td", {}, words("b", now, decision), " ", reasons, other ? words("div", "muted", `${other.name}: ${there}`) : ""),
    ...(sortedBy ? [words("td", "", value(sortedBy))] : []),
    ...own.map(({ codes, values }) => words("td", "", values[codes[row]] ?? "")),
  );
}
