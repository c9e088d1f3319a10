"use strict";
const $ = (id) => document.getElementById(id);
const form = $("form"), fields = form.elements;
const PAGE_SIZE = 24;
let about, shown = PAGE_SIZE, gallery = "", known = new Map();
const slots = {}, keys = [];

// The token is in a cookie now; it need not stay in the history.
if (location.search) history.replaceState(null, "", location.pathname);

async function ask(path, options = {}) {
  const answer = await fetch(path, options);
  const kind = answer.headers.get("Content-Type") || "";
  const values = kind.includes("json") ? await answer.json() : { error: await answer.text() };
  if (!answer.ok) throw new Error(values.error || answer.statusText);
  return values;
}

function say(problem) {
  $("problem").textContent = problem || "";
  $("problem").hidden = !problem;
  if (problem) $("problem").scrollIntoView({ block: "nearest" });
}

function options(select, names, chosen) {
  select.replaceChildren(...names.map(([value, text]) => new Option(text, value, false, value === chosen)));
}

function setUp() {
  $("run").textContent = about.run;
  document.title = `${about.run} · reelpack serve`;
  const fps = about.fps ? `, ${about.fps.toFixed(2).replace(/\.?0+$/, "")} frames a second` : ", pictures";
  $("about").textContent = `step ${about.step.toLocaleString("en")}${fps} · kept in ${about.folder}`;
  $("prompt-field").hidden = $("negative-field").hidden = !about.prompts;
  $("label-field").hidden = !about.labels.length;
  options(fields.label, [["", "none"], ...about.labels.map((name) => [name, name])], "");
  for (const [name, title] of Object.entries(FILES)) {
    if (name === "video" || about.takes.includes(name)) slots[name] = new Slot(title);
  }
  const sides = [["", "no"]];
  if (slots.start) sides.push(["forward", "what follows it"]);
  if (slots.end) sides.push(["back", "what leads to it"]);
  options(fields.extend, sides, "");
  $("extend-field").hidden = sides.length === 1;
  fields.strength.value = about.strength;
  $("loop-field").hidden = !about.takes.includes("loop");
  $("add-key").hidden = !about.takes.includes("keys");
  $("frames-field").hidden = !about.frames.step;
  options(fields.sampler, about.samplers.map((name) => [name, name]), about.sampler);
  for (const name of ["width", "height"]) {
    fields[name].value = about.size[name];
    fields[name].step = fields[name].min = about.size.step;
  }
  fields.num_frames.value = about.frames.usual;
  fields.num_frames.step = about.frames.step || 1;
  fields.num_steps.value = about.num_steps;
  fields.guidance.placeholder = about.guidance ?? "as started";
  if (about.guidance !== null) fields.guidance.value = about.guidance;
  fields.negative.value = about.negative;
  fields.seed.value = about.seed;
  fields.num_seeds.max = about.most_seeds;
  $("conditions").replaceChildren(...about.conditions.map((name) => {
    const label = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, { type: "number", step: "any", name: `condition:${name}`, placeholder: "none" });
    label.append(name.replaceAll("_", " "), input);
    return label;
  }));
}

function settings() {
  const number = (name) => (fields[name].value === "" ? null : Number(fields[name].value));
  const found = { width: number("width"), height: number("height"), num_frames: number("num_frames") };
  Object.assign(found, { seed: number("seed"), num_seeds: number("num_seeds"), num_steps: number("num_steps") });
  Object.assign(found, { guidance: number("guidance"), sampler: fields.sampler.value });
  if (about.prompts) Object.assign(found, { prompt: fields.prompt.value, negative: fields.negative.value });
  if (fields.label.value) found.label = fields.label.value;
  for (const [name, slot] of Object.entries(slots)) if (slot.kept) found[name] = slot.kept;
  const pictures = keys.filter((slot) => slot.kept).map((slot) => [slot.frame.value, slot.kept]);
  if (pictures.length) found.keys = Object.fromEntries(pictures);
  if (fields.loop.checked) found.loop = true;
  if (fields.extend.value) found.extend = fields.extend.value;
  if (fields.strength.value !== "") found.strength = number("strength");
  const given = about.conditions.filter((name) => fields[`condition:${name}`].value !== "");
  if (given.length) found.conditions = Object.fromEntries(given.map((name) => [name, number(`condition:${name}`)]));
  return found;
}

async function generate(event) {
  event?.preventDefault();
  say("");
  $("notes").hidden = true;
  const headers = { "Content-Type": "application/json" };
  try {
    const job = await ask("api/jobs", { method: "POST", headers, body: JSON.stringify(settings()) });
    $("notes").textContent = job.notes.join("\n");
    $("notes").hidden = !job.notes.length;
    await refresh();
  } catch (error) {
    say(error.message);
  }
}

const FILES = {
  start: "Start: a picture, or a clip that goes on",
  end: "End: a picture, or a clip that it leads to",
  video: "Video: to edit by strength or mask, or to extend",
  mask: "Mask: white where the video is made new",
};

// A picture or a clip that is sent when it is chosen; `kept` is its name on the server.
class Slot {
  constructor(title, isKey = false) {
    this.element = $("slot").content.cloneNode(true).firstElementChild;
    const find = (selector) => this.element.querySelector(selector);
    find(".name").textContent = title;
    this.frame = find(".number input");
    find(".number").hidden = !isKey;
    this.element.classList.toggle("numbered", isKey);
    this.file = find('input[type="file"]');
    this.parts = { kept: find(".kept"), view: find(".view"), facts: find(".facts") };
    this.show(null);
    this.file.addEventListener("change", () => this.give(this.file.files[0]));
    find("button").addEventListener("click", () => this.show(null));
    const over = (event, is) => { event.preventDefault(); this.element.classList.toggle("over", is); };
    this.element.addEventListener("dragover", (event) => over(event, true));
    this.element.addEventListener("dragleave", (event) => over(event, false));
    this.element.addEventListener("drop", (event) => { over(event, false); this.give(event.dataTransfer.files[0]); });
    $("given").append(this.element);
  }

  show(kept, facts = "", view = null) {
    this.kept = kept;
    if (!kept) this.file.value = "";
    this.parts.kept.hidden = !kept;
    this.parts.facts.textContent = facts;
    this.parts.view.replaceChildren(...(view ? [view] : []));
  }

  async give(file) {
    if (!file) return;
    say("");
    try {
      const kept = await ask("api/uploads", { method: "POST", body: file });
      const view = document.createElement(kept.num_frames > 1 ? "video" : "img");
      view.src = URL.createObjectURL(file);
      const length = kept.num_frames > 1 ? `, ${kept.num_frames} frames` : "";
      this.show(kept.name, `${kept.width}×${kept.height}${length}`, view);
    } catch (error) {
      this.show(null);
      say(error.message);
    }
  }
}

function addKey(frame = 0) {
  const slot = new Slot("Picture", true);
  slot.frame.value = frame;
  keys.push(slot);
  return slot;
}

function secondsLeft(job) {
  if (!job.share || job.share > 0.995) return "";
  const left = (job.seconds * (1 - job.share)) / job.share;
  return `, about ${left < 90 ? `${Math.ceil(left)} s` : `${Math.ceil(left / 60)} min`} left`;
}

function describe(job) {
  if (job.state === "running") {
    if (job.cancelling) return "ends at the next step";
    return `${Math.floor(job.share * 100)} %${secondsLeft(job)}`;
  }
  return job.message ? `${job.state}: ${job.message}` : job.state;
}

function showJobs(jobs) {
  const alive = jobs.filter((job) => !["done", "cancelled"].includes(job.state));
  $("queue").hidden = !alive.length;
  const cards = new Map([...$("jobs").children].map((card) => [card.dataset.number, card]));
  $("jobs").replaceChildren(...alive.map((job) => {
    const card = cards.get(String(job.number)) ?? $("job").content.cloneNode(true).firstElementChild;
    card.dataset.number = job.number;
    card.className = `job ${job.state}`;
    const seeds = job.seeds.length > 1 ? `seeds ${job.seeds[0]}–${job.seeds.at(-1)}` : `seed ${job.seeds[0]}`;
    card.querySelector(".caption").textContent = job.prompt || "(no prompt)";
    card.querySelector(".facts").textContent = `${seeds} · ${describe(job)}`;
    card.querySelector(".track").hidden = job.state !== "running";
    card.querySelector(".track i").style.width = `${job.share * 100}%`;
    const button = card.querySelector("button");
    button.hidden = job.state === "failed";
    button.disabled = job.cancelling;
    button.onclick = () => ask(`api/jobs/${job.number}`, { method: "DELETE" }).then(refresh, () => refresh());
    return card;
  }));
}

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting && !target.src) target.src = target.dataset.src;
    if (target.play) isIntersecting ? target.play().catch(() => {}) : target.pause();
  }
}, { rootMargin: "200px" });

function card(item) {
  const made = $("item").content.cloneNode(true).firstElementChild, { facts, name } = item;
  const isVideo = name.endsWith(".mp4"), view = document.createElement(isVideo ? "video" : "img");
  if (isVideo) Object.assign(view, { loop: true, muted: true, playsInline: true, title: "Click to stop or resume" });
  else view.alt = facts.prompt;
  if (isVideo) view.onclick = () => (view.paused ? view.play() : view.pause());
  view.dataset.src = `media/${name}`;
  made.querySelector(".stage").append(view);
  seen.observe(view);
  made.dataset.name = name;
  made.querySelector(".caption").textContent = facts.prompt || (facts.label ? `class ${facts.label}` : "(no prompt)");
  const length = facts.num_frames > 1 ? ` · ${facts.num_frames} frames` : "";
  const guidance = facts.guidance.map((rule) => rule.weight).join(", ");
  const given = [...Object.keys(FILES), "keys"].filter((name) => facts[name]).map((name) => ` · ${name}`).join("");
  made.querySelector(".facts").textContent =
    `seed ${facts.seed} · ${facts.size}${length} · ${facts.sampler.kind}, ${facts.num_steps} steps · guidance ${guidance}${given}`;
  made.querySelector("a").href = view.dataset.src;
  made.querySelector('[data-do="start"]').hidden = !slots.start;
  made.querySelector('[data-do="video"]').hidden = !isVideo;
  made.querySelector(".actions").onclick = (event) => act(event.target.dataset.do, item, event.target);
  return made;
}

function act(what, item, button) {
  if (what === "use") use(item.facts);
  if (what === "command") copy(item.command);
  if (what === "json") copy(JSON.stringify(item.facts, null, 1));
  if (what === "start" || what === "video") {
    fetch(`media/${item.name}`).then((answer) => answer.blob()).then((file) => slots[what].give(file));
    showGiven();
  }
  if (what === "delete") return remove(item, button);
}

// The first click asks, the second deletes.
function remove(item, button) {
  if (!button.classList.contains("sure")) {
    button.classList.add("sure");
    button.textContent = "Delete for good";
    button.onblur = () => { button.classList.remove("sure"); button.textContent = "Delete"; };
    button.focus();
    return Promise.resolve();
  }
  return ask(`api/items/${item.name}`, { method: "DELETE" }).catch((error) => say(error.message)).then(refresh);
}

function showGiven() {
  $("given-field").open = true;
  form.scrollIntoView({ behavior: "smooth" });
}

function use(facts) {
  const [width, height] = facts.size.split("x");
  const set = { prompt: facts.prompt, negative: facts.negative, width, height, seed: facts.seed };
  Object.assign(set, { num_frames: facts.num_frames, num_steps: facts.num_steps, sampler: facts.sampler.kind });
  Object.assign(set, { label: facts.label ?? "", num_seeds: 1 });
  for (const [name, value] of Object.entries(set)) fields[name].value = value;
  if (facts.guidance.length === 1) fields.guidance.value = facts.guidance[0].weight;
  for (const name of about.conditions) fields[`condition:${name}`].value = facts.conditions[name] ?? "";
  const uploaded = (path) => (path && /[/\\][0-9a-f]{32}$/.test(path) ? path.slice(-32) : null);
  for (const [name, slot] of Object.entries(slots)) slot.show(uploaded(facts[name]), "the same as then");
  for (const slot of keys.splice(0)) slot.element.remove();
  for (const [frame, path] of Object.entries(facts.keys ?? {})) addKey(frame).show(uploaded(path), "the same as then");
  fields.loop.checked = facts.loop ?? false;
  fields.extend.value = facts.extend ?? "";
  fields.strength.value = facts.strength ?? 1;
  const given = [...Object.keys(FILES), "keys"].some((name) => facts[name]);
  given ? showGiven() : form.scrollIntoView({ behavior: "smooth" });
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers give the clipboard to pages of this machine and of https alone.
    $("copied").querySelector("textarea").value = text;
    $("copied").showModal();
    $("copied").querySelector("textarea").select();
  }
}

async function showGallery() {
  const items = [];
  let total;
  while (items.length < shown) {
    const before = items.length ? `&before=${encodeURIComponent(items.at(-1).name)}` : "";
    const part = await ask(`api/items?limit=${Math.min(60, shown - items.length)}${before}`);
    total = part.total;
    items.push(...part.items);
    if (!part.items.length) break;
  }
  const cards = items.map((item) => known.get(item.name) ?? card(item));
  known = new Map(cards.map((one) => [one.dataset.name, one]));
  $("gallery").replaceChildren(...cards);
  $("count").textContent = total || "";
  $("empty").hidden = total > 0;
  $("more").hidden = total <= shown;
}

async function refresh() {
  try {
    const state = await ask("api/state");
    $("offline").hidden = true;
    showJobs(state.jobs);
    if (gallery !== `${state.total} ${state.newest}`) {
      gallery = `${state.total} ${state.newest}`;
      await showGallery();
    }
    return state;
  } catch (error) {
    $("offline").hidden = error instanceof TypeError === false;
    return { jobs: [] };
  }
}

async function watch() {
  const { jobs } = await refresh();
  const busy = jobs.some((job) => ["waiting", "running"].includes(job.state));
  setTimeout(watch, busy ? 500 : 2000);
}

form.addEventListener("submit", generate);
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
$("add-key").addEventListener("click", () => addKey());
$("dice").addEventListener("click", () => { fields.seed.value = Math.floor(Math.random() * 2 ** 31); });
$("more").addEventListener("click", () => { shown += PAGE_SIZE; showGallery(); });

const ready = (async () => {
  about = await ask("api/about");
  setUp();
  await watch();
  document.body.dataset.ready = "true";
})().catch((error) => say(error.message));
