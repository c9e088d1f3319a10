// The clips of the dataset as typed arrays, and the policy of curate/select.py over them: the same comparisons of the
// same doubles, so that a recount here is what `reelpack select` would decide.

const KEEP = 0, REJECT = 1, PENDING = 2, FAILED = 3;
const DECISIONS = ["keep", "reject", "pending", "failed"];
const ARRAYS = { int8: Int8Array, int16: Int16Array, int32: Int32Array, float64: Float64Array };

// --- reading: the counterpart of curate/report/columns.py ---

async function inflate(base64) {
  const text = atob(base64);
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function unpack(column) {
  if (column.codes) {
    const [codes, values] = await Promise.all([unpack(column.codes), unpack(column.values)]);
    return Float64Array.from(codes, (code) => values[code]);
  }
  const { type, length, scale } = column;
  const planes = await inflate(column.data);
  const size = ARRAYS[type].BYTES_PER_ELEMENT;
  const bytes = new Uint8Array(length * size);
  for (let plane = 0, at = 0; plane < size; plane++) {
    for (let row = 0; row < length; row++) bytes[row * size + plane] = planes[at++];
  }
  const numbers = new ARRAYS[type](bytes.buffer);
  return scale === 1 ? numbers : Float64Array.from(numbers, (number) => number / scale);
}

const unpackStrings = async (data) => JSON.parse(new TextDecoder().decode(await inflate(data)));

async function unpackTexts({ codes, values }) {
  return { codes: await unpack(codes), values: await unpackStrings(values) };
}

/** All clips: `columns` with their values, and what the policy and the page ask of each clip besides. */
async function readClips(packed) {
  const optional = (column) => (column === null ? null : unpack(column));
  const columns = packed.columns.map(async (column) => ({
    ...column,
    values: await unpack(column.numbers),
    valid: await optional(column.valid),
    lost: new Set(column.lost),
  }));
  const own = packed.own.map(async (one) => ({ name: one.name, ...(await unpackTexts(one.texts)) }));
  const sets = packed.sets.map(async (one) => ({
    ...one, broken: await unpack(one.broken), missing: await unpack(one.missing),
  }));
  const failed = new Map(packed.failed.flatMap(([step, rows]) => rows.map((row) => [row, step])));
  const [ids, uris, start_s, end_s, isImage, isCut, decided, groupRows, groupSizes] = await Promise.all([
    unpackStrings(packed.ids), unpackTexts(packed.uris), unpack(packed.start_s), unpack(packed.end_s),
    unpack(packed.is_image), unpack(packed.is_cut), unpack(packed.decisions),
    unpack(packed.group_rows), unpack(packed.group_sizes),
  ]);
  return {
    count: ids.length, ids, uris, start_s, end_s, isImage, isCut, decided, failed, groupRows, groupSizes,
    columns: await Promise.all(columns), sets: await Promise.all(sets), own: await Promise.all(own),
  };
}

// --- deciding: the counterpart of curate/select.py ---

/** Decide every clip under `policy`: column name → {min, max}, null where a side does not bound. */
function decide(clips, policy) {
  const { count } = clips;
  const numBroken = new Uint8Array(count), lastBroken = new Uint8Array(count);
  const isMissing = new Uint8Array(count), isLost = new Uint8Array(count);
  const rules = [];
  for (const column of clips.columns) {
    const { min, max } = policy[column.name];
    if (min === null && max === null) continue;
    const [below, above] = [rules.length, rules.length + (min === null ? 0 : 1)];
    for (const side of SIDES) {
      if (policy[column.name][side] !== null) rules.push(ruleOf(column.name, side));
    }
    const { values, valid, lost } = column;
    const low = min ?? -Infinity, high = max ?? Infinity;
    for (let row = 0; row < count; row++) {
      if (column.skips_images && clips.isImage[row]) continue;
      if (valid !== null && !valid[row]) {
        if (column.is_required) isMissing[row] = 1;
        if (lost.has(row)) isLost[row] = 1;
      } else if (values[row] < low) {
        numBroken[row]++, lastBroken[row] = below, rules[below].any++;
      } else if (values[row] > high) {
        numBroken[row]++, lastBroken[row] = above, rules[above].any++;
      }
    }
  }
  for (const { name, broken, missing } of clips.sets) {
    const at = rules.push({ name, any: 0, alone: 0 }) - 1;
    for (let row = 0; row < count; row++) {
      if (missing[row]) isMissing[row] = 1;
      else if (broken[row]) numBroken[row]++, lastBroken[row] = at, rules[at].any++;
    }
  }
  const decisions = new Uint8Array(count);
  for (let row = 0; row < count; row++) {
    if (numBroken[row]) {
      decisions[row] = REJECT;
      if (numBroken[row] === 1) rules[lastBroken[row]].alone++;
    } else if (isLost[row] || clips.failed.has(row)) decisions[row] = FAILED;
    else if (isMissing[row]) decisions[row] = PENDING;
  }
  const copyOf = rejectCopies(clips, decisions);
  if (copyOf.size) rules.push({ name: "duplicate", any: copyOf.size, alone: copyOf.size });
  return { decisions, copyOf, rules, ...totals(clips, decisions) };
}

const ruleOf = (column, side) => ({ name: `${column}.${side}`, column, side, any: 0, alone: 0 });

/** Of the kept members of a duplicate group only the best stays; returns row → the row that is kept in its place. */
function rejectCopies({ groupRows, groupSizes }, decisions) {
  const copyOf = new Map();
  let start = 0;
  for (const size of groupSizes) {
    let best = -1; // the members lie best first
    for (const row of groupRows.subarray(start, start + size)) {
      if (decisions[row] !== KEEP) continue;
      if (best < 0) best = row;
      else decisions[row] = REJECT, copyOf.set(row, best);
    }
    start += size;
  }
  return copyOf;
}

function totals(clips, decisions) {
  const counts = [0, 0, 0, 0];
  let kept_s = 0, uncut = 0;
  for (let row = 0; row < clips.count; row++) {
    counts[decisions[row]]++;
    if (decisions[row] !== KEEP) continue;
    if (!clips.isImage[row]) kept_s += clips.end_s[row] - clips.start_s[row];
    if (!clips.isCut[row]) uncut++;
  }
  return { counts, kept_s, uncut };
}

/** Why a clip is not kept, as `reasons` in clips.parquet; empty if it is kept. */
function reasonsOf(clips, policy, outcome, row) {
  if (outcome.decisions[row] === KEEP) return [];
  if (outcome.copyOf.has(row)) return ["duplicate"];
  const broken = [], missing = [], lost = [];
  for (const column of clips.columns) {
    const { min, max } = policy[column.name];
    if ((min === null && max === null) || (column.skips_images && clips.isImage[row])) continue;
    if (column.valid !== null && !column.valid[row]) {
      if (column.is_required) missing.push(`${column.name}.missing`);
      if (column.lost.has(row)) lost.push(column.name);
    } else if (min !== null && column.values[row] < min) broken.push(`${column.name}.min`);
    else if (max !== null && column.values[row] > max) broken.push(`${column.name}.max`);
  }
  for (const one of clips.sets) {
    if (one.missing[row]) {
      if (!missing.includes(`${one.column}.missing`)) missing.push(`${one.column}.missing`);
    } else if (one.broken[row]) broken.push(one.name);
  }
  if (broken.length) return broken;
  if (clips.failed.has(row)) return [clips.failed.get(row)];
  return lost.length ? lost : missing;
}
