// What moves over the timeline: the head, what is being dragged or begun, what waits for an answer, the picture at the pointer.

const overlayMethods = {
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
  },

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
  },

  // The picture under the pointer, beside it.
  drawTip(context) {
    const tip = this.tip;
    const hover = this.hover;
    const lane = hover && this.lanes().find(({ top, height }) => hover.y >= top && hover.y < top + height + 4);
    tip.style.display = hover && this.pictures.any ? "block" : "none";
    if (!hover) return;
    const time = lane?.name === "map" ? inside(hover.x / this.wide, 0, 1) * this.duration : this.timeAt(hover.x);
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
    tip.style.left = `${inside(box + hover.x - wide / 2, 0, box + this.wide - wide)}px`;
    tip.style.top = `${this.timeline.offsetTop - high - 22}px`;
  },
};
