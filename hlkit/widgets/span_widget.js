// The page's side of hlkit's widget: player, timeline, contact sheet, explorer. Plain JavaScript, no build step.
//
// Python owns every rule and all state that is kept: this file sends what the person did ("mark from 3.2 s to 8 s") and
// draws what comes back. Everything that moves is drawn on canvas, at most once per screen refresh.

const SPEEDS = [0.25, 0.5, 1, 1.5, 2, 3, 4, 8, 16];
const TICK_STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
const BACKGROUND = "background";
const EDGE_PIXELS = 7; // how near to an edge a drag takes hold of it
const CLICK_PIXELS = 4; // a shorter drag is a click
const SHEET_COLUMNS = 4;
const SHEET_PICTURES = 16; // four lines of four have the shape of the player beside them
const KEPT_SHEETS = 40; // decoded, 1.8 MB each
const ASKED_AT_ONCE = 3;
const PATIENCE_MS = 4000; // a mark that is not answered by then is told as not yet saved
const SYNC_MS = 2500; // how often the page asks whether another tab has marked
const PICK_MS = 60; // the sliders ask for highlights at most this often

export function formatTime(seconds, decimals = 0) {
  const scale = 10 ** decimals;
  const ticks = Math.round(Math.max(0, seconds) * scale);
  const whole = Math.floor(ticks / scale);
  const two = (number) => String(number).padStart(2, "0");
  const text = `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return decimals ? `${text}.${String(ticks % scale).padStart(decimals, "0")}` : text;
}

// The first place in an ascending array whose value is at least `value`.
export function lowerBound(values, value) {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Lowest and highest of `values` in each pixel column between `start` and `end` seconds; NaN where a column has none.
export function envelope(times, values, start, end, columns) {
  const low = new Float32Array(columns).fill(NaN);
  const high = new Float32Array(columns).fill(NaN);
  const scale = columns / (end - start);
  const last = Math.min(times.length, lowerBound(times, end) + 1);
  for (let place = Math.max(0, lowerBound(times, start) - 1); place < last; place++) {
    const column = Math.floor((times[place] - start) * scale);
    const value = values[place];
    if (column < 0 || column >= columns || value !== value) continue;
    if (!(low[column] <= value)) low[column] = value;
    if (!(high[column] >= value)) high[column] = value;
  }
  return { low, high };
}

// For each [start, end, ...] of `items` the seconds that the spans [id, start, end, ...] cover.
export function coveredSeconds(spans, items) {
  const union = [];
  for (const [, start, end] of [...spans].sort((one, other) => one[1] - other[1])) {
    const last = union[union.length - 1];
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else union.push([start, end]);
  }
  const ends = union.map(([, end]) => end);
  return items.map(([start, end]) => {
    let total = 0;
    for (let place = lowerBound(ends, start); place < union.length && union[place][0] < end; place++) {
      total += Math.max(0, Math.min(union[place][1], end) - Math.max(union[place][0], start));
    }
    return total;
  });
}

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function floats(view) {
  if (!view || !view.byteLength) return new Float32Array(0);
  const bytes = view.buffer ? view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength) : view;
  return new Float32Array(bytes);
}

// A canvas that is as sharp as the screen; `fit` returns its context in CSS pixels.
function fit(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide || canvas.height !== high) {
    canvas.width = wide;
    canvas.height = high;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

// The stored frames, asked for sheet by sheet (see pictures.py) and kept.
class Pictures {
  constructor(model, changed) {
    this.model = model;
    this.changed = changed;
    this.times = floats(model.get("picture_times"));
    [this.width, this.height, this.cells, this.columns] = model.get("cells");
    this.kept = new Map(); // the one used last stands last
    this.asked = new Map();
    this.wanted = [];
  }

  get any() {
    return this.times.length > 0;
  }

  row(time) {
    return Math.max(0, lowerBound(this.times, time + 1e-3) - 1);
  }

  // The coarsest level whose pictures lie at most `seconds` apart.
  level(seconds) {
    const step = this.times.length > 1 ? (this.times[this.times.length - 1] - this.times[0]) / (this.times.length - 1) : 1;
    return Math.max(0, Math.floor(Math.log2(Math.max(1, seconds / step))));
  }

  draw(context, time, level, x, y, width, height) {
    const step = 2 ** level;
    const cell = Math.floor(this.row(time) / step);
    const sheet = Math.floor(cell / this.cells);
    const image = this.sheet(level, sheet);
    if (!image) return false;
    const place = cell % this.cells;
    const [column, line] = [place % this.columns, Math.floor(place / this.columns)];
    context.drawImage(image, column * this.width, line * this.height, this.width, this.height, x, y, width, height);
    return true;
  }

  sheet(level, sheet) {
    const key = `${level}/${sheet}`;
    const image = this.kept.get(key);
    if (image) {
      this.kept.delete(key);
      this.kept.set(key, image);
      return image;
    }
    if (!this.asked.has(key)) {
      this.wanted = this.wanted.filter((other) => other.key !== key);
      this.wanted.push({ key, level, sheet });
      this.ask();
    }
    return null;
  }

  ask() {
    const now = performance.now();
    for (const [key, since] of this.asked) if (now - since > 20000) this.asked.delete(key);
    // What was wanted last is on the screen now; what was passed over long ago is not asked for.
    this.wanted = this.wanted.slice(-12);
    while (this.asked.size < ASKED_AT_ONCE && this.wanted.length) {
      const { key, level, sheet } = this.wanted.pop();
      this.asked.set(key, now);
      this.model.send({ kind: "sheet", level, sheet });
    }
  }

  async receive(message, buffer) {
    const key = `${message.level}/${message.sheet}`;
    const image = await createImageBitmap(new Blob([buffer], { type: "image/jpeg" })).catch(() => null);
    this.asked.delete(key);
    if (image) {
      this.kept.set(key, image);
      if (this.kept.size > KEPT_SHEETS) {
        const [oldest, old] = this.kept.entries().next().value;
        old.close();
        this.kept.delete(oldest);
      }
    }
    this.ask();
    this.changed();
  }
}

class View {
  constructor(model, el) {
    this.model = model;
    this.el = el;
    this.stop = new AbortController();
    this.time = 0;
    this.speed = 1;
    this.playing = false;
    this.inPoint = null;
    this.selected = null;
    this.item = 0;
    this.hover = null;
    this.drag = null;
    this.pending = new Map();
    this.number = 0;
    this.dirty = new Set();
    this.usesVideo = false;
    this.notice = { text: "", bad: false };
    this.duration = model.get("duration");
    this.fps = model.get("fps");
    this.span = { start: 0, end: this.duration };
    this.readCurves();
    this.readDecided();
    this.pictures = new Pictures(model, () => this.redraw("base", "overlay", "sheet", "player"));
    this.build();
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

  nextUndecided(after) {
    const count = this.items.length;
    for (let step = 1; step <= count; step++) {
      const item = (after + step + count) % count;
      if (!this.decided(item)) return item;
    }
    return null;
  }

  // ---- what the person sees ---------------------------------------------------------------------------------------

  build() {
    const button = (name, key, title, act, extra = "") => {
      const node = element("button", { type: "button", title: `${title} (${key})`, class: extra, "data-key": key });
      node.append(element("span", {}, name), element("kbd", { "aria-hidden": "true" }, key));
      node.addEventListener("click", (event) => {
        act();
        if (event.detail) this.root.focus({ preventScroll: true }); // after a mouse click the keys go on working
      });
      return node;
    };
    const group = (label, ...nodes) => element("div", { class: "hl-group", role: "group", "aria-label": label }, ...nodes);

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
    this.status = element("div", { class: "hl-status", role: "status", "aria-live": "polite" });
    this.explorer = this.hasCurves ? this.buildExplorer() : "";
    this.head = element(
      "div",
      { class: "hl-head" },
      element("strong", {}, this.model.get("title")),
      element("span", { class: "hl-hint" }, "Click here once, then the keys work."),
    );
    this.root = element(
      "div",
      { class: "hlkit", tabindex: "0", role: "application", "aria-label": `hlkit: ${this.model.get("title")}` },
      this.head,
      element("div", { class: "hl-stage" }, this.screen, ...(this.items.length && this.pictures.any ? [this.sheetBox] : [])),
      element("div", { class: "hl-bar" }, player, marking, order),
      this.timeline,
      element("div", { class: "hl-bar" }, zoom, this.spanGroup),
      this.explorer,
      this.status,
      this.tip,
    );
    // JupyterLab and Notebook 7 leave the keys of such a region to it.
    this.root.setAttribute("data-lm-suppress-shortcuts", "true");
    this.el.append(this.root);
  }

  buildExplorer() {
    const slider = (label, attributes, change) => {
      const input = element("input", { type: "range", "aria-label": label, ...attributes });
      input.addEventListener("input", () => change(Number(input.value)));
      return input;
    };
    this.thresholdSlider = slider("threshold", { min: "0.005", max: "1", step: "0.005" }, (value) =>
      this.pick({ threshold: value }),
    );
    this.lengthSlider = slider("wanted length", { min: "5", max: String(Math.max(6, Math.round(this.duration))), step: "5" }, (value) =>
      this.pick({ target_seconds: value }),
    );
    this.thresholdText = element("output", {});
    this.lengthText = element("output", {});
    this.summary = element("output", { class: "hl-summary" });
    const keep = element("button", { type: "button", class: "hl-keep", title: "Write these highlights, ready to cut the reel" });
    keep.append(element("span", {}, "Use these highlights"));
    keep.addEventListener("click", () => this.act({ kind: "keep" }));
    return element(
      "div",
      { class: "hl-explorer" },
      element("label", {}, "threshold", this.thresholdSlider, this.thresholdText),
      element("label", {}, "wanted length", this.lengthSlider, this.lengthText),
      this.summary,
      ...(this.model.get("can_keep") ? [keep] : []),
    );
  }

  // ---- listening --------------------------------------------------------------------------------------------------

  listen() {
    const signal = this.stop.signal;
    const on = (target, name, act, options = {}) => target.addEventListener(name, act, { signal, ...options });
    on(this.root, "keydown", (event) => this.key(event));
    for (const name of ["keypress", "keyup"]) on(this.root, name, (event) => event.stopPropagation());
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
    on(window, "beforeunload", (event) => {
      if (this.pending.size) event.preventDefault();
    });
    this.changes = [
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
    this.changes.push(["msg:custom", (message, buffers) => this.receive(message, buffers)]);
    for (const [name, act] of this.changes) this.model.on(name, act);
    this.resize = new ResizeObserver(() => this.redraw("base", "overlay", "sheet", "player"));
    this.resize.observe(this.root);
    this.theme = new MutationObserver(() => this.redraw("base", "overlay", "sheet"));
    for (const node of [document.documentElement, document.body]) this.theme.observe(node, { attributes: true });
    this.clockwork = setInterval(() => this.lookAround(), SYNC_MS);
  }

  destroy() {
    this.stop.abort();
    this.resize.disconnect();
    this.theme.disconnect();
    clearInterval(this.clockwork);
    clearTimeout(this.pickLater);
    cancelAnimationFrame(this.frame);
    for (const [name, act] of this.changes) this.model.off(name, act);
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
  }

  // Ask for what other tabs have done, and tell what has not been answered.
  lookAround() {
    if (document.visibilityState !== "visible" || !this.root.isConnected) return;
    const now = performance.now();
    const late = [...this.pending.values()].filter((sent) => now - sent.since > PATIENCE_MS).length;
    if (late) {
      const marks = late === 1 ? "mark is" : "marks are";
      this.say(`${late} ${marks} not saved yet: Python is busy, or has stopped; then run the cell again.`, true);
    }
    else if (!this.pending.size && !this.syncing) {
      this.syncing = true;
      this.post({ kind: "sync", number: 0 });
    }
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

  say(text, bad = false) {
    this.notice = { text, bad };
    this.redraw("words");
  }

  post(content) {
    try {
      this.model.send(content);
    } catch (error) {
      this.say(`This is not saved: Python can't be reached (${error.message}). Run the cell again.`, true);
    }
  }

  // Send an act of marking; `shown` is drawn as not yet saved until the answer is there.
  act(content, shown = null) {
    const number = ++this.number;
    this.pending.set(number, { since: performance.now(), shown });
    this.post({ ...content, number });
    this.redraw("overlay");
  }

  // ---- playing ----------------------------------------------------------------------------------------------------

  openVideo() {
    const url = this.model.get("video_url");
    if (url) this.video.src = url;
    else this.withoutVideo("The recording is not here");
  }

  withoutVideo(reason = "The browser can't play this recording here") {
    this.usesVideo = false;
    this.video.hidden = true;
    if (reason && this.pictures.any) this.say(`${reason}: the stored pictures are shown, without sound.`);
    else if (reason) this.say(`${reason}, and no pictures are stored: make them in notebook 02.`, true);
    this.redraw("player");
  }

  seek(time) {
    this.time = Math.min(Math.max(0, time), this.duration);
    // A quarter of a frame behind its start, so that rounding does not show the picture before it.
    if (this.usesVideo || this.video.src) this.video.currentTime = Math.min(this.time + 0.25 / this.fps, this.duration);
    this.follow();
    this.redraw("overlay", "player", "words", "sheet");
  }

  follow() {
    const { start, end } = this.span;
    if (this.time < start || this.time > end) this.zoomAround(this.time - (end - start) * 0.1, end - start);
  }

  step(frames, seconds = 0) {
    if (this.playing) this.setPlaying(false);
    const frame = Math.round(this.time * this.fps);
    this.seek(seconds ? this.time + seconds : Math.round(((frame + frames) / this.fps) * 1e6) / 1e6);
  }

  togglePlay() {
    this.setPlaying(!this.playing);
  }

  setPlaying(playing) {
    this.playing = playing;
    if (this.usesVideo && playing) {
      if (this.time >= this.duration - 0.05) this.seek(0);
      this.video.playbackRate = this.speed;
      this.video.play().catch((error) => {
        this.playing = false;
        this.say(`The browser did not start playing (${error.message}). Press play once more.`, true);
      });
    } else if (this.usesVideo) {
      this.video.pause();
      this.time = this.now();
    }
    this.lastTick = performance.now();
    this.playButton.firstChild.textContent = this.playing ? "Pause" : "Play";
    this.redraw("overlay", "player", "words");
  }

  // The time of the picture on the screen: while playing, when the frame began that is shown.
  now() {
    if (!this.usesVideo || this.video.seeking) return this.time;
    if (!this.playing && Math.abs(this.video.currentTime - this.time) < 0.6 / this.fps) return this.time;
    const frame = Math.floor(this.video.currentTime * this.fps + 0.01);
    return Math.min(this.duration, Math.round((frame / this.fps) * 1e6) / 1e6);
  }

  changeSpeed(by) {
    const place = SPEEDS.indexOf(this.speed) + by;
    this.speed = SPEEDS[Math.min(Math.max(0, place), SPEEDS.length - 1)];
    this.video.playbackRate = this.speed;
    this.speedText.textContent = `${this.speed}×`;
  }

  toggleSound() {
    this.video.muted = !this.video.muted;
    this.say(this.video.muted ? "Sound off." : "Sound on.");
  }

  // ---- marking ----------------------------------------------------------------------------------------------------

  mark(start, end, label) {
    this.act({ kind: "mark", start, end, label }, { start, end, label });
  }

  markIn() {
    this.inPoint = this.now();
    this.selected = null;
    this.say(`It begins at ${formatTime(this.inPoint, 1)}. Press O where it ends.`);
    this.redraw("overlay");
  }

  markOut() {
    if (this.inPoint === null) this.say("Press I where it begins first.", true);
    else this.closeMark(this.classes[0]);
  }

  closeMark(label) {
    const [start, end] = [this.inPoint, this.now()].sort((one, other) => one - other);
    if (end - start < 0.5 / this.fps) {
      this.say("It ends where it begins: go on to where it ends, then press O.", true);
      return;
    }
    this.inPoint = null;
    this.mark(start, end, label);
  }

  // 1 and 0: what was begun, else the selected span, else the stretch that is asked about.
  decide(label) {
    if (this.inPoint !== null) {
      this.closeMark(label);
    } else if (this.selected !== null) {
      this.act({ kind: "relabel", id: this.selected, label });
    } else if (this.items.length) {
      const [start, end] = this.items[this.item];
      const stop = Math.min(end, this.duration);
      const kind = label === BACKGROUND && this.keepsMarks(start, stop) ? "fill" : "mark";
      this.act({ kind, start, end: stop, label }, { start, end: stop, label });
      const count = this.items.length;
      for (let step = 1; step <= count; step++) {
        const item = (this.item + step) % count;
        if (item !== this.item && !this.decided(item)) {
          this.goToItem(item);
          return;
        }
      }
      this.say("That was the last stretch: all of it is decided.");
    } else {
      this.say("Press I where it begins and O where it ends, or click a span first.", true);
    }
  }

  // Whether 0 leaves alone what is marked in a stretch: in a chunk always; of a stretch that was asked about, where a part
  // of it is a highlight and the rest is not.
  keepsMarks(start, stop) {
    if (this.model.get("decided_share") > 0.9) return true;
    const [covered] = coveredSeconds(this.spans.filter((span) => span[3] !== BACKGROUND), [[start, stop]]);
    return covered > 0 && covered < 0.99 * (stop - start);
  }

  cancel() {
    this.inPoint = this.selected = this.drag = null;
    this.say("");
    this.redraw("base", "overlay");
  }

  restIsNot() {
    this.act({ kind: "fill", start: 0, end: this.now(), label: BACKGROUND }, null);
  }

  next() {
    const item = this.nextUndecided(this.item);
    if (item === null) this.say("All of it is decided.");
    else this.goToItem(item);
  }

  goToItem(item) {
    this.item = item;
    this.selected = null;
    const [start, end] = this.items[item];
    if (end > this.span.end || start < this.span.start) {
      const length = this.span.end - this.span.start;
      this.zoomAround(start - length * 0.1, length);
    }
    this.seek(start);
    this.redraw("base", "sheet", "words");
  }

  find(id) {
    return this.spans.find((span) => span[0] === id);
  }

  moveEdge(edge) {
    const span = this.find(this.selected);
    if (!span) return this.say("Click a span first.", true);
    const ends = [span[0], span[1], span[2]];
    ends[edge] = this.now();
    if (ends[2] <= ends[1]) return this.say("A span must end after it begins.", true);
    this.act({ kind: "move", id: span[0], start: ends[1], end: ends[2] });
  }

  removeSelected() {
    if (!this.find(this.selected)) this.say("Click a span first.", true);
    else this.act({ kind: "remove", id: this.selected });
    this.selected = null;
  }

  // While an answer is awaited the latest wish waits; earlier ones are passed over.
  pick(content) {
    if (this.picking || this.pickLater) {
      this.pickNext = content;
      return;
    }
    this.pickNext = null;
    this.pickLater = setTimeout(() => {
      this.pickLater = null;
      this.picking = ++this.number;
      this.post({ kind: "pick", ...(this.pickNext || content), number: this.picking });
      this.pickNext = null;
    }, PICK_MS);
  }

  // ---- keys -------------------------------------------------------------------------------------------------------

  key(event) {
    event.stopPropagation();
    const target = event.target;
    if (target.tagName === "INPUT" || (target.tagName === "BUTTON" && ["Enter", " "].includes(event.key))) return;
    const command = event.ctrlKey || event.metaKey;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const acts = command
      ? { z: () => this.act({ kind: event.shiftKey ? "redo" : "undo" }), y: () => this.act({ kind: "redo" }), s: () => {} }
      : {
          i: () => this.markIn(),
          o: () => this.markOut(),
          " ": () => this.togglePlay(),
          k: () => this.togglePlay(),
          j: () => this.seek(this.now() - 10),
          l: () => this.seek(this.now() + 10),
          ArrowLeft: () => this.step(-1, event.shiftKey ? -1 : 0),
          ArrowRight: () => this.step(1, event.shiftKey ? 1 : 0),
          "<": () => this.changeSpeed(-1),
          ",": () => this.changeSpeed(-1),
          ">": () => this.changeSpeed(1),
          ".": () => this.changeSpeed(1),
          m: () => this.toggleSound(),
          0: () => this.decide(BACKGROUND),
          n: () => this.next(),
          b: () => this.restIsNot(),
          "[": () => this.moveEdge(1),
          "]": () => this.moveEdge(2),
          Delete: () => this.removeSelected(),
          Backspace: () => this.removeSelected(),
          "+": () => this.zoom(0.5),
          "=": () => this.zoom(0.5),
          "-": () => this.zoom(2),
          a: () => this.zoomAround(0, this.duration),
          Escape: () => this.cancel(),
          ...Object.fromEntries(this.classes.slice(0, 9).map((label, place) => [place + 1, () => this.decide(label)])),
        };
    if (acts[name] && !event.altKey) {
      event.preventDefault();
      acts[name]();
    }
  }

  // ---- the timeline: where things stand ---------------------------------------------------------------------------

  lanes() {
    const lanes = [["map", 16], ["ruler", 18]];
    if (this.pictures.any) lanes.push(["strip", 52]);
    if (this.hasCurves) lanes.push(["curves", 110]);
    for (let place = 0; place < this.signals().length; place++) lanes.push([`signal${place}`, 30]);
    if (this.hasCurves) lanes.push(["picked", 20]);
    lanes.push(["labels", 30]);
    let top = 0;
    return lanes.map(([name, height]) => {
      const lane = { name, top, height };
      top += height + 4;
      return lane;
    });
  }

  signals() {
    return this.curves.map((curve, place) => ({ ...curve, place })).filter(({ name }) => !["score", "intensity"].includes(name));
  }

  x(time) {
    return ((time - this.span.start) / (this.span.end - this.span.start)) * this.wide;
  }

  timeAt(x) {
    const time = this.span.start + (x / this.wide) * (this.span.end - this.span.start);
    return Math.min(Math.max(0, time), this.duration);
  }

  zoomAround(start, length) {
    const shown = Math.min(Math.max(length, 4), this.duration);
    const first = Math.min(Math.max(0, start), this.duration - shown);
    this.span = { start: first, end: first + shown };
    this.redraw("base", "overlay");
  }

  zoom(factor, centre = this.time) {
    const { start, end } = this.span;
    const at = centre >= start && centre <= end ? centre : (start + end) / 2;
    const length = Math.min(Math.max((end - start) * factor, 4), this.duration);
    this.zoomAround(at - ((at - start) / (end - start)) * length, length);
  }

  wheel(event) {
    if (!event.ctrlKey && !event.shiftKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    const length = this.span.end - this.span.start;
    if (event.shiftKey) this.zoomAround(this.span.start + (Math.sign(event.deltaY || event.deltaX) * length) / 8, length);
    else this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.timeAt(event.offsetX));
  }

  // What a pointer at (x, y) would take hold of.
  hit(x, y) {
    const lane = this.lanes().find(({ top, height }) => y >= top && y < top + height + 4) || { name: "labels" };
    if (lane.name === "map" || lane.name === "ruler") return { lane: lane.name };
    let found = null;
    for (const span of this.spans) {
      if (lane.name !== "labels" && span[0] !== this.selected) continue;
      for (const edge of [1, 2]) {
        const distance = Math.abs(this.x(span[edge]) - x);
        // Of two edges at one place, the selected span's wins, then the nearer one.
        const rank = distance - (span[0] === this.selected ? EDGE_PIXELS : 0) - (span[3] === BACKGROUND ? 0 : 0.1);
        if (distance <= EDGE_PIXELS && (!found || rank < found.rank)) found = { lane: "labels", id: span[0], edge, rank };
      }
    }
    if (found) return found;
    const time = this.timeAt(x);
    const inside = this.spans.filter(([, start, end]) => lane.name === "labels" && start <= time && time < end);
    inside.sort((one, other) => one[2] - one[1] - (other[2] - other[1]));
    return { lane: lane.name, id: inside.length ? inside[0][0] : null };
  }

  at(event) {
    const box = this.overlay.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  dragStart(event) {
    if (event.button !== 0) return;
    const [x, y] = this.at(event);
    const hit = this.hit(x, y);
    this.drag = { ...hit, from: x, x, moved: false };
    if (hit.edge) {
      const span = this.find(hit.id);
      this.selected = hit.id;
      this.drag.start = span[1];
      this.drag.end = span[2];
    }
    this.overlay.setPointerCapture?.(event.pointerId);
    if (hit.lane === "map" || hit.lane === "ruler") this.dragMove(event);
    this.redraw("base", "overlay");
  }

  dragMove(event) {
    const [x, y] = this.at(event);
    this.hover = { x, y };
    const drag = this.drag;
    if (drag) {
      drag.x = x;
      drag.moved ||= Math.abs(x - drag.from) > CLICK_PIXELS;
      if (drag.lane === "map") {
        const length = this.span.end - this.span.start;
        const centre = (x / this.wide) * this.duration;
        if (length < this.duration) this.zoomAround(centre - length / 2, length);
        this.scrub(Math.min(Math.max(0, centre), this.duration));
      } else if (drag.lane === "ruler") {
        this.scrub(this.timeAt(x));
      } else if (drag.edge && drag.moved) {
        const time = this.snap(this.timeAt(x));
        if (drag.edge === 1) drag.start = Math.min(time, drag.end - 1 / this.fps);
        else drag.end = Math.max(time, drag.start + 1 / this.fps);
        this.scrub(drag.edge === 1 ? drag.start : drag.end);
      }
    } else {
      const hit = this.hit(x, y);
      this.overlay.style.cursor = hit.edge ? "ew-resize" : hit.lane === "map" || hit.lane === "ruler" ? "grab" : "crosshair";
    }
    this.redraw("overlay");
  }

  // A dragged end lies on a frame, as an end that was marked while playing does.
  snap(time) {
    return Math.round((Math.round(time * this.fps) / this.fps) * 1e6) / 1e6;
  }

  // Follow the pointer; the video is asked for one picture at a time.
  scrub(time) {
    this.time = time;
    if (this.usesVideo && !this.video.seeking) this.video.currentTime = time + 0.25 / this.fps;
    this.scrubbed = true;
    this.redraw("overlay", "player", "words", "sheet");
  }

  dragEnd(event) {
    const drag = this.drag;
    this.drag = null;
    if (!drag) return;
    const [x] = this.at(event);
    if (this.scrubbed) {
      this.scrubbed = false;
      this.seek(this.time);
    }
    if (drag.edge && drag.moved) {
      const { id, start, end } = drag;
      this.act({ kind: "move", id, start, end }, { start, end, label: this.find(id)?.[3] });
    } else if (["map", "ruler"].includes(drag.lane)) {
      // Scrubbing was all of it.
    } else if (drag.moved) {
      const [start, end] = [this.timeAt(drag.from), this.timeAt(x)].map((time) => this.snap(time)).sort((a, b) => a - b);
      if (end > start) this.mark(start, end, this.classes[0]);
    } else {
      this.selected = drag.id ?? null;
      this.seek(this.snap(this.timeAt(x)));
      if (this.hasCurves && drag.lane !== "labels" && !this.playing) this.setPlaying(true);
    }
    this.redraw("base", "overlay");
  }

  dragCancel() {
    this.drag = null;
    this.redraw("base", "overlay");
  }

  // ---- the contact sheet ------------------------------------------------------------------------------------------

  sheetCells() {
    const [start, end] = this.items[this.item] || [0, 0];
    const stop = Math.min(end, this.duration);
    const margin = this.model.get("decided_share") > 0.9 ? 0 : Math.max(2, (stop - start) / 4);
    const [first, last] = [Math.max(0, start - margin), Math.min(this.duration, stop + margin)];
    const width = this.sheet.clientWidth || 300;
    const columns = SHEET_COLUMNS;
    const seconds = (last - first) / SHEET_PICTURES;
    const wide = width / columns;
    const high = wide * (this.pictures.height / this.pictures.width);
    const cells = Array.from({ length: SHEET_PICTURES }, (_, place) => ({
      start: first + place * seconds,
      end: first + (place + 1) * seconds,
      x: (place % columns) * wide,
      y: Math.floor(place / columns) * high,
    }));
    return { cells, wide, high, columns, seconds, height: high * Math.ceil(SHEET_PICTURES / columns) };
  }

  cellAt(event) {
    const { cells, wide, high, columns } = this.sheetCells();
    const box = this.sheet.getBoundingClientRect();
    const column = Math.min(columns - 1, Math.max(0, Math.floor((event.clientX - box.left) / wide)));
    const line = Math.max(0, Math.floor((event.clientY - box.top) / high));
    return Math.min(cells.length - 1, line * columns + column);
  }

  sheetStart(event) {
    if (event.button !== 0) return;
    const cell = this.cellAt(event);
    this.sheetDrag = { from: cell, to: cell };
    this.sheet.setPointerCapture?.(event.pointerId);
    this.redraw("sheet");
  }

  sheetMove(event) {
    if (!this.sheetDrag) return;
    this.sheetDrag.to = this.cellAt(event);
    this.redraw("sheet");
  }

  sheetEnd() {
    const drag = this.sheetDrag;
    this.sheetDrag = null;
    if (!drag) return;
    const { cells } = this.sheetCells();
    const [first, last] = [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)];
    if (first === last) this.seek(this.snap(cells[first].start));
    else this.mark(this.snap(cells[first].start), this.snap(cells[last].end), this.classes[0]);
    this.redraw("sheet");
  }

  // ---- drawing ----------------------------------------------------------------------------------------------------

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

  tick() {
    const now = performance.now();
    if (this.usesVideo) this.time = this.now();
    else this.time = Math.min(this.duration, this.time + ((now - this.lastTick) / 1000) * this.speed);
    this.lastTick = now;
    if (this.time >= this.duration && !this.usesVideo) this.setPlaying(false);
    this.follow();
    this.followItem();
    const cell = Math.floor(this.time * 2);
    if (cell !== this.lastCell) this.redraw("sheet");
    this.lastCell = cell;
  }

  // A labeller's chunk is the one that is played.
  followItem() {
    if (!this.items.length || this.model.get("decided_share") <= 0.9) return;
    const [start, end] = this.items[this.item];
    if (this.time >= start && this.time < end) return;
    const item = this.items.findIndex(([from, to]) => this.time >= from && this.time < to);
    if (item >= 0 && item !== this.item) {
      this.item = item;
      this.redraw("sheet", "base", "words");
    }
  }

  colours() {
    const style = getComputedStyle(this.root);
    const of = (name) => style.getPropertyValue(`--hl-${name}`).trim();
    const names = ["back", "ink", "soft", "line", "faint", "yes", "no", "picked", "threshold", "head"];
    this.ink = Object.fromEntries(names.map((name) => [name, of(name)]));
    this.classColours = Object.fromEntries(this.classes.map((name, place) => [name, of(`class${place % 4}`)]));
    this.font = `11px ${style.fontFamily}`;
  }

  drawBase() {
    this.colours();
    const lanes = this.lanes();
    const last = lanes[lanes.length - 1];
    this.tall = last.top + last.height;
    const context = fit(this.base, this.wide, this.tall);
    context.clearRect(0, 0, this.wide, this.tall);
    context.font = this.font;
    context.textBaseline = "middle";
    for (const lane of lanes) {
      const name = lane.name.startsWith("signal") ? "signal" : lane.name;
      this[`draw_${name}`](context, lane);
    }
  }

  draw_map(context, { top, height }) {
    const scale = this.wide / this.duration;
    context.fillStyle = this.ink.faint;
    context.fillRect(0, top, this.wide, height);
    for (const [, start, end, label] of this.spans) {
      context.fillStyle = label === BACKGROUND ? this.ink.line : this.classColours[label] || this.ink.yes;
      const [low, high] = label === BACKGROUND ? [top + height - 5, 5] : [top, height];
      context.fillRect(start * scale, low, Math.max(1, (end - start) * scale), high);
    }
    context.fillStyle = this.ink.picked;
    if (this.hasCurves) for (const [start, end] of this.model.get("picked")) context.fillRect(start * scale, top, Math.max(1, (end - start) * scale), 4);
    const { start, end } = this.span;
    if (end - start < this.duration) {
      context.strokeStyle = this.ink.ink;
      context.lineWidth = 1.5;
      context.strokeRect(start * scale + 0.75, top + 0.75, Math.max(3, (end - start) * scale - 1.5), height - 1.5);
    }
  }

  draw_ruler(context, { top, height }) {
    const length = this.span.end - this.span.start;
    const step = TICK_STEPS.find((each) => (each / length) * this.wide >= 76) || 7200;
    context.strokeStyle = this.ink.line;
    context.fillStyle = this.ink.soft;
    context.lineWidth = 1;
    for (let tick = Math.ceil(this.span.start / step - 1e-9); tick * step <= this.span.end; tick++) {
      const x = Math.round(this.x(tick * step)) + 0.5;
      context.beginPath();
      context.moveTo(x, top + height);
      context.lineTo(x, top + height - 6);
      context.stroke();
      const text = formatTime(tick * step, step < 1 ? 1 : 0);
      const half = context.measureText(text).width / 2;
      context.fillText(text, Math.min(Math.max(0, x - half), this.wide - 2 * half), top + 6);
    }
  }

  draw_strip(context, { top, height }) {
    const wide = Math.max(24, height * (this.pictures.width / this.pictures.height));
    const count = Math.max(1, Math.ceil(this.wide / wide));
    const each = (wide / this.wide) * (this.span.end - this.span.start);
    const level = this.pictures.level(each);
    for (let place = 0; place < count; place++) {
      const x = place * wide;
      context.fillStyle = this.ink.faint;
      context.fillRect(x, top, wide - 1, height);
      // Above each place stands the picture of its middle.
      this.pictures.draw(context, this.timeAt(x + wide / 2), level, x, top, wide - 1, height);
    }
  }

  draw_curves(context, { top, height }) {
    const threshold = this.model.get("threshold");
    const y = (value) => top + height - 1 - value * (height - 2);
    context.fillStyle = this.ink.faint;
    context.fillRect(0, top, this.wide, height);
    for (const [start, end] of this.model.get("picked")) {
      if (end < this.span.start || start > this.span.end) continue;
      context.fillStyle = this.ink.picked;
      context.globalAlpha = 0.16;
      context.fillRect(this.x(start), top, this.x(end) - this.x(start), height);
      context.globalAlpha = 1;
    }
    context.strokeStyle = this.ink.line;
    context.lineWidth = 1;
    context.beginPath();
    for (const value of [0.25, 0.5, 0.75]) {
      context.moveTo(0, Math.round(y(value)) + 0.5);
      context.lineTo(this.wide, Math.round(y(value)) + 0.5);
    }
    context.globalAlpha = 0.5;
    context.stroke();
    context.globalAlpha = 1;
    this.curves.forEach(({ name }, place) => {
      if (name === "score") this.drawCurve(context, place, y, this.ink.soft, 1, 0.45);
      if (name === "intensity") this.drawCurve(context, place, y, this.ink.yes, 2, 1);
    });
    if (threshold !== null && threshold !== undefined) {
      context.strokeStyle = this.ink.threshold;
      context.lineWidth = 1.5;
      context.setLineDash([7, 4]);
      context.beginPath();
      context.moveTo(0, y(threshold));
      context.lineTo(this.wide, y(threshold));
      context.stroke();
      context.setLineDash([]);
      this.words(context, `threshold ${threshold.toFixed(3)}`, 4, Math.min(Math.max(y(threshold) - 9, top + 8), top + height - 8), this.ink.threshold);
    }
    this.words(context, "intensity, and score of each frame (0 to 1)", 4, top + 8, this.ink.soft);
  }

  draw_signal(context, { name, top, height }) {
    const signal = this.signals()[Number(name.slice(6))];
    const y = (value) => top + height - 1 - ((value - signal.low) / (signal.high - signal.low)) * (height - 2);
    context.fillStyle = this.ink.faint;
    context.fillRect(0, top, this.wide, height);
    this.drawCurve(context, signal.place, y, this.ink.no, 1, 1);
    this.words(context, signal.name, 4, top + 8, this.ink.soft);
  }

  // A line from lowest to highest in each pixel column; where points are sparser than pixels, from one to the next.
  drawCurve(context, place, y, colour, width, alpha) {
    const columns = Math.max(1, Math.ceil(this.wide));
    const { start, end } = this.span;
    const values = this.values[place];
    context.strokeStyle = colour;
    context.globalAlpha = alpha;
    context.lineWidth = width;
    context.lineJoin = "round";
    context.beginPath();
    const first = Math.max(0, lowerBound(this.times, start) - 1);
    const last = Math.min(this.times.length, lowerBound(this.times, end) + 1);
    let on = false;
    if (last - first < columns) {
      for (let row = first; row < last; row++) {
        if (values[row] !== values[row]) on = false;
        else if (on) context.lineTo(this.x(this.times[row]), y(values[row]));
        else {
          context.moveTo(this.x(this.times[row]), y(values[row]));
          on = true;
        }
      }
    } else {
      const { low, high } = envelope(this.times, values, start, end, columns);
      for (let column = 0; column < columns; column++) {
        if (low[column] !== low[column]) on = false;
        else {
          if (on) context.lineTo(column + 0.5, y(high[column]));
          else context.moveTo(column + 0.5, y(high[column]));
          if (high[column] > low[column]) context.lineTo(column + 0.5, y(low[column]));
          on = true;
        }
      }
    }
    context.stroke();
    context.globalAlpha = 1;
  }

  words(context, text, x, y, colour) {
    context.lineWidth = 3;
    context.strokeStyle = this.ink.back;
    context.strokeText(text, x, y);
    context.fillStyle = colour;
    context.fillText(text, x, y);
  }

  laneName(context, text, y) {
    this.words(context, text, this.wide - context.measureText(text).width - 4, y, this.ink.soft);
  }

  draw_picked(context, { top, height }) {
    context.fillStyle = this.ink.faint;
    context.fillRect(0, top, this.wide, height);
    context.fillStyle = this.ink.picked;
    for (const [start, end] of this.model.get("picked")) {
      if (end < this.span.start || start > this.span.end) continue;
      context.fillRect(this.x(start), top + 2, Math.max(1, this.x(end) - this.x(start)), height - 4);
    }
    this.laneName(context, "picked", top + height / 2);
  }

  draw_labels(context, { top, height }) {
    context.fillStyle = this.ink.faint;
    context.fillRect(0, top, this.wide, height);
    if (this.items.length) {
      const [start, end] = this.items[this.item];
      context.fillStyle = this.ink.head;
      context.globalAlpha = 0.12;
      context.fillRect(this.x(start), top, this.x(Math.min(end, this.duration)) - this.x(start), height);
      context.globalAlpha = 1;
    }
    const shown = [...this.spans].sort((one, other) => (other[3] === BACKGROUND) - (one[3] === BACKGROUND));
    for (const [id, start, end, label] of shown) {
      if (end < this.span.start || start > this.span.end) continue;
      this.drawSpan(context, { start, end, label }, top, height, id === this.selected);
    }
    this.laneName(context, "labelled", top + height / 2);
  }

  drawSpan(context, { start, end, label }, top, height, selected, waiting = false) {
    const [x, right] = [this.x(start), Math.max(this.x(start) + 2, this.x(end))];
    const rejected = label === BACKGROUND;
    const [low, high] = rejected ? [top + 8, height - 16] : [top + 2, height - 4];
    context.save();
    context.beginPath();
    context.rect(x, low, right - x, high);
    context.clip();
    context.globalAlpha = waiting ? 0.45 : 1;
    context.fillStyle = rejected ? this.ink.line : this.classColours[label] || this.ink.yes;
    context.fillRect(x, low, right - x, high);
    if (rejected) {
      // Hatched, so that it differs in black and white too.
      context.strokeStyle = this.ink.back;
      context.lineWidth = 1.5;
      context.beginPath();
      for (let at = Math.floor(x / 7) * 7 - high; at < right; at += 7) {
        context.moveTo(at, low + high);
        context.lineTo(at + high, low);
      }
      context.stroke();
    } else if (right - x > 26) {
      context.fillStyle = "#fff";
      context.fillText(right - x > 80 ? `★ ${label}` : "★", x + 7, low + high / 2);
    }
    context.restore();
    if (selected || waiting) {
      context.strokeStyle = this.ink.ink;
      context.lineWidth = selected ? 2.5 : 1.5;
      context.setLineDash(waiting ? [4, 3] : []);
      context.strokeRect(x, low, right - x, high);
      context.setLineDash([]);
    }
  }

  drawOverlay() {
    if (this.tall === undefined) this.drawBase();
    const context = fit(this.overlay, this.wide, this.tall);
    context.clearRect(0, 0, this.wide, this.tall);
    context.font = this.font;
    context.textBaseline = "middle";
    const labels = this.lanes().at(-1);
    for (const { shown } of this.pending.values()) if (shown) this.drawSpan(context, shown, labels.top, labels.height, false, true);
    const drag = this.drag;
    if (drag?.moved && drag.edge) {
      const label = this.find(drag.id)?.[3];
      this.drawSpan(context, { start: drag.start, end: drag.end, label }, labels.top, labels.height, true);
    } else if (drag?.moved && !["map", "ruler"].includes(drag.lane)) {
      const [start, end] = [this.timeAt(drag.from), this.timeAt(drag.x)].sort((a, b) => a - b);
      context.fillStyle = this.ink.yes;
      context.globalAlpha = 0.25;
      context.fillRect(this.x(start), 34, this.x(end) - this.x(start), this.tall - 34);
      context.globalAlpha = 1;
      this.words(context, `${formatTime(start, 1)} – ${formatTime(end, 1)}`, this.x(start) + 4, 44, this.ink.ink);
    }
    if (this.inPoint !== null) {
      const [start, end] = [this.inPoint, this.time].sort((a, b) => a - b);
      context.fillStyle = this.ink.yes;
      context.globalAlpha = 0.3;
      context.fillRect(this.x(start), 34, Math.max(2, this.x(end) - this.x(start)), this.tall - 34);
      context.globalAlpha = 1;
    }
    this.drawHead(context);
    this.drawTip(context);
  }

  drawHead(context) {
    context.fillStyle = this.ink.head;
    context.fillRect((this.time / this.duration) * this.wide - 1, 0, 2, 16);
    const x = this.x(this.time);
    if (x < -8 || x > this.wide + 8) return;
    context.fillRect(x - 1, 20, 2, this.tall - 20);
    context.beginPath();
    context.moveTo(x - 6, 20);
    context.lineTo(x + 6, 20);
    context.lineTo(x, 29);
    context.fill();
  }

  // The picture under the pointer, beside it.
  drawTip(context) {
    const tip = this.tip;
    const hover = this.hover;
    const lane = hover && this.lanes().find(({ top, height }) => hover.y >= top && hover.y < top + height + 4);
    tip.style.display = hover && this.pictures.any ? "block" : "none";
    if (!hover) return;
    const time = lane?.name === "map" ? Math.min(Math.max(0, hover.x / this.wide), 1) * this.duration : this.timeAt(hover.x);
    context.fillStyle = this.ink.soft;
    context.fillRect(hover.x, 34, 1, this.tall - 34);
    const text = formatTime(time, 1);
    if (!this.pictures.any) {
      this.words(context, text, Math.min(hover.x + 4, this.wide - 60), 44, this.ink.ink);
      return;
    }
    const [wide, high] = [this.pictures.width, this.pictures.height];
    const small = fit(tip, wide, high + 18);
    tip.style.width = `${wide}px`;
    small.fillStyle = this.ink.back;
    small.fillRect(0, 0, wide, high + 18);
    const shown = lane?.name === "map" ? this.duration : this.span.end - this.span.start;
    this.pictures.draw(small, time, this.pictures.level((shown / this.wide) * 6), 0, 0, wide, high);
    small.font = this.font;
    small.fillStyle = this.ink.ink;
    small.textAlign = "center";
    small.fillText(text, wide / 2, high + 13);
    const box = this.timeline.offsetLeft;
    tip.style.left = `${Math.min(Math.max(0, box + hover.x - wide / 2), box + this.wide - wide)}px`;
    tip.style.top = `${this.timeline.offsetTop - high - 22}px`;
  }

  drawSheet() {
    if (!this.items.length || !this.pictures.any) return;
    this.followItem();
    const { cells, wide, high, height, seconds } = this.sheetCells();
    const context = fit(this.sheet, this.sheet.clientWidth, height);
    context.clearRect(0, 0, this.sheet.clientWidth, height);
    context.font = this.font;
    if (!this.ink) this.colours();
    const level = this.pictures.level(seconds / 2);
    const drag = this.sheetDrag && [Math.min(this.sheetDrag.from, this.sheetDrag.to), Math.max(this.sheetDrag.from, this.sheetDrag.to)];
    const [from, to] = this.items[this.item];
    cells.forEach((cell, place) => {
      const middle = (cell.start + cell.end) / 2;
      const marks = this.spans.filter(([, start, end]) => Math.min(end, cell.end) - Math.max(start, cell.start) > seconds / 2);
      const yes = marks.find((span) => span[3] !== BACKGROUND);
      context.fillStyle = this.ink.faint;
      context.fillRect(cell.x, cell.y, wide - 2, high - 2);
      this.pictures.draw(context, middle, level, cell.x, cell.y, wide - 2, high - 2);
      if (!yes && (marks.length || middle < from || middle >= to)) {
        context.fillStyle = this.ink.back;
        context.globalAlpha = 0.6;
        context.fillRect(cell.x, cell.y, wide - 2, high - 2);
        context.globalAlpha = 1;
      }
      const chosen = drag && place >= drag[0] && place <= drag[1];
      const playing = this.time >= cell.start && this.time < cell.end;
      if (yes || chosen || playing) {
        context.strokeStyle = yes || chosen ? (yes && this.classColours[yes[3]]) || this.ink.yes : this.ink.head;
        context.lineWidth = yes || chosen ? 4 : 2.5;
        context.strokeRect(cell.x + 2, cell.y + 2, wide - 6, high - 6);
      }
      if (yes) this.words(context, "★", cell.x + 8, cell.y + 16, this.ink.ink);
      else if (marks.length) this.words(context, "✕", cell.x + 8, cell.y + 16, this.ink.ink);
    });
  }

  drawPlayer() {
    const text = formatTime(this.time, 2);
    if (this.clock.textContent !== text) this.clock.textContent = text;
    const still = !this.usesVideo && this.pictures.any;
    this.still.hidden = !still;
    this.video.hidden = still;
    if (!still) return;
    const [wide, high] = [this.screen.clientWidth, this.screen.clientHeight];
    const context = fit(this.still, wide, high);
    context.imageSmoothingQuality = "high";
    const scale = Math.min(wide / this.pictures.width, high / this.pictures.height);
    const [w, h] = [this.pictures.width * scale, this.pictures.height * scale];
    // Until the right sheet is there, what stood before stays.
    if (!this.pictures.draw(context, this.time, 0, (wide - w) / 2, (high - h) / 2, w, h)) return;
  }

  setText(node, text) {
    if (node.textContent !== text) node.textContent = text;
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

  drawExplorerWords() {
    const [threshold, target] = [this.model.get("threshold"), this.model.get("target_seconds")];
    const total = this.model.get("picked").reduce((sum, [start, end]) => sum + end - start, 0);
    const busy = this.root.getRootNode().activeElement;
    if (busy !== this.thresholdSlider && threshold !== null) this.thresholdSlider.value = threshold;
    if (busy !== this.lengthSlider) this.lengthSlider.value = target ?? total;
    this.setText(this.thresholdText, threshold === null ? "–" : threshold.toFixed(3));
    this.setText(this.lengthText, formatTime(target ?? total));
    this.setText(this.summary, this.model.get("summary"));
  }
}

export default {
  render({ model, el }) {
    const view = new View(model, el);
    el.hlkit = view; // for measuring from outside; nothing in here reads it
    return () => view.destroy();
  },
};
