// Pointing at a small frame shows it on the screen above; moving across the screen runs through the frames.
for (const film of document.querySelectorAll(".film")) {
  const screen = film.querySelector(".screen");
  if (!screen) continue;
  const show = (at) => screen.style.setProperty("--at", at);
  film.querySelectorAll(".frame").forEach((frame, at) => {
    for (const event of ["mouseenter", "focus", "click"]) frame.addEventListener(event, () => show(at));
  });
  const count = Number(film.style.getPropertyValue("--n"));
  screen.addEventListener("mousemove", (event) => {
    show(Math.min(count - 1, Math.floor((event.offsetX / screen.clientWidth) * count)));
  });
}

// Samples play in a loop until they are clicked; a small frame stops its video there.
for (const sample of document.querySelectorAll(".sample")) {
  const video = sample.querySelector("video");
  const frames = sample.querySelectorAll(".frame");
  video.addEventListener("click", () => (video.paused ? video.play() : video.pause()));
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) video.autoplay = false;
  frames.forEach((frame, at) => {
    frame.addEventListener("click", () => {
      video.pause();
      if (Number.isFinite(video.duration)) video.currentTime = (video.duration * (at + 0.5)) / frames.length;
    });
  });
}

// Contact sheets: search, sort by a value, show only the clips that a rule rejected.
for (const sheet of document.querySelectorAll(".sheet")) {
  const grid = sheet.querySelector(".grid");
  const cards = [...grid.children];
  const shown = sheet.querySelector(".shown"), all = shown.textContent;
  const search = sheet.querySelector("input"), sort = sheet.querySelector("select");
  const chips = [...sheet.querySelectorAll("button.chip")];
  const filter = () => {
    const words = search.value.trim().toLowerCase();
    const reason = chips.find((chip) => chip.getAttribute("aria-pressed") === "true")?.dataset.reason;
    for (const card of cards) {
      const { reasons, words: text } = card.dataset;
      card.hidden = !text.includes(words) || (reason !== undefined && !reasons.split(" ").includes(reason));
    }
    const left = cards.filter((card) => !card.hidden).length;
    shown.textContent = left === cards.length ? all : `${left} of the ${cards.length} clips here`;
  };
  search.addEventListener("input", filter);
  sort.addEventListener("change", () => {
    const key = sort.value, value = (card) => JSON.parse(card.dataset.values)[key] ?? Infinity;
    grid.replaceChildren(...(key ? [...cards].sort((a, b) => value(a) - value(b)) : cards));
  });
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      const on = chip.getAttribute("aria-pressed") !== "true";
      for (const other of chips) other.setAttribute("aria-pressed", String(on && other === chip));
      filter();
    });
  }
}
