// Pictures of each task: which are shown and asked for, and what they are made of.

import { readFileSync } from "node:fs";
import { expect, test, vi } from "vitest";
import { decodeBlock, revive } from "../src/api.js";
import { DeltaModel } from "../src/charts/delta_model.js";
import { MatrixModel } from "../src/charts/matrix_model.js";
import { itemAt, limitsOf, type Plane, place, planeFrame } from "../src/charts/plane.js";
import { sparkPoints } from "../src/charts/sparkline.js";
import { pooledRates, type TrendElement, trendCell, trendFrame } from "../src/charts/trend.js";
import { curveOf, decisionAt, pointOf, type Thresholds } from "../src/curves.js";
import { histogramOf, quantile, residualsOf, spreadOf, windowsOf } from "../src/residuals.js";
import { INITIAL, type Selection } from "../src/selection.js";
import { Store, trendWindows } from "../src/state.js";
import { cellOf, greatestRate, missedRate, ordered, recalls } from "../src/trend.js";
import type {
  Block,
  CalibrationAnswer,
  ClassesAnswer,
  ConfusionHeader,
  Output,
  ResidualsHeader,
  SamplesAnswer,
  ThresholdsHeader,
  TrendHeader,
} from "../src/types.js";
import { AppElement } from "../src/views/app.js";
import { deltaSheet } from "../src/views/compare_classes.js";
import { matrixSheet, worstSheet } from "../src/views/download.js";
import { binWords, reliabilitySheet } from "../src/views/reliability.js";
import { histogramSheet, residualSheet } from "../src/views/residuals.js";
import { decisionWords, thresholdSheet } from "../src/views/thresholds.js";
import { pairedOf } from "../src/views/together.js";
import { sparkWords, trendOf, trendSheet } from "../src/views/trends.js";
import {
  bytesOf,
  encodeBlock,
  fakePlugin,
  HOSTILE,
  layOut,
  runsAnswer,
  settle,
  timelineBlock,
} from "./fakes.js";

vi.mock("uplot", () => ({
  default: class {
    over = document.createElement("div");
    cursor = { idx: null };
    valToPos(value: number): number {
      return value;
    }
    setData(): void {}
    redraw(): void {}
    destroy(): void {}
  },
}));

const bytes = (name: string): ArrayBuffer =>
  new Uint8Array(readFileSync(`${import.meta.dirname}/golden/${name}`)).buffer;
const json = <Answer>(name: string): Answer =>
  revive(JSON.parse(readFileSync(`${import.meta.dirname}/golden/${name}`, "utf8"))) as Answer;
const block = <Header>(name: string): Block<Header> => decodeBlock<Header>(bytes(name));
const column = (name: string, { arrays }: Block<unknown>): ArrayLike<number> => arrays[name]?.values ?? [];

/** The keys of an interface, checked by the compiler. */
const keysOf = <Answer>(expected: Record<keyof Answer, true>): string[] => Object.keys(expected).sort();
const headerKeys = (answer: Block<object>): string[] =>
  Object.keys(answer.header)
    .filter((key) => key !== "arrays")
    .sort();

test("every answer of a task has the keys of its type, and no other", () => {
  expect(Object.keys(json<CalibrationAnswer>("calibration.json")).sort()).toEqual(
    keysOf<CalibrationAnswer>({
      batches: true,
      samples: true,
      error: true,
      greatest_error: true,
      bins: true,
    }),
  );
  expect(Object.keys(json<CalibrationAnswer>("calibration.json").bins[0] ?? {}).sort()).toEqual([
    "accuracy",
    "confidence",
    "count",
    "high",
    "low",
  ]);
  expect(headerKeys(block<TrendHeader>("class_trend.bin"))).toEqual(
    keysOf<TrendHeader>({ batches: true, window: true, classes: true, shown: true }),
  );
  expect(headerKeys(block<ThresholdsHeader>("thresholds.bin"))).toEqual(
    keysOf<ThresholdsHeader>({
      batches: true,
      positives: true,
      negatives: true,
      steps: true,
      roc_auc: true,
      average_precision: true,
    }),
  );
  expect(headerKeys(block<ResidualsHeader>("residuals.bin"))).toEqual(
    keysOf<ResidualsHeader>({ batches: true, samples: true, drawn: true, values: true }),
  );
  expect(headerKeys(block<ConfusionHeader>("label_errors.bin"))).toEqual(
    keysOf<Omit<ConfusionHeader, "against">>({ batches: true, samples: true, classes: true, shown: true }),
  );
});

// ---- the trend of each class

test("rows of the trend are in the order of the table, in both directions", () => {
  const trend = trendOf(block<TrendHeader>("class_trend.bin"));
  const { classes } = json<ClassesAnswer>("classes.json"); // sorted by recall
  const all = (): boolean => true;
  const labels = (sort: Selection["classSort"], keep = all): number[] =>
    ordered(trend, sort, keep).map((at) => trend.labels[at] ?? -1);
  expect(labels({ column: "recall", descending: false })).toEqual(classes.map((row) => row.class));
  for (const key of ["support", "predicted", "precision", "f1", "class"] as const) {
    const sign = (row: (typeof classes)[0]): number => row[key] ?? Number.NaN;
    const expected = [...classes].sort((a, b) => sign(b) - sign(a) || a.class - b.class);
    expect([key, labels({ column: key, descending: true })]).toEqual([key, expected.map((row) => row.class)]);
  }
  expect(labels({ column: "class", descending: true }, (label?: number) => label !== 2)).toEqual([3, 1, 0]);
});

test("rows are in the order of what changed against run B, those that it has not last", () => {
  const of = (hits: number[]): Parameters<typeof ordered>[0] => ({
    steps: [0],
    lasts: [4],
    labels: [0, 1, 2, 3],
    support: [10, 10, 10, 10],
    predicted: [10, 10, 10, 10],
    hits,
  });
  const other = { trend: of([9, 1, 5, 0]), matched: [1, 2, 0, -1] };
  // Recalls of A less those of the classes that match: 0.4, 0.1 and −0.7.
  for (const [descending, order] of [
    [false, [2, 1, 0, 3]],
    [true, [0, 1, 2, 3]],
  ] as const)
    expect(ordered(of([5, 6, 2, 9]), { column: "recall_change", descending }, () => true, other)).toEqual(
      order,
    );
});

test("windows of the trend add up to the table, and missing figures come last", () => {
  const trend = trendOf(block<TrendHeader>("class_trend.bin"));
  for (const row of json<ClassesAnswer>("classes.json").classes) {
    const at = trend.columns.get(row.class) ?? -1;
    const cells = Array.from(trend.steps, (_, window) => cellOf(trend, window, at));
    expect(cells.reduce((sum, cell) => sum + cell.support, 0)).toBe(row.support);
    expect(cells.reduce((sum, cell) => sum + cell.hits, 0)).toBe(Math.round((row.recall ?? 0) * row.support));
  }
  const gap = {
    steps: [0],
    lasts: [4],
    labels: [0, 1, 2],
    support: [0, 4, 2],
    predicted: [0, 1, 3],
    hits: [0, 1, 2],
  };
  for (const descending of [true, false]) {
    const order = ordered(gap, { column: "recall", descending }, () => true);
    expect(order).toEqual(descending ? [2, 1, 0] : [1, 2, 0]);
  }
  expect([recalls(gap, 0), recalls(gap, 1), missedRate(gap, 0, 1), greatestRate(gap)]).toEqual([
    [null],
    [0.25],
    0.75,
    0.75,
  ]);
  expect(sparkWords(gap, [null])).toBe("no samples of it in the range");
  expect(sparkWords(gap, [0.25])).toContain("25.0\u00a0% in batches 0–4");
  expect(trendSheet(gap, [1, 0], ["a", "b", "c"]).rows).toEqual([
    [1, "b", 0, 4, 4, 1, 1, 0.75],
    [0, "a", 0, 4, 0, 0, 0, null],
  ]);
});

test("a sparkline breaks where there is nothing, and stays in its box", () => {
  expect(sparkPoints([0, null, 1, 0.5])).toEqual([
    [[0, 19]],
    [
      [66.67, 1],
      [100, 10],
    ],
  ]);
  expect(sparkPoints([0.5])).toEqual([[[50, 10]]]);
  expect(sparkPoints([null])).toEqual([]);
});

test("many classes have fewer windows", () => {
  expect([5000, 1500, 12].map(trendWindows)).toEqual([100, 50, 20]);
});

test("each cell of the heatmap is found where it is drawn; beside it is nothing", () => {
  for (const [width, rows] of [
    [560, 10],
    [320, 1000],
  ] as const) {
    const frame = trendFrame(width, rows, 200);
    expect(frame.left + frame.width).toBeLessThanOrEqual(width);
    for (const cell of [
      { row: 0, window: 0 },
      { row: rows - 1, window: 19 },
    ]) {
      const x = frame.left + ((cell.window + 0.5) / 20) * frame.width;
      const y = frame.top + ((cell.row + 0.5) / rows) * frame.height;
      expect(trendCell(x, y, frame, rows, 20)).toEqual(cell);
    }
    expect(trendCell(frame.left - 1, 20, frame, rows, 20)).toBeNull();
    expect(trendCell(frame.left + 1, frame.top + frame.height + 1, frame, rows, 20)).toBeNull();
  }
});

test("of rows that share a line of pixels the worst shows", () => {
  const rates = [0.1, 0.9, null, null, null, 0.2];
  expect(Array.from(pooledRates(6, 1, 3, (row) => rates[row] ?? null))).toEqual([
    expect.closeTo(0.9),
    Number.NaN,
    expect.closeTo(0.2),
  ]);
});

// ---- pictures on two axes

const PLANE: Plane = {
  across: { label: "x", low: 0, high: 10 },
  up: { label: "y", low: 0, high: 1 },
  kind: "dots",
  x: [1, 5, 9],
  y: [0.1, 0.5, 0.9],
  guides: [],
};

test("the nearest point within reach is the one meant, a bar wherever the pointer is above it", () => {
  const frame = planeFrame(500, false);
  const at = (x: number, y: number): [number, number] => [
    frame.left + place(PLANE.across, x) * frame.width,
    frame.top + (1 - place(PLANE.up, y)) * frame.height,
  ];
  expect(itemAt(...at(5.1, 0.52), frame, PLANE)).toBe(1);
  expect(itemAt(...at(5, 0.95), frame, PLANE)).toBeNull();
  const bars: Plane = { ...PLANE, kind: "bars", x: [0, 5], ends: [5, 10], y: [0.2, 0.3] };
  expect(itemAt(...at(4.9, 0.9), frame, bars)).toBe(0);
  expect(itemAt(...at(5.1, 0.9), frame, bars)).toBe(1);
  expect(itemAt(frame.left, frame.top - 5, frame, bars)).toBeNull();
  expect(planeFrame(400, true).width).toBe(planeFrame(400, true).height);
});

test("limits leave room, also around one value and around none", () => {
  expect(limitsOf([0, 100, Number.NaN])).toEqual([-4, 104]);
  expect(limitsOf([5])).toEqual([4.5, 5.5]);
  expect(limitsOf([0])).toEqual([-1, 1]);
  expect(limitsOf([Number.POSITIVE_INFINITY])).toEqual([0, 1]);
});

test("figures at a threshold are those of its counts; what is a share of nothing is none", () => {
  const { header, arrays } = block<ThresholdsHeader>("thresholds.bin");
  const curve: Thresholds = {
    thresholds: arrays.threshold?.values ?? [],
    truePositives: arrays.true_positives?.values ?? [],
    falsePositives: arrays.false_positives?.values ?? [],
    ...header,
  };
  const all = decisionAt(curve, 0);
  expect([all.tp, all.fp, all.fn, all.tn]).toEqual([header.positives, header.negatives, 0, 0]);
  expect([all.recall, all.fpr]).toEqual([1, 1]);
  const half = decisionAt(curve, 512);
  expect(half.tp + half.fn).toBe(header.positives);
  expect(half.f1).toBeCloseTo(
    (2 * (half.precision ?? 0) * (half.recall ?? 0)) / ((half.precision ?? 0) + (half.recall ?? 0)),
  );
  const last = decisionAt(curve, 1024);
  expect([last.tp + last.fp, last.precision]).toEqual([0, null]);

  const roc = curveOf(curve, ({ fpr, recall }) => [fpr, recall]);
  // The trapezoids under the curve are the area that the plugin tells.
  const [x, y] = [
    [...roc.x, 0],
    [...roc.y, 0],
  ];
  let area = 0;
  for (let at = 1; at < x.length; at += 1)
    area += ((x[at - 1] ?? 0) - (x[at] ?? 0)) * (((y[at - 1] ?? 0) + (y[at] ?? 0)) / 2);
  expect(area).toBeCloseTo(header.roc_auc ?? 0, 6);
  // A threshold between two points of the curve belongs to the one that predicts the same.
  for (const index of [0, 300, 512, 1024]) {
    const point = pointOf(roc, index) ?? -1;
    const { fpr, recall } = decisionAt(curve, index);
    expect([roc.x[point], roc.y[point]]).toEqual([fpr, recall]);
  }
  expect(thresholdSheet(curve).rows[0]?.slice(1, 5)).toEqual([header.positives, header.negatives, 0, 0]);
});

// ---- residuals

test("residuals are predicted less target; what is not finite is counted", () => {
  const { arrays } = block<ResidualsHeader>("residuals.bin");
  const of = (name: string): ArrayLike<number> => arrays[name]?.values ?? [];
  const drawn = residualsOf(of("step"), of("sample"), of("target"), of("predicted"));
  // As tests/test_plugin.py writes them.
  expect(Array.from(drawn.residuals, (value) => Number(value.toFixed(4)))).toEqual(
    Array.from(drawn.steps, (step, at) => (((drawn.samples[at] ?? 0) - 4) / 8) * (6 - step)),
  );
  const odd = residualsOf([0, 1, 2], [0, 1, 2], [1, Number.NaN, 3], [2, 2, Number.POSITIVE_INFINITY]);
  expect([Array.from(odd.residuals), odd.nonfinite]).toEqual([[1], 2]);
  expect(residualSheet(odd).rows).toEqual([[0, 0, 1, 2, 1]]);
});

test("windows have whole batches, all samples, and quantiles as NumPy has them", () => {
  expect([quantile([1, 2, 4], 0.5), quantile([1, 2, 4], 0.1), quantile([3], 0.9)]).toEqual([
    2,
    expect.closeTo(1.2),
    3,
  ]);
  const steps = [0, 0, 0, 1, 1, 2, 3, 3];
  const drawn = residualsOf(
    steps,
    steps,
    steps.map(() => 0),
    [1, 2, 3, 4, 6, 5, -1, -3],
  );
  const windows = windowsOf(drawn, 4);
  expect([windows.first, windows.last, windows.count]).toEqual([
    [0, 1, 2],
    [0, 1, 3],
    [3, 2, 3],
  ]);
  expect([windows.median, windows.low[0], windows.high[0]]).toEqual([
    [2, 5, -1],
    expect.closeTo(1.2),
    expect.closeTo(2.8),
  ]);
  expect(windowsOf(residualsOf([], [], [], []), 4).first).toEqual([]);
});

test("a histogram counts every value once, also when all are equal", () => {
  const histogram = histogramOf([0, 1, 2, 4], 4);
  expect([histogram.edges, histogram.counts]).toEqual([
    [0, 1, 2, 3, 4],
    [1, 1, 1, 1],
  ]);
  expect(histogramOf([7, 7], 3).counts.reduce((sum, value) => sum + value, 0)).toBe(2);
  expect(histogramOf([], 3).counts).toEqual([]);
  expect(histogramSheet(histogram).rows[3]).toEqual([3, 4, 1]);
});

// ---- labels wrong together

test("shares of labels wrong together are of how often the row's label is wrong", () => {
  const answer = block<ConfusionHeader>("label_errors.bin");
  const matrix = { labels: column("labels", answer), counts: column("counts", answer), together: true };
  const options = { names: ["cat", "dog", "sky"], cells: "row", log: false, diagonal: false } as const;
  const model = new MatrixModel(matrix, { ...options, order: "index" });
  const wrong = [0, 1, 2].map((at) => matrix.counts[at * 3 + at] ?? 0);
  expect([0, 1, 2].map((row) => model.samples({ row, column: null }))).toEqual(wrong);
  expect(model.value(0, 1)).toBe((matrix.counts[1] ?? 0) / (wrong[0] ?? 1));
  expect(model.shade(1, 1)).toBe(0);
  const sheet = matrixSheet(model);
  expect(sheet.head[0]).toContain("wrong with it");
  expect(sheet.rows[0]).toEqual(["cat", 1, model.value(0, 1), model.value(0, 2)]);
  // Most often wrong first: with the diagonal taken off, as for confusions, all would be equal.
  const counts = [2, 1, 1, 1, 9, 1, 1, 1, 5];
  const sorted = new MatrixModel(
    { labels: [0, 1, 2], counts, together: true },
    { ...options, order: "errors" },
  );
  expect([0, 1, 2].map((at) => sorted.label(at))).toEqual([1, 2, 0]);
});

// ---- the page

layOut();

const OUTPUTS: Record<Output["task"], Output> = {
  multiclass: { name: "digits", task: "multiclass", classes: 4, activation: null, class_names: null },
  binary: { name: "spam", task: "binary", classes: 2, activation: null, class_names: ["ham", "spam"] },
  multilabel: {
    name: "tags",
    task: "multilabel",
    classes: 3,
    activation: null,
    class_names: ["cat", "dog", "sky"],
  },
  regression: { name: "age", task: "regression", classes: 0, activation: null },
};
const TABLES = {
  multiclass: "classes.json",
  binary: "classes.json",
  multilabel: "classes-multilabel.json",
  regression: "classes-regression.json",
};

async function showTask(
  task: Output["task"],
  selection: Partial<Selection> = {},
  routes: Record<string, (query?: URLSearchParams) => unknown> = {},
): Promise<{ app: AppElement; store: Store; asked: string[]; written: Record<string, string>[] }> {
  const { asked } = fakePlugin({
    runs: () => runsAnswer({ outputs: [OUTPUTS[task]] }),
    batches: () => timelineBlock(),
    classes: () => json(TABLES[task]),
    confusion: () => bytes(task === "binary" ? "confusion-binary.bin" : "confusion.bin"),
    class_trend: () => bytes("class_trend.bin"),
    calibration: () => json("calibration.json"),
    thresholds: () => bytes("thresholds.bin"),
    residuals: () => bytes("residuals.bin"),
    label_errors: () => bytes("label_errors.bin"),
    samples: () => json("batch-regression.json"),
    ...routes,
  });
  const app = new AppElement();
  const written: Record<string, string>[] = [];
  const store = new Store(
    { ...INITIAL, tab: "classes", ...selection },
    () => app.requestUpdate(),
    (address) => written.push(address),
  );
  app.store = store;
  document.body.append(app);
  store.want();
  for (let turn = 0; turn < 8; turn += 1) await settle();
  await app.updateComplete;
  return { app, store, asked, written };
}

const routesOf = (asked: readonly string[]): string[] =>
  [...new Set(asked.map((address) => address.replace("./", "").split("?")[0] ?? ""))].sort();
const shown = (app: AppElement): (string | null)[] =>
  [...app.querySelectorAll("[data-picture], [data-testid=confusion]")].map((panel) =>
    panel.getAttribute("data-testid"),
  );

test.each([
  ["multiclass", ["confusion", "calibration", "trend"], ["calibration", "class_trend", "confusion"]],
  [
    "binary",
    ["confusion", "trend", "thresholds", "roc", "precision-recall", "calibration"],
    ["calibration", "class_trend", "confusion", "thresholds"],
  ],
  ["multilabel", ["trend", "together"], ["class_trend", "label_errors"]],
  ["regression", ["scatter", "spread", "time", "worst"], ["residuals", "samples"]],
] as const)("a %s shows and asks for what fits it, and nothing else", async (task, panels, routes) => {
  const { app, asked } = await showTask(task);
  expect(shown(app)).toEqual(panels);
  expect(routesOf(asked)).toEqual(["batches", "classes", "runs", ...routes].sort());
  expect(app.querySelector(".state.error")).toBeNull();
});

test.each([
  ["multiclass", "trend.calibration", ["calibration"]],
  ["binary", "thresholds.calibration", ["calibration", "thresholds"]],
  ["multilabel", "together", ["label_errors"]],
  ["regression", "scatter.spread.time.worst", ["residuals", "samples"]],
] as const)("what is folded up in a %s asks for nothing", async (task, folded, routes) => {
  const { app, store, asked } = await showTask(task, { folded });
  expect(routes.filter((route) => routesOf(asked).includes(route))).toEqual([]);
  const panels = folded.split(".").map((name) => app.querySelector(`[data-testid="${name}"]`));
  expect(panels.map((panel) => panel?.querySelectorAll("canvas, table").length)).toEqual(panels.map(() => 0));

  const first = folded.split(".")[0] as string;
  app.querySelector<HTMLElement>(`[data-testid="${first}-fold"]`)?.click();
  for (let turn = 0; turn < 4; turn += 1) await settle();
  await app.updateComplete;
  expect(store.isFolded(first)).toBe(false);
  expect(
    app.querySelector(
      `[data-testid="${first}"] bv-plane, [data-testid="${first}"] bv-trend, [data-testid="${first}"] bv-matrix`,
    ),
  ).not.toBeNull();
});

// ---- run B in the pictures

const OTHERS = { runB: "digits", ownB: true, stopB: 3 } as const;

test.each([
  ["multiclass", ["calibration", "class_trend"], ["calibration-figures", "trend-heatmap-b", "trend-lines"]],
  [
    "binary",
    ["calibration", "class_trend", "thresholds"],
    ["calibration-figures", "trend-heatmap-b", "threshold-figures-b"],
  ],
  ["multilabel", ["class_trend", "label_errors"], ["trend-heatmap-b", "matrix-delta"]],
  ["regression", ["residuals"], ["residual-figures", "scatter-b-picture"]],
] as const)(
  "of a %s, run B is asked for by its own range, and its figures stand under those of A",
  async (task, routes, hooks) => {
    const { app, asked } = await showTask(task, OTHERS);
    const ofB = asked.filter(
      (address) => /[?&]stop=3(&|$)/.test(address) && !address.startsWith("./batches"),
    );
    expect(routesOf(ofB)).toEqual(routes);
    expect(hooks.filter((hook) => app.querySelector(`[data-testid="${hook}"]`) === null)).toEqual([]);
    const alone = await showTask(task);
    expect(
      hooks.filter((hook) => alone.app.querySelector(`[data-testid="${hook}"].compared`) !== null),
    ).toEqual([]);
    expect(alone.asked.filter((address) => address.includes("stop=3"))).toEqual([]);
  },
);

test("folded pictures ask for nothing of run B either", async () => {
  const { asked } = await showTask("binary", { ...OTHERS, folded: "thresholds.calibration" });
  expect(routesOf(asked).filter((route) => /calibration|thresholds/.test(route))).toEqual([]);
});

test("an area that is larger and an error that is smaller are for the better", async () => {
  const later = (header: Record<string, unknown>): ArrayBuffer => {
    const { arrays, header: kept } = block<ThresholdsHeader>("thresholds.bin");
    const { arrays: _, ...rest } = kept as ThresholdsHeader & { arrays: unknown };
    return encodeBlock(
      { ...rest, ...header },
      Object.entries(arrays).map(([name, { values, shape }]) => ({
        name,
        dtype: name === "threshold" ? "float32" : "uint32",
        shape,
        bytes: bytesOf(values.slice()),
      })),
    );
  };
  const area = block<ThresholdsHeader>("thresholds.bin").header.roc_auc ?? 0;
  const worse = json<CalibrationAnswer>("calibration.json");
  const { app } = await showTask("binary", OTHERS, {
    thresholds: (query?: URLSearchParams) =>
      query?.has("stop") ? later({ roc_auc: area - 0.125 }) : bytes("thresholds.bin"),
    calibration: (query?: URLSearchParams) =>
      query?.has("stop") ? { ...worse, error: (worse.error ?? 0) + 0.5 } : worse,
  });
  const changes = (hook: string): string[] =>
    [...app.querySelectorAll(`[data-testid="${hook}"] tbody tr:last-child td`)].map(
      (cell) => cell.textContent?.replace(/\s+/g, " ").trim() ?? "",
    );
  expect(changes("threshold-figures-b")[4]).toBe("▲up 0.125, better");
  expect(changes("calibration-figures")).toEqual(["▼down 50.0 pp, better", "0.0 pp", "0"]);
});

test("a binary output whose positive class is another is not put into the curves", async () => {
  const turned = { ...OUTPUTS.binary, class_names: ["spam", "ham"] };
  const first = runsAnswer({ outputs: [OUTPUTS.binary] });
  const second = runsAnswer({ name: "second", updated: 1, outputs: [turned] });
  const { app } = await showTask(
    "binary",
    { runB: "second" },
    {
      runs: (query?: URLSearchParams) =>
        query?.get("run") === "second" ? second : { ...first, runs: [...first.runs, ...second.runs] },
    },
  );
  expect(app.querySelector('[data-testid="threshold-figures-b"]')).toBeNull();
  expect(app.querySelector('[data-testid="lone-threshold"]')?.textContent).toContain("same two classes");
});

test("hover words and files have the figures of both runs", () => {
  const curve: Thresholds = {
    thresholds: [0, 0.5],
    truePositives: [2, 1],
    falsePositives: [2, 0],
    positives: 2,
    negatives: 2,
  };
  const other = { ...curve, truePositives: [2, 2] };
  const words = decisionWords(decisionAt(curve, 1), decisionAt(other, 1)).split("\n");
  expect(words).toEqual([
    "threshold 0.5",
    "A recall 50\u00a0%, precision 100\u00a0%, false-positive rate 0\u00a0%",
    "B recall 100\u00a0%, precision 100\u00a0%, false-positive rate 0\u00a0%",
  ]);
  const sheet = thresholdSheet(curve, other);
  expect([sheet.head[9], sheet.rows[1]?.[1], sheet.rows[1]?.[9]]).toEqual(["tp_b", 1, 2]);

  const bin = { low: 0.5, high: 0.6, count: 4, confidence: 0.55, accuracy: 0.25 };
  const better = { ...bin, count: 8, accuracy: 0.5 };
  expect(binWords(bin, better)).toMatch(
    /^confidence .*\nA 4 samples, accuracy 25.*\nB 8 samples, accuracy 50/,
  );
  expect(reliabilitySheet([bin], [better])).toEqual({
    head: ["low", "high", "count", "confidence", "accuracy", "count_b", "confidence_b", "accuracy_b"],
    rows: [[0.5, 0.6, 4, 0.55, 0.25, 8, 0.55, 0.5]],
  });
});

test("residuals of both runs are counted in the same bins", () => {
  const all = [0, 1, 2, 4];
  const [one, two] = [histogramOf([0, 1], 4, all), histogramOf([2, 4], 4, all)];
  expect([one.edges, one.counts, two.counts]).toEqual([two.edges, [1, 1, 0, 0], [0, 0, 1, 1]]);
  expect(histogramSheet(one, two)).toEqual({
    head: ["low", "high", "count", "count_b"],
    rows: [
      [0, 1, 1, 0],
      [1, 2, 1, 0],
      [2, 3, 0, 1],
      [3, 4, 0, 1],
    ],
  });
  const drawn = residualsOf([0, 1, 2], [0, 0, 0], [0, 0, 0], [3, -4, 1]);
  expect(spreadOf(drawn, 0)).toEqual({ rmse: Math.sqrt(26 / 3), low: -4, median: 1, high: 3 });
});

test("labels wrong together in both runs are matched by their numbers in B", () => {
  const answer = (counts: number[], labels = [0, 1]): Block<ConfusionHeader> => ({
    header: { batches: 1, samples: 9, classes: 2, shown: 2 },
    arrays: {
      labels: { values: Int32Array.from(labels), shape: [2] },
      counts: { values: Uint32Array.from(counts), shape: [2, 2] },
    },
  });
  const paired = pairedOf(answer([4, 2, 2, 8]), answer([5, 3, 3, 6]), "[1,0]");
  expect([paired.matched, paired.against]).toEqual([
    [1, 0],
    [6, 3, 3, 5],
  ]);
  const options = {
    names: ["cat", "dog"],
    cells: "row",
    order: "index",
    log: false,
    diagonal: false,
  } as const;
  const model = new DeltaModel(paired, options);
  // Of A's 4 wrong cats 2 are wrong dogs, too; of B's 6 it is 3.
  expect([model.value(0, 1), model.value(1, 0)]).toEqual([0, 2 / 8 - 3 / 5]);
  expect(model.describe({ row: 0, column: null })).toEqual(["A wrong of 4 samples", "B wrong of 6 samples"]);
  expect(deltaSheet(model).head.slice(0, 3)).toEqual(["label", "label_name", "wrong_with"]);
  const lone = pairedOf(answer([4, 2, 2, 8]), answer([5, 3, 3, 6]), "[-1,0]");
  expect([lone.matched, lone.against]).toEqual([
    [-1, 0],
    [0, 0, 0, 5],
  ]);
});

test("too many labels for a matrix of pairs are shown without one", async () => {
  const runs = () => runsAnswer({ outputs: [{ ...OUTPUTS.multilabel, classes: 1001, class_names: null }] });
  const { app, asked } = await showTask("multilabel", {}, { runs });
  expect(shown(app)).toEqual(["trend"]);
  expect(routesOf(asked)).not.toContain("label_errors");
});

test("another tab asks for none of them", async () => {
  const { asked } = await showTask("binary", { tab: "layers" });
  expect(routesOf(asked).filter((route) => /trend|calibration|thresholds|classes/.test(route))).toEqual([]);
});

test("every class has a sparkline that says what it shows", async () => {
  const { app } = await showTask("multiclass");
  const lines = [...app.querySelectorAll('[data-testid="classes-table"] svg[role="img"]')];
  expect(lines).toHaveLength(4);
  expect(lines[0]?.getAttribute("aria-label")).toMatch(/^recall [\d.]+\u00a0% in batches 0–2;/);
  expect(lines.every((line) => (line.querySelector("path")?.getAttribute("d") ?? "").startsWith("M0 "))).toBe(
    true,
  );
});

test("a click on the heatmap takes its class and the whole window", async () => {
  const { app, store } = await showTask("multiclass");
  const heatmap = app.querySelector<TrendElement>("bv-trend");
  const trend = heatmap?.trend;
  heatmap?.onPick?.(2, trend?.steps[1] ?? 0, (trend?.lasts[1] ?? 0) + 1);
  expect(store.selection).toMatchObject({ target: 2, predicted: null, start: 3, stop: 6 });
});

test("keys move about the heatmap, Enter chooses; what is there is said", async () => {
  const { app, store } = await showTask("multiclass", { classSort: { column: "class", descending: false } });
  const heatmap = app.querySelector<TrendElement>("bv-trend");
  const press = async (key: string): Promise<string> => {
    heatmap
      ?.querySelector("canvas")
      ?.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    await heatmap?.updateComplete;
    return heatmap?.querySelector('[aria-live="polite"]')?.textContent ?? "";
  };
  expect(await press("ArrowRight")).toMatch(/^class 0\. batches 0–2\. /);
  await press("ArrowDown");
  expect(await press("End")).toMatch(/^class 1\. batches 21–23\. .* not found: /);
  await press("Enter");
  expect(store.selection).toMatchObject({ target: 1, start: 21, stop: 24 });
  expect(store.selection.batch).toBeNull(); // the page's own arrow keys did nothing
});

test("the threshold follows the slider at once, the address when it rests", async () => {
  const { app, store, written } = await showTask("binary");
  const slider = app.querySelector<HTMLInputElement>('[data-testid="threshold"]');
  const value = (): string | undefined =>
    app.querySelector('[data-testid="threshold-value"]')?.textContent ?? undefined;
  expect([slider?.value, value()]).toEqual(["512", "0.500"]);
  const before = written.length;
  vi.useFakeTimers();
  for (const at of ["600", "700", "768"]) {
    if (slider !== null) slider.value = at;
    slider?.dispatchEvent(new Event("input", { bubbles: true }));
  }
  await vi.advanceTimersByTimeAsync(0);
  expect([value(), written.length]).toEqual(["0.750", before]);
  await vi.advanceTimersByTimeAsync(400);
  expect(written.slice(before)).toEqual([{ tab: "classes", threshold: "0.75" }]);
  expect([store.sliding, store.threshold]).toEqual([null, 0.75]);
  expect(slider?.getAttribute("aria-valuetext")).toContain("precision");
});

test("reliability says its error, its samples, and what training batches are good for", async () => {
  const { app } = await showTask("multiclass");
  const answer = json<CalibrationAnswer>("calibration.json");
  const panel = app.querySelector('[data-testid="calibration"]');
  expect(panel?.querySelector("dd")?.getAttribute("title")).toBe(String(answer.error));
  expect(panel?.textContent).toContain("dropout");
  expect(panel?.textContent).toContain("Guo et al. 2017");
  expect(reliabilitySheet(answer.bins).rows).toHaveLength(15);
  document.body.replaceChildren();
  const validation = await showTask("multiclass", { phase: "validation" });
  expect(validation.app.querySelector('[data-testid="calibration"]')?.textContent).not.toContain("dropout");
});

test("the worst samples of a regression tell target, prediction and residual, in the table and in the CSV", async () => {
  const { app } = await showTask("regression");
  const { samples } = json<SamplesAnswer>("batch-regression.json");
  const [first] = samples;
  const { target, predicted } = first?.values?.[0] ?? { target: null, predicted: null };
  const cells = [...app.querySelectorAll('[data-testid="worst-table"] tbody tr[aria-rowindex="2"] td')];
  expect(cells.slice(2, 5).map((cell) => cell.getAttribute("title"))).toEqual(
    [target, predicted, (predicted ?? 0) - (target ?? 0)].map(String),
  );
  const sheet = worstSheet(samples);
  expect(sheet.head.slice(5)).toEqual(["target_0", "predicted_0"]);
  expect(sheet.rows[0]?.slice(5)).toEqual([target, predicted]);
});

test("a table of samples of a regression has targets and predictions, of many values the first", async () => {
  const answer = json<SamplesAnswer>("batch-regression.json");
  const [one] = answer.samples;
  const many = [1, 2, 3, 4].map((value) => ({ target: value, predicted: value + 0.5 }));
  const samples = [one, { ...one, sample: 1, values: many }, { ...one, sample: 2, values: [] }];
  const { app } = await showTask(
    "regression",
    { tab: "samples" },
    { samples: () => ({ ...answer, total: 3, samples }) },
  );
  const table = app.querySelector('[data-testid="samples-table"]');
  const read = (row: number): (string | undefined)[] =>
    [...(table?.querySelectorAll(`tbody tr[aria-rowindex="${row}"] td`) ?? [])]
      .slice(2, 4)
      .map((cell) => cell.textContent?.trim());
  expect([read(2), read(3), read(4)]).toEqual([
    ["0.5000", "−1.500"],
    ["1.000, 2.000, 3.000 …", "1.500, 2.500, 3.500 …"],
    ["–", "–"],
  ]);
});

test("a regression says how many samples are drawn of how many, and offers no choice of one value", async () => {
  const { app } = await showTask("regression");
  const { header } = block<ResidualsHeader>("residuals.bin");
  expect(app.querySelector('[data-testid="scatter"]')?.textContent).toContain(
    `all ${header.samples} samples`,
  );
  expect(app.querySelector('[data-testid="value"]')).toBeNull();
});

test.each(["multiclass", "binary", "multilabel"] as const)("hostile names are text in a %s", async (task) => {
  const names = Array(OUTPUTS[task].classes).fill(HOSTILE);
  const runs = () => runsAnswer({ outputs: [{ ...OUTPUTS[task], class_names: names }] });
  const { app } = await showTask(task, {}, { runs });
  expect(app.querySelectorAll("img, script")).toHaveLength(0);
  expect(app.querySelector("bv-trend")?.getAttribute("label")).toContain(HOSTILE.slice(0, 10));
  expect(app.querySelector('[data-testid="classes-table"]')?.textContent).toContain(HOSTILE);
});

test("where no sample has a target it is said, and there is nothing to save", async () => {
  const none = (arrays: string[]): ArrayBuffer =>
    encodeBlock(
      { batches: 3, window: 1, classes: 2, shown: 2, steps: 1024, positives: 0, negatives: 0 },
      arrays.map((name) => ({ name, dtype: "uint32", shape: [2], bytes: bytesOf(Uint32Array.of(0, 0)) })),
    );
  const { app } = await showTask(
    "binary",
    {},
    {
      class_trend: () => none(["step", "last_step", "labels", "support", "predicted", "hits"]),
      thresholds: () => none(["threshold", "true_positives", "false_positives"]),
      calibration: () => ({ batches: 3, samples: 0, error: null, greatest_error: null, bins: [] }),
    },
  );
  for (const name of ["trend", "thresholds", "calibration"]) {
    const panel = app.querySelector(`[data-testid="${name}"]`);
    expect([name, panel?.textContent?.includes("No samples with a target in this range.")]).toEqual([
      name,
      true,
    ]);
    expect(panel?.querySelectorAll(`canvas, [data-testid="${name}-csv"]`)).toHaveLength(0);
  }
});

test("samples of one class have counts at a threshold, but no curves", async () => {
  const column = (name: string, dtype: string, values: ArrayBufferView) => ({
    name,
    dtype,
    shape: [1025],
    bytes: bytesOf(values),
  });
  const thresholds = (): ArrayBuffer =>
    encodeBlock(
      { batches: 1, positives: 2, negatives: 0, steps: 1024, roc_auc: null, average_precision: null },
      [
        column(
          "threshold",
          "float32",
          Float32Array.from({ length: 1025 }, (_, at) => at / 1024),
        ),
        column("true_positives", "uint32", new Uint32Array(1025).fill(2)),
        column("false_positives", "uint32", new Uint32Array(1025)),
      ],
    );
  const { app } = await showTask("binary", {}, { thresholds });
  const panel = app.querySelector('[data-testid="thresholds"]');
  expect(panel?.textContent).toContain("All samples of this range are of one class");
  expect(panel?.querySelector("bv-plane")).toBeNull();
  expect([...(panel?.querySelectorAll("tbody td") ?? [])].map((cell) => cell.textContent)).toEqual([
    "0",
    "0",
    "0",
    "2",
  ]);
});
