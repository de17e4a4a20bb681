import { expect, test } from "vitest";
import { blend, channels, inkOn, pixels, ramp } from "../src/charts/colour.js";
import {
  binEdges,
  heatCell,
  pickWindows,
  ridgeAt,
  ridgesOf,
  stripCell,
  stripOf,
  withoutStrips,
} from "../src/charts/histograms.js";
import { firstDigit, gapped } from "../src/charts/lines.js";
import { marksAt, snap, thin } from "../src/charts/marks.js";
import {
  cellValue,
  fitted,
  labelled,
  layoutOf,
  ordered,
  panned,
  placeAt,
  pooled,
  showing,
  stepped,
  strength,
  sumsOf,
  wrapped,
  zoomed,
} from "../src/charts/matrix_geometry.js";
import { MatrixModel } from "../src/charts/matrix_model.js";
import { lastAtMost, ticks, topWithoutSpikes } from "../src/charts/scale.js";
import { rankPairs } from "../src/pairs.js";

const WHOLE = { row: 0, column: 0, size: 3 };
const MATRIX = { labels: [2, 5, 9], counts: [8, 1, 1, 0, 5, 5, 0, 0, 0] };

test("names of three digits have room above the columns when they stand on end", () => {
  const DIGIT = 6.75; // of Roboto, at the size of the names
  for (const name of ["9", "199", "9999"]) {
    const { top, upright } = layoutOf(520, [name], { row: 0, column: 0, size: 200 });
    expect(upright).toBe(true);
    expect(top - 24).toBeGreaterThan(name.length * DIGIT);
  }
});

test("a click in the middle of a drawn cell is that cell", () => {
  const names = ["a", "b", "c"];
  for (const view of [WHOLE, { row: 1, column: 0.5, size: 2 }]) {
    const layout = layoutOf(500, names, view);
    for (let row = Math.ceil(view.row); row + 1 <= view.row + view.size; row += 1) {
      for (let column = Math.ceil(view.column); column + 1 <= view.column + view.size; column += 1) {
        const x = layout.left + (column - view.column + 0.5) * layout.cell;
        const y = layout.top + (row - view.row + 0.5) * layout.cell;
        expect(placeAt(x, y, layout, view, 3)).toEqual({ row, column });
      }
    }
  }
});

test("heads are rows and columns; beside the matrix is nothing", () => {
  const layout = layoutOf(500, ["a", "b", "c"], WHOLE);
  const { left, top, edge, cell } = layout;
  expect(placeAt(left - 3, top + 1.5 * cell, layout, WHOLE, 3)).toEqual({ row: 1, column: null });
  expect(placeAt(left + 2.5 * cell, top - 3, layout, WHOLE, 3)).toEqual({ row: null, column: 2 });
  expect(placeAt(left + edge + 20, top + cell, layout, WHOLE, 3)).toBeNull();
  expect(placeAt(-1, -1, layout, WHOLE, 3)).toBeNull();
});

test("the matrix and its heads fit the width, for few and for many classes with long names", () => {
  for (const [classes, width] of [
    [2, 300],
    [10, 400],
    [1000, 700],
  ] as const) {
    const names = Array.from({ length: classes }, (_, index) => `a rather long name ${index}`);
    const { left, edge, top } = layoutOf(width, names, { row: 0, column: 0, size: classes });
    expect(left + edge).toBeLessThanOrEqual(width);
    expect(top).toBeLessThan(140);
  }
});

test("zooming keeps the cell under the pointer and stays inside", () => {
  const view = { row: 0, column: 0, size: 1000 };
  const near = zoomed(view, 10, { row: 900, column: 20 }, 1000);
  expect(near.size).toBe(100);
  expect([(900.5 - near.row) / 100, (20.5 - near.column) / 100]).toEqual([
    expect.closeTo(0.9005),
    expect.closeTo(0.0205),
  ]);
  expect(zoomed(near, 0.001, { row: 0, column: 0 }, 1000)).toEqual(view);
  expect(zoomed(view, 1e9, { row: 0, column: 0 }, 1000).size).toBe(4);
  expect(panned(near, -5000, 5000, 1000)).toEqual({ row: 0, column: 900, size: 100 });
  expect(showing(near, { row: 3, column: null }, 1000)).toEqual({ ...near, row: 3 });
});

test("cells are counts, shares of their row, or shares of their column", () => {
  const sums = sumsOf(MATRIX);
  expect([Array.from(sums.rows), Array.from(sums.columns)]).toEqual([
    [10, 10, 0],
    [8, 6, 6],
  ]);
  expect((["count", "row", "column"] as const).map((cells) => cellValue(1, 0, 1, sums, cells))).toEqual([
    1,
    0.1,
    1 / 6,
  ]);
  expect(cellValue(0, 2, 0, sums, "row")).toBe(0);
});

test("classes are ordered by name as people count, and as the plugin has clustered them", () => {
  const names = new Map([
    [2, "class 10"],
    [5, "class 9"],
    [9, "Apple"],
  ]);
  const sums = sumsOf(MATRIX);
  expect([
    ordered(MATRIX, sums, "name", (label) => names.get(label) ?? ""),
    ordered({ ...MATRIX, clustered: Int32Array.of(2, 0, 1) }, sums, "clustered"),
    ordered(MATRIX, sums, "clustered"),
  ]).toEqual([
    [2, 1, 0],
    [2, 0, 1],
    [0, 1, 2],
  ]);
});

test("keys move from cell to cell and into the heads, but not past an edge", () => {
  const go = (row: number | null, column: number | null, key: string, far = false) => {
    const to = stepped({ row, column }, key, far, 3, 8);
    return to === null ? null : [to.row, to.column];
  };
  expect([
    go(2, 2, "ArrowUp"),
    go(2, 2, "ArrowRight"),
    go(7, 7, "ArrowDown"),
    go(0, 4, "ArrowUp"),
    go(4, 0, "ArrowLeft"),
    go(null, 4, "ArrowUp"),
    go(null, 0, "ArrowLeft"),
    go(4, null, "ArrowRight"),
  ]).toEqual([
    [1, 2],
    [2, 3],
    [7, 7],
    [null, 4],
    [4, null],
    [null, 4],
    [null, 0],
    [4, 0],
  ]);
  expect([
    go(4, 4, "Home"),
    go(4, 4, "End"),
    go(4, 4, "Home", true),
    go(4, 4, "End", true),
    go(4, 4, "PageUp"),
    go(1, 4, "PageUp"),
    go(6, 4, "PageDown"),
    go(4, 4, "x"),
  ]).toEqual([[4, 0], [4, 7], [0, 0], [7, 7], [1, 4], [0, 4], [7, 4], null]);
});

test("a part of the matrix that a link names lies inside it, whatever the link says", () => {
  expect([
    fitted(null, 10),
    fitted({ row: 2.5, column: 3, size: 5 }, 10),
    fitted({ row: 900, column: 3, size: 5 }, 10),
    fitted({ row: 0, column: 0, size: 0.01 }, 10),
    fitted({ row: 5, column: 5, size: 99 }, 2),
    fitted(null, 0),
  ]).toEqual([
    { row: 0, column: 0, size: 10 },
    { row: 2.5, column: 3, size: 5 },
    { row: 5, column: 3, size: 5 },
    { row: 0, column: 0, size: 4 },
    { row: 0, column: 0, size: 2 },
    { row: 0, column: 0, size: 1 },
  ]);
});

test("the most confused pairs are listed by direction, with how often it went the other way", () => {
  const matrix = { labels: [2, 5, 9], counts: [8, 2, 0, 3, 5, 2, 0, 2, 0] };
  const pair = (target: number, predicted: number, count: number, share: number, back: number) => ({
    target,
    predicted,
    count,
    share,
    back,
  });
  const all = [pair(5, 2, 3, 0.3, 2), pair(2, 5, 2, 0.2, 3), pair(5, 9, 2, 0.2, 2), pair(9, 5, 2, 1, 2)];
  const by = (column: string, descending: boolean, keep?: (label: number) => boolean, most?: number) =>
    rankPairs(matrix, { column, descending }, keep, most);
  expect(by("count", true)).toEqual({ pairs: all, total: 4 });
  expect(by("share", true).pairs.map(({ share }) => share)).toEqual([1, 0.3, 0.2, 0.2]);
  expect(by("back", true).pairs[0]).toEqual(all[1]);
  expect(by("count", false).pairs.map(({ count }) => count)).toEqual([2, 2, 2, 3]);
  expect(by("count", true, (label) => label === 9)).toEqual({ pairs: all.slice(2), total: 2 });
  expect(by("count", true, undefined, 2)).toEqual({ pairs: all.slice(0, 2), total: 4 });
  expect(rankPairs({ labels: [], counts: [] }, { column: "count", descending: true })).toEqual({
    pairs: [],
    total: 0,
  });
});

test("names and sums of all classes are written only where there is room, beside the cells", () => {
  for (const [width, classes] of [
    [366, 10],
    [366, 40],
    [560, 40],
    [560, 1000],
  ] as const) {
    const layout = layoutOf(width, ["a rather long name"], { row: 0, column: 0, size: classes }, "12,345");
    expect(layout.left + layout.edge + (layout.labelled ? 52 : 0)).toBeLessThanOrEqual(width);
    expect(layout.labelled).toBe(layout.cell >= 11);
  }
});

test("a caption is cut into lines between its words", () => {
  const lines = (text: string) => wrapped(text, 9, (line) => line.length);
  expect([lines("rows are targets, by row"), lines("incomprehensibilities"), lines("")]).toEqual([
    ["rows are", "targets,", "by row"],
    ["incomprehensibilities"],
    [""],
  ]);
});

test("classes are ordered by number, support or errors", () => {
  const sums = sumsOf(MATRIX);
  const order = (["index", "support", "errors"] as const).map((by) => ordered(MATRIX, sums, by));
  expect(order).toEqual([
    [0, 1, 2],
    [0, 1, 2],
    [1, 0, 2],
  ]);
});

test("colour grows with the value; logarithmic colour shows rare confusions", () => {
  expect([
    strength(0, 10, true),
    strength(10, 10, false),
    strength(10, 10, true),
    strength(5, 0, false),
  ]).toEqual([0, 1, expect.closeTo(1), 0]);
  expect(strength(1, 100, true)).toBeGreaterThan(5 * strength(1, 100, false));
});

test("one confusion among a thousand classes is still a pixel", () => {
  const image = pooled(400, { row: 0, column: 0, size: 1000 }, 1000, (row, column) =>
    row === 731 && column === 12 ? 0.02 : row === column ? -0.9 : 0,
  );
  expect(image[Math.floor(731 * 0.4) * 400 + Math.floor(12 * 0.4)]).toBeCloseTo(0.02);
  expect(image.filter((value) => value > 0)).toHaveLength(1);
  expect(image.filter((value) => value < 0)).toHaveLength(400);
});

test("names of many classes are written at round distances that leave room", () => {
  expect(labelled(4, 40)).toEqual([0, 1, 2, 3]);
  expect(labelled(1000, 0.54)).toEqual(Array.from({ length: 20 }, (_, index) => index * 50));
});

const SHARES = {
  steps: [0, 10, 20],
  bins: 4,
  low: -1,
  high: 1,
  below: [0, 0, 0],
  above: [0, 0, 0],
  shares: [0, 1, 0, 0, 0, 0.5, 0.5, 0, 0, 0, 0, 1],
};
const FRAME = { left: 10, top: 20, width: 300, height: 100 };

test("the heatmap has time to the right and values upwards", () => {
  expect(heatCell(10, 119, FRAME, SHARES)).toEqual({ window: 0, bin: 0 });
  expect(heatCell(309, 21, FRAME, SHARES)).toEqual({ window: 2, bin: 3 });
  expect([heatCell(9, 50, FRAME, SHARES), heatCell(50, 121, FRAME, SHARES)]).toEqual([null, null]);
  expect([binEdges(SHARES, 0), binEdges(SHARES, 3)]).toEqual([
    [-1, -0.5],
    [0.5, 1],
  ]);
});

test("ridges run from the oldest above to the newest in front, and lie in the frame", () => {
  const ridges = ridgesOf(SHARES, FRAME);
  expect(ridges.map(({ window }) => window)).toEqual([0, 1, 2]);
  expect(
    ridges
      .map(({ baseline }) => baseline)
      .every((line, index, all) => index === 0 || line > (all[index - 1] ?? 0)),
  ).toBe(true);
  expect(ridges[2]?.baseline).toBe(120);
  expect(
    Math.min(
      ...ridges.flatMap(({ baseline, heights }) => Array.from(heights, (height) => baseline - height)),
    ),
  ).toBeGreaterThanOrEqual(FRAME.top);
});

test("the frontmost ridge under the pointer is hit", () => {
  const ridges = ridgesOf(SHARES, FRAME);
  const bin = (index: number): number => FRAME.left + (index + 0.5) * 75;
  expect(ridgeAt(bin(3), 110, FRAME, ridges)).toEqual({ ridge: 2, bin: 3 });
  expect(ridgeAt(bin(1), (ridges[0]?.baseline ?? 0) - 10, FRAME, ridges)).toEqual({ ridge: 0, bin: 1 });
  expect([
    ridgeAt(5, 50, FRAME, ridges),
    ridgeAt(bin(0), 20, FRAME, ridges),
    ridgeAt(50, 50, FRAME, []),
  ]).toEqual([null, null, null]);
});

test("windows are thinned evenly and the newest is kept", () => {
  expect([pickWindows(0, 5), pickWindows(3, 5), pickWindows(1, 1)]).toEqual([[], [0, 1, 2], [0]]);
  const thinned = pickWindows(200, 36);
  expect([thinned.length, thinned[0], thinned[35], new Set(thinned).size]).toEqual([36, 0, 199, 36]);
});

test("a click near a spike is the spike, elsewhere the nearest batch", () => {
  const steps = [0, 10, 20, 30];
  expect([
    snap(13, steps, [17], 5),
    snap(13, steps, [19], 5),
    snap(26, steps, [], 5),
    snap(3, [], [], 1),
  ]).toEqual([17, 10, 30, null]);
});

test("gaps stand where a number is not finite, or has no logarithm", () => {
  const values = [1, Number.NaN, Number.POSITIVE_INFINITY, 0, -1];
  expect([gapped(values), gapped(values, true)]).toEqual([
    [1, null, null, 0, -1],
    [1, null, null, null, null],
  ]);
});

test("marks are thinned to what has room", () => {
  expect([thin([0, 1, 2, 3, 4, 5, 6], 3), thin([0, 1, 2], 9)]).toEqual([
    [0, 5],
    [0, 1, 2],
  ]);
});

test("ticks are round and inside", () => {
  expect([ticks(0, 1, 5), ticks(-1.2, 4, 6), ticks(3, 3, 5), ticks(0, 0.3, 3)]).toEqual([
    [0, 0.2, 0.4, 0.6, 0.8, 1],
    [-1, 0, 1, 2, 3, 4],
    [3],
    [0, 0.1, 0.2, 0.3],
  ]);
});

test("a step belongs to the window that began last", () => {
  expect([0, 9, 10, 99, -5].map((step) => lastAtMost([0, 10, 20], step))).toEqual([0, 0, 1, 2, 0]);
});

test("colours are blended as d3's interpolateRgbBasis and interpolateRgb do it", () => {
  const dark = blend("#383838", "#6b3d12", "#b85c00", "#ff9800", "#ffe0b2");
  expect([-1, 0.1, 0.3, 0.55, 0.86, 1].map(dark)).toEqual([
    "rgb(56, 56, 56)",
    "rgb(77, 58, 41)",
    "rgb(125, 69, 16)",
    "rgb(198, 106, 2)",
    "rgb(253, 184, 84)",
    "rgb(255, 224, 178)",
  ]);
  expect([0.25, 0.7, 2].map(blend("#f3f8f3", "#a3cfa6"))).toEqual([
    "rgb(223, 238, 224)",
    "rgb(187, 219, 189)",
    "rgb(163, 207, 166)",
  ]);
  expect(channels("#0af")).toEqual([0, 170, 255]);
});

test("text on any colour of the ramps has a contrast of at least 4.5", () => {
  const luminance = (colour: string): number => {
    const [red, green, blue] = channels(colour).map((value) =>
      value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4,
    ) as [number, number, number];
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  for (const dark of [false, true]) {
    for (let share = 0; share <= 1; share += 0.01) {
      const ground = ramp(dark)(share);
      const [one, two] = [luminance(ground), luminance(inkOn(ground))];
      expect((Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05)).toBeGreaterThanOrEqual(4.5);
    }
  }
});

test("pixels are red, green, blue, opaque in memory", () => {
  const bytes = new Uint8Array(pixels(() => "rgb(1, 2, 3)").buffer, 0, 4);
  expect([Array.from(bytes), channels("#ff9800")]).toEqual([
    [1, 2, 3, 255],
    [255, 152, 0],
  ]);
});

test("what lies beyond the axis has strips of its own, where there is any", () => {
  const histograms = {
    steps: [0, 10],
    shares: [1, 0.5],
    bins: 1,
    low: 0,
    high: 1,
    below: [0, 0],
    above: [0, 0.5],
  };
  const whole = { left: 10, top: 6, width: 100, height: 200 };
  const frame = withoutStrips(whole, histograms);
  expect(frame).toEqual({ ...whole, top: 17, height: 189 });
  expect(stripOf(frame, "above")).toEqual({ ...whole, top: 6, height: 8 });
  expect(stripCell(90, 8, frame, histograms)).toEqual({ window: 1, side: "above" });
  expect(heatCell(90, 8, frame, histograms)).toBeNull();
  // Nothing lies below: there is no strip.
  expect(stripCell(90, frame.top + frame.height + 5, frame, histograms)).toBeNull();
  expect(withoutStrips(whole, { ...histograms, above: [0, 0] })).toEqual(whole);
  const both = withoutStrips(whole, { ...histograms, below: [0.1, 0] });
  expect(stripOf(both, "below").top + 8).toBe(whole.top + whole.height);
});

test("a spike is read out at the point whose batches hold it", () => {
  const spikes = [417, 420, 999].map((step) => ({ step, label: "" }));
  const at = (index: number): number[] => marksAt(spikes, [410, 418, 426], index).map(({ step }) => step);
  expect([at(0), at(1), at(2)]).toEqual([[417], [420], [999]]);
});

test("a matrix in another order keeps each figure with its class", () => {
  const options = {
    names: ["", "", "cat"],
    cells: "row",
    order: "errors",
    log: false,
    diagonal: true,
  } as const;
  const model = new MatrixModel(MATRIX, options);
  const labels = [0, 1, 2].map((position) => model.label(position));
  expect([labels, labels.map((label) => model.find(label)), model.find(4), model.name(1)]).toEqual([
    [5, 2, 9],
    [0, 1, 2],
    null,
    "cat",
  ]);
  expect([model.count(1, 0), model.count(0, 2), model.value(0, 0), model.shade(0, 0)]).toEqual([
    1, 5, 0.5, -0.5,
  ]);
  expect([
    model.samples({ row: 0, column: null }),
    model.samples({ row: null, column: 0 }),
    model.shade(0, 2),
  ]).toEqual([10, 6, 1]);
  expect(new MatrixModel(MATRIX, { ...options, diagonal: false }).shade(0, 0)).toBe(0);
  const place = (row: number | null, column: number | null) => model.worst({ row, column });
  expect([place(0, null), place(1, null), place(null, 0), place(null, 2), place(2, null)]).toEqual([
    { position: 2, count: 5 },
    { position: 0, count: 1 },
    { position: 1, count: 1 },
    { position: 0, count: 5 },
    null,
  ]);
});

test("one spike does not set the axis; a curve that falls from high to low does", () => {
  const flat = Array.from({ length: 500 }, (_, index) => 1 + (index % 7) / 100);
  expect(topWithoutSpikes([...flat, 9, Number.NaN, Number.POSITIVE_INFINITY])).toBeCloseTo(1.3 * 1.06);
  expect([
    topWithoutSpikes(flat),
    topWithoutSpikes(flat.map((_, index) => 500 - index)),
    topWithoutSpikes([]),
    topWithoutSpikes([3]),
  ]).toEqual([null, null, null, null]);
});

test("a log axis begins at a number of one digit, as its lines are counted up from there", () => {
  expect([0.0987, 0.001, 3.49e-7, 12.3, 9].map(firstDigit)).toEqual([0.09, 0.001, 3e-7, 10, 9]);
});
