// The stored frames, asked for sheet by sheet (see pictures.py) and kept.

const KEPT_SHEETS = 40; // decoded, 1.8 MB each
const ASKED_AT_ONCE = 3;

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
