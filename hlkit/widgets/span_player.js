// The player: the recording, or the stored pictures where the browser can't play it.

const SPEEDS = [0.25, 0.5, 1, 1.5, 2, 3, 4, 8, 16];

const playerMethods = {
  openVideo() {
    const url = this.model.get("video_url");
    if (url) this.video.src = url;
    else this.withoutVideo("The recording is not here");
  },

  withoutVideo(reason = "The browser can't play this recording here") {
    this.usesVideo = false;
    this.video.hidden = true;
    if (reason && this.pictures.any) this.say(`${reason}: the stored pictures are shown, without sound.`);
    else if (reason) this.say(`${reason}, and no pictures are stored: make them in notebook 02.`, true);
    this.redraw("player");
  },

  seek(time) {
    this.time = inside(time, 0, this.duration);
    // A quarter of a frame behind its start, so that rounding does not show the picture before it.
    if (this.usesVideo || this.video.src) this.video.currentTime = Math.min(this.time + 0.25 / this.fps, this.duration);
    this.follow();
    this.redraw("overlay", "player", "words", "sheet");
  },

  follow() {
    const { start, end } = this.span;
    if (this.time < start || this.time > end) this.zoomAround(this.time - (end - start) * 0.1, end - start);
  },

  step(frames, seconds = 0) {
    if (this.playing) this.setPlaying(false);
    const frame = Math.round(this.time * this.fps);
    this.seek(seconds ? this.time + seconds : Math.round(((frame + frames) / this.fps) * 1e6) / 1e6);
  },

  togglePlay() {
    this.setPlaying(!this.playing);
  },

  setPlaying(playing) {
    this.playing = playing;
    if (this.usesVideo && playing) {
      if (this.time >= this.duration - 0.05) this.seek(0);
      this.video.playbackRate = this.speed;
      this.video.play().catch((error) => {
        this.playing = false;
        this.say(`The browser did not start playing (${error.message}). Press play once more.`, true);
      });
    } else if (this.usesVideo) {
      this.video.pause();
      this.time = this.now();
    }
    this.lastTick = performance.now();
    this.playButton.firstChild.textContent = this.playing ? "Pause" : "Play";
    this.redraw("overlay", "player", "words");
  },

  // The time of the picture on the screen: while playing, when the frame began that is shown.
  now() {
    if (!this.usesVideo || this.video.seeking) return this.time;
    if (!this.playing && Math.abs(this.video.currentTime - this.time) < 0.6 / this.fps) return this.time;
    const frame = Math.floor(this.video.currentTime * this.fps + 0.01);
    return Math.min(this.duration, Math.round((frame / this.fps) * 1e6) / 1e6);
  },

  tick() {
    const now = performance.now();
    if (this.usesVideo) this.time = this.now();
    else this.time = Math.min(this.duration, this.time + ((now - this.lastTick) / 1000) * this.speed);
    this.lastTick = now;
    if (this.time >= this.duration && !this.usesVideo) this.setPlaying(false);
    this.follow();
    this.followItem();
    const cell = Math.floor(this.time * 2);
    if (cell !== this.lastCell) this.redraw("sheet");
    this.lastCell = cell;
  },

  changeSpeed(by) {
    const place = SPEEDS.indexOf(this.speed) + by;
    this.speed = SPEEDS[inside(place, 0, SPEEDS.length - 1)];
    this.video.playbackRate = this.speed;
    this.speedText.textContent = `${this.speed}×`;
  },

  toggleSound() {
    this.video.muted = !this.video.muted;
    this.say(this.video.muted ? "Sound off." : "Sound on.");
  },

  drawPlayer() {
    const text = formatTime(this.time, 2);
    if (this.clock.textContent !== text) this.clock.textContent = text;
    const still = !this.usesVideo && this.pictures.any;
    this.still.hidden = !still;
    this.video.hidden = still;
    if (!still) return;
    const [wide, high] = [this.screen.clientWidth, this.screen.clientHeight];
    const context = fit(this.still, wide, high);
    context.imageSmoothingQuality = "high";
    const scale = Math.min(wide / this.pictures.width, high / this.pictures.height);
    const [w, h] = [this.pictures.width * scale, this.pictures.height * scale];
    // Until the right sheet is there, what stood before stays.
    if (!this.pictures.draw(context, this.time, 0, (wide - w) / 2, (high - h) / 2, w, h)) return;
  },
};
