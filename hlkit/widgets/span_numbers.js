// Arithmetic of the timeline: pure functions of numbers and arrays.

// The first place in an ascending array whose value is at least `value`.
export function lowerBound(values, value) {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Lowest and highest of `values` in each pixel column between `start` and `end` seconds; NaN where a column has none.
export function envelope(times, values, start, end, columns) {
  const low = new Float32Array(columns).fill(NaN);
  const high = new Float32Array(columns).fill(NaN);
  const scale = columns / (end - start);
  const last = Math.min(times.length, lowerBound(times, end) + 1);
  for (let place = Math.max(0, lowerBound(times, start) - 1); place < last; place++) {
    const column = Math.floor((times[place] - start) * scale);
    const value = values[place];
    if (column < 0 || column >= columns || value !== value) continue;
    if (!(low[column] <= value)) low[column] = value;
    if (!(high[column] >= value)) high[column] = value;
  }
  return { low, high };
}

// For each [start, end, ...] of `items` the seconds that the spans [id, start, end, ...] cover.
export function coveredSeconds(spans, items) {
  const union = [];
  for (const [, start, end] of [...spans].sort((one, other) => one[1] - other[1])) {
    const last = union[union.length - 1];
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else union.push([start, end]);
  }
  const ends = union.map(([, end]) => end);
  return items.map(([start, end]) => {
    let total = 0;
    for (let place = lowerBound(ends, start); place < union.length && union[place][0] < end; place++) {
      total += Math.max(0, Math.min(union[place][1], end) - Math.max(union[place][0], start));
    }
    return total;
  });
}

// Little-endian 32-bit floats, as Python sends them.
function floats(view) {
  if (!view || !view.byteLength) return new Float32Array(0);
  const bytes = view.buffer ? view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength) : view;
  return new Float32Array(bytes);
}
