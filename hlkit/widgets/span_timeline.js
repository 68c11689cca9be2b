// The timeline: where things stand on it, zooming, and what the pointer does there.

const EDGE_PIXELS = 7; // how near to an edge a drag takes hold of it
const CLICK_PIXELS = 4; // a shorter drag is a click

const timelineMethods = {
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
  },

  signals() {
    return this.curves.map((curve, place) => ({ ...curve, place })).filter(({ name }) => !["score", "intensity"].includes(name));
  },

  x(time) {
    return ((time - this.span.start) / (this.span.end - this.span.start)) * this.wide;
  },

  timeAt(x) {
    const time = this.span.start + (x / this.wide) * (this.span.end - this.span.start);
    return inside(time, 0, this.duration);
  },

  zoomAround(start, length) {
    const shown = inside(length, 4, this.duration);
    const first = inside(start, 0, this.duration - shown);
    this.span = { start: first, end: first + shown };
    this.redraw("base", "overlay");
  },

  zoom(factor, centre = this.time) {
    const { start, end } = this.span;
    const at = centre >= start && centre <= end ? centre : (start + end) / 2;
    const length = inside((end - start) * factor, 4, this.duration);
    this.zoomAround(at - ((at - start) / (end - start)) * length, length);
  },

  wheel(event) {
    if (!event.ctrlKey && !event.shiftKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    const length = this.span.end - this.span.start;
    if (event.shiftKey) this.zoomAround(this.span.start + (Math.sign(event.deltaY || event.deltaX) * length) / 8, length);
    else this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.timeAt(event.offsetX));
  },

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
    const under = this.spans.filter(([, start, end]) => lane.name === "labels" && start <= time && time < end);
    under.sort((one, other) => one[2] - one[1] - (other[2] - other[1]));
    return { lane: lane.name, id: under.length ? under[0][0] : null };
  },

  at(event) {
    const box = this.overlay.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  },

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
  },

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
        this.scrub(inside(centre, 0, this.duration));
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
  },

  // A dragged end lies on a frame, as an end that was marked while playing does.
  snap(time) {
    return Math.round((Math.round(time * this.fps) / this.fps) * 1e6) / 1e6;
  },

  // Follow the pointer; the video is asked for one picture at a time.
  scrub(time) {
    this.time = time;
    if (this.usesVideo && !this.video.seeking) this.video.currentTime = time + 0.25 / this.fps;
    this.scrubbed = true;
    this.redraw("overlay", "player", "words", "sheet");
  },

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
  },

  dragCancel() {
    this.drag = null;
    this.redraw("base", "overlay");
  },
};
