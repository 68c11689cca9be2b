// The timeline's lanes as they are drawn: map, ruler, pictures, curves, signals, what is picked, what is labelled.

const TICK_STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

const laneMethods = {
  colours() {
    const style = getComputedStyle(this.root);
    const of = (name) => style.getPropertyValue(`--hl-${name}`).trim();
    const names = ["back", "ink", "soft", "line", "faint", "yes", "no", "picked", "threshold", "head"];
    this.ink = Object.fromEntries(names.map((name) => [name, of(name)]));
    this.classColours = Object.fromEntries(this.classes.map((name, place) => [name, of(`class${place % 4}`)]));
    this.font = `11px ${style.fontFamily}`;
  },

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
  },

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
  },

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
      context.fillText(text, inside(x - half, 0, this.wide - 2 * half), top + 6);
    }
  },

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
  },

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
      const text = inside(y(threshold) - 9, top + 8, top + height - 8);
      this.words(context, `threshold ${threshold.toFixed(3)}`, 4, text, this.ink.threshold);
    }
    this.words(context, "intensity, and score of each frame (0 to 1)", 4, top + 8, this.ink.soft);
  },

  draw_signal(context, { name, top, height }) {
    const signal = this.signals()[Number(name.slice(6))];
    const y = (value) => top + height - 1 - ((value - signal.low) / (signal.high - signal.low)) * (height - 2);
    context.fillStyle = this.ink.faint;
    context.fillRect(0, top, this.wide, height);
    this.drawCurve(context, signal.place, y, this.ink.no, 1, 1);
    this.words(context, signal.name, 4, top + 8, this.ink.soft);
  },

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
  },

  draw_picked(context, { top, height }) {
    context.fillStyle = this.ink.faint;
    context.fillRect(0, top, this.wide, height);
    context.fillStyle = this.ink.picked;
    for (const [start, end] of this.model.get("picked")) {
      if (end < this.span.start || start > this.span.end) continue;
      context.fillRect(this.x(start), top + 2, Math.max(1, this.x(end) - this.x(start)), height - 4);
    }
    this.laneName(context, "picked", top + height / 2);
  },

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
  },

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
  },

  words(context, text, x, y, colour) {
    context.lineWidth = 3;
    context.strokeStyle = this.ink.back;
    context.strokeText(text, x, y);
    context.fillStyle = colour;
    context.fillText(text, x, y);
  },

  laneName(context, text, y) {
    this.words(context, text, this.wide - context.measureText(text).width - 4, y, this.ink.soft);
  },
};
