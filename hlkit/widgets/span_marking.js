// Marking with keys and buttons: what was begun, what is decided, and which key does what.

const markingMethods = {
  mark(start, end, label) {
    this.act({ kind: "mark", start, end, label }, { start, end, label });
  },

  markIn() {
    this.inPoint = this.now();
    this.selected = null;
    this.say(`It begins at ${formatTime(this.inPoint, 1)}. Press O where it ends.`);
    this.redraw("overlay");
  },

  markOut() {
    if (this.inPoint === null) this.say("Press I where it begins first.", true);
    else this.closeMark(this.classes[0]);
  },

  closeMark(label) {
    const [start, end] = [this.inPoint, this.now()].sort((one, other) => one - other);
    if (end - start < 0.5 / this.fps) {
      this.say("It ends where it begins: go on to where it ends, then press O.", true);
      return;
    }
    this.inPoint = null;
    this.mark(start, end, label);
  },

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
  },

  // Whether 0 leaves alone what is marked in a stretch: in a chunk always; of a stretch that was asked about, where a part
  // of it is a highlight and the rest is not.
  keepsMarks(start, stop) {
    if (this.model.get("decided_share") > 0.9) return true;
    const [covered] = coveredSeconds(this.spans.filter((span) => span[3] !== BACKGROUND), [[start, stop]]);
    return covered > 0 && covered < 0.99 * (stop - start);
  },

  cancel() {
    this.inPoint = this.selected = this.drag = null;
    this.say("");
    this.redraw("base", "overlay");
  },

  restIsNot() {
    this.act({ kind: "fill", start: 0, end: this.now(), label: BACKGROUND }, null);
  },

  next() {
    const item = this.nextUndecided(this.item);
    if (item === null) this.say("All of it is decided.");
    else this.goToItem(item);
  },

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
  },

  nextUndecided(after) {
    const count = this.items.length;
    for (let step = 1; step <= count; step++) {
      const item = (after + step + count) % count;
      if (!this.decided(item)) return item;
    }
    return null;
  },

  find(id) {
    return this.spans.find((span) => span[0] === id);
  },

  moveEdge(edge) {
    const span = this.find(this.selected);
    if (!span) return this.say("Click a span first.", true);
    const ends = [span[0], span[1], span[2]];
    ends[edge] = this.now();
    if (ends[2] <= ends[1]) return this.say("A span must end after it begins.", true);
    this.act({ kind: "move", id: span[0], start: ends[1], end: ends[2] });
  },

  removeSelected() {
    if (!this.find(this.selected)) this.say("Click a span first.", true);
    else this.act({ kind: "remove", id: this.selected });
    this.selected = null;
  },

  // What a key does; `command` is Ctrl or ⌘.
  actOf(name, command, shift) {
    const acts = command
      ? { z: () => this.act({ kind: shift ? "redo" : "undo" }), y: () => this.act({ kind: "redo" }), s: () => {} }
      : {
          i: () => this.markIn(),
          o: () => this.markOut(),
          " ": () => this.togglePlay(),
          k: () => this.togglePlay(),
          j: () => this.seek(this.now() - 10),
          l: () => this.seek(this.now() + 10),
          ArrowLeft: () => this.step(-1, shift ? -1 : 0),
          ArrowRight: () => this.step(1, shift ? 1 : 0),
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
    return acts[name];
  },
};
