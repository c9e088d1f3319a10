// Pointing at a small frame shows it on the screen above; moving across the screen runs through the frames.
function startFilms(root) {
  root.querySelectorAll(".film").forEach(startFilm);
  root.querySelectorAll(".sample").forEach(startSample);
}

function startFilm(film) {
  const screen = film.querySelector(".screen");
  if (!screen) return;
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
function startSample(sample) {
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

startFilms(document);
