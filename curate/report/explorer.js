// The threshold explorer: one panel per score with its histogram and thresholds, and beside them what the policy that
// is set here would decide, against the policy that the dataset has.

const NUM_BINS = 48, SLIDER_STEPS = 480, NUM_AT_EDGE = 3, NO_BIN = 255;
const SIDES = ["min", "max"];
const DECISION_NAMES = { keep: "kept", reject: "rejected", pending: "pending", failed: "failed" };

const grouped = (count) => count.toLocaleString("en-US");
const clock = (s) => `${Math.floor(s / 60)}:${(s % 60).toFixed(2).padStart(5, "0")}`;
const baseName = (uri) => uri.replace(/\/+$/, "").split("/").pop();

/** A number for people: three significant digits, thousands separated. */
function shortNumber(value) {
  if (Math.abs(value) >= 1000) return grouped(Math.round(value));
  return String(Number(value.toPrecision(3)));
}

const tickText = (value) => (Math.abs(value) < 10000 ? shortNumber(value)
  : value.toLocaleString("en-US", { notation: "compact", maximumSignificantDigits: 3 }));

/** An element; names with a dash are attributes, the others properties. */
function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

// --- the axis of a histogram ---

/**
 * Where values lie on an axis, 0 to 1. Logarithmic where most positive values are far below the largest; the ends are
 * drawn in from values that lie far outside the others, which are counted in the first and the last bar.
 */
function axisOf({ values, valid, min, max }) {
  const finite = values.filter((value, row) => (valid === null || valid[row]) && Number.isFinite(value)).sort();
  const bounds = [min, max].filter((bound) => bound !== null);
  const all = finite.length ? finite : bounds.length ? bounds : [0, 1];
  const positive = all.filter((value) => value > 0);
  const at = (list, share) => list[Math.floor(share * (list.length - 1))];
  const isLog = all[0] >= 0 && positive.length > 1 && at(positive, 0.995) > 30 * at(positive, 0.5);
  let [low, high] = isLog ? [at(positive, 0.01), at(all, 1)] : drawnIn(at(all, 0), at(all, 0.005), at(all, 0.995), at(all, 1));
  for (const bound of bounds) {
    if (!isLog || bound > 0) [low, high] = [Math.min(low, bound), Math.max(high, bound)];
  }
  if (high - low <= 1e-9 * Math.max(Math.abs(low), Math.abs(high))) {
    const around = Math.abs(low) * 0.1 || 0.5;
    [low, high] = [low - around, high + around];
  }
  const to = isLog ? Math.log10 : (value) => value, from = isLog ? (place) => 10 ** place : (place) => place;
  const start = to(low), length = to(high) - start;
  return {
    low, high, isLog,
    place: (value) => (isLog && value <= 0 ? 0 : Math.min(1, Math.max(0, (to(value) - start) / length))),
    value: (place) => from(start + place * length),
    ticks: isLog ? decades(low, high) : niceTicks(low, high),
  };
}

/** The ends of a linear axis: of the values, or of all but half a percent where these lie far out. */
function drawnIn(low, lowMost, highMost, high) {
  const most = highMost - lowMost;
  if (most <= 0) return [low, high];
  return [lowMost - low > 2 * most ? lowMost : low, high - highMost > 2 * most ? highMost : high];
}

function niceTicks(low, high) {
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

function decades(low, high) {
  const ticks = [];
  for (let power = Math.ceil(Math.log10(low)); 10 ** power <= high; power++) ticks.push(Number(`1e${power}`));
  return ticks.length > 1 ? ticks : [low, high];
}

/** The value of a slider's position, with the digits that lead back to the position. */
function sliderValue(axis, position) {
  const value = axis.value(position / SLIDER_STEPS);
  if (axis.isLog) return Number(value.toPrecision(4));
  const step = (axis.high - axis.low) / SLIDER_STEPS;
  return Number(value.toFixed(Math.min(12, Math.max(0, Math.ceil(1 - Math.log10(step))))));
}

// --- one score ---

class Panel {
  /** `onChange(side, value)` is told of a new threshold (null: none), `onFocus(side)` of the one that is looked at. */
  constructor(clips, column, onChange, onFocus) {
    this.column = column;
    this.axis = axisOf(column);
    this.bins = this.binned();
    this.missing = column.valid === null ? 0 : column.valid.reduce((count, valid) => count - valid, column.valid.length);
    this.note = element("span", { className: "muted note" });
    this.readout = element("span", { className: "readout", textContent: column.description, title: column.description });
    this.plot = element("div", { className: "plot" });
    this.plot.addEventListener("pointermove", (event) => this.read(event));
    this.plot.addEventListener("pointerleave", () => (this.readout.textContent = column.description));
    this.node = element(
      "figure", { className: "panel", "data-column": column.name },
      element("figcaption", {}, element("b", { textContent: column.name }), this.readout),
      this.plot, this.ticks(),
    );
    this.inputs = {};
    if (column.is_rule) {
      const track = element("div", { className: "sliders" });
      const fields = element("div", { className: "fields" });
      for (const side of SIDES) {
        const slider = this.slider(side), field = this.field(side);
        this.inputs[side] = { slider, field };
        const typed = () => {
          const value = field.value.trim() === "" ? null : Number(field.value);
          if (this.fits(side, value)) onChange(side, value);
        };
        slider.addEventListener("input", () => onChange(side, this.slid(side)));
        field.addEventListener("input", typed);
        for (const input of [slider, field]) input.addEventListener("focus", () => onFocus(side));
        track.append(slider);
        fields.append(element("label", {}, `${side} `, field));
      }
      this.reset = element("button", { className: "reset", textContent: "reset", title: "back to the dataset's policy" });
      this.reset.addEventListener("click", () => SIDES.forEach((side) => onChange(side, column[side])));
      fields.append(this.reset);
      this.node.append(track, fields);
    }
    this.node.append(this.note);
  }

  slider(side) {
    return element("input", {
      type: "range", min: 0, max: SLIDER_STEPS, step: 1, className: side,
      "aria-label": `${this.column.name}, ${side === "min" ? "smallest" : "largest"} value that passes`,
    });
  }

  field(side) {
    const placeholder = side === "min" ? "no min" : "no max";
    return element("input", { type: "number", step: "any", placeholder, "aria-label": `${this.column.name}.${side}` });
  }

  binned() {
    const { values, valid } = this.column;
    return Uint8Array.from(values, (value, row) =>
      valid !== null && !valid[row] || Number.isNaN(value) ? NO_BIN
        : Math.min(NUM_BINS - 1, Math.floor(this.axis.place(value) * NUM_BINS)));
  }

  ticks() {
    const texts = this.axis.ticks.map((tick) => {
      const place = this.axis.place(tick);
      const text = element("span", { textContent: tickText(tick), className: place < 0.06 ? "first" : place > 0.94 ? "last" : "" });
      text.style.left = `${100 * place}%`;
      return text;
    });
    return element("div", { className: "ticks", "aria-hidden": "true" }, ...texts);
  }

  /** The threshold that a slider stands for: at its end it bounds nothing; it does not pass the other one. */
  slid(side) {
    const position = this.inputs[side].slider.valueAsNumber;
    if (position === (side === "min" ? 0 : SLIDER_STEPS)) return null;
    const value = sliderValue(this.axis, position), other = this.bound[side === "min" ? "max" : "min"];
    if (other === null) return value;
    return side === "min" ? Math.min(value, other) : Math.max(value, other);
  }

  /** Whether a typed value can be a bound; marks the field if not. */
  fits(side, value) {
    const field = this.inputs[side].field, { min, max } = { ...this.bound, [side]: value };
    const isBad = field.validity.badInput || (min !== null && max !== null && min > max);
    field.setCustomValidity(isBad ? "min is above max: no value can pass" : "");
    return !isBad;
  }

  draw(bound, outcome, before) {
    this.bound = bound;
    this.kept = new Uint32Array(NUM_BINS), this.other = new Uint32Array(NUM_BINS);
    for (let row = 0; row < this.bins.length; row++) {
      const bin = this.bins[row];
      if (bin !== NO_BIN) (outcome.decisions[row] === KEEP ? this.kept : this.other)[bin]++;
    }
    this.plot.innerHTML = this.chart(bound);
    for (const [side, { slider, field }] of Object.entries(this.inputs)) {
      const value = bound[side], end = side === "min" ? 0 : SLIDER_STEPS;
      slider.value = value === null ? end : Math.round(this.axis.place(value) * SLIDER_STEPS);
      slider.setAttribute("aria-valuetext", value === null ? `no ${side}` : String(value));
      slider.classList.toggle("open", value === null);
      const typed = field.value === "" ? null : Number(field.value);
      if (typed !== value) field.value = value ?? "";
      field.setCustomValidity("");
    }
    const isChanged = SIDES.some((side) => bound[side] !== this.column[side]);
    this.node.classList.toggle("changed", isChanged);
    this.note.replaceChildren(...this.words(outcome, before));
  }

  chart({ min, max }) {
    const tallest = Math.max(1, ...this.kept.map((count, bin) => count + this.other[bin]));
    let kept = "", other = "";
    for (let bin = 0; bin < NUM_BINS; bin++) {
      const count = this.kept[bin] + this.other[bin];
      if (!count) continue;
      // The root keeps the few clips at the edges visible beside the many in the middle.
      const height = Math.max(3, 96 * Math.sqrt(count / tallest)), low = (height * this.kept[bin]) / count;
      kept += `M${bin} 100h.9v${-low}h-.9z`;
      other += `M${bin} ${100 - low}h.9v${low - height}h-.9z`;
    }
    const x = (bound) => NUM_BINS * this.axis.place(bound);
    const shade = (from, to) => `<rect class="out" x="${from}" y="0" width="${to - from}" height="100"/>`;
    const line = (bound, css) => `<line class="${css}" x1="${x(bound)}" x2="${x(bound)}" y1="0" y2="100"/>`;
    const ghosts = SIDES.filter((side) => this.column[side] !== null && this.column[side] !== this.bound[side]);
    return (
      `<svg viewBox="0 0 ${NUM_BINS} 100" preserveAspectRatio="none" aria-hidden="true">`
      + (min === null ? "" : shade(0, x(min))) + (max === null ? "" : shade(x(max), NUM_BINS))
      + `<path class="kept" d="${kept}"/><path class="other" d="${other}"/>`
      + ghosts.map((side) => line(this.column[side], "ghost")).join("")
      + [min, max].filter((bound) => bound !== null).map((bound) => line(bound, "limit")).join("") + "</svg>"
    );
  }

  /** What the rules of this score reject, and how many clips have no value. */
  words(outcome, before) {
    const parts = SIDES.map((side) => `${this.column.name}.${side}`).flatMap((name) => {
      const [now, then] = [outcome, before].map(({ rules }) => rules.find((rule) => rule.name === name));
      if (!now && !then) return [];
      const was = then?.any ?? 0, is = now?.any ?? 0;
      return [`${name.split(".").pop()} rejects ${was === is ? "" : `${grouped(was)} → `}${grouped(is)}`];
    });
    if (this.missing) parts.push(`${grouped(this.missing)} not measured`);
    return [parts.join(" · ")];
  }

  /** Under the pointer: a bar's range and counts. */
  read(event) {
    const { left, width } = this.plot.getBoundingClientRect();
    const bin = Math.min(NUM_BINS - 1, Math.max(0, Math.floor(((event.clientX - left) / width) * NUM_BINS)));
    const [from, to] = [bin, bin + 1].map((edge) => shortNumber(this.axis.value(edge / NUM_BINS)));
    this.readout.textContent = `${from} to ${to}: ${grouped(this.kept[bin])} kept, ${grouped(this.other[bin])} not`;
  }
}

// --- the whole ---

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
    this.listeners = [];
    const legend = element("p", { className: "muted legend" });
    legend.innerHTML = '<i class="key kept"></i>kept <i class="key other"></i>not kept <i class="key limit"></i>threshold'
      + ' <i class="key ghost"></i>the dataset\'s policy · a bar\'s height is the square root of its count';
    const nodes = (isRule) => this.panels.filter(({ column }) => column.is_rule === isRule).map(({ node }) => node);
    const panels = element("div", {}, element("div", { className: "panels" }, ...nodes(true)));
    if (nodes(false).length) {
      panels.append(element("h3", { textContent: "Other numbers, which no rule bounds" }), element("div", { className: "panels" }, ...nodes(false)));
    }
    root.append(...this.remarks(), legend, element("div", { className: "explorer" }, panels, this.aside), this.spoken);
    this.update();
  }

  /** Set one side of one rule (null: no bound) and recount. */
  set(name, side, value) {
    this.policy[name] = { ...this.policy[name], [side]: value };
    this.active = { name, side };
    this.update();
  }

  look(name, side) {
    this.active = { name, side };
    this.drawOutcome();
  }

  reset() {
    this.policy = structuredClone(this.base);
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
    const rule = this.before.rules.filter(({ name }) => name !== "duplicate").sort((a, b) => b.any - a.any)[0];
    const [name, side] = rule?.name.split(".") ?? [this.clips.columns.find((column) => column.is_rule)?.name, "min"];
    return { name, side };
  }

  /** What a reader must know before trusting the counts. */
  remarks() {
    const { clips, packed } = this, remarks = [];
    if (clips.count < packed.total) {
      remarks.push(`Thresholds are explored on an even sample of ${grouped(clips.count)} of ${grouped(packed.total)} clips.`);
    }
    const differ = clips.decided.reduce((count, decision, row) => count + (decision !== this.before.decisions[row]), 0);
    if (differ) {
      remarks.push(`${grouped(differ)} clips are decided differently in clips.parquet than the policy in config.yaml would: `
        + `${packed.command} brings it up to date.`);
    }
    return remarks.map((textContent) => element("p", { className: "warning", textContent }));
  }

  drawOutcome() {
    this.aside.replaceChildren(this.bar(), this.decisionTable(), this.ruleTable(), this.edges(), this.commands());
  }

  bar() {
    const parts = DECISIONS.map((name, code) => {
      const part = element("i", { className: name, title: `${DECISION_NAMES[name]} ${grouped(this.outcome.counts[code])}` });
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

  ruleTable() {
    const names = [...this.clips.columns.flatMap(({ name }) => SIDES.map((side) => `${name}.${side}`)), "duplicate"];
    const count = (outcome, name, what) => outcome.rules.find((rule) => rule.name === name)?.[what] ?? 0;
    const rows = names.filter((name) => count(this.before, name, "any") || count(this.outcome, name, "any")).map((name) => {
      const row = comparison(name, count(this.before, name, "any"), count(this.outcome, name, "any"), "rule");
      row.lastChild.replaceWith(element("td", { textContent: grouped(count(this.outcome, name, "alone")) }));
      return row;
    });
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
      if (!rows.length) continue;
      const cards = rows.map((row) => this.edgeCard(column, row));
      node.append(element("p", { className: `side ${word}`, textContent: word }), element("div", { className: "row" }, ...cards));
    }
    return node;
  }

  edgeCard(column, row) {
    const { ids, uris, start_s, end_s, isImage } = this.clips;
    const picture = this.pictures.get(ids[row]) ?? element("span", { className: "thumb missing", textContent: ids[row].slice(0, 8) });
    const uri = uris.values[uris.codes[row]];
    const time = isImage[row] ? "image" : clock(start_s[row]);
    const others = reasonsOf(this.clips, this.policy, this.outcome, row).filter((name) => !name.startsWith(`${column.name}.`));
    return element(
      "figure", { title: `${uri} ${clock(start_s[row])}–${clock(end_s[row])}\n${ids[row]}`, "data-clip": ids[row] }, picture,
      element("b", { textContent: String(Number(column.values[row].toPrecision(5))) }),
      element("span", { className: "muted", textContent: `${time} ${baseName(uri)}` }),
      ...(others.length ? [element("span", { className: "reason", textContent: `also ${others.join(" ")}` })] : []),
    );
  }

  /** The changed sides of rules, as `[name, side, value]`. */
  changes() {
    return Object.entries(this.policy).flatMap(([name, bound]) =>
      SIDES.filter((side) => bound[side] !== this.base[name][side]).map((side) => [name, side, bound[side]]));
  }

  commands() {
    const changes = this.changes();
    if (!changes.length) {
      return element("p", { className: "muted", textContent: "Move a threshold: the command that makes it the dataset's policy appears here." });
    }
    const flags = changes.map(([name, side, value]) => ` --set select.${name}.${side}=${value}`);
    const yaml = [...new Set(changes.map(([name]) => name))].map((name) => {
      const sides = changes.filter((change) => change[0] === name).map(([, side, value]) => `${side}: ${value}`);
      return `\n  ${name}: {${sides.join(", ")}}`;
    });
    const reset = element("button", { className: "chip", textContent: "reset all" });
    reset.addEventListener("click", () => this.reset());
    const uncut = this.outcome.uncut
      ? [element("p", { className: "muted", textContent: `${grouped(this.outcome.uncut)} of the clips kept here are in no shard yet; reelpack curate cuts them.` })] : [];
    return element(
      "div", { className: "commands" }, copyable("command", this.packed.command + flags.join("")),
      copyable("yaml", `select:${yaml.join("")}`), ...uncut, reset,
    );
  }
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
    const thumb = element("span", { className: "thumb strip" });
    thumb.style.cssText = film.style.cssText;
    pictures.set(film.dataset.picture, thumb);
  }
  const images = [document, document.getElementById("pictures").content].flatMap((root) => [...root.querySelectorAll("img[data-picture]")]);
  for (const image of images) pictures.set(image.dataset.picture, image.cloneNode());
  return pictures;
}

function table(heads, rows, className) {
  const head = element("tr", {}, ...heads.map((textContent) => element("th", { textContent })));
  return element("table", { className }, element("thead", {}, head), element("tbody", {}, ...rows));
}

/** A row `name, before, after, difference`. */
function comparison(name, was, is, className = "", text = grouped) {
  const sign = is > was ? "+" : "−";
  return element(
    "tr", { className, "data-name": name }, element("td", { textContent: name }), element("td", { textContent: text(was) }),
    element("td", { textContent: text(is) }),
    element("td", { className: "muted", textContent: text(was) === text(is) ? "" : `${sign}${text(Math.abs(is - was))}` }),
  );
}

function copyable(name, text) {
  const code = element("pre", { className: name, textContent: text, tabIndex: 0 });
  const button = element("button", { className: "chip copy", textContent: "copy" });
  button.addEventListener("click", () => {
    getSelection().selectAllChildren(code);
    // The clipboard's own interface asks for a permission that a local file may not have.
    button.textContent = document.execCommand("copy") ? "copied" : "selected";
  });
  return element("div", { className: "copyable" }, code, button);
}

/** The explorer once its data is read; null on a page that has none. */
const explorerReady = (async () => {
  const root = document.getElementById("explorer");
  if (!root) return null;
  const packed = JSON.parse(document.getElementById("explorer-data").textContent);
  const explorer = new Explorer(root, packed, await readClips(packed));
  root.append(clipList(explorer));
  return explorer;
})();
