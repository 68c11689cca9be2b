// What every page of hlkit shares: small tools, and the view that a widget's own view extends. Plain JavaScript, no
// build step: the files of a page are put one behind another and are one module (see pages.py).

const PATIENCE_MS = 4000; // an act that is not answered by then is told as not yet saved

export function formatTime(seconds, decimals = 0) {
  const scale = 10 ** decimals;
  const ticks = Math.round(Math.max(0, seconds) * scale);
  const whole = Math.floor(ticks / scale);
  const two = (number) => String(number).padStart(2, "0");
  const text = `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return decimals ? `${text}.${String(ticks % scale).padStart(decimals, "0")}` : text;
}

const inside = (number, low, high) => Math.min(Math.max(number, low), high);

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const group = (label, ...nodes) => element("div", { class: "hl-group", role: "group", "aria-label": label }, ...nodes);

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

// A widget on the page. A view that extends it says what the keys do (`actOf`), how it tells something (`say`), what it
// does when its size has changed (`whenResized`) and from time to time (`lookAround`).
class Page {
  constructor(model) {
    this.model = model;
    this.stop = new AbortController();
    this.pending = new Map(); // acts that Python has not answered
    this.number = 0;
    this.status = element("div", { class: "hl-status", role: "status", "aria-live": "polite" });
  }

  button(name, key, title, act, extra = "") {
    const node = element("button", { type: "button", title: `${title} (${key})`, class: extra, "data-key": key });
    node.append(element("span", {}, name), element("kbd", { "aria-hidden": "true" }, key));
    node.addEventListener("click", (event) => {
      act();
      if (event.detail) this.root.focus({ preventScroll: true }); // after a mouse click the keys go on working
    });
    return node;
  }

  show(el, hint, ...parts) {
    const title = this.model.get("title");
    const head = element("div", { class: "hl-head" }, element("strong", {}, title), element("span", { class: "hl-hint" }, hint));
    const attributes = { class: "hlkit", tabindex: "0", role: "application", "aria-label": `hlkit: ${title}` };
    this.root = element("div", attributes, head, ...parts);
    // JupyterLab and Notebook 7 leave the keys of such a region to it.
    this.root.setAttribute("data-lm-suppress-shortcuts", "true");
    el.append(this.root);
  }

  // Call `act` at an event of a node for as long as the widget is there.
  on(target, name, act, options = {}) {
    target.addEventListener(name, act, { signal: this.stop.signal, ...options });
  }

  // Listen to keys, to changes of size and of the model (pairs of an event's name and an act), and look around.
  attend(changes, everyMs) {
    this.on(this.root, "keydown", (event) => this.key(event));
    for (const name of ["keypress", "keyup"]) this.on(this.root, name, (event) => event.stopPropagation());
    this.on(window, "beforeunload", (event) => {
      if (this.pending.size) event.preventDefault();
    });
    this.changes = changes;
    for (const [name, act] of changes) this.model.on(name, act);
    this.resize = new ResizeObserver(() => this.whenResized());
    this.resize.observe(this.root);
    this.clockwork = setInterval(() => this.lookAround(), everyMs);
  }

  destroy() {
    this.stop.abort();
    this.resize.disconnect();
    clearInterval(this.clockwork);
    for (const [name, act] of this.changes) this.model.off(name, act);
  }

  key(event) {
    event.stopPropagation();
    const target = event.target;
    if (target.tagName === "INPUT" || (target.tagName === "BUTTON" && ["Enter", " "].includes(event.key))) return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const act = event.altKey ? null : this.actOf(name, event.ctrlKey || event.metaKey, event.shiftKey);
    if (!act) return;
    event.preventDefault();
    act();
  }

  post(content) {
    try {
      this.model.send(content);
    } catch (error) {
      this.say(`This is not saved: Python can't be reached (${error.message}). Run the cell again.`, true);
    }
  }

  // Send what the person did; `known` is kept beside it until the answer is there.
  send(content, known) {
    const number = ++this.number;
    this.pending.set(number, { ...known, since: performance.now() });
    this.post({ ...content, number });
  }

  // How many acts have waited too long for an answer.
  late() {
    const now = performance.now();
    return [...this.pending.values()].filter((sent) => now - sent.since > PATIENCE_MS).length;
  }
}

// What Jupyter runs: a view for each place where the widget is shown.
const widgetOf = (View) => ({
  render({ model, el }) {
    const view = new View(model, el);
    el.hlkit = view; // for tests and measuring from outside; nothing in here reads it
    return () => view.destroy();
  },
});
