// The page's side of hlkit's box picker: a picture of the recording, a box drawn on it with mouse or keys, what is inside.
//
// Python keeps the box and says so; until then it is drawn dashed. Plain JavaScript, no build step.

const EDGE_PIXELS = 9; // how near to an edge a drag takes hold of it
const LEAST = 0.01; // of the picture; less is a click that was not meant
const STEP = 0.005;
const PATIENCE_MS = 4000; // a box that is not answered by then is told as not yet saved
const WHOLE = [0, 0, 1, 1];

export function formatTime(seconds) {
  const whole = Math.round(Math.max(0, seconds));
  const two = (number) => String(number).padStart(2, "0");
  return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
}

const round = (number) => Math.round(number * 1e4) / 1e4;
const inside = (number, low, high) => Math.min(Math.max(number, low), high);

// The box between two corners, inside the picture, edges in ascending order.
export function between([ax, ay], [bx, by]) {
  const edges = [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];
  return edges.map((edge) => round(inside(edge, 0, 1)));
}

// The box moved as far as the picture allows.
export function moved([x0, y0, x1, y1], dx, dy) {
  const [x, y] = [inside(dx, -x0, 1 - x1), inside(dy, -y0, 1 - y1)];
  return [x0 + x, y0 + y, x1 + x, y1 + y].map(round);
}

// The box with its right and lower edges moved; it keeps a size and stays in the picture.
export function resized([x0, y0, x1, y1], dx, dy) {
  return [x0, y0, inside(x1 + dx, x0 + LEAST, 1), inside(y1 + dy, y0 + LEAST, 1)].map(round);
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

class View {
  constructor(model, el) {
    this.model = model;
    this.stop = new AbortController();
    this.pending = new Map(); // acts that Python has not answered
    this.number = 0;
    this.drag = null;
    this.time = model.get("picture_time");
    this.duration = model.get("duration");
    this.aspect = model.get("aspect");
    this.notice = { text: "", bad: false };
    this.build(el);
    this.listen();
    this.readBox();
    this.readPicture();
  }

  build(el) {
    const button = (name, key, title, act) => {
      const node = element("button", { type: "button", title: `${title} (${key})`, "data-key": key });
      node.append(element("span", {}, name), element("kbd", { "aria-hidden": "true" }, key));
      node.addEventListener("click", (event) => {
        act();
        if (event.detail) this.root.focus({ preventScroll: true }); // after a mouse click the keys go on working
      });
      return node;
    };
    const group = (label, ...nodes) => element("div", { class: "hl-group", role: "group", "aria-label": label }, ...nodes);
    this.canvas = element("canvas", { class: "hl-box-picture", role: "img", "aria-label": "picture with the box" });
    this.preview = element("canvas", { class: "hl-box-inside", role: "img", "aria-label": "what is inside the box" });
    this.preview.width = this.preview.height = this.model.get("size");
    this.slider = element("input", {
      type: "range", "aria-label": "time of the picture", min: "0", max: String(this.duration), step: "any",
    });
    this.clock = element("output", {});
    this.numbers = ["left", "top", "right", "bottom"].map((name) =>
      element("input", { type: "number", "aria-label": name, min: "0", max: "1", step: String(STEP) }),
    );
    const go = (dx, dy) => () => this.change(moved(this.box ?? WHOLE, dx * STEP, dy * STEP));
    const size = (dx, dy) => () => this.change(resized(this.box ?? WHOLE, dx * STEP, dy * STEP));
    this.acts = {
      ArrowLeft: go(-1, 0), ArrowRight: go(1, 0), ArrowUp: go(0, -1), ArrowDown: go(0, 1),
      "Shift+ArrowLeft": size(-1, 0), "Shift+ArrowRight": size(1, 0),
      "Shift+ArrowUp": size(0, -1), "Shift+ArrowDown": size(0, 1),
      j: () => this.seek(this.time - 10), l: () => this.seek(this.time + 10), w: () => this.change(WHOLE),
    };
    const keys = (key) => () => this.acts[key]();
    this.status = element("div", { class: "hl-status", role: "status", "aria-live": "polite" });
    this.root = element(
      "div",
      { class: "hlkit", tabindex: "0", role: "application", "aria-label": `hlkit: ${this.model.get("title")}` },
      element(
        "div",
        { class: "hl-head" },
        element("strong", {}, this.model.get("title")),
        element("span", { class: "hl-hint" }, "Drag a box over what counts, such as the face. After a click here, the keys work."),
      ),
      element("div", { class: "hl-box-stage" }, this.canvas, this.preview),
      element(
        "div",
        { class: "hl-bar" },
        group(
          "time",
          button("−10 s", "J", "Another picture, ten seconds before", keys("j")),
          this.slider,
          button("+10 s", "L", "Another picture, ten seconds later", keys("l")),
          this.clock,
        ),
        group(
          "move",
          button("left", "←", "Move the box to the left", keys("ArrowLeft")),
          button("right", "→", "Move the box to the right", keys("ArrowRight")),
          button("up", "↑", "Move the box up", keys("ArrowUp")),
          button("down", "↓", "Move the box down", keys("ArrowDown")),
        ),
        group(
          "size",
          button("narrower", "⇧←", "The right edge to the left", keys("Shift+ArrowLeft")),
          button("wider", "⇧→", "The right edge to the right", keys("Shift+ArrowRight")),
          button("shorter", "⇧↑", "The lower edge up", keys("Shift+ArrowUp")),
          button("taller", "⇧↓", "The lower edge down", keys("Shift+ArrowDown")),
        ),
        group("edges", ...this.numbers),
        group(
          "order",
          button("whole picture", "W", "All of the picture counts", keys("w")),
          button("undo", "Ctrl+Z", "Take the last change back", () => this.act({ kind: "undo" })),
        ),
      ),
      this.status,
    );
    // JupyterLab and Notebook 7 leave the keys of such a region to it.
    this.root.setAttribute("data-lm-suppress-shortcuts", "true");
    el.append(this.root);
  }

  listen() {
    const signal = this.stop.signal;
    const on = (target, name, act) => target.addEventListener(name, act, { signal });
    on(this.root, "keydown", (event) => this.key(event));
    for (const name of ["keypress", "keyup"]) on(this.root, name, (event) => event.stopPropagation());
    on(this.canvas, "pointerdown", (event) => this.dragStart(event));
    on(this.canvas, "pointermove", (event) => this.dragMove(event));
    on(this.canvas, "pointerup", (event) => this.dragEnd(event));
    on(this.canvas, "pointercancel", () => this.dragCancel());
    on(this.slider, "input", () => this.seek(Number(this.slider.value)));
    for (const node of this.numbers) on(node, "change", () => this.typed());
    on(window, "beforeunload", (event) => {
      if (this.pending.size) event.preventDefault();
    });
    this.changes = [
      ["change:box", () => this.readBox()],
      ["change:picture", () => this.readPicture()],
      ["msg:custom", (message) => this.receive(message)],
    ];
    for (const [name, act] of this.changes) this.model.on(name, act);
    this.resize = new ResizeObserver(() => this.draw());
    this.resize.observe(this.root);
    this.clockwork = setInterval(() => this.lookAround(), PATIENCE_MS / 4);
  }

  destroy() {
    this.stop.abort();
    this.resize.disconnect();
    clearInterval(this.clockwork);
    for (const [name, act] of this.changes) this.model.off(name, act);
  }

  // ---- what Python says -------------------------------------------------------------------------------------------

  readBox() {
    if (!this.drag) {
      const kept = this.model.get("box");
      this.box = kept.length ? [...kept] : null;
    }
    this.draw();
  }

  async readPicture() {
    const bytes = this.model.get("picture");
    this.time = this.asked ?? this.model.get("picture_time");
    if (bytes?.byteLength) this.image = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
    this.draw();
  }

  receive(message) {
    if (message.kind !== "done") return;
    const act = this.pending.get(message.number);
    this.pending.delete(message.number);
    if (message.text) this.say(message.text, message.bad);
    if (message.bad) this.readBox(); // what is on disk, not what could not be kept
    if (act?.kind === "picture") {
      const next = this.asked;
      this.asked = null;
      if (next !== null && Math.abs(next - act.time) > 1e-6) this.seek(next);
    }
    this.draw();
  }

  lookAround() {
    const now = performance.now();
    if ([...this.pending.values()].some((sent) => now - sent.since > PATIENCE_MS))
      this.say("Not saved yet: Python is busy, or has stopped; then run the cell again.", true);
  }

  say(text, bad = false) {
    this.status.textContent = text;
    this.status.classList.toggle("hl-bad", bad);
  }

  act(content) {
    const number = ++this.number;
    this.pending.set(number, { ...content, since: performance.now() });
    try {
      this.model.send({ ...content, number });
    } catch (error) {
      this.say(`This is not saved: Python can't be reached (${error.message}). Run the cell again.`, true);
    }
    this.draw();
  }

  // ---- what the person does ---------------------------------------------------------------------------------------

  change(box) {
    const [x0, y0, x1, y1] = box;
    if (!(x1 - x0 >= LEAST - 1e-9 && y1 - y0 >= LEAST - 1e-9)) {
      this.say("This box is too small: drag from one corner to the other.", true);
      this.readBox();
      return;
    }
    this.box = box;
    this.act({ kind: "box", box });
  }

  typed() {
    this.change(this.numbers.map((node) => round(inside(Number(node.value), 0, 1))));
  }

  // One picture is asked for at a time; of what comes meanwhile, the last.
  seek(time) {
    this.time = inside(time, 0, this.duration);
    const busy = [...this.pending.values()].some(({ kind }) => kind === "picture");
    this.asked = this.time;
    if (!busy) this.act({ kind: "picture", time: this.time });
    this.draw();
  }

  key(event) {
    event.stopPropagation();
    const target = event.target;
    if (target.tagName === "INPUT" || (target.tagName === "BUTTON" && ["Enter", " "].includes(event.key))) return;
    const command = event.ctrlKey || event.metaKey;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const undo = command && name === "z" ? () => this.act({ kind: "undo" }) : null;
    const act = undo ?? (command || event.altKey ? null : this.acts[event.shiftKey ? `Shift+${name}` : name]);
    if (!act) return;
    event.preventDefault();
    act();
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  dragStart(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.root.focus({ preventScroll: true });
    this.canvas.setPointerCapture?.(event.pointerId);
    const at = this.point(event);
    const edges = this.edgesAt(at);
    const old = this.box;
    if (edges.some(Boolean)) this.drag = { plan: (to) => this.withEdges(old, edges, to), old };
    else if (old && this.holds(old, at) && !this.isWhole(old))
      this.drag = { plan: (to) => moved(old, to[0] - at[0], to[1] - at[1]), old };
    else this.drag = { plan: (to) => between(at, to), old };
  }

  dragMove(event) {
    if (!this.drag) return;
    this.box = this.drag.plan(this.point(event));
    this.draw();
  }

  dragEnd(event) {
    if (!this.drag) return;
    const box = this.drag.plan(this.point(event));
    this.drag = null;
    this.change(box);
  }

  dragCancel() {
    if (this.drag) this.box = this.drag.old;
    this.drag = null;
    this.draw();
  }

  // Which of left, top, right and bottom a point takes hold of.
  edgesAt([x, y]) {
    if (!this.box || this.isWhole(this.box)) return [false, false, false, false];
    const { width, height } = this.canvas.getBoundingClientRect();
    const [dx, dy] = [EDGE_PIXELS / width, EDGE_PIXELS / height];
    const [x0, y0, x1, y1] = this.box;
    const near = x > x0 - dx && x < x1 + dx && y > y0 - dy && y < y1 + dy;
    return [Math.abs(x - x0) < dx, Math.abs(y - y0) < dy, Math.abs(x - x1) < dx, Math.abs(y - y1) < dy].map((is) => is && near);
  }

  withEdges(box, edges, [x, y]) {
    const [x0, y0, x1, y1] = box.map((edge, place) => (edges[place] ? [x, y][place % 2] : edge));
    return between([x0, y0], [x1, y1]);
  }

  holds([x0, y0, x1, y1], [x, y]) {
    return x >= x0 && x <= x1 && y >= y0 && y <= y1;
  }

  isWhole(box) {
    return box.every((edge, place) => edge === WHOLE[place]);
  }

  // ---- what the person sees ---------------------------------------------------------------------------------------

  draw() {
    const wide = this.canvas.clientWidth;
    if (wide) {
      const ratio = window.devicePixelRatio || 1;
      const high = Math.round(wide / this.aspect);
      this.canvas.style.height = `${high}px`;
      [this.canvas.width, this.canvas.height] = [Math.round(wide * ratio), Math.round(high * ratio)];
      const context = this.canvas.getContext("2d");
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      this.drawPicture(context, wide, high);
    }
    this.drawInside();
    const shown = this.box ?? WHOLE;
    this.numbers.forEach((node, place) => {
      if (this.root.getRootNode().activeElement !== node) node.value = String(shown[place]);
    });
    this.slider.value = String(this.time);
    this.clock.textContent = formatTime(this.time);
  }

  drawPicture(context, wide, high) {
    context.fillStyle = "#000";
    context.fillRect(0, 0, wide, high);
    if (this.image) context.drawImage(this.image, 0, 0, wide, high);
    if (!this.box) return;
    const [x0, y0, x1, y1] = this.box.map((edge, place) => edge * (place % 2 ? high : wide));
    context.fillStyle = "rgb(0 0 0 / 0.45)";
    context.fillRect(0, 0, wide, y0);
    context.fillRect(0, y1, wide, high - y1);
    context.fillRect(0, y0, x0, y1 - y0);
    context.fillRect(x1, y0, wide - x1, y1 - y0);
    const saved = !this.drag && ![...this.pending.values()].some(({ kind }) => kind !== "picture");
    for (const [colour, width] of [["#000", 4], ["#fff", 2]]) {
      context.setLineDash(saved ? [] : [6, 4]);
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    }
  }

  drawInside() {
    const context = this.preview.getContext("2d");
    const { width, height } = this.preview;
    context.clearRect(0, 0, width, height);
    if (!this.image) return;
    const [x0, y0, x1, y1] = this.box ?? WHOLE;
    const [w, h] = [this.image.width, this.image.height];
    context.drawImage(this.image, x0 * w, y0 * h, (x1 - x0) * w, (y1 - y0) * h, 0, 0, width, height);
  }
}

export default {
  render({ model, el }) {
    const view = new View(model, el);
    el.hlkit = view; // for tests from outside; nothing in here reads it
    return () => view.destroy();
  },
};
