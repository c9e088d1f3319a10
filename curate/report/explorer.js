// The threshold explorer: a panel per score, and beside them what the policy that is set here would decide, against
// the policy that the dataset has.

const NUM_AT_EDGE = 3;
const DECISION_NAMES = { keep: "kept", reject: "rejected", pending: "pending", failed: "failed" };

class Explorer {
  constructor(root, packed, clips) {
    Object.assign(this, { root, packed, clips });
    this.base = Object.fromEntries(clips.columns.map(({ name, min, max }) => [name, { min, max }]));
    this.policy = structuredClone(this.base);
    this.before = this.outcome = decide(clips, this.base);
    this.active = this.firstActive();
    this.pictures = picturesOfPage();
    this.panels = clips.columns.map((column) => new Panel(
      clips, column,
      (side, value) => this.set(column.name, side, value),
      (side) => this.look(column.name, side),
    ));
    this.aside = element("aside", { className: "outcome", "aria-label": "what these thresholds decide" });
    this.spoken = element("p", { className: "spoken", "aria-live": "polite" });
    this.listeners = [], this.layListeners = [];
    this.other = null, this.legend = element("p", { className: "muted legend" });
    const nodes = (isRule) => this.panels.filter(({ column }) => column.is_rule === isRule).map(({ node }) => node);
    const panels = element("div", {}, element("div", { className: "panels" }, ...nodes(true)));
    if (nodes(false).length) {
      const title = words("h3", "", "Other numbers, which no rule bounds");
      panels.append(title, element("div", { className: "panels" }, ...nodes(false)));
    }
    this.drawLegend();
    root.append(...this.remarks(), this.legend, element("div", { className: "explorer" }, panels, this.aside), this.spoken);
    address.listeners.push(() => this.read());
    this.read();
  }

  /** Lay another decision over the panels and the list, see `readOther`; null: none. */
  lay(other) {
    this.other = other;
    for (const panel of this.panels) panel.lay(other);
    this.drawLegend();
    for (const listener of this.layListeners) listener();
    this.update();
  }

  /** The thresholds of the address: `set.motion=0.01..` bounds one side. */
  read() {
    this.policy = structuredClone(this.base);
    for (const { name } of this.clips.columns) {
      const sides = address.get(`set.${name}`).match(/^(.*)\.\.(.*)$/)?.slice(1).map((text) => (text === "" ? null : Number(text)));
      if (sides && !sides.some(Number.isNaN)) this.policy[name] = { min: sides[0], max: sides[1] };
    }
    this.update();
  }

  write() {
    address.set(Object.fromEntries(this.clips.columns.map(({ name }) => {
      const { min, max } = this.policy[name], base = this.base[name];
      return [`set.${name}`, min === base.min && max === base.max ? "" : `${min ?? ""}..${max ?? ""}`];
    })));
  }

  /** Set one side of one rule (null: no bound) and recount. */
  set(name, side, value) {
    this.policy[name] = { ...this.policy[name], [side]: value };
    this.active = { name, side };
    this.write();
    this.update();
  }

  look(name, side) {
    this.active = { name, side };
    this.drawOutcome();
  }

  reset() {
    this.policy = structuredClone(this.base);
    this.write();
    this.update();
  }

  update() {
    this.outcome = decide(this.clips, this.policy);
    for (const panel of this.panels) panel.draw(this.policy[panel.column.name], this.outcome, this.before);
    this.drawOutcome();
    const [was, is] = [this.before, this.outcome].map(({ counts }) => grouped(counts[KEEP]));
    this.spoken.textContent = `${is} of ${grouped(this.clips.count)} clips kept${was === is ? "" : `, before ${was}`}`;
    for (const listener of this.listeners) listener();
  }

  firstActive() {
    const rule = this.before.rules.filter(({ column }) => column).sort((a, b) => b.any - a.any)[0];
    if (rule) return { name: rule.column, side: rule.side };
    return { name: this.clips.columns.find((column) => column.is_rule)?.name, side: "min" };
  }

  drawLegend() {
    const keys = [["kept", "kept"], ["other", "not kept"], ["limit", "threshold"], ["ghost", "the dataset's policy"]];
    if (this.other) keys.push(["laid", `kept in ${this.other.name}`]);
    if (this.other?.columns) keys.push(["laid whole", `all of ${this.other.name}, drawn to as many clips as are here`]);
    const parts = keys.flatMap(([css, text]) => [words("i", `key ${css}`, ""), text]);
    this.legend.replaceChildren(...parts, " · a bar's height is the square root of its count");
  }

  /** What a reader must know before trusting the counts. */
  remarks() {
    const { clips, packed } = this, remarks = [];
    if (clips.count < packed.total) {
      const [shown, all] = [clips.count, packed.total].map(grouped);
      remarks.push(`Thresholds are explored on an even sample of ${shown} of ${all} clips.`);
    }
    const differ = clips.decided.filter((decision, row) => decision !== this.before.decisions[row]).length;
    if (differ) {
      remarks.push(`${grouped(differ)} clips are decided differently in clips.parquet than the policy in config.yaml`
        + ` would: ${packed.command} brings it up to date.`);
    }
    return remarks.map((remark) => words("p", "warning", remark));
  }

  drawOutcome() {
    this.aside.replaceChildren(this.bar(), this.decisionTable(), this.otherTable(), this.ruleTable(), this.edges(), this.commands());
  }

  bar() {
    const parts = DECISIONS.map((name, code) => {
      const part = words("i", name, "");
      part.style.flexGrow = this.outcome.counts[code];
      return part;
    });
    return element("div", { className: "share", "aria-hidden": "true" }, ...parts);
  }

  decisionTable() {
    const rows = DECISIONS.map((name, code) => [
      DECISION_NAMES[name], this.before.counts[code], this.outcome.counts[code], name === "keep",
    ]).filter(([, was, is]) => was || is);
    const body = rows.map(([name, was, is, isMain]) => comparison(name, was, is, isMain ? "main" : ""));
    if (this.before.kept_s || this.outcome.kept_s) {
      const [was, is] = [this.before.kept_s, this.outcome.kept_s].map((s) => s / 3600);
      const digits = Math.max(was, is) < 10 ? 3 : 1, text = (hours) => hours.toFixed(digits);
      body.push(comparison("hours kept", was, is, "", text));
    }
    return table(["", "before", "after", ""], body, "decisions");
  }

  /** What these thresholds and the other decision decide differently. */
  otherTable() {
    if (!this.other) return "";
    const { name, decisions } = this.other;
    const [was, is] = [this.before, this.outcome].map((outcome) => countDiffering(outcome.decisions, decisions));
    const rows = Object.entries(DIFFERS).filter(([key]) => was[key] || is[key])
      .map(([key, { words }]) => comparison(words(name), was[key], is[key]));
    return rows.length ? table([`against ${name}`, "before", "after", ""], rows, "differing") : "";
  }

  ruleTable() {
    const sides = this.clips.columns.flatMap(({ name }) => SIDES.map((side) => `${name}.${side}`));
    const names = [...sides, ...this.clips.sets.map(({ name }) => name), "duplicate"];
    const count = (outcome, name, what) => outcome.rules.find((rule) => rule.name === name)?.[what] ?? 0;
    const rows = [];
    for (const name of names) {
      const [was, is] = [this.before, this.outcome].map((outcome) => count(outcome, name, "any"));
      if (!was && !is) continue;
      const row = comparison(name, was, is, "rule");
      row.lastChild.textContent = grouped(count(this.outcome, name, "alone"));
      rows.push(row);
    }
    return rows.length ? table(["rejected by", "before", "after", "alone"], rows, "rules") : "";
  }

  /** The clips on both sides of the threshold that was touched last. */
  edges() {
    const { name, side } = this.active;
    const column = this.clips.columns.find((one) => one.name === name);
    if (!column) return "";
    const bound = this.policy[name][side];
    const title = bound === null
      ? `${name} has no ${side}: the ${side === "min" ? "lowest" : "highest"} that are kept`
      : `At the edge of ${name}.${side} ${bound}`;
    const { rejected, kept } = nearest(this.clips, column, side, bound, this.outcome.decisions);
    const node = element("div", { className: "edges" }, element("h3", { textContent: title }));
    for (const [word, rows] of [["rejected", rejected], ["kept", kept]]) {
      const cards = rows.map((row) => this.edgeCard(column, row));
      if (cards.length) node.append(words("p", "side", word), element("div", { className: "row" }, ...cards));
    }
    return node;
  }

  edgeCard(column, row) {
    const { ids, uris, start_s, end_s, isImage } = this.clips, id = ids[row];
    const uri = uris.values[uris.codes[row]], time = isImage[row] ? "image" : clock(start_s[row]);
    const reasons = reasonsOf(this.clips, this.policy, this.outcome, row);
    const others = reasons.filter((name) => !name.startsWith(`${column.name}.`));
    return element(
      "figure", { title: `${uri} ${clock(start_s[row])}–${clock(end_s[row])}\n${id}`, "data-clip": id },
      this.pictures.get(id) ?? words("span", "thumb missing", id.slice(0, 8)),
      words("b", "", String(Number(column.values[row].toPrecision(5)))),
      words("span", "muted", `${time} ${baseName(uri)}`),
      others.length ? words("span", "reason", `also ${others.join(" ")}`) : "",
    );
  }

  /** The changed sides of rules, as `[name, side, value]`. A bound that is set here replaces a relative one. */
  changes() {
    return this.clips.columns.flatMap(({ name, relative }) => SIDES
      .filter((side) => this.policy[name][side] !== this.base[name][side])
      .flatMap((side) => [
        [name, side, this.policy[name][side]],
        ...relative.filter((one) => one.startsWith(side)).map((one) => [name, one, null]),
      ]));
  }

  commands() {
    const changes = this.changes();
    if (!changes.length) {
      return words("p", "muted", "Move a threshold: the command that makes it the dataset's policy appears here.");
    }
    const flags = changes.map(([name, side, value]) => ` --set ${setting(name, side, value)}`);
    const yaml = [...new Set(changes.map(([name]) => name))].map((name) => {
      const sides = changes.filter((change) => change[0] === name).map(([, side, value]) => `${side}: ${value}`);
      return `\n    ${isPlain(name) ? name : JSON.stringify(name)}: {${sides.join(", ")}}`;
    });
    const reset = words("button", "chip", "reset all"), { uncut } = this.outcome;
    reset.addEventListener("click", () => this.reset());
    const toCut = `${grouped(uncut)} of the clips kept here are in no shard yet: reelpack curate cuts them.`;
    return element(
      "div", { className: "commands" }, copyable("command", this.packed.command + flags.join("")),
      copyable("yaml", `select:\n  rules:${yaml.join("")}`), uncut ? words("p", "muted", toCut) : "", reset,
    );
  }
}

const isPlain = (name) => /^[A-Za-z_][A-Za-z0-9_]*$/.test(name);

/** What `--set` takes. A column of the user can have any name: JSON then, quoted for a shell. */
function setting(name, side, value) {
  if (isPlain(name)) return `select.rules.${name}.${side}=${value}`;
  return `'select.rules=${JSON.stringify({ [name]: { [side]: value } }).replaceAll("'", "'\\''")}'`;
}


/** The clips nearest to a bound: those that break it, and those that pass it and are kept; rows, nearest first. */
function nearest(clips, column, side, bound, decisions) {
  const sign = side === "min" ? 1 : -1, from = bound ?? 0;
  const rejected = [], kept = [];
  const insert = (list, distance, row) => {
    if (list.length === NUM_AT_EDGE && distance >= list[list.length - 1].distance) return;
    list.splice(list.findLastIndex((one) => one.distance <= distance) + 1, 0, { distance, row });
    list.length = Math.min(list.length, NUM_AT_EDGE);
  };
  for (let row = 0; row < clips.count; row++) {
    if ((column.valid !== null && !column.valid[row]) || (column.skips_images && clips.isImage[row])) continue;
    const distance = sign * (column.values[row] - from);
    if (decisions[row] === KEEP) insert(kept, distance, row);
    else if (bound !== null && distance < 0) insert(rejected, -distance, row);
  }
  return { rejected: rejected.map(({ row }) => row), kept: kept.map(({ row }) => row) };
}

/** Clip id → a node that shows it: the thumbnails in the page, and first frames of the strips on its cards. */
function picturesOfPage() {
  const pictures = new Map();
  for (const film of document.querySelectorAll(".film[data-picture]")) {
    const thumb = words("span", "thumb strip", "");
    thumb.style.cssText = film.style.cssText;
    pictures.set(film.dataset.picture, thumb);
  }
  for (const root of [document, document.getElementById("pictures").content]) {
    for (const image of root.querySelectorAll("img[data-picture]")) {
      pictures.set(image.dataset.picture, image.cloneNode());
    }
  }
  return pictures;
}

function table(heads, rows, className) {
  const head = element("tr", {}, ...heads.map((text) => words("th", "", text)));
  return element("table", { className }, element("thead", {}, head), element("tbody", {}, ...rows));
}

/** A row `name, before, after, difference`. */
function comparison(name, was, is, className = "", text = grouped) {
  const difference = text(was) === text(is) ? "" : `${is > was ? "+" : "−"}${text(Math.abs(is - was))}`;
  const cells = [name, text(was), text(is)].map((cell) => words("td", "", cell));
  return element("tr", { className, "data-name": name }, ...cells, words("td", "muted", difference));
}

function copyable(name, text) {
  const code = element("pre", { className: name, textContent: text, tabIndex: 0 });
  const button = words("button", "chip copy", "copy");
  button.addEventListener("click", () => {
    getSelection().selectAllChildren(code);
    // The clipboard's own interface asks for a permission that a local file may not have.
    button.textContent = document.execCommand("copy") ? "copied" : "selected";
  });
  return element("div", { className: "copyable" }, code, button);
}

/** The explorer once its data is read; null on a page that has none. */
async function startExplorer() {
  const root = document.getElementById("explorer");
  if (!root) return null;
  const packed = JSON.parse(document.getElementById("explorer-data").textContent);
  const explorer = new Explorer(root, packed, await readClips(packed));
  root.append(clipList(explorer));
  const other = document.getElementById("against-data");
  if (other) explorer.lay(await readOther(JSON.parse(other.textContent)));
  return explorer;
}

const explorerReady = startExplorer();
