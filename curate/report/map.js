// The map of embeddings: a point per clip, and a box that chooses the clips in it. The box is in the address.

const MAP_HELP = "Draw a box. With the keyboard: arrows move it, + and − change its size, Escape takes it away.";
const MAP_COLORS = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#ee8866"];

/** Ids of the clips in the box; null: there is no box. */
const chosen = { ids: null, listeners: [] };

class EmbeddingMap {
  constructor(root, points) {
    Object.assign(this, { root, points, x: rangeOf(points.x), y: rangeOf(points.y) });
    this.canvas = element("canvas", { tabIndex: 0, title: MAP_HELP, "aria-label": `Map of embeddings. ${MAP_HELP}`, "role": "application" });
    this.color = choice("color", [["decision", "decision"], ["cluster", "cluster"]]);
    this.color.addEventListener("input", () => (address.set({ color: this.color.value === "decision" ? "" : this.color.value }), this.draw()));
    this.note = element("span", { className: "muted", "aria-live": "polite" });
    const clear = words("button", "chip", "no box");
    clear.addEventListener("click", () => this.choose(null));
    this.legend = element("span", { className: "legend muted" });
    root.replaceChildren(
      element("div", { className: "controls" }, this.color.parentNode, this.legend, this.note, clear), this.canvas,
    );
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("pointermove", (event) => this.move(event));
    this.canvas.addEventListener("pointerup", () => this.release());
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    address.listeners.push(() => this.read());
    this.read();
  }

  read() {
    this.color.value = address.get("color") || "decision";
    const box = address.get("box").split(",").map(Number);
    this.box = box.length === 4 && !box.some(Number.isNaN) ? box : null;
    this.tell();
  }

  /** A box as [left, bottom, right, top] from -1 to 1, or null. */
  choose(box) {
    this.box = box;
    address.set({ box: box ? box.map((side) => String(Number(side.toFixed(3)))).join() : "", page: "" });
    this.tell();
  }

  tell() {
    const { ids, x, y } = this.points, box = this.box;
    chosen.ids = box && new Set(ids.filter((_, at) => x[at] >= box[0] && x[at] <= box[2] && y[at] >= box[1] && y[at] <= box[3]));
    const { total } = this.points, rest = total - ids.length;
    const hidden = rest ? `; the ${grouped(rest)} clips that are not on the map are hidden` : "";
    this.note.textContent = box ? `${grouped(chosen.ids.size)} clips in the box${hidden}` : "";
    this.draw();
    for (const listener of chosen.listeners) listener();
  }

  // From -1 … 1 to the picture and back; both axes have one scale.
  get scale() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    return Math.min((width - 20) / this.x.extent, (height - 20) / this.y.extent);
  }

  place(x, y) {
    const { clientWidth: width, clientHeight: height } = this.canvas, { scale } = this;
    return [width / 2 + (x - this.x.middle) * scale, height / 2 - (y - this.y.middle) * scale];
  }

  under({ offsetX, offsetY }) {
    const { clientWidth: width, clientHeight: height } = this.canvas, { scale } = this;
    return [(offsetX - width / 2) / scale + this.x.middle, this.y.middle - (offsetY - height / 2) / scale];
  }

  press(event) {
    this.from = this.under(event);
    this.canvas.setPointerCapture(event.pointerId);
  }

  move(event) {
    if (!this.from) return;
    const to = this.under(event), ends = [0, 1].map((axis) => [this.from[axis], to[axis]].sort((a, b) => a - b));
    this.drawn = [ends[0][0], ends[1][0], ends[0][1], ends[1][1]];
    this.draw(this.drawn);
  }

  release() {
    const box = this.drawn;
    this.from = this.drawn = null;
    if (box) this.choose(box);
  }

  key(event) {
    const [left, bottom, right, top] = this.box ?? [-0.25, -0.25, 0.25, 0.25];
    const step = 0.05, [dx, dy] = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] }[event.key] ?? [0, 0];
    const grow = { "+": step, "=": step, "-": -step }[event.key] ?? 0;
    if (event.key === "Escape") this.choose(null);
    else if (dx || dy) this.choose([left + dx, bottom + dy, right + dx, top + dy]);
    else if (grow && right - left + 2 * grow > 0) this.choose([left - grow, bottom - grow, right + grow, top + grow]);
    else return;
    event.preventDefault();
  }

  colors() {
    if (this.color.value === "cluster") return { codes: this.points.clusters, colors: MAP_COLORS, names: [] };
    const style = getComputedStyle(this.root), of = (name) => style.getPropertyValue(`--${name}`).trim();
    const colors = [of("kept"), of("rejected"), of("other"), of("failed")];
    return { codes: this.points.decisions, colors, names: DECISIONS.map((name) => DECISION_NAMES[name]) };
  }

  draw(box = this.box) {
    const { canvas, points } = this, ratio = devicePixelRatio, { codes, colors, names } = this.colors();
    if (!canvas.clientWidth) return;
    [canvas.width, canvas.height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio];
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const radius = points.ids.length > 2000 ? 1.5 : 3;
    const used = new Set();
    for (let at = 0; at < points.ids.length; at++) {
      const [x, y] = this.place(points.x[at], points.y[at]);
      context.globalAlpha = !chosen.ids || chosen.ids.has(points.ids[at]) ? 0.85 : 0.2;
      context.fillStyle = colors[codes[at]];
      used.add(codes[at]);
      context.beginPath();
      context.arc(x, y, radius, 0, 7);
      context.fill();
    }
    this.legend.replaceChildren(...names.flatMap((name, code) => {
      const key = element("i", { className: "key" });
      key.style.background = colors[code];
      return used.has(code) ? [key, name] : [];
    }));
    if (!box) return;
    const [left, top] = this.place(box[0], box[3]), [right, bottom] = this.place(box[2], box[1]);
    context.globalAlpha = 1;
    context.strokeStyle = getComputedStyle(this.root).getPropertyValue("--accent");
    context.lineWidth = 1.5;
    context.strokeRect(left, top, right - left, bottom - top);
  }
}

const rangeOf = (values) => {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return { middle: (low + high) / 2, extent: Math.max(0.1, high - low) };
};

/** The map once its places are read; null on a page that has none. */
async function startMap() {
  const root = document.getElementById("points");
  if (!root) return null;
  const packed = JSON.parse(document.getElementById("points-data").textContent);
  const [ids, x, y, decisions, clusters] = await Promise.all([
    unpackStrings(packed.ids), unpack(packed.x), unpack(packed.y), unpack(packed.decisions), unpack(packed.clusters),
  ]);
  const part = (whole) => Array.from(whole, (value) => value / packed.steps);
  return new EmbeddingMap(root, { ids, x: part(x), y: part(y), decisions, clusters, total: packed.total });
}

const mapReady = startMap();
