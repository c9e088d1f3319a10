// A click on a clip plays it in its place; Escape, or a click on the cross, brings the frame back.

const HOW_TO_PLAY = "This page has no clips beside it. They play in the page that reelpack report --serve shows, or here after"
  + " reelpack report --with-clips 60.";

const player = {
  stage: null,

  open(button) {
    this.close();
    const { media, kind } = button.dataset;
    this.button = button, this.stage = button.parentNode;
    if (!media) return this.say(HOW_TO_PLAY);
    const node = kind === "image"
      ? element("img", { src: media, alt: "the whole picture" })
      : element("video", { src: media, controls: true, autoplay: true, loop: true, playsInline: true, tabIndex: 0 });
    node.addEventListener("error", async () => {
      if (node.isConnected) this.say(await problemOf(media));
    });
    this.show(node);
    node.focus({ preventScroll: true });
  },

  say(text) {
    this.show(words("p", "problem", text));
  },

  show(node) {
    this.stage.querySelector(".player")?.remove();
    const cross = element("button", { className: "cross", textContent: "×", "aria-label": "close the player" });
    cross.addEventListener("click", () => this.close());
    this.stage.append(element("div", { className: "player" }, node, cross));
  },

  close() {
    this.stage?.querySelector(".player")?.remove();
    this.button?.focus({ preventScroll: true });
    this.stage = this.button = null;
  },
};

/** Why a clip does not play: the server says it; of a file nothing can be asked. */
async function problemOf(media) {
  try {
    const answer = await fetch(media);
    return answer.ok ? "this browser cannot play the clip" : (await answer.json()).error;
  } catch {
    return `${media} cannot be played: it is not there, or this browser does not know its codec`;
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.matches(".play, .screen") && event.target.parentNode.querySelector(".play");
  if (button) player.open(button);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && player.stage) player.close();
});
