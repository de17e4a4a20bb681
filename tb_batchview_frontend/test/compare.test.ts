import { expect, test, vi } from "vitest";
import { channels } from "../src/charts/colour.js";
import { DeltaModel } from "../src/charts/delta_model.js";
import { lastKnown } from "../src/charts/lines.js";
import { choose } from "../src/choice.js";
import {
  align,
  axisFor,
  chooseOther,
  difference,
  matchClasses,
  matchLayer,
  nearest,
  notesOf,
  PARTS,
  placeOn,
  restOf,
  spread,
  stepOn,
  verdict,
} from "../src/compare.js";
import { INITIAL, type Selection } from "../src/selection.js";
import { Store } from "../src/state.js";
import { STYLE } from "../src/style.js";
import type { ClassRow, JoinedSample, Run } from "../src/types.js";
import { AppElement } from "../src/views/app.js";
import { cellsShown, deltaSheet, matchWords } from "../src/views/compare_classes.js";
import { batchSheet, classSheet, joinedSheet, saveView } from "../src/views/download.js";
import type { TableElement } from "../src/views/table.js";
import {
  bytesOf,
  encodeBlock,
  fakePlugin,
  HOSTILE,
  later,
  layOut,
  runsAnswer,
  SAMPLE,
  settle,
  timelineBlock,
} from "./fakes.js";

// There is no canvas to draw on here; the browser tests see the pictures.
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

layOut();

const first = (): Run => runsAnswer().runs[0] as Run;
const digits = (): Run => ({ ...first(), updated: 2000 });
const second = (change: Partial<Run> = {}): Run => ({ ...first(), name: "second", ...change });
const twoRuns = (change: Partial<Run> = {}) => ({ ...runsAnswer(), runs: [digits(), second(change)] });

const against = (selection: Partial<Selection>, runs = twoRuns().runs) => {
  const whole = { ...INITIAL, ...selection };
  return chooseOther(whole, runs, choose(whole, runs));
};
const notes = (selection: Partial<Selection>, runs = twoRuns().runs): string[] => {
  const whole = { ...INITIAL, ...selection };
  const chosen = choose(whole, runs);
  const other = chooseOther(whole, runs, chosen);
  return chosen === null || other === null ? [] : notesOf(whole, chosen, other);
};

test("run B has phase, output and range of A unless it is given others", () => {
  const like = against({ runB: "second", phase: "validation", start: 5, stop: 9 });
  expect([like?.phase?.name, like?.output?.name, like?.start, like?.stop]).toEqual([
    "validation",
    "probabilities",
    5,
    9,
  ]);
  const own = against({ runB: "second", phaseB: "validation", start: 5, ownB: true, stopB: 3 });
  expect([own?.phase?.name, own?.start, own?.stop]).toEqual(["validation", null, 3]);
  expect(against({ runB: "" })).toBeNull();
  expect(against({ runB: "gone" })).toBeNull();
});

test("what cannot be compared is said", () => {
  expect(notes({ runB: "second" })).toEqual([]);
  expect(notes({ runB: "digits" })).toEqual([
    "A and B are the same batches: choose another run, phase or range.",
  ]);
  const ages = second({ outputs: [{ name: "age", task: "regression", classes: 0, activation: null }] });
  expect(notes({ runB: "second" }, [digits(), ages])).toEqual([
    "Run B has no output “probabilities”; its “age” is shown.",
    "A is multiclass and B regression: losses and layers can be compared, classes and errors cannot.",
  ]);
  const few = second({ outputs: [{ name: "probabilities", task: "binary", classes: 2, activation: null }] });
  expect(notes({ runB: "second" }, [digits(), few])).toEqual([
    "A has 10 and B 2 classes: those that match are compared.",
  ]);
  const trained = second({ phases: first().phases.slice(0, 1) });
  expect(notes({ runB: "second", phase: "validation" }, [digits(), trained])).toEqual([
    "Run B has no phase “validation”; its “train” is shown.",
  ]);
  expect(notes({ runB: "second" }, [digits(), second({ phases: [] })])).toEqual(["Run B has no batches."]);
});

test("classes are matched as the plugin matches them", () => {
  const match = (a: [number, string[] | null], b: [number, string[] | null]): number[] =>
    Array.from(matchClasses(...a, ...b));
  expect(match([3, ["x", "y", "z"]], [3, ["z", "new", "x"]])).toEqual([2, -1, 0]);
  expect(match([3, null], [2, ["z", "x"]])).toEqual([0, 1, -1]);
  // Where a name is missing or twice, numbers are what is left.
  expect(match([2, ["x", ""]], [2, ["y", "x"]])).toEqual([0, 1]);
  expect(match([2, ["x", "y"]], [2, ["x", "x"]])).toEqual([0, 1]);
  // Names beyond the classes there are do not count.
  expect(match([2, ["x", "y", "x"]], [2, ["y", "x"]])).toEqual([1, 0]);
});

test("a run is compared with its batches before the range, else with those after it", () => {
  expect(restOf({ start: 240, stop: 540 })).toEqual({ startB: null, stopB: 240 });
  expect(restOf({ start: null, stop: 100 })).toEqual({ startB: 100, stopB: null });
});

test("curves of mostly the same steps share them, others the share that is done", () => {
  const [whole, half] = [
    { first: 0, last: 99 },
    { first: 0, last: 59 },
  ];
  expect(axisFor("auto", whole, half)).toBe("step");
  expect(axisFor("auto", whole, { first: 0, last: 39 })).toBe("share");
  expect(axisFor("auto", half, { first: 60, last: 119 })).toBe("share");
  expect(axisFor("step", half, { first: 60, last: 119 })).toBe("step");
  expect(placeOn("share", 90, { first: 60, last: 120 })).toBe(PARTS / 2);
  expect(placeOn("share", 60, { first: 60, last: 60 })).toBe(0);
  expect(stepOn("share", placeOn("share", 77, whole), whole)).toBeCloseTo(77);
  expect(placeOn("step", 77, whole)).toBe(77);
});

test("points of two series stand at their own places of one axis", () => {
  const { xs, a, b } = align([0, 2, 5], [0, 1, 5, 9]);
  expect([xs, a, b]).toEqual([
    [0, 1, 2, 5, 9],
    [0, 2, 3],
    [0, 1, 3, 4],
  ]);
  const values = spread([7, Number.NaN, 9], a, xs.length);
  expect(values).toEqual([7, undefined, Number.NaN, 9, undefined]);
  // On hover the last value goes on; a NaN is one.
  expect([0, 1, 2, 4].map((index) => lastKnown(values, index))).toEqual([7, 7, Number.NaN, 9]);
  expect(lastKnown([undefined, 1], 0)).toBeNull();
  expect(align([], [3])).toEqual({ xs: [3], a: [], b: [0] });
  expect([nearest([1, 5, 9], 6.9), nearest([1, 5, 9], 7.1), nearest([], 1)]).toEqual([5, 9, null]);
});

test("a difference is for the better or the worse only where one way is better", () => {
  expect([difference(3, 1), difference(null, 1), difference(1, undefined)]).toEqual([2, null, null]);
  expect(difference(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY)).toBeNull();
  expect([verdict(-0.1, "lower"), verdict(0.1, "lower"), verdict(0.1, "higher")]).toEqual([
    "better",
    "worse",
    "better",
  ]);
  expect([verdict(0.1, null), verdict(0, "lower")]).toEqual(["", ""]);
});

const PAIRED = {
  labels: [0, 1, 2],
  counts: [8, 2, 0, 0, 5, 5, 1, 0, 0],
  against: [4, 0, 0, 1, 3, 0, 0, 0, 0],
  matched: [1, 0, -1],
};
const OPTIONS = { names: null, cells: "row", order: "index", log: false, diagonal: true } as const;

test("a matrix of differences subtracts shares, and tells nothing where B has no such class", () => {
  const model = new DeltaModel(PAIRED, OPTIONS);
  expect(model.value(0, 0)).toBeCloseTo(0.8 - 1);
  expect(model.value(1, 1)).toBeCloseTo(0.5 - 0.75);
  expect([model.value(2, 0), model.value(0, 2)]).toEqual([Number.NaN, Number.NaN]);
  expect(model.greatest).toBeCloseTo(0.25);
  expect([model.shade(1, 1), model.shade(2, 0)]).toEqual([-1, 0]);
  expect([model.text(0, 0), model.text(0, 1), model.text(2, 0)]).toEqual(["−20.0", "+20.0", ""]);
  expect(model.describe({ row: 0, column: 1 })).toEqual([
    "A 2 of 10, 20.00\u00a0%",
    "B 0 of 4, 0.00\u00a0%",
    "A − B +20.0\u00a0pp",
  ]);
  expect(model.describe({ row: 2, column: null })).toEqual(["A 1 samples", "B has no such class"]);
  expect(model.describe({ row: null, column: 1 })).toEqual([
    "A 7 samples, precision 5 of 7, 71.43\u00a0%",
    "B 3 samples, precision 3 of 3, 100.00\u00a0%",
  ]);
});

test("layers that Keras numbered on are matched by their place, all others by their names", () => {
  const mine = ["conv2d", "conv2d_1", "dense", "scores"];
  const other = ["conv2d_3", "conv2d_2", "dense_1", "scores"];
  expect(mine.map((name) => matchLayer(name, mine, other))).toEqual([
    "conv2d_2",
    "conv2d_3",
    "dense_1",
    "scores",
  ]);
  expect(other.map((name) => matchLayer(name, other, mine))).toEqual([
    "conv2d_1",
    "conv2d",
    "dense",
    "scores",
  ]);
  const tenth = ["dense_9", "dense_10"];
  expect(tenth.map((name) => matchLayer(name, tenth, ["dense", "dense_1"]))).toEqual(["dense", "dense_1"]);
});

test("layers are not matched by their place where there are more of a kind, or some by name", () => {
  expect(matchLayer("dense", ["dense"], ["dense_1", "dense_2"])).toBeNull();
  expect(matchLayer("dense", ["dense", "dense_1"], ["dense_1", "dense_2"])).toBeNull();
  expect(matchLayer("dense_1", ["dense", "dense_1"], ["dense_1", "dense_2"])).toBe("dense_1");
  expect(matchLayer("conv", ["conv"], ["lstm"])).toBeNull();
  expect(matchLayer("Block A", ["Block A"], ["Block B"])).toBeNull();
  expect(matchLayer("dense", ["dense"], [])).toBeNull();
});

test("counts are subtracted as they are, without the diagonal where it is hidden", () => {
  const model = new DeltaModel(PAIRED, { ...OPTIONS, cells: "count", diagonal: false });
  expect([model.value(0, 0), model.value(0, 1), model.value(1, 0)]).toEqual([4, 2, -1]);
  expect([model.greatest, model.shade(0, 1), model.shade(1, 0), model.shade(0, 0)]).toEqual([2, 1, -0.5, 0]);
  expect([model.text(0, 1), model.text(1, 0), model.text(0, 0)]).toEqual(["+2", "−1", ""]);
});

test("cells with a sample in either run are saved with both numbers", () => {
  const model = new DeltaModel(PAIRED, { ...OPTIONS, cells: "count", names: ["a", "b", "c"] });
  expect(deltaSheet(model).rows).toEqual([
    [0, "a", 0, "a", 8, 4, 4],
    [0, "a", 1, "b", 2, 0, 2],
    [1, "b", 0, "a", 0, 1, -1],
    [1, "b", 1, "b", 5, 3, 2],
    [1, "b", 2, "c", 5, 0, null],
    [2, "c", 0, "a", 1, 0, null],
  ]);
});

test("counts of unlike numbers of samples are shown as shares", () => {
  const matched = { batches: 1, matched_by: "name", unmatched: 0, missing: 0, classes: 3 } as const;
  const header = (samples: number) => ({
    batches: 1,
    samples: 10,
    classes: 3,
    shown: 3,
    against: { ...matched, samples },
  });
  expect([cellsShown("count", header(9)), cellsShown("count", header(10))]).toEqual(["row", "count"]);
  expect(cellsShown("column", header(9))).toBe("column");
  expect(matchWords({ ...matched, samples: 1, unmatched: 1, missing: 2 })).toBe(
    "classes matched by name; left out: 1 class of A not in B, 2 classes of B not in A",
  );
});

// ---- the store

const ROUTES = {
  runs: () => twoRuns(),
  batches: (query: URLSearchParams) =>
    query.has("points") ? timelineBlock() : { total: 0, offset: 0, metrics: [], maxima: {}, rows: [] },
  layers: () => ({ layers: [] }),
  classes: () => ({ batches: 1, samples: 1, total: 0, offset: 0, classes: [] }),
  confusion: () => new Response("none", { status: 404 }),
};

function makeStore(selection: Partial<Selection>): { store: Store; written: Record<string, string>[] } {
  const written: Record<string, string>[] = [];
  const store = new Store(
    { ...INITIAL, ...selection },
    () => undefined,
    (address) => written.push(address),
  );
  return { store, written };
}

async function ask(selection: Partial<Selection>): Promise<{ store: Store; asked: string[] }> {
  const { asked } = fakePlugin(ROUTES);
  const { store } = makeStore(selection);
  store.want();
  for (let round = 0; round < 4; round += 1) await settle();
  return { store, asked };
}

test("nothing is asked of B while none is chosen", async () => {
  for (const tab of ["batches", "classes", "samples", "layers"] as const) {
    const { asked } = await ask({ tab });
    expect(asked.filter((address) => /against|second/.test(address))).toEqual([]);
  }
});

test("tables ask for B's figures with A's, and only where they can be compared", async () => {
  const { asked } = await ask({ tab: "classes", runB: "second", start: 3, ownB: true, stopB: 3 });
  const classes = asked.find((address) => address.startsWith("./classes")) ?? "";
  expect(new URLSearchParams(classes.split("?")[1]).get("against_run")).toBe("second");
  expect(classes).toContain("start=3");
  expect(classes).toContain("against_stop=3");
  expect(classes).not.toContain("against_start");
  const same = await ask({ runB: "digits", ownB: true, stopB: 3 });
  expect(same.asked.filter((address) => address.includes("against_run"))).toEqual([]);
});

test("a run with itself is compared with its other batches, and the view is sorted by what changed", () => {
  const { store, written } = makeStore({ start: 240, stop: 540 });
  store.runs.value = twoRuns();
  fakePlugin(ROUTES);
  store.compareWith("digits");
  expect(written.at(-1)).toEqual({
    start: "240",
    stop: "540",
    runB: "digits",
    ownB: "1",
    stopB: "240",
    classSort: "recall_change",
  });
  store.compareWith("");
  expect(written.at(-1)).toEqual({ start: "240", stop: "540" });
});

test("swapping exchanges runs, phases and ranges, and again brings all back", () => {
  const { store, written } = makeStore({ run: "digits", start: 5, runB: "second", phaseB: "validation" });
  store.runs.value = twoRuns();
  fakePlugin(ROUTES);
  store.swap();
  expect(written.at(-1)).toMatchObject({
    run: "second",
    phase: "validation",
    start: "5",
    runB: "digits",
    phaseB: "train",
  });
  store.select({ ownB: true, startB: 1, stopB: 2 });
  store.swap();
  expect([store.selection.start, store.selection.stop]).toEqual([1, 2]);
  expect([store.selection.startB, store.selection.stopB, store.selection.ownB]).toEqual([5, null, true]);
  store.swap();
  expect(store.selection).toMatchObject({ run: "second", start: 5, startB: 1, stopB: 2 });
});

test("a late answer of an old B is dropped", async () => {
  const slow = later<Response>();
  fakePlugin({
    ...ROUTES,
    runs: () => ({ ...twoRuns(), runs: [digits(), second(), { ...second(), name: "third" }] }),
    batches: (query) => (query.get("run") === "third" ? timelineBlock({ loss: 3 }) : ROUTES.batches(query)),
  });
  const { store } = makeStore({ runB: "third" });
  store.want();
  await vi.waitFor(() => expect(store.versus.timeline?.header.loss).toBe(3));
  const answer = vi.fn(() => slow.promise);
  const quick = globalThis.fetch;
  vi.stubGlobal("fetch", (address: string, options: RequestInit) =>
    address.includes("run=second") && address.includes("points") ? answer() : quick(address, options),
  );
  store.compareWith("second");
  expect(store.versus.timeline).toBeNull();
  store.compareWith("third");
  await vi.waitFor(() => expect(store.versus.timeline?.header.loss).toBe(3));
  slow.resolve(new Response(timelineBlock({ loss: 2 })));
  await settle();
  expect(answer).toHaveBeenCalledOnce();
  expect(store.versus.timeline?.header.loss).toBe(3);
});

// ---- the page

async function show(
  selection: Partial<Selection>,
  routes: Parameters<typeof fakePlugin>[0] = {},
): Promise<AppElement> {
  fakePlugin({ ...ROUTES, ...routes });
  const app = new AppElement();
  const { store } = makeStore(selection);
  const watched = new Store(
    store.selection,
    () => app.requestUpdate(),
    () => undefined,
  );
  app.store = watched;
  document.body.append(app);
  watched.want();
  for (let round = 0; round < 6; round += 1) {
    await settle();
    await app.updateComplete;
  }
  return app;
}

const seen = (app: AppElement, hook: string): string =>
  (app.querySelector(`[data-testid="${hook}"]`)?.textContent ?? "").replace(/\s+/g, " ").trim();

test("a B that is not there is a sentence and a way out, and A is shown", async () => {
  const app = await show({ runB: HOSTILE });
  expect(seen(app, "missing-b")).toBe(
    `The run “${HOSTILE}” to compare with is not in the log directory. stop comparing`,
  );
  expect(app.querySelector('[data-testid="timeline"]')).not.toBeNull();
  expect(app.querySelector("img")).toBeNull();
  app.querySelector<HTMLButtonElement>('[data-testid="missing-b"] button')?.click();
  await app.updateComplete;
  expect(app.querySelector('[data-testid="missing-b"]')).toBeNull();
});

test("figures of both runs stand above each other with their difference", async () => {
  const app = await show(
    { runB: "second" },
    {
      batches: (query) =>
        query.has("points")
          ? timelineBlock(query.get("run") === "second" ? { loss: 0.5, error_rate: 0.2 } : {})
          : ROUTES.batches(query),
    },
  );
  expect(seen(app, "sentence-b")).toContain("against B second");
  const rows = Array.from(app.querySelectorAll('[data-testid="figures-b"] tr'), (row) =>
    Array.from(row.children, (cell) => cell.textContent?.replace(/\s+/g, " ").trim()),
  );
  expect(rows[0]?.slice(0, 6)).toEqual(["", "batches", "samples", "mean loss", "error rate", "spikes"]);
  expect(seen(app, "spikes-b")).toContain("B1 spike");
  const [ofA, ofB] = ["spikes", "spikes-b"].map(
    (hook) => app.querySelector(`[data-testid="${hook}-table"]`) as TableElement,
  );
  // A batch of B is none of A: it cannot be chosen.
  expect([typeof ofA?.onPick, ofB?.onPick]).toEqual(["function", null]);
  expect(rows[3]?.slice(3, 5)).toEqual(["▼down 0.1900, better", "▼down 11.9 pp, better"]);
  expect(app.querySelector('[data-testid="compared-loss"]')).not.toBeNull();
  expect(app.querySelector('[data-testid="timeline"]')).toBeNull();
});

const classRow = (number: number, recall: number) => ({
  class: number,
  support: 10,
  predicted: 10,
  precision: 0.5,
  precision_low: 0.4,
  precision_high: 0.6,
  recall,
  recall_low: recall - 0.1,
  recall_high: recall + 0.1,
  f1: null,
  f1_low: null,
  f1_high: null,
  most_confused: null,
});
const MATCHED = { batches: 1, samples: 20, matched_by: "number", unmatched: 1, missing: 0 };
const COMPARED = {
  classes: () => ({
    batches: 1,
    samples: 20,
    accuracy: 0.6,
    macro_f1: 0.5,
    calibration_error: 0.05,
    against: { ...MATCHED, accuracy: 0.9, macro_f1: 0.5, calibration_error: 0.02, accuracy_apart: true },
    total: 2,
    offset: 0,
    classes: [
      {
        ...classRow(0, 0.3),
        against: classRow(0, 0.9),
        change: { support: -4, precision: 0, recall: -0.6, f1: null },
        apart: { precision: false, recall: true, f1: false },
      },
      {
        ...classRow(1, 0.3),
        against: null,
        change: { support: null, precision: null, recall: null, f1: null },
        apart: { precision: false, recall: false, f1: false },
      },
    ],
  }),
  confusion: () =>
    encodeBlock({ batches: 1, samples: 20, classes: 2, shown: 2, against: { ...MATCHED, classes: 1 } }, [
      { name: "labels", dtype: "int32", shape: [2], bytes: bytesOf(new Int32Array([0, 1])) },
      { name: "counts", dtype: "uint32", shape: [2, 2], bytes: bytesOf(new Uint32Array([3, 7, 7, 3])) },
      { name: "against_labels", dtype: "int32", shape: [2], bytes: bytesOf(new Int32Array([0, -1])) },
      {
        name: "against_counts",
        dtype: "uint32",
        shape: [2, 2],
        bytes: bytesOf(new Uint32Array([9, 0, 0, 0])),
      },
    ]),
};

test("classes show their change, its verdict and where intervals do not overlap", async () => {
  const app = await show({ tab: "classes", runB: "second" }, COMPARED);
  const table = app.querySelector('[data-testid="classes-table"]');
  await vi.waitFor(() => expect(table?.querySelector('tr[aria-rowindex="3"] td')).not.toBeNull());
  const columns = Array.from(table?.querySelectorAll("th") ?? [], (head) => head.dataset.column);
  expect(columns).toEqual([
    "class",
    "support",
    "support_change",
    "precision",
    "precision_change",
    "recall",
    "recall_change",
    "f1",
    "f1_change",
  ]);
  const cell = (row: number, name: string): Element | undefined =>
    table?.querySelectorAll(`tr[aria-rowindex="${row}"] td`)[columns.indexOf(name)];
  expect(cell(2, "recall_change")?.textContent?.replace(/\s+/g, " ")).toBe("▼down 0.600, worse ≠");
  expect(cell(2, "recall_change")?.querySelector(".bad")).not.toBeNull();
  expect(cell(2, "support_change")?.querySelector(".bad, .good")).toBeNull();
  expect(cell(2, "precision_change")?.textContent?.trim()).toBe("0.000");
  expect(cell(3, "recall_change")?.textContent).toBe("–");
  expect(cell(3, "recall_change")?.getAttribute("title")).toBe("B has no such class");
  expect(seen(app, "overall-b")).toContain("left out: 1 class of A not in B");
  expect(seen(app, "overall-figures")).toContain("expected calibration error");
  expect(app.querySelector('[data-testid="delta-matrix"]')?.getAttribute("label")).toContain(
    "They differ most where 0 is taken for 0: −70.0\u00a0pp.",
  );
  app.querySelector<HTMLButtonElement>('[data-testid="matrix-alone"]')?.click();
  await settle();
  await app.updateComplete;
  expect(app.querySelector('[data-testid="confusion-matrix"]')).not.toBeNull();
  expect(app.querySelector('[data-testid="delta-matrix"]')).toBeNull();
});

const seenBy = (id: string, predicted: number) => ({
  ...SAMPLE,
  id,
  target: 1,
  predicted,
  confidence: 0.9,
  loss: 2,
});
const JOINED = {
  identified: true,
  identified_against: true,
  total: 1,
  offset: 0,
  counts: { both_correct: 5, only_a: 3, only_b: 1, both_wrong: 1 },
  only_in_a: 0,
  only_in_b: 2,
  targets_differ: 1,
  samples: [{ ...seenBy(HOSTILE, 1), joint: "only_a", against: { ...seenBy(HOSTILE, 0), loss: 3.5 } }],
};

test("the samples of both runs are counted by how they came out, and a cell keeps its own", async () => {
  const asked: URLSearchParams[] = [];
  const app = await show(
    { tab: "samples", runB: "second", target: 1 },
    {
      samples: () => ({ total: 0, offset: 0, identified: true, samples: [] }),
      joined: (query) => {
        asked.push(query);
        return JOINED;
      },
    },
  );
  expect(seen(app, "joined-count")).toBe(
    "10 samples in both, each as it was last seen · 2 only in B · 1 with another target in B",
  );
  expect(seen(app, "joint-only_a")).toBe("only A right 3 · 30.0 %");
  await vi.waitFor(() =>
    expect(app.querySelector('[data-testid="joined-table"] tr[aria-rowindex="2"] td')).not.toBeNull(),
  );
  const cells = Array.from(
    app.querySelectorAll('[data-testid="joined-table"] tr[aria-rowindex="2"] td'),
    (cell) => cell.textContent?.replace(/\s+/g, " ").trim(),
  );
  expect(cells).toEqual([
    HOSTILE,
    "1",
    "✓ 1",
    "✗ 0",
    "0.900",
    "0.900",
    "2.000",
    "3.500",
    "▼down 1.500, better",
  ]);
  expect(app.querySelector("img")).toBeNull();
  app.querySelector<HTMLButtonElement>('[data-testid="joint-only_a"]')?.click();
  await settle();
  expect(asked.map((query) => [query.get("joint"), query.get("target"), query.get("against_run")])).toEqual([
    ["all", "1", "second"],
    ["only_a", "1", "second"],
  ]);
  expect(app.store?.selection.joint).toBe("only_a");
  document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" })); // the class that was chosen
  expect(app.store?.selection).toMatchObject({ joint: "only_a", target: null });
  document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
  expect(app.store?.selection.joint).toBe("all");
});

test("without ids in one of the runs there is a sentence, and the samples of A", async () => {
  const app = await show(
    { tab: "samples", runB: "second" },
    {
      samples: () => ({ total: 0, offset: 0, identified: true, samples: [] }),
      joined: () => ({ ...JOINED, identified_against: false, total: 0, samples: [] }),
    },
  );
  expect(seen(app, "join-no-ids")).toContain("B has none");
  expect(app.querySelector('[data-testid="joined-table"]')).toBeNull();
  expect(app.querySelector('[data-testid="samples-table"]')).not.toBeNull();
});

test("the CSV of both runs has a column of each for every figure", () => {
  const sheet = joinedSheet([JOINED.samples[0] as JoinedSample], ["a", "b"], ["c", "d"]);
  const row = Object.fromEntries(sheet.head.map((name, index) => [name, sheet.rows[0]?.[index]]));
  expect(row).toMatchObject({
    joint: "only_a",
    predicted: "b",
    predicted_against: "c",
    loss: 2,
    loss_against: 3.5,
  });
});

const contrast = (one: string, two: string): number => {
  const [low, high] = [one, two]
    .map((colour) => {
      const parts = channels(colour).map((value) =>
        value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4,
      );
      return 0.2126 * (parts[0] ?? 0) + 0.7152 * (parts[1] ?? 0) + 0.0722 * (parts[2] ?? 0);
    })
    .sort((a, b) => a - b) as [number, number];
  return (high + 0.05) / (low + 0.05);
};

test("A and B are readable on every ground, light and dark", () => {
  const [light, dark] = STYLE.split(":root.dark").map((part) =>
    Object.fromEntries(
      Array.from(part.matchAll(/--([\w-]+): (#[0-9a-f]{3,6});/g), ([, name, value]) => [name, value]),
    ),
  );
  const long = (colour = ""): string => (colour.length === 4 ? colour.replace(/[0-9a-f]/g, "$&$&") : colour);
  for (const theme of [light, dark]) {
    for (const ground of ["ground", "raised", "hover"]) {
      for (const run of ["run-a", "run-b"])
        expect(contrast(long(theme?.[run]), long(theme?.[ground]))).toBeGreaterThan(4.5);
      for (const line of ["run-a-line", "run-b-line"])
        expect(contrast(long(theme?.[line]), long(theme?.[ground]))).toBeGreaterThan(3);
    }
  }
  expect(Object.keys(light ?? {})).toContain("run-b-line");
});

test("tables of a comparison are saved with B's figures and the changes", async () => {
  const row = (COMPARED.classes().classes as unknown as ClassRow[])[0] as ClassRow;
  const classes = classSheet([row], null, true);
  expect(classes.head.slice(-5)).toEqual([
    "recall_change",
    "recall_apart",
    "f1_against",
    "f1_change",
    "f1_apart",
  ]);
  expect(classes.rows[0]?.slice(-6)).toEqual([0.9, -0.6, 1, null, null, 0]);
  const batch = {
    step: 1,
    epoch: 0,
    index: 1,
    size: 8,
    wall_time: 1,
    loss: 2,
    error_rate: 0.5,
    confidence: null,
    metrics: {},
  };
  const batches = batchSheet(
    [
      { ...batch, worst: null, against: { ...batch, loss: 3 } },
      { ...batch, worst: null, against: null },
    ],
    [],
    null,
    true,
  );
  expect(batches.head.slice(-6, -4)).toEqual(["loss_against", "loss_change"]);
  expect(batches.rows.map((cells) => cells.slice(-6))).toEqual([
    [3, -1, 0.5, 0, null, null],
    [undefined, null, undefined, null, undefined, null],
  ]);
  expect(batchSheet([{ ...batch, worst: null }], [], null).head).not.toContain("loss_change");
});

test("the CSV of batches sorted by a change asks for B, too", async () => {
  vi.stubGlobal(
    "URL",
    Object.assign(URL, { createObjectURL: () => "blob:", revokeObjectURL: () => undefined }),
  );
  const { store, asked } = await ask({
    runB: "second",
    batchSort: { column: "loss_change", descending: true },
  });
  asked.length = 0;
  await saveView(store);
  expect(asked).toHaveLength(1);
  expect(asked[0]).toContain("sort=loss_change");
  expect(asked[0]).toContain("against_run=second");
});

test("a regression beside classes is said, and its classes are not asked for", async () => {
  const ages = {
    outputs: [{ name: "age", task: "regression", classes: 0, activation: null }],
  } as Partial<Run>;
  const asked: string[] = [];
  const app = await show(
    { tab: "classes", runB: "second" },
    {
      ...COMPARED,
      runs: () => twoRuns(ages),
      classes: (query) => {
        asked.push(query.toString());
        return ROUTES.classes();
      },
    },
  );
  expect(seen(app, "notes-b")).toContain("losses and layers can be compared, classes and errors cannot");
  expect(asked.length).toBeGreaterThan(0);
  expect(asked.filter((query) => query.includes("against"))).toEqual([]);
});
