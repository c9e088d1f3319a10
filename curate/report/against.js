// Another decision, laid over the histograms and the list: the counterpart of curate/report/against.py.

const NOT_THERE = -1;
const DIFFERS = {
  any: { words: () => "decided differently", holds: (here, there) => there !== NOT_THERE && here !== there },
  here: { words: () => "kept only here", holds: (here, there) => here === KEEP && there !== KEEP },
  there: { words: (name) => `kept only in ${name}`, holds: (here, there) => here !== KEEP && there === KEEP },
  absent: { words: (name) => `not in ${name}`, holds: (here, there) => there === NOT_THERE },
};

/**
 * The other decision as typed arrays: `decisions` of the clips of the page, and of another dataset `columns` with its
 * own values and which of its clips it keeps; `columns` is null where its values are those of the page.
 */
async function readOther({ key, name, decisions, columns, kept }) {
  const optional = (column) => (column === null ? null : unpack(column));
  const values = columns && Object.entries(columns).map(async ([column, packed]) => [
    column, { values: await unpack(packed.numbers), valid: await optional(packed.valid) },
  ]);
  return {
    key, name, decisions: await unpack(decisions), columns: values && Object.fromEntries(await Promise.all(values)),
    kept: values && await unpack(kept),
  };
}

/** How many clips of the page differ in each way, for the decisions that are set here. */
function countDiffering(here, there) {
  const counts = Object.fromEntries(Object.keys(DIFFERS).map((key) => [key, 0]));
  for (let row = 0; row < there.length; row++) {
    for (const key in DIFFERS) counts[key] += DIFFERS[key].holds(here[row], there[row]);
  }
  return counts;
}

/** The other's clips in the bars of a panel: those it keeps, and all of them where its clips are others. */
class Laid {
  constructor(panel, other) {
    this.name = other.name;
    this.kept = new Uint32Array(NUM_BINS), this.all = null, this.scale = 1;
    const theirs = other.columns?.[panel.column.name];
    if (other.columns && !theirs) return;
    const bins = theirs ? panel.binned(theirs) : panel.bins;
    const isKept = theirs ? (row) => other.kept[row] : (row) => other.decisions[row] === KEEP;
    if (theirs) this.all = new Uint32Array(NUM_BINS);
    for (let row = 0; row < bins.length; row++) {
      if (bins[row] === NO_BIN) continue;
      if (isKept(row)) this.kept[bins[row]]++;
      if (this.all) this.all[bins[row]]++;
    }
    const count = (all) => all.reduce((sum, bin) => sum + (bin !== NO_BIN), 0);
    if (theirs) this.scale = count(panel.bins) / Math.max(1, count(bins)); // drawn to as many clips as are here
  }

  get tallest() {
    return this.scale * Math.max(...(this.all ?? this.kept));
  }

  /** Outlines, on bars of the height that `heightOf` gives to a count. */
  lines(heightOf) {
    const line = (counts, css) => {
      let path = "M0 100";
      counts.forEach((count, bin) => (path += `V${100 - heightOf(count * this.scale)}H${bin + 1}`));
      return `<path class="laid ${css}" d="${path}V100"/>`;
    };
    return (this.all ? line(this.all, "whole") : "") + line(this.kept, "");
  }

  words(bin) {
    return `; ${this.name}: ${grouped(this.kept[bin])} kept${this.all ? ` of ${grouped(this.all[bin])}` : ""}`;
  }
}
