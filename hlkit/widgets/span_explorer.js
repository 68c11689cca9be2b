// The explorer's sliders: which highlights a threshold or a length picks.

const PICK_MS = 60; // the sliders ask for highlights at most this often

const explorerMethods = {
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
  },

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
  },

  drawExplorerWords() {
    const [threshold, target] = [this.model.get("threshold"), this.model.get("target_seconds")];
    const total = this.model.get("picked").reduce((sum, [start, end]) => sum + end - start, 0);
    const busy = this.root.getRootNode().activeElement;
    if (busy !== this.thresholdSlider && threshold !== null) this.thresholdSlider.value = threshold;
    if (busy !== this.lengthSlider) this.lengthSlider.value = target ?? total;
    this.setText(this.thresholdText, threshold === null ? "–" : threshold.toFixed(3));
    this.setText(this.lengthText, formatTime(target ?? total));
    this.setText(this.summary, this.model.get("summary"));
  },
};
