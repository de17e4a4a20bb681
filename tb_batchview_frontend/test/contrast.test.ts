// Text on the canvases, drawn with the page's colours and judged by computation: WCAG 2 AA, 4.5.

import { expect, test, vi } from "vitest";
import "../src/charts/heatmap.js";
import type { CanvasElement } from "../src/charts/canvas.js";
import type { Histograms } from "../src/charts/histograms.js";
import "../src/charts/matrix.js";
import "../src/charts/plane.js";
import "../src/charts/ridgeline.js";
import "../src/charts/scatter.js";
import "../src/charts/time_heatmap.js";
import type { TimeGrid } from "../src/charts/time_grid.js";
import "../src/charts/trend.js";
import { coloursOf, contrast } from "./colours.js";
import { layOut } from "./fakes.js";

layOut();

interface Written {
  text: string;
  ink: string;
  alpha: number;
}

/** A context that draws nothing and remembers what was written in which colour. */
function recorder(written: Written[]): CanvasRenderingContext2D {
  const state = { fillStyle: "#000000", globalAlpha: 1 };
  const saved: (typeof state)[] = [];
  const acts: Record<string, unknown> = {
    measureText: (text: string) => ({ width: 6 * text.length }),
    save: () => saved.push({ ...state }),
    restore: () => Object.assign(state, saved.pop()),
    fillText: (text: string) => written.push({ text, ink: state.fillStyle, alpha: state.globalAlpha }),
  };
  return new Proxy(state, {
    get: (_, name: string) => acts[name] ?? state[name as keyof typeof state] ?? (() => undefined),
  }) as unknown as CanvasRenderingContext2D;
}

const names = ["cat", "dog", "a class of a long name"];
const steps = [0, 10, 20, 30];
const histograms: Histograms = {
  steps,
  shares: Float32Array.from({ length: 16 }, (_, at) => (at % 4) / 6),
  low: -1,
  high: 3,
  bins: 4,
  below: [0, 0.2, 0, 0],
  above: [0, 0, 0.1, 0],
};
const grid: TimeGrid = {
  steps,
  rows: 2,
  rowLabel: String,
  value: (window) => (window === 0 ? Number.NaN : window - 2),
  describe: () => "",
  bad: (window, row) => window === 1 && row === 1,
  low: -2,
  high: 2,
  log: false,
  signed: true,
  format: String,
  left: 80,
  yLabel: "unit",
  legend: "mean",
};
const matrix = {
  labels: [0, 1, 2],
  counts: [60, 5, 5, 5, 30, 5, 30, 5, 60],
  against: [50, 9, 11, 9, 20, 11, 30, 5, 60],
  matched: [0, 1, -1],
};
const axis = { label: "x", low: 0, high: 4 };
const numbers = Float32Array.of(1, 2, 3, 4);
const PICTURES: Record<string, Record<string, unknown>> = {
  "bv-matrix": {
    matrix: { labels: matrix.labels, counts: matrix.counts },
    names,
    cells: "count",
    target: 0,
    predicted: 1,
  },
  "bv-matrix of differences": { matrix, names, cells: "count" },
  "bv-trend": {
    trend: {
      steps: [0, 10],
      lasts: [9, 19],
      labels: [0, 1],
      support: [5, 0, 5, 5],
      predicted: [5, 5, 5, 5],
      hits: [1, 0, 5, 4],
    },
    order: [0, 1],
    names,
    target: 1,
  },
  "bv-time-heatmap": { grid, row: 1, marker: 10 },
  "bv-heatmap": { histograms, marker: 10 },
  "bv-ridgeline": { histograms },
  "bv-scatter": { points: { x: numbers, y: numbers, share: numbers, most: 0.5 }, box: [0, 1, 0, 0.2] },
  "bv-plane": {
    plane: { across: axis, up: axis, kind: "bars", x: [0, 1], ends: [1, 2], y: [1, 2], guides: [] },
  },
};

test.each(
  Object.keys(PICTURES).flatMap((name) => [
    [name, "light"],
    [name, "dark"],
  ]),
)("what %s writes can be read in %s", async (name, theme) => {
  const colours = coloursOf(theme === "dark" ? ":root.dark" : ":root");
  const written: Written[] = [];
  vi.spyOn(HTMLCanvasElement.prototype, "getContext").mockReturnValue(recorder(written) as never);
  vi.spyOn(window, "getComputedStyle").mockReturnValue({
    getPropertyValue: (token: string) => colours[token.slice(2)] ?? `no colour ${token}`,
  } as unknown as CSSStyleDeclaration);
  vi.stubGlobal(
    "ImageData",
    class {
      data: Uint8ClampedArray;
      constructor(width: number, height: number) {
        this.data = new Uint8ClampedArray(4 * width * height);
      }
    },
  );
  vi.stubGlobal(
    "OffscreenCanvas",
    class {
      getContext = () => recorder([]);
    },
  );
  const picture = document.createElement(name?.split(" ")[0] ?? "") as CanvasElement;
  Object.assign(picture, PICTURES[name ?? ""], { dark: theme === "dark" });
  document.body.append(picture);
  await picture.updateComplete;
  await new Promise(requestAnimationFrame);

  expect(written.length).toBeGreaterThan(3);
  // Black and white are what `inkOn` gives the cells, of which another test asks.
  const weak = written.filter(
    ({ ink, alpha }) =>
      !(name?.includes("matrix") && ["#000000", "#ffffff"].includes(ink)) &&
      !(alpha === 1 && contrast(ink, colours.ground ?? "") >= 4.5),
  );
  expect(weak).toEqual([]);
});
