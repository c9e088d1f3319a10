// Contact sheets inside the page: search, sort by a value, show only the clips that a rule rejected.

class Sheet {
  constructor(root) {
    this.name = root.closest("section").id;
    this.grid = root.querySelector(".grid");
    this.cards = [...this.grid.children];
    this.shown = root.querySelector(".shown"), this.all = this.shown.textContent;
    this.search = root.querySelector("input"), this.sort = root.querySelector("select");
    this.chips = [...root.querySelectorAll("button.chip")];
    this.differing = [...root.parentNode.querySelectorAll(":scope > .compared [data-differ]")];
    this.search.addEventListener("input", () => this.changed({ q: this.search.value.trim() }));
    this.sort.addEventListener("change", () => this.changed({ sort: this.sort.value }));
    for (const chip of this.chips) {
      chip.addEventListener("click", () => {
        this.changed({ reason: isPressed(chip) ? "" : chip.dataset.reason });
      });
    }
    for (const chip of this.differing) {
      chip.addEventListener("click", () => this.changed({ differ: isPressed(chip) ? "" : chip.dataset.differ }));
    }
    address.listeners.push(() => this.read());
    chosen.listeners.push(() => this.draw(this.wanted));
    this.read();
  }

  /** Of the address, where this sheet's names begin with its own. */
  get(key) {
    return address.get(`${this.name}.${key}`);
  }

  changed(changes) {
    address.set(Object.fromEntries(Object.entries(changes).map(([key, value]) => [`${this.name}.${key}`, value])));
    this.draw({ ...this.wanted, ...changes });
  }

  read() {
    this.search.value = this.get("q");
    this.draw({ q: this.get("q"), sort: this.get("sort"), reason: this.get("reason"), differ: this.get("differ") });
  }

  draw(wanted) {
    this.wanted = wanted;
    const typed = wanted.q.toLowerCase();
    for (const chip of this.chips) chip.setAttribute("aria-pressed", String(chip.dataset.reason === wanted.reason));
    for (const chip of this.differing) chip.setAttribute("aria-pressed", String(chip.dataset.differ === wanted.differ));
    for (const card of this.cards) {
      const { clip, reasons, words: text } = card.dataset;
      card.hidden = !text.includes(typed) || (wanted.reason !== "" && !reasons.split(" ").includes(wanted.reason))
        || (wanted.differ !== "" && !card.querySelector(".against")?.dataset.differs.split(" ").includes(wanted.differ))
        || (chosen.ids !== null && !chosen.ids.has(clip));
    }
    const left = this.cards.filter((card) => !card.hidden).length;
    this.shown.textContent = left === this.cards.length ? this.all : `${left} of the ${this.cards.length} clips here`;
    this.sort.value = [...this.sort.options].some(({ value }) => value === wanted.sort) ? wanted.sort : "";
    if (this.sort.value === this.sorted) return;
    this.sorted = this.sort.value;
    const value = (card) => JSON.parse(card.dataset.values)[this.sorted] ?? Infinity;
    const order = this.sorted ? [...this.cards].sort((a, b) => value(a) - value(b)) : this.cards;
    this.grid.replaceChildren(...order);
  }
}

const isPressed = (chip) => chip.getAttribute("aria-pressed") === "true";

document.querySelectorAll(".sheet").forEach((root) => new Sheet(root));
