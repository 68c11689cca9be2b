// The page's side of hlkit's widget: player, timeline, contact sheet, explorer. Plain JavaScript, no build step.
//
// Python owns every rule and all state that is kept: the page sends what the person did ("mark from 3.2 s to 8 s") and
// draws what comes back. Everything that moves is drawn on canvas, at most once per screen refresh.
//
// This is the last of the page's files (see pages.py): the view, to which the others give their methods.

const BACKGROUND = "background";
const SYNC_MS = 2500; // how often the page asks whether another tab has marked

class View extends Page {
  constructor(model, el) {
    super(model);
    this.time = 0;
    this.speed = 1;
    this.playing = false;
    this.inPoint = null;
    this.selected = null;
    this.item = 0;
    this.hover = null;
    this.drag = null;
    this.dirty = new Set();
    this.usesVideo = false;
    this.notice = { text: "", bad: false };
    this.duration = model.get("duration");
    this.fps = model.get("fps");
    this.span = { start: 0, end: this.duration };
    this.readCurves();
    this.readDecided();
    this.pictures = new Pictures(model, () => this.redraw("base", "overlay", "sheet", "player"));
    this.build(el);
    this.listen();
    if (this.items.length && !this.hasCurves) this.zoomAround(0, Math.min(this.duration, 600));
    this.openVideo();
    if (this.items.length) this.goToItem(this.nextUndecided(-1) ?? 0);
    this.redraw("base", "overlay", "sheet", "player", "words");
  }

  // ---- what Python says -------------------------------------------------------------------------------------------

  get spans() {
    return this.model.get("spans");
  }

  get items() {
    return this.model.get("queue");
  }

  get classes() {
    return this.model.get("classes");
  }

  get hasCurves() {
    return this.curves.length > 0;
  }

  readCurves() {
    this.curves = this.model.get("curves");
    const all = floats(this.model.get("curve_data"));
    const count = this.curves.length ? all.length / (this.curves.length + 1) : 0;
    this.times = all.subarray(0, count);
    this.values = this.curves.map((_, place) => all.subarray((place + 1) * count, (place + 2) * count));
  }

  readDecided() {
    const items = this.items.map(([start, end]) => [start, Math.min(end, this.duration)]);
    const share = this.model.get("decided_share");
    const covered = coveredSeconds(this.spans, items);
    this.decidedItems = items.map(([start, end], item) => covered[item] >= share * (end - start) - 1e-6);
  }

  decided(item) {
    return this.decidedItems[item];
  }

  receive(message, buffers) {
    if (message.kind === "sheet") {
      this.pictures.receive(message, buffers[0]);
    } else if (message.kind === "done") {
      if (message.number === 0) this.syncing = false;
      this.pending.delete(message.number);
      if (message.number && message.number === this.picking) {
        this.picking = null;
        if (this.pickNext) this.pick(this.pickNext);
      }
      if (message.text) this.say(message.text, message.bad);
      this.redraw("overlay", "words");
    }
  }

  // Ask for what other tabs have done, and tell what has not been answered.
  lookAround() {
    if (document.visibilityState !== "visible" || !this.root.isConnected) return;
    const late = this.late();
    if (late) {
      const marks = late === 1 ? "mark is" : "marks are";
      this.say(`${late} ${marks} not saved yet: Python is busy, or has stopped; then run the cell again.`, true);
    } else if (!this.pending.size && !this.syncing) {
      this.syncing = true;
      this.post({ kind: "sync", number: 0 });
    }
  }

  say(text, bad = false) {
    this.notice = { text, bad };
    this.redraw("words");
  }

  // Send an act of marking; `shown` is drawn as not yet saved until the answer is there.
  act(content, shown = null) {
    this.send(content, { shown });
    this.redraw("overlay");
  }

  // ---- what the person sees ---------------------------------------------------------------------------------------

  build(el) {
    const button = (...all) => this.button(...all);
    this.video = element("video", { playsinline: "", preload: "auto", "aria-label": "recording" });
    this.still = element("canvas", { class: "hl-still", role: "img", "aria-label": "stored picture" });
    this.clock = element("div", { class: "hl-clock" });
    this.screen = element("div", { class: "hl-screen" }, this.video, this.still, this.clock);
    this.screen.style.aspectRatio = String(this.model.get("aspect"));
    this.sheetTitle = element("div", { class: "hl-sheet-title" });
    this.sheet = element("canvas", { class: "hl-sheet", role: "img", "aria-label": "pictures of this stretch" });
    this.sheetBox = element("div", { class: "hl-sheet-box" }, this.sheetTitle, this.sheet);

    this.playButton = button("Play", "Space", "Play or pause; K does it too", () => this.togglePlay(), "hl-play");
    this.speedText = element("span", { class: "hl-speed" }, "1×");
    const player = group(
      "player",
      button("−10 s", "J", "Ten seconds back", () => this.seek(this.time - 10)),
      button("−1 s", "⇧←", "One second back", () => this.step(-1, -1)),
      button("‹ frame", "←", "One picture back", () => this.step(-1)),
      this.playButton,
      button("frame ›", "→", "One picture on", () => this.step(1)),
      button("+1 s", "⇧→", "One second on", () => this.step(1, 1)),
      button("+10 s", "L", "Ten seconds on", () => this.seek(this.time + 10)),
      button("slower", "<", "Slower", () => this.changeSpeed(-1)),
      this.speedText,
      button("faster", ">", "Faster", () => this.changeSpeed(1)),
      button("mute", "M", "Sound on or off", () => this.toggleSound()),
    );
    this.inButton = button("begins", "I", "The highlight begins here", () => this.markIn(), "hl-in");
    const classButtons = this.classes.map((name, place) =>
      button(name, String(place + 1), `This is: ${name}`, () => this.decide(name), "hl-yes"),
    );
    this.notButton = button("not", "0", "Nothing (else) here is worth keeping", () => this.decide(BACKGROUND), "hl-no");
    const marking = group(
      "marking",
      this.inButton,
      button("ends", "O", "It ends here: marks it", () => this.markOut(), "hl-out"),
      ...classButtons,
      this.notButton,
      button("cancel", "Esc", "Forget what was begun, and select nothing", () => this.cancel()),
    );
    const order = group(
      "order",
      ...(this.items.length ? [button("next", "N", "The next undecided stretch", () => this.next())] : []),
      button("undo", "Ctrl+Z", "Take the last mark back", () => this.act({ kind: "undo" })),
      button("redo", "Ctrl+Y", "Do it again", () => this.act({ kind: "redo" })),
      button("rest: not", "B", "All before here that is not marked is not worth keeping", () => this.restIsNot()),
    );
    this.spanGroup = group(
      "selected span",
      button("start here", "[", "The selected span begins here", () => this.moveEdge(1)),
      button("end here", "]", "The selected span ends here", () => this.moveEdge(2)),
      button("delete", "Del", "Take the selected span away", () => this.removeSelected()),
    );
    const zoom = group(
      "zoom",
      button("zoom in", "+", "Show a shorter stretch", () => this.zoom(0.5)),
      button("zoom out", "−", "Show a longer stretch", () => this.zoom(2)),
      button("all", "A", "Show all of it", () => this.zoomAround(0, this.duration)),
    );

    this.base = element("canvas", { class: "hl-base" });
    this.overlay = element("canvas", {
      class: "hl-overlay",
      role: "slider",
      "aria-label": "timeline",
      "aria-valuemin": "0",
      "aria-valuemax": String(Math.round(this.duration)),
    });
    this.timeline = element("div", { class: "hl-timeline" }, this.base, this.overlay);
    this.tip = element("canvas", { class: "hl-tip" });
    this.explorer = this.hasCurves ? this.buildExplorer() : "";
    this.show(
      el,
      "Click here once, then the keys work.",
      element("div", { class: "hl-stage" }, this.screen, ...(this.items.length && this.pictures.any ? [this.sheetBox] : [])),
      element("div", { class: "hl-bar" }, player, marking, order),
      this.timeline,
      element("div", { class: "hl-bar" }, zoom, this.spanGroup),
      this.explorer,
      this.status,
      this.tip,
    );
  }

  whenResized() {
    this.redraw("base", "overlay", "sheet", "player");
  }

  redraw(...parts) {
    for (const part of parts) this.dirty.add(part);
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = null;
    if (this.playing) this.tick();
    const dirty = this.dirty;
    this.dirty = new Set();
    this.wide = this.timeline.clientWidth;
    if (!this.wide) return;
    if (dirty.has("base")) this.drawBase();
    if (dirty.has("overlay")) this.drawOverlay();
    if (dirty.has("sheet")) this.drawSheet();
    if (dirty.has("player")) this.drawPlayer();
    if (dirty.has("words")) this.drawWords();
    if (this.playing) this.redraw("overlay", "player", "words");
  }

  drawWords() {
    this.overlay.setAttribute("aria-valuenow", String(Math.round(this.time)));
    this.overlay.setAttribute("aria-valuetext", formatTime(this.time));
    const marked = this.spans.filter((span) => span[3] !== BACKGROUND);
    const seconds = marked.reduce((sum, [, start, end]) => sum + end - start, 0);
    const count = `${marked.length} ${marked.length === 1 ? "highlight" : "highlights"} marked, ${formatTime(seconds)}`;
    const parts = [count];
    if (this.items.length) {
      const done = this.decidedItems.filter(Boolean).length;
      parts.push(`${done} of ${this.items.length} stretches decided`);
      const [start, end, reason] = this.items[this.item];
      const state = this.decided(this.item) ? "decided" : "undecided";
      const place = `${formatTime(start)} – ${formatTime(Math.min(end, this.duration))}`;
      this.setText(this.sheetTitle, [`${place}`, state, reason].filter(Boolean).join(" · "));
    }
    this.setText(this.status, [...parts, this.notice.text].filter(Boolean).join(" · "));
    this.status.classList.toggle("hl-bad", this.notice.bad);
    this.inButton.classList.toggle("hl-on", this.inPoint !== null);
    this.spanGroup.classList.toggle("hl-off", !this.find(this.selected));
    if (this.hasCurves) this.drawExplorerWords();
  }

  setText(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  // ---- listening --------------------------------------------------------------------------------------------------

  listen() {
    const on = (...all) => this.on(...all);
    on(this.root, "pointerdown", (event) => {
      if (!event.target.closest("button, input")) this.root.focus({ preventScroll: true });
    });
    on(this.overlay, "pointerdown", (event) => this.dragStart(event));
    on(this.overlay, "pointermove", (event) => this.dragMove(event));
    on(this.overlay, "pointerup", (event) => this.dragEnd(event));
    on(this.overlay, "pointercancel", () => this.dragCancel());
    on(this.overlay, "pointerleave", () => {
      this.hover = null;
      this.redraw("overlay");
    });
    on(this.overlay, "wheel", (event) => this.wheel(event), { passive: false });
    on(this.sheet, "pointerdown", (event) => this.sheetStart(event));
    on(this.sheet, "pointermove", (event) => this.sheetMove(event));
    on(this.sheet, "pointerup", (event) => this.sheetEnd(event));
    on(this.screen, "click", () => this.togglePlay());
    on(this.video, "error", () => this.withoutVideo());
    on(this.video, "loadeddata", () => {
      this.usesVideo = true;
      this.redraw("player", "words");
    });
    on(this.video, "seeked", () => this.redraw("player"));
    on(this.video, "ended", () => this.setPlaying(false));
    const changes = [
      [
        "spans",
        () => {
          this.readDecided();
          this.redraw("base", "overlay", "sheet", "words");
        },
      ],
      ["picked", () => this.redraw("base", "words")],
      ["threshold", () => this.redraw("base", "words")],
      ["target_seconds", () => this.redraw("words")],
      ["summary", () => this.redraw("words")],
    ].map(([name, act]) => [`change:${name}`, act]);
    changes.push(["msg:custom", (message, buffers) => this.receive(message, buffers)]);
    this.attend(changes, SYNC_MS);
    this.theme = new MutationObserver(() => this.redraw("base", "overlay", "sheet"));
    for (const node of [document.documentElement, document.body]) this.theme.observe(node, { attributes: true });
  }

  destroy() {
    super.destroy();
    this.theme.disconnect();
    clearTimeout(this.pickLater);
    cancelAnimationFrame(this.frame);
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
  }
}

Object.assign(
  View.prototype,
  playerMethods,
  markingMethods,
  timelineMethods,
  sheetMethods,
  laneMethods,
  overlayMethods,
  explorerMethods,
);

export default widgetOf(View);
