// One panel per score: its histogram, and two sliders and two fields for the thresholds of its rule.

const NUM_BINS = 48, SLIDER_STEPS = 480, NO_BIN = 255;
const SIDES = ["min", "max"];

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

const words = (tag, className, textContent) => element(tag, { className, textContent });

// --- the axis of a histogram ---

/** The finite values of columns, in order. */
function finiteValues(...columns) {
  const known = columns.map(({ values, valid }) => values.filter((value, row) => (valid === null || valid[row]) && Number.isFinite(value)));
  const all = new Float64Array(known.reduce((sum, { length }) => sum + length, 0));
  known.reduce((at, values) => (all.set(values, at), at + values.length), 0);
  return all.sort();
}

/**
 * Where values of a column, and of another one, lie on an axis, 0 to 1. Logarithmic where most positive values are far below the largest; the ends are
 * drawn in from values that lie far outside the others, which are counted in the first and the last bar.
 */
function axisOf(column, other = null) {
  const finite = finiteValues(...(other ? [column, other] : [column]));
  const bounds = [column.min, column.max].filter((bound) => bound !== null);
  const all = finite.length ? finite : bounds.length ? bounds : [0, 1];
  const positive = all.filter((value) => value > 0);
  const at = (list, share) => list[Math.floor(share * (list.length - 1))];
  const isLog = all[0] >= 0 && positive.length > 1 && at(positive, 0.995) > 30 * at(positive, 0.5);
  let [low, high] = isLog ? [at(positive, 0.01), at(all, 1)] : drawnIn(...[0, 0.005, 0.995, 1].map((q) => at(all, q)));
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
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
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
    this.bins = this.binned(column);
    this.laid = null;
    this.missing = column.valid === null ? 0 : column.valid.filter((valid) => !valid).length;
    this.note = words("span", "muted note", "");
    this.readout = words("span", "readout", column.description);
    this.readout.title = column.description;
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
      const reset = words("button", "reset", "reset");
      reset.addEventListener("click", () => SIDES.forEach((side) => onChange(side, column[side])));
      fields.append(reset);
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

  /** Lay another decision over the bars; null: none. */
  lay(other) {
    this.axis = axisOf(this.column, other?.columns?.[this.column.name]);
    this.bins = this.binned(this.column);
    this.laid = other && new Laid(this, other);
    this.node.querySelector(".ticks").replaceWith(this.ticks());
  }

  /** The bar of each value. */
  binned({ values, valid }) {
    return Uint8Array.from(values, (value, row) =>
      valid !== null && !valid[row] || Number.isNaN(value) ? NO_BIN
        : Math.min(NUM_BINS - 1, Math.floor(this.axis.place(value) * NUM_BINS)));
  }

  ticks() {
    const texts = this.axis.ticks.map((tick) => {
      const place = this.axis.place(tick);
      const className = place < 0.06 ? "first" : place > 0.94 ? "last" : "";
      const text = words("span", className, tickText(tick));
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
    const tallest = Math.max(1, this.laid?.tallest ?? 0, ...this.kept.map((count, bin) => count + this.other[bin]));
    // The root keeps the few clips at the edges visible beside the many in the middle.
    const heightOf = (count) => (count ? Math.max(3, 96 * Math.sqrt(count / tallest)) : 0);
    let kept = "", other = "";
    for (let bin = 0; bin < NUM_BINS; bin++) {
      const count = this.kept[bin] + this.other[bin];
      if (!count) continue;
      const height = heightOf(count), low = (height * this.kept[bin]) / count;
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
      + `<path class="kept" d="${kept}"/><path class="other" d="${other}"/>${this.laid?.lines(heightOf) ?? ""}`
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
    this.readout.textContent = `${from} to ${to}: ${grouped(this.kept[bin])} kept, ${grouped(this.other[bin])} not${this.laid?.words(bin) ?? ""}`;
  }
}
