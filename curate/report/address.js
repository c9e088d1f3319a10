// What the page shows is in its address: filters, order, thresholds. A reload and the back button bring it back.

const address = {
  listeners: [],
  shown: location.search,
  last: "",
  at: 0,

  get(name) {
    return new URLSearchParams(location.search).get(name) ?? "";
  },

  /** Change values; an empty one is left out. What is typed or slid is one step of the history until it rests. */
  set(changes) {
    const query = new URLSearchParams(location.search);
    const changed = Object.entries(changes).filter(([name, value]) => value !== (query.get(name) ?? ""));
    if (!changed.length) return;
    for (const [name, value] of changed) value === "" ? query.delete(name) : query.set(name, value);
    const text = query.toString(), names = changed.map(([name]) => name).join();
    const isStep = names !== this.last || Date.now() - this.at > 1000;
    [this.last, this.at] = [names, Date.now()];
    try {
      history[isStep ? "pushState" : "replaceState"](null, "", `${location.pathname}${text && `?${text}`}${location.hash}`);
      this.shown = location.search;
    } catch {
      // A browser that keeps the address of a file as it is: the page works, without a history.
    }
  },
};

addEventListener("popstate", () => {
  if (location.search === address.shown) return; // a link to a section
  address.shown = location.search;
  address.listeners.forEach((listener) => listener());
});
