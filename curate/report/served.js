// The served report: pages of clips that the server finds, and sections that are fetched when they come into view.

const ASKED = ["q", "by", "decision", "reason", "sort", "descending", "box", "page", "against", "differ"];
const WAIT_MS = 200, STRIPS_AT_ONCE = 3;

address.set({ token: "" }); // it is in a cookie now

/** The answer of the server; what it refuses is an error. */
async function ask(path, options = {}) {
  const answer = await fetch(path, options);
  if (answer.ok) return answer;
  const text = await answer.text();
  let problem = text;
  try {
    problem = JSON.parse(text).error;
  } catch {} // eslint-disable-line no-empty
  throw new Error(problem || answer.statusText);
}

class Finder {
  constructor(root) {
    this.root = root;
    this.form = root.querySelector("form"), this.grid = root.querySelector(".grid");
    this.note = root.querySelector("[aria-live]"), this.problem = root.querySelector(".problem");
    this.pager = root.querySelector(".pager");
    this.hasLike = this.form.elements.by?.querySelector("[value='like']") != null;
    this.form.addEventListener("submit", (event) => (event.preventDefault(), this.changed()));
    this.form.addEventListener("input", (event) => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.changed(), event.target.type === "search" ? WAIT_MS : 0);
    });
    this.grid.addEventListener("click", (event) => {
      const button = event.target.closest(".like");
      if (button) this.like(button.closest("[data-clip]").dataset.clip);
    });
    this.beside = root.querySelector(".beside");
    this.beside.addEventListener("click", (event) => {
      const chip = event.target.closest("[data-differ]");
      if (!chip) return;
      this.form.elements.differ.value = address.get("differ") === chip.dataset.differ ? "" : chip.dataset.differ;
      this.changed();
    });
    address.listeners.push(() => this.read());
    this.judging = new Set();
    this.box = address.get("box");
    chosen.listeners.push(() => this.box !== (this.box = address.get("box")) && this.load());
    this.ready = this.read();
  }

  /** Fill the form from the address. */
  read() {
    for (const field of this.form.elements) {
      if (field.type === "checkbox") field.checked = address.get(field.name) === "1";
      else if (field.name) field.value = address.get(field.name);
    }
    return this.load();
  }

  /** Into the address from the form: another question begins at its first page. */
  changed(further = {}) {
    if (!this.form.elements.against?.value) this.form.elements.differ.value = "";
    const said = [...this.form.elements].filter(({ name }) => name)
      .map((field) => [field.name, field.type === "checkbox" ? (field.checked ? "1" : "") : field.value.trim()]);
    address.set({ ...Object.fromEntries(said), page: "", ...further });
    this.ready = this.load();
  }

  turn(page) {
    address.set({ page: page > 1 ? String(page) : "" });
    this.ready = this.load();
    this.root.closest("section").scrollIntoView();
  }

  like(clip) {
    this.form.elements.q.value = clip, this.form.elements.by.value = "like";
    this.changed();
  }

  async load() {
    this.abort?.abort();
    const { signal } = (this.abort = new AbortController());
    const query = new URLSearchParams(ASKED.map((name) => [name, address.get(name)]).filter(([, value]) => value));
    this.root.ariaBusy = "true";
    try {
      const found = await (await ask(`/api/clips?${query}`, { signal })).json();
      this.draw(found);
      this.say("");
      await overlay.follow();
    } catch (error) {
      if (signal.aborted) return;
      this.say(error.message);
    }
    this.root.ariaBusy = "false";
  }

  say(problem) {
    this.problem.textContent = problem;
    this.problem.hidden = !problem;
  }

  /** In place of the clips where none is found. */
  nothing() {
    const button = words("button", "chip", "show all clips");
    button.addEventListener("click", () => {
      for (const field of this.form.elements) field.type === "checkbox" ? (field.checked = false) : (field.value = "");
      this.changed({ box: "" });
    });
    return element("p", { className: "muted" }, "No clip fits what is asked for. ", button);
  }

  draw({ html, total, page, pages, compared }) {
    player.close();
    this.beside.innerHTML = compared;
    for (const chip of this.beside.querySelectorAll("[data-differ]")) {
      chip.setAttribute("aria-pressed", String(chip.dataset.differ === address.get("differ")));
    }
    this.grid.innerHTML = html; // of the server, which escapes every text in it
    if (!total) this.grid.append(this.nothing());
    startFilms(this.grid);
    strips.show(this.grid.querySelectorAll(".film"));
    for (const place of this.grid.querySelectorAll(".judging")) new CardCaptions(place, this);
    if (this.hasLike) this.grid.querySelectorAll(".clip .facts:not(details .facts)").forEach((facts) => facts.append(" ", words("button", "chip like", "similar clips")));
    this.note.textContent = total === 1 ? "1 clip" : `${grouped(total)} clips`;
    const turn = (text, to, label) => {
      const button = element("button", { className: "chip", textContent: text, disabled: to < 1 || to > pages, "aria-label": label });
      button.addEventListener("click", () => this.turn(to));
      return button;
    };
    const field = element("input", { type: "number", min: 1, max: pages, value: page, "aria-label": "page" });
    field.addEventListener("change", () => this.turn(Math.min(pages, Math.max(1, Math.round(field.valueAsNumber) || 1))));
    this.pager.hidden = pages === 1;
    this.pager.replaceChildren(
      turn("‹ back", page - 1, "previous page"), element("label", {}, "page ", field, ` of ${grouped(pages)}`),
      turn("next ›", page + 1, "next page"),
    );
  }
}

/** The texts of a card, which are fetched when they are opened. */
class CardCaptions {
  constructor(place, finder) {
    Object.assign(this, { place, finder, clip: place.closest("[data-clip]").dataset.clip });
    place.addEventListener("toggle", () => (place.open ? this.open() : finder.judging.delete(this.clip)));
    place.open = finder.judging.has(this.clip);
  }

  async open() {
    this.finder.judging.add(this.clip);
    const body = element("div", { className: "texts" });
    this.place.querySelector(".texts")?.remove();
    this.place.append(body);
    try {
      const { dataset, texts } = await (await ask(`/captions/${this.clip}`)).json();
      body.replaceChildren(...judgedTexts(this.clip, texts, saving.of(dataset), () => {}).map(({ node }) => node));
    } catch (error) {
      body.replaceChildren(words("p", "warning", error.message));
    }
  }
}

/** The bar at the bottom: judgments that are not in the dataset yet, and what saves them there. */
const saving = {
  judgments: null,

  of(dataset) {
    if (this.judgments) return this.judgments;
    this.judgments = judgmentsOf(dataset);
    this.note = element("span", { role: "status" });
    this.button = words("button", "chip", "save to the dataset");
    this.button.addEventListener("click", () => this.save());
    this.bar = element("div", { className: "saving" }, this.note, this.button);
    document.body.append(this.bar);
    this.judgments.listeners.push(() => this.draw());
    this.draw();
    return this.judgments;
  },

  draw(said = "") {
    const count = this.judgments.lines.size;
    this.bar.hidden = !count && !said;
    this.button.hidden = !count;
    this.note.textContent = said || (count === 1 ? "1 text judged" : `${count} texts judged`);
  },

  async save() {
    this.button.disabled = true;
    try {
      const { stored, unchanged, left_out } = await (await ask("/api/judgments", { method: "POST", body: this.judgments.jsonl() })).json();
      this.judgments.settle(left_out.map(([line]) => line));
      const reasons = left_out.map(([, reason]) => reason).join("; ");
      this.draw(`${stored} stored${unchanged ? `, ${unchanged} were there` : ""}${reasons ? `; left out: ${reasons}` : ""}`);
      await finder?.load();
      const section = document.querySelector("#captions > [data-made]");
      if (section) await fetchSection(section);
    } catch (error) {
      this.draw(`not saved: ${error.message}`);
    }
    this.button.disabled = false;
  },
};

/**
 * Strips are asked for when their film comes near, a few at a time: the server decodes them, and a browser has six
 * connections for all that it asks.
 */
const strips = {
  waiting: [],
  running: 0,

  /** The films of a new page of clips; those of the one before are not asked for any more. */
  show(films) {
    this.near.disconnect();
    this.waiting = [];
    for (const film of films) {
      const uri = film.style.getPropertyValue("--strip").match(/url\(["']?([^"')]+)/)?.[1];
      if (!uri) continue;
      film.style.removeProperty("--strip");
      film.dataset.strip = uri;
      this.near.observe(film);
    }
  },

  near: new IntersectionObserver((entries, near) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      strips.waiting.push(target);
    }
    strips.next();
  }, { rootMargin: "300px" }),

  next() {
    while (this.running < STRIPS_AT_ONCE && this.waiting.length) {
      this.running++;
      loadStrip(this.waiting.shift()).finally(() => (this.running--, this.next()));
    }
  },
};

/** Show a strip; the place of one that the server cannot make says why. */
async function loadStrip(film) {
  const uri = film.dataset.strip, image = new Image();
  image.src = uri;
  try {
    await image.decode();
    film.style.setProperty("--strip", `url(${uri})`);
  } catch {
    const text = await ask(uri).then(() => "no picture", (error) => error.message);
    const stage = film.querySelector(".stage"), play = stage.querySelector(".play");
    stage.classList.add("missing");
    stage.replaceChildren(words("span", "", text), ...(play ? [play] : []));
    film.querySelector(".frames")?.remove();
  }
}

function startServedReview() {
  const data = document.getElementById("review-data");
  if (data) saving.of(JSON.parse(data.textContent).dataset);
  return startReview();
}

/** The decision that the clips are beside, over the thresholds, too. */
const overlay = {
  explorer: null,

  async start() {
    this.explorer = await startExplorer();
    await this.follow();
  },

  async follow() {
    const against = address.get("against");
    if (!this.explorer || (this.explorer.other?.key ?? "") === against) return;
    const other = against && await readOther(await (await ask(`/api/against?${new URLSearchParams({ against })}`)).json());
    if (address.get("against") === against) this.explorer.lay(other || null);
  },
};

/** What a section needs when it is there. */
const STARTS = { explore: () => overlay.start(), captions: startServedReview, map: startMap };

async function fetchSection(place) {
  const path = place.dataset.later ?? place.dataset.made, name = path.split("/").pop(), section = document.getElementById(name);
  try {
    const html = await (await ask(path)).text();
    if (!html) {
      document.querySelector(`body > nav a[href="#${name}"]`)?.remove();
      (section ?? place.closest("details")).remove();
      return;
    }
    place.removeAttribute("data-later");
    place.dataset.made = path;
    place.innerHTML = html;
    startFilms(place);
    await STARTS[name]?.();
  } catch (error) {
    place.replaceChildren(words("p", "warning", `This section could not be made: ${error.message}`));
  }
  wanted?.scrollIntoView(); // what came above it moved it
}

/** The section that a link led to, until someone scrolls. */
let wanted = null;
addEventListener("hashchange", () => (wanted = document.getElementById(location.hash.slice(1))));
for (const event of ["wheel", "touchmove", "keydown", "pointerdown"]) addEventListener(event, () => (wanted = null), { passive: true });

const finder = (() => {
  const root = document.querySelector(".served");
  return root && new Finder(root);
})();

const fold = document.querySelector(".fold");
if (fold) fold.open = address.get("box") !== "";

const inView = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    inView.unobserve(target);
    fetchSection(target);
  }
}, { rootMargin: "400px" });
(finder?.ready ?? Promise.resolve()).then(() => document.querySelectorAll("[data-later]").forEach((place) => inView.observe(place)));
