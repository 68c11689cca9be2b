// The page's side of hlkit's box picker: a picture of the recording, a box drawn on it with mouse or keys, what is inside.
//
// Python keeps the box and says so; until then it is drawn dashed. `page.js` stands before it (see pages.py).

const EDGE_PIXELS = 9; // how near to an edge a drag takes hold of it
const LEAST = 0.01; // of the picture; less is a click that was not meant
const STEP = 0.005;
const WHOLE = [0, 0, 1, 1];

const round = (number) => Math.round(number * 1e4) / 1e4;

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

class View extends Page {
  constructor(model, el) {
    super(model);
    this.drag = null;
    this.time = model.get("picture_time");
    this.duration = model.get("duration");
    this.aspect = model.get("aspect");
    this.build(el);
    this.listen();
    this.readBox();
    this.readPicture();
  }

  build(el) {
    const button = (...all) => this.button(...all);
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
    this.show(
      el,
      "Drag a box over what counts, such as the face. After a click here, the keys work.",
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
  }

  listen() {
    const on = (...all) => this.on(...all);
    on(this.canvas, "pointerdown", (event) => this.dragStart(event));
    on(this.canvas, "pointermove", (event) => this.dragMove(event));
    on(this.canvas, "pointerup", (event) => this.dragEnd(event));
    on(this.canvas, "pointercancel", () => this.dragCancel());
    on(this.slider, "input", () => this.seek(Number(this.slider.value)));
    for (const node of this.numbers) on(node, "change", () => this.typed());
    const changes = [
      ["change:box", () => this.readBox()],
      ["change:picture", () => this.readPicture()],
      ["msg:custom", (message) => this.receive(message)],
    ];
    this.attend(changes, PATIENCE_MS / 4);
  }

  whenResized() {
    this.draw();
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
    if (this.late()) this.say("Not saved yet: Python is busy, or has stopped; then run the cell again.", true);
  }

  say(text, bad = false) {
    this.status.textContent = text;
    this.status.classList.toggle("hl-bad", bad);
  }

  act(content) {
    this.send(content, content);
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

  // What a key does; `command` is Ctrl or ⌘.
  actOf(name, command, shift) {
    if (command) return name === "z" ? () => this.act({ kind: "undo" }) : null;
    return this.acts[shift ? `Shift+${name}` : name];
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
      const high = Math.round(wide / this.aspect);
      this.drawPicture(fit(this.canvas, wide, high), wide, high);
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

export default widgetOf(View);
