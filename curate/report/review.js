// Captions: each text is accepted, rejected or edited. The judgments stay in this browser; the export takes them out.

const KEYS = { a: "accept", r: "reject", e: "edit", u: "undo" };
const JUDGED = { accept: "accepted", reject: "rejected", edit: "edited" };
const HELP = "j and k: next and previous text · a: accept · r: reject · e: edit (Ctrl+Enter keeps it, Escape does not)"
  + " · u: undo";

/** The judgments, one per clip, level and variant, as lines of review.jsonl. */
class Judgments {
  constructor(dataset) {
    this.name = `reelpack review of ${dataset}`;
    this.listeners = [];
    this.isKept = true;
    this.lines = new Map(this.read().map((line) => [this.place(line), line]));
  }

  place({ clip_id, level, variant }) {
    return JSON.stringify([clip_id, level, variant]);
  }

  read() {
    try {
      const lines = JSON.parse(localStorage.getItem(this.name) ?? "[]");
      return Array.isArray(lines) ? lines.filter((line) => typeof line?.clip_id === "string" && line.action in JUDGED) : [];
    } catch {
      return [];
    }
  }

  /** What was said of this very text; undefined: nothing. */
  of(text) {
    const line = this.lines.get(this.place(text));
    return line?.text_id === text.text_id ? line : undefined;
  }

  keep(line) {
    this.lines.set(this.place(line), line);
    this.write();
  }

  forget(text) {
    this.lines.delete(this.place(text));
    this.write();
  }

  write() {
    try {
      localStorage.setItem(this.name, JSON.stringify([...this.lines.values()]));
      this.isKept = true;
    } catch {
      this.isKept = false;
    }
    for (const listener of this.listeners) listener();
  }

  /** Forget the lines that were stored: all but those with these numbers, from 1. */
  settle(leftOut) {
    this.lines = new Map([...this.lines].filter((_, at) => leftOut.includes(at + 1)));
    this.write();
  }

  jsonl() {
    return [...this.lines.values()].map((line) => `${JSON.stringify(line)}\n`).join("");
  }
}

/** The judgments of a dataset: one for all that judge on a page. */
const judgmentsOf = (() => {
  const known = new Map();
  return (dataset) => known.get(dataset) ?? known.set(dataset, new Judgments(dataset)).get(dataset);
})();

/** The texts of a clip, and a place for one's own. */
function judgedTexts(clip_id, texts, judgments, onChange) {
  const own = { level: "human", variant: 0, text: "", text_id: null, status: "none", findings: [], by: "" };
  const shown = texts.some(({ level }) => level === "human") ? texts : [...texts, own];
  return shown.map((text) => new JudgedText({ ...text, clip_id }, judgments, onChange));
}

/** One text with its buttons. */
class JudgedText {
  constructor(text, judgments, onChange) {
    Object.assign(this, { text, judgments, onChange });
    this.said = element("p", { className: "said" });
    this.verdict = words("b", "verdict", "");
    this.buttons = Object.fromEntries(Object.entries(KEYS).map(([key, name]) => {
      const title = `key ${key}`, button = element("button", { className: "chip", textContent: name, title });
      button.addEventListener("click", () => this.judge(name));
      return [name, button];
    }));
    this.note = element("input", { type: "search", placeholder: "note", "aria-label": "note" });
    this.note.addEventListener("input", () => this.annotate());
    const { level, variant, status, by } = text, name = variant ? `${level}.${variant}` : level;
    const codes = text.findings.flatMap(({ code, detail }) => [words("code", "reason", code), words("span", "muted", detail)]);
    const about = [words("b", "level", name), words("span", `status ${status}`, status), ...codes];
    if (by) about.push(words("span", "muted", `by ${by}`));
    this.node = element(
      "div", { className: "text", tabIndex: 0, "aria-label": `${name}, ${status}` },
      element("p", { className: "about" }, ...about, this.verdict), this.said,
      element("div", { className: "controls" }, ...Object.values(this.buttons), this.note),
    );
    this.node.addEventListener("keydown", (event) => this.key(event));
    this.draw();
  }

  get line() {
    return this.judgments.of(this.text);
  }

  /** What the text was found to have, and where it stands here: what the filters choose by. */
  get traits() {
    const { status, findings, level } = this.text;
    return { status, level, codes: findings.map(({ code }) => code), judged: this.line?.action ?? "none" };
  }

  judge(name) {
    if (this.buttons[name].disabled) return;
    if (name === "edit") return this.edit();
    if (name === "undo") this.judgments.forget(this.text);
    else this.keep({ action: name });
    this.draw();
    this.onChange();
  }

  keep(said) {
    const { clip_id, level, variant, text_id } = this.text, note = this.note.value.trim();
    this.judgments.keep({ clip_id, level, variant, ...said, text_id, ...(note ? { note } : {}) });
  }

  annotate() {
    const { line } = this;
    if (line) this.keep("text" in line ? { action: line.action, text: line.text } : { action: line.action });
  }

  edit() {
    if (this.field) return this.field.focus();
    this.field = element("textarea", { value: this.line?.text ?? this.text.text, rows: 5, "aria-label": "new text" });
    const end = (isKept) => {
      const text = this.field.value.trim(), isNew = text !== "" && text !== this.text.text;
      if (isKept && isNew) this.keep({ action: "edit", text });
      this.field = null;
      this.draw();
      this.node.focus();
      this.onChange();
    };
    this.field.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") end(false);
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) end(true);
    });
    const keep = words("button", "chip", "keep"), leave = words("button", "chip", "leave");
    keep.addEventListener("click", () => end(true));
    leave.addEventListener("click", () => end(false));
    this.said.replaceChildren(this.field, keep, leave);
    this.field.focus();
  }

  key(event) {
    const name = KEYS[event.key];
    if (!name || event.target !== this.node || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.judge(name);
  }

  draw() {
    const { line, text } = this;
    this.said.textContent = line?.text ?? (text.text || (text.text_id ? "no text" : "write a caption of your own"));
    this.said.classList.toggle("none", !line?.text && !text.text);
    this.verdict.textContent = line ? JUDGED[line.action] : "";
    this.node.dataset.judged = line?.action ?? "none";
    this.note.value = line?.note ?? this.note.value;
    this.buttons.accept.disabled = !text.text;
    this.buttons.reject.disabled = !text.text_id;
    this.buttons.undo.disabled = !line;
    for (const name of Object.keys(JUDGED)) this.buttons[name].ariaPressed = String(line?.action === name);
  }
}

/** The section: texts beside the film strips, filters above them. */
class Review {
  constructor(root, data) {
    Object.assign(this, { root, data });
    this.judgments = judgmentsOf(data.dataset);
    this.cards = [...root.querySelectorAll(".judged")].map((node) => {
      const clip_id = node.dataset.clip;
      const texts = judgedTexts(clip_id, data.clips[clip_id], this.judgments, () => this.count());
      node.querySelector(".texts").replaceChildren(...texts.map((text) => text.node));
      return { node, texts };
    });
    this.texts = this.cards.flatMap(({ texts }) => texts);
    this.controls = this.filters();
    root.prepend(this.controls, words("p", "muted", HELP));
    root.addEventListener("keydown", (event) => this.key(event));
    this.filter();
  }

  filters() {
    const counted = (list) => [...list.reduce((counts, one) => counts.set(one, (counts.get(one) ?? 0) + 1), new Map())];
    const options = (list) => [["", "all"], ...counted(list).sort().map(([name, count]) => [name, `${name} (${count})`])];
    const stored = this.texts.map(({ traits }) => traits).filter(({ status }) => status !== "none");
    this.wanted = {
      level: choice("level", options(stored.map(({ level }) => level))),
      status: choice("status", options(stored.map(({ status }) => status))),
      codes: choice("finding", options(stored.flatMap(({ codes }) => codes))),
      judged: choice("judged", [["", "all"], ["none", "not yet"], ...Object.entries(JUDGED)]),
    };
    this.search = element("input", { type: "search", placeholder: "words of the text", "aria-label": "search texts" });
    for (const input of [this.search, ...Object.values(this.wanted)]) input.addEventListener("input", () => this.filter());
    this.note = element("span", { className: "muted", "aria-live": "polite" });
    const save = words("button", "chip export", "export review.jsonl");
    save.addEventListener("click", () => download("review.jsonl", this.judgments.jsonl()));
    const labels = Object.values(this.wanted).map((node) => node.parentNode);
    return element("div", { className: "controls" }, this.search, ...labels, this.note, save);
  }

  filter() {
    const { level, status, codes, judged } = this.wanted, typed = this.search.value.trim().toLowerCase();
    for (const { node, texts } of this.cards) {
      for (const one of texts) {
        const traits = one.traits, said = `${one.text.text} ${one.line?.text ?? ""}`.toLowerCase();
        one.node.hidden = (level.value !== "" && level.value !== traits.level)
          || (status.value !== "" && status.value !== traits.status)
          || (codes.value !== "" && !traits.codes.includes(codes.value))
          || (judged.value !== "" && judged.value !== traits.judged) || !said.includes(typed);
      }
      node.hidden = texts.every((one) => one.node.hidden);
    }
    this.count();
  }

  count() {
    const clips = this.cards.filter(({ node }) => !node.hidden).length, all = this.data.total;
    const { lines, isKept } = this.judgments;
    const kept = isKept ? "" : "; this browser keeps nothing: export them before you leave";
    this.note.textContent = `${grouped(clips)} of ${grouped(all)} clips, ${grouped(lines.size)} texts judged${kept}`;
  }

  key(event) {
    const step = { j: 1, k: -1 }[event.key];
    if (!step || event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    const shown = this.texts.filter(({ node }) => !node.hidden && !node.closest(".judged").hidden);
    const at = shown.findIndex(({ node }) => node.contains(document.activeElement));
    const next = shown[at < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, at + step))];
    event.preventDefault();
    next?.node.focus();
  }
}

function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/x-ndjson" }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** The review; null on a page that has none. */
function startReview() {
  const root = document.getElementById("review");
  return root && new Review(root, JSON.parse(document.getElementById("review-data").textContent));
}

const review = startReview();
