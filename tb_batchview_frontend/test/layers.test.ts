import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { decodeBlock, revive } from "../src/api.js";
import { channels, depthRamp, signedRamp } from "../src/charts/colour.js";
import { moved } from "../src/charts/cursor.js";
import { stepLabels } from "../src/charts/steps_axis.js";
import { extent, gridCell, levelOf } from "../src/charts/time_grid.js";
import { tailOf } from "../src/format.js";
import type { DeadUnitsAnswer, GradientsHeader, LayerHeader, UnitsHeader } from "../src/types.js";
import { brokenMarks, lastNorm, normGrid, normsOf, normWords } from "../src/views/gradients.js";
import { deadSheet, histogramSheet, normSheet, unitSheet } from "../src/views/layer_sheets.js";
import { orderUnits, unitGrid } from "../src/views/units.js";
import { gradientsBlock } from "./fakes.js";

vi.mock("uplot", () => ({ default: class {} }));

afterEach(() => {
  vi.restoreAllMocks();
});

const fileOf = (name: string): Buffer => readFileSync(join(import.meta.dirname, "golden", name));

function golden<Header>(name: string) {
  const file = fileOf(name);
  return decodeBlock<Header>(
    file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength) as ArrayBuffer,
  );
}
const units = golden<UnitsHeader>("units.bin");
const saturated = golden<UnitsHeader>("units-saturated.bin");
const norms = golden<GradientsHeader>("gradients.bin");
const dead = revive(JSON.parse(fileOf("dead_units.json").toString("utf8"))) as DeadUnitsAnswer;

test("keys lead from cell to cell and stop at the edges", () => {
  const lead = (key: string, far = false) => moved({ column: 3, row: 5 }, key, far, 8, 30);
  expect(lead("ArrowLeft")).toEqual({ column: 2, row: 5 });
  expect(lead("ArrowRight", true)).toEqual({ column: 7, row: 5 });
  expect(lead("ArrowUp")).toEqual({ column: 3, row: 4 });
  expect(lead("ArrowDown", true)).toEqual({ column: 3, row: 29 });
  expect(lead("PageUp")).toEqual({ column: 3, row: 0 });
  expect(lead("PageDown")).toEqual({ column: 3, row: 15 });
  expect(lead("Home")).toEqual({ column: 0, row: 5 });
  expect(lead("End", true)).toEqual({ column: 7, row: 29 });
  expect(lead("x")).toBeNull();
  expect(moved({ column: 0, row: 0 }, "ArrowLeft", false, 0, 0)).toBeNull();
});

test("units are shown over the windows of the answer, in any order", () => {
  // The mean of unit n is n times the scale: 2, and 8 in the damaged batch 13.
  const grid = unitGrid(units, "index");
  expect([grid.rows, grid.steps.length, grid.low, grid.high, grid.signed]).toEqual([4, 7, 0, 24, false]);
  expect([0, 1, 2, 3].map((row) => grid.value(4, row))).toEqual([0, 8, 16, 24]);
  expect(orderUnits(units, "mean")).toEqual([3, 2, 1, 0]);
  // Shares of zeros over the range: 0.25, 0.5 and 1, 0, 0.125.
  expect(orderUnits(units, "zeros")).toEqual([1, 0, 3, 2]);
  expect(unitGrid(units, "zeros").value(4, 0)).toBe(8);
  expect(unitGrid(units, "zeros").rowLabel(0)).toBe("1");
  expect(grid.describe(4, 1).split("\n")).toEqual([
    "unit 1 · batch 13",
    "mean 8",
    "in the range: mean 2.857143, zeros 78.571427\u00a0%",
    "dead in 4 batches",
  ]);
  expect(unitGrid(units, "index")).toBe(grid);
});

test("of shares the colours reach from none to all, also of a part of the units", () => {
  const grid = unitGrid(saturated, "index");
  expect(saturated.header).toMatchObject({ units: 4, shown: 2, window: 3, figure: "saturated_fraction" });
  expect([grid.low, grid.high, grid.rows]).toEqual([0, 1, 2]);
  expect([grid.rowLabel(0), grid.rowLabel(1)]).toEqual(["0", "1"]); // 1 is the one most often dead
  expect(grid.describe(0, 1).split("\n")[0]).toBe("unit 1 · 3 summaries from batch 0");
});

test("means below 0 have a colour of their own, and 0 is the ground", () => {
  const values = Float32Array.of(-1, 0, 0.5, Number.NaN);
  const block = {
    header: { ...units.header, shown: 4, units: 4 },
    arrays: {
      ...units.arrays,
      step: { values: Float64Array.of(7), shape: [1] },
      values: { values, shape: [1, 4] },
    },
  };
  const grid = unitGrid(block, "index");
  expect([grid.signed, grid.low, grid.high]).toEqual([true, -1, 1]);
  expect(Array.from(values, (value) => levelOf(grid, value)).slice(0, 3)).toEqual([0, 0.5, 0.75]);
  expect(grid.describe(0, 3)).toContain("not recorded");
  for (const dark of [false, true]) {
    const [blue, ground, orange] = [0, 0.5, 1].map((share) => channels(signedRamp(dark)(share)));
    expect((blue?.[2] ?? 0) - (blue?.[0] ?? 0)).toBeGreaterThan(30);
    expect((orange?.[0] ?? 0) - (orange?.[2] ?? 0)).toBeGreaterThan(30);
    expect(Math.max(...(ground ?? [])) - Math.min(...(ground ?? []))).toBeLessThan(6);
  }
});

test("norms have a log scale, and what is NaN or infinite is marked", () => {
  const grid = normGrid(norms);
  expect([grid.rowLabel(0), grid.rowLabel(1)]).toEqual(["conv2d", "dense"]);
  expect([grid.low, grid.high, grid.log]).toEqual([0.25, 32, true]);
  expect([0.25, 1, 32].map((norm) => levelOf(grid, norm))).toEqual([0, 2 / 7, 1]);
  expect(levelOf(grid, 0)).toBe(0);
  const last = grid.steps.length - 1;
  expect([grid.bad(last - 1, 0), grid.bad(last, 0), grid.bad(last, 1)]).toEqual([false, true, true]);
  expect(grid.describe(last, 0)).toBe("conv2d · batch 20\n1 norm NaN or ∞");
  expect(grid.describe(0, 1)).toBe("dense · batch 0\nnorm 0.5");
  expect(brokenMarks(norms)).toEqual([{ step: 20, label: "NaN or ∞ in conv2d, dense" }]);
  expect(normWords(norms)).toBe("NaN or infinite at times in 2 layers.");
});

test("words on norms name the least and the greatest layer", () => {
  const block = decodeBlock<GradientsHeader>(gradientsBlock(["first", "second", "third"]));
  expect(normWords(block)).toBe(
    "At last between 2.000 (second) and 3.000 (third), 1.500 times as much. NaN or infinite at times in 1 layer.",
  );
  expect(normWords(decodeBlock<GradientsHeader>(gradientsBlock(["first", "second"])))).toBe(
    "At last 2.000 (second). NaN or infinite at times in 1 layer.",
  );
  expect(normWords(decodeBlock<GradientsHeader>(gradientsBlock([])))).toBe("");
  expect(brokenMarks(block)).toEqual([{ step: 10, label: "NaN or ∞ in first" }]);
});

test("a point of the heatmap is the cell drawn there", () => {
  const frame = { left: 76, top: 6, width: 350, height: 80 };
  const grid = unitGrid(units, "index");
  for (let column = 0; column < 7; column += 1) {
    for (let row = 0; row < 4; row += 1) {
      const [x, y] = [76 + (column + 0.5) * 50, 6 + (row + 0.5) * 20];
      expect(gridCell(x, y, frame, grid)).toEqual({ column, row });
    }
  }
  expect(gridCell(75, 10, frame, grid)).toBeNull();
  expect(gridCell(100, 86, frame, grid)).toBeNull();
});

test("only finite values set the ends of the colours", () => {
  expect(extent([3, Number.NaN, -1, Number.POSITIVE_INFINITY])).toEqual([-1, 3]);
  expect(extent([3, 0, -1, 0.5], true)).toEqual([0.5, 3]);
  expect(extent([Number.NaN])).toBeNull();
});

test("lines of layers are told from the ground", () => {
  const luminance = (colour: string): number => {
    const [red, green, blue] = channels(colour).map((value) => {
      const part = value / 255;
      return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    }) as [number, number, number];
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  for (const [dark, ground] of [
    [false, "#ffffff"],
    [true, "#303030"],
  ] as const) {
    for (let share = 0; share <= 1; share += 0.05) {
      const pair = [luminance(depthRamp(dark)(share)), luminance(ground)].sort((a, b) => b - a);
      expect(((pair[0] ?? 0) + 0.05) / ((pair[1] ?? 0) + 0.05)).toBeGreaterThan(3);
    }
  }
});

test("files hold what is drawn, in full", () => {
  const sheet = unitSheet(units);
  expect(sheet.head.slice(0, 7)).toEqual([
    "unit",
    "mean",
    "zero_fraction",
    "saturated_fraction",
    "dead_batches",
    "saturated_batches",
    "mean at 0",
  ]);
  expect(sheet.rows[1]?.slice(4, 8)).toEqual([4, 0, 2, 2]);
  expect(sheet.rows).toHaveLength(4);
  expect(normSheet(norms).head).toEqual(["step", "layer", "norm_mean", "norm_min", "norm_max", "nonfinite"]);
  expect(normSheet(norms).rows[1]).toEqual([0, "dense", 0.5, 0.5, 0.5, 0]);
  expect(normSheet(norms).rows.at(-1)).toEqual([20, "dense", null, null, null, 1]);
  expect(deadSheet(dead)).toEqual({ head: ["unit", "state", "batches"], rows: [[1, "dead", 3]] });
  const gradient = golden<LayerHeader>("gradient.bin");
  const histogram = histogramSheet(gradient);
  expect(histogram.rows).toHaveLength(7);
  expect(histogram.head).toHaveLength(8 + gradient.header.bins);
  const shares = histogram.rows[0]?.slice(8) as number[];
  expect(shares.reduce((total, share) => total + share, 0)).toBeCloseTo(1, 5);
});

test("a long name is cut where the names of a model are alike", () => {
  expect(tailOf("encoder/block_1/attention", 12)).toBe("…1/attention");
  expect(tailOf("dense", 12)).toBe("dense");
});

test("a layer without a gradient has no norm, and that of another is not taken for it", () => {
  const name = norms.header.layers[0]?.name ?? "";
  const { values } = normsOf(norms, name);
  const last = values.filter((value) => !Number.isNaN(value)).at(-1);
  expect(lastNorm(norms, name)).toBe(last);
  expect([lastNorm(norms, "none"), lastNorm(null, name)]).toEqual([null, null]);
});

test("two runs have one scale of colours", () => {
  const wider = {
    ...units,
    arrays: { ...units.arrays, values: { values: Float32Array.of(-100, 3), shape: [1, 2] } },
  };
  expect(unitGrid(units, "index", wider).low).toBe(-100);
  expect(unitGrid(units, "index").low).toBe(0);
});

test("below a picture each window has the name of its first batch, or of many some a round number", () => {
  const few = [0, 10, 20, 30, 40, 48, 58];
  expect(stepLabels(few, 10)).toEqual(few.map((step, window) => ({ step, window })));
  const many = Array.from({ length: 100 }, (_, window) => 10 * window);
  expect(stepLabels(many, 5).map(({ step }) => step)).toEqual([0, 200, 400, 600, 800]);
  expect(stepLabels(many, 5).every(({ step, window }) => many[window] === step)).toBe(true);
});

test("no name of a batch stands on another where most batches are in few windows", () => {
  const uneven = [0, 1, 2, 3, 4, 5, 6, 7, 8, 1000];
  const windows = stepLabels(uneven, 5).map(({ window }) => window);
  expect(windows.length).toBeGreaterThan(1);
  expect(windows.every((window, place) => place === 0 || window - (windows[place - 1] ?? 0) >= 1)).toBe(true);
  expect(new Set(windows).size).toBe(windows.length);
});
