// The contact sheet: the stretch that is asked about, as pictures.

const SHEET_COLUMNS = 4;
const SHEET_PICTURES = 16; // four lines of four have the shape of the player beside them

const sheetMethods = {
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
  },

  cellAt(event) {
    const { cells, wide, high, columns } = this.sheetCells();
    const box = this.sheet.getBoundingClientRect();
    const column = Math.min(columns - 1, Math.max(0, Math.floor((event.clientX - box.left) / wide)));
    const line = Math.max(0, Math.floor((event.clientY - box.top) / high));
    return Math.min(cells.length - 1, line * columns + column);
  },

  sheetStart(event) {
    if (event.button !== 0) return;
    const cell = this.cellAt(event);
    this.sheetDrag = { from: cell, to: cell };
    this.sheet.setPointerCapture?.(event.pointerId);
    this.redraw("sheet");
  },

  sheetMove(event) {
    if (!this.sheetDrag) return;
    this.sheetDrag.to = this.cellAt(event);
    this.redraw("sheet");
  },

  sheetEnd() {
    const drag = this.sheetDrag;
    this.sheetDrag = null;
    if (!drag) return;
    const { cells } = this.sheetCells();
    const [first, last] = [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)];
    if (first === last) this.seek(this.snap(cells[first].start));
    else this.mark(this.snap(cells[first].start), this.snap(cells[last].end), this.classes[0]);
    this.redraw("sheet");
  },

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
  },

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
  },
};
