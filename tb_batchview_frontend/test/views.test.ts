import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { MatrixModel } from "../src/charts/matrix_model.js";
import { INITIAL, type Selection } from "../src/selection.js";
import { Store } from "../src/state.js";
import type { RunsAnswer } from "../src/types.js";
import { AppElement } from "../src/views/app.js";
import { batchSheet, matrixSheet, pairSheet, sampleSheet } from "../src/views/download.js";
import { pressKey } from "../src/views/keys.js";
import { findRuns, outcomeOf } from "../src/views/parts.js";
import { batchLayerSheet, spikeSheet } from "../src/views/save.js";
import { epochsOf, healthWords } from "../src/views/sentence.js";
import { findClasses } from "../src/views/sidebar.js";
import { sortSpikes } from "../src/views/spikes.js";
import { MOST_ROWS, ROW_HEIGHT, shiftOf, type TableElement } from "../src/views/table.js";
import {
  bytesOf,
  encodeBlock,
  fakePlugin,
  gradientsBlock,
  HOSTILE,
  layOut,
  mapBlock,
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

const hostileRuns = () => {
  const answer = runsAnswer({ name: HOSTILE, metrics: [HOSTILE], layers: [HOSTILE] });
  const run = answer.runs[0] as (typeof answer.runs)[0];
  run.outputs = [
    {
      name: HOSTILE,
      task: "multiclass",
      classes: 10,
      activation: null,
      class_names: Array(10).fill(HOSTILE),
    },
  ];
  run.health = {
    ...run.health,
    corrupt_records: 2,
    warnings: [{ kind: "capture", message: HOSTILE, count: 3 }],
  };
  return answer;
};

const figures = { mean: 1, std: 1, zero_fraction: 0 };
const sample = { ...SAMPLE, id: HOSTILE };
const DYNAMICS = {
  seen: 3,
  mean_target_score: 0.25,
  variability: 0.125,
  correctness: 0.5,
  forgetting: 1,
  margin: -0.5,
};
const ROUTES = {
  runs: hostileRuns,
  batches: (query: URLSearchParams) =>
    query.has("points")
      ? timelineBlock()
      : {
          total: 1,
          offset: 0,
          metrics: [HOSTILE],
          maxima: { loss: 2 },
          rows: [
            {
              step: 4,
              epoch: 0,
              index: 4,
              size: 64,
              wall_time: 1,
              loss: "NaN",
              error_rate: 0.3,
              confidence: null,
              metrics: { [HOSTILE]: 1 },
              worst: { target: 3, predicted: 5, count: 2 },
            },
          ],
        },
  batch: () => ({
    step: 4,
    epoch: 0,
    index: 4,
    size: 64,
    wall_time: 1,
    loss: 1,
    metrics: { [HOSTILE]: 1 },
    error_rate: 0.1,
    confidence: 0.9,
    previous: 3,
    next: 5,
    counts: { all: 1, wrong: 1, confidently_wrong: 1 },
    class_mix: [
      { class: 3, target: 1, predicted: 0 },
      { class: 5, target: 0, predicted: 1 },
    ],
    total: 1,
    offset: 0,
    samples: [sample],
    layers: [{ layer: HOSTILE, ...figures, before: null }],
    summarised: 4,
  }),
  sample: () => ({
    ...sample,
    classes: 10,
    scores: sample.top,
    seen: 3,
    dynamics: DYNAMICS,
    history: [2, 3, 4].map((step) => ({ ...sample, step, epoch: step })),
    history_refused: null,
  }),
  samples: (query: URLSearchParams) => ({
    total: 1,
    offset: 0,
    identified: true,
    samples: [query.get("each") === "last" ? { ...sample, dynamics: DYNAMICS } : sample],
  }),
  data_map: () => mapBlock([HOSTILE, "NaN"]),
  classes: () => ({
    batches: 1,
    samples: 1,
    accuracy: 0.5,
    macro_f1: 0.5,
    total: 1,
    offset: 0,
    classes: [
      {
        class: 3,
        support: 1,
        predicted: 0,
        precision: null,
        recall: 0,
        precision_low: null,
        precision_high: null,
        recall_low: 0,
        recall_high: 0.8,
        f1: null,
        f1_low: null,
        f1_high: null,
        most_confused: { class: 5, count: 1 },
      },
    ],
  }),
  confusion: () =>
    encodeBlock({ batches: 1, samples: 5, classes: 10, shown: 3 }, [
      { name: "labels", dtype: "int32", shape: [3], bytes: bytesOf(Int32Array.of(3, 5, 8)) },
      {
        name: "counts",
        dtype: "uint32",
        shape: [3, 3],
        bytes: bytesOf(Uint32Array.of(1, 3, 0, 1, 0, 0, 0, 0, 0)),
      },
    ]),
  layers: () => ({
    layers: [
      { name: HOSTILE, batches: 1, first_step: 0, last_step: 0, units: 4, min: 0, max: 1, ...figures },
    ],
  }),
};

async function showPage(
  selection: Partial<Selection>,
  routes: Record<string, (query: URLSearchParams) => unknown> = ROUTES,
): Promise<{ app: AppElement; store: Store }> {
  fakePlugin(routes);
  const app = new AppElement();
  const store = new Store(
    { ...INITIAL, ...selection },
    () => app.requestUpdate(),
    () => undefined,
  );
  app.store = store;
  document.body.append(app);
  store.want();
  for (let turn = 0; turn < 6; turn += 1) await settle();
  await app.updateComplete;
  return { app, store };
}

test.each(["batches", "classes", "samples", "layers"] as const)(
  "hostile names, ids and messages are text in the %s tab",
  async (tab) => {
    const { app } = await showPage({ tab, batch: 4, target: 3, sample: { step: 4, sample: 7 } });
    expect(app.querySelectorAll("img, script")).toHaveLength(0);
    expect(app.querySelector('[data-testid="content"]')?.textContent).toContain(HOSTILE);
    expect(app.querySelector('[data-testid="health"]')?.textContent).toContain(HOSTILE);
    expect("hacked" in window).toBe(false);
  },
);

test("another time of a sample is opened below its own batch", async () => {
  const { app, store } = await showPage({ tab: "batches", batch: 4, sample: { step: 4, sample: 7 } });
  app.querySelector<HTMLElement>('[data-testid="history-strip"] button')?.click();
  expect(store.selection).toMatchObject({ batch: 2, sample: { step: 2, sample: 7 } });
});

test("the badge says how many batches were kept of those there were", async () => {
  const { app } = await showPage({});
  expect(app.querySelector('[data-testid="badge"]')?.textContent).toBe("720 of 732 batches · live");
  expect(app.querySelector('[data-testid="workers"]')).toBeNull();
});

test("a run of several workers says how many", async () => {
  const answer = runsAnswer();
  for (const run of answer.runs) run.health.workers = 2;
  const { app } = await showPage({}, { ...ROUTES, runs: () => answer });
  expect(app.querySelector('[data-testid="workers"]')?.textContent).toBe("2 workers");
});

test("the table of batches shows NaN and missing values as such", async () => {
  const { app } = await showPage({});
  const cells = [...app.querySelectorAll('[data-testid="batches-table"] tbody tr[aria-rowindex] td')].map(
    (cell) => cell.textContent?.trim(),
  );
  expect(cells).toEqual(["4", "0", "64", "NaN", "1.000", "30.0\u00a0%", "–", `${HOSTILE} → ${HOSTILE} (2)`]);
});

test("without runs the page says where was looked and which lines are missing", async () => {
  const { app } = await showPage({}, { runs: () => ({ ...runsAnswer(), runs: [] }) });
  const text = app.querySelector('[data-testid="empty"]')?.textContent ?? "";
  expect(text).toContain("/home/ada/logs");
  expect(text).toContain('callbacks=[BatchViewCallback("/home/ada/logs/run-1")]');
});

const provided = { location: "grpc://there", failure: "" };

test("a banner says that the runs are read through a data provider, and what it kept", async () => {
  const page = await showPage({}, { ...ROUTES, runs: () => ({ ...runsAnswer(), data_provider: provided }) });
  const banner = (app: Element) => app.querySelector('[data-testid="provider"] span')?.textContent;
  expect(banner(page.app)).toBe("Read through TensorBoard’s data provider, which kept 720 of 732 batches.");
  page.store.select({ phase: "validation" });
  await page.app.updateComplete;
  expect(banner(page.app)).toContain("which kept 90 of 90 batches.");

  document.body.replaceChildren();
  const broken = { ...provided, failure: "<b>RpcError</b>: gone" };
  const other = await showPage({}, { ...ROUTES, runs: () => ({ ...runsAnswer(), data_provider: broken }) });
  expect(banner(other.app)).toContain(
    "It could not be asked for what is new: <b>RpcError</b>: gone. It is tried",
  );

  document.body.replaceChildren();
  const files = await showPage({}, { ...ROUTES, runs: () => runsAnswer() });
  expect(banner(files.app)).toBeUndefined();
});

test("without runs of a data provider the page says who was asked, and not to look in a log directory", async () => {
  const none = { ...runsAnswer(), runs: [], logdir: "", data_provider: provided };
  const { app } = await showPage({}, { runs: () => none });
  expect(app.querySelector('[data-testid="empty"]')?.textContent).toContain(
    "asked and has nothing of Batch View",
  );
  expect(app.querySelector('[data-testid="location"]')?.textContent).toBe("grpc://there");
  expect(app.textContent).not.toContain("no log directory)");

  document.body.replaceChildren();
  const broken = { ...none, data_provider: { location: "", failure: "RpcError: gone" } };
  const other = await showPage({}, { runs: () => broken });
  expect(other.app.querySelector('[role="alert"]')?.textContent).toContain(
    "could not be asked: RpcError: gone.",
  );

  document.body.replaceChildren();
  const asking = { ...none, indexing: { read_bytes: 0, bytes: 0 } };
  const early = await showPage({}, { runs: () => asking });
  expect(early.app.textContent).toContain("Still asking TensorBoard’s data provider.");
});

test("an error of the first answer is said, with a way to try again", async () => {
  const { app } = await showPage(
    {},
    { runs: () => new Response("logdir must be readable.", { status: 400 }) },
  );
  const error = app.querySelector('[data-testid="error"]');
  expect([
    error?.textContent?.includes("logdir must be readable."),
    error?.querySelector("button")?.textContent,
  ]).toEqual([true, "Try again"]);
});

test("a regression never shows a matrix of classes", async () => {
  const runs = runsAnswer({ outputs: [{ name: "age", task: "regression", classes: 0, activation: null }] });
  const classes = { batches: 3, samples: 96, mean_absolute_error: 2.345, total: 0, offset: 0, classes: [] };
  const { app } = await showPage({ tab: "classes" }, { ...ROUTES, runs: () => runs, classes: () => classes });
  const content = app.querySelector('[data-testid="content"]');
  expect([
    content?.querySelector("bv-matrix"),
    content?.textContent?.includes("it has no classes"),
    content?.textContent?.includes("2.345"),
  ]).toEqual([null, true, true]);
});

test("several labels a sample give a table of labels and no matrix", async () => {
  const runs = runsAnswer({
    outputs: [{ name: "tags", task: "multilabel", classes: 5, activation: "sigmoid", class_names: null }],
  });
  const { app } = await showPage({ tab: "classes" }, { ...ROUTES, runs: () => runs });
  expect([
    app.querySelector("bv-matrix"),
    app.querySelector('[data-testid="classes-table"] th')?.textContent,
  ]).toEqual([null, "Label"]);
});

test("a run that a link names and the log directory lacks is said", async () => {
  const { app } = await showPage({ run: "gone" });
  expect(app.querySelector('[data-testid="missing-run"]')?.textContent).toContain("“gone”");
});

test("a click on a header sorts, on the same header the other way", async () => {
  const { app, store } = await showPage({});
  const click = (): void =>
    app.querySelector<HTMLElement>('[data-testid="batches-table"] [data-column="loss"] button')?.click();
  click();
  expect(store.selection.batchSort).toEqual({ column: "loss", descending: true });
  await app.updateComplete;
  await app.querySelector<TableElement>('[data-testid="batches-table"]')?.updateComplete;
  click();
  expect(store.selection.batchSort).toEqual({ column: "loss", descending: false });
});

test("keys go to the next batch, the tabs, the search and the sheet; Esc widens step by step", async () => {
  const { store } = await showPage({ batch: 4, target: 3, start: 2, sample: { step: 4, sample: 7 } });
  const done: string[] = [];
  const press = (key: string): boolean =>
    pressKey(
      store,
      key,
      (by) => done.push(`row ${by}`),
      () => done.push("search"),
    );
  expect(["ArrowUp", "ArrowDown", "/", "q"].map(press)).toEqual([true, true, true, false]);
  expect(done).toEqual(["row -1", "row 1", "search"]);
  press("ArrowRight");
  expect(store.selection.batch).toBe(5);
  for (const left of [{ sample: null }, { target: null }, { start: null }, { batch: null }]) {
    press("Escape");
    expect(store.selection).toMatchObject(left);
  }
  press("3");
  press("?");
  expect([store.selection.tab, store.help]).toEqual(["samples", true]);
});

test("a table longer than a browser can scroll still reaches its last row", () => {
  const total = 3_000_000;
  const viewport = 440;
  const bottom = MOST_ROWS * ROW_HEIGHT - viewport;
  expect([
    shiftOf(0, viewport, total),
    shiftOf(bottom, viewport, total),
    shiftOf(bottom, viewport, 1000),
  ]).toEqual([0, total - MOST_ROWS, 0]);
});

test("the outcome of a sample is one of four, confident from 0.8 on", () => {
  const cases = [
    [3, 3, 0.8],
    [3, 3, 0.79],
    [3, 5, 0.5],
    [3, 5, 0.9],
    [null, null, 0.9],
  ] as const;
  expect(
    cases.map(([target, predicted, confidence]) => outcomeOf({ ...SAMPLE, target, predicted, confidence })),
  ).toEqual(["correct_confident", "correct_unsure", "wrong_unsure", "wrong_confident", null]);
});

test("a class is found by number, by its beginning and by any part", () => {
  const names = ["husky", "tabby cat", "cat", "wildcat", "2nd"];
  expect([
    findClasses(names, 5, "cat"),
    findClasses(names, 5, " 2"),
    findClasses(null, 30, "2"),
    findClasses(names, 5, " "),
  ]).toEqual([[2, 1, 3], [2, 4], [2, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 12], []]);
});

const manyRuns = (): RunsAnswer => {
  const names = [1, 2, 4, 8, 10].flatMap((width) =>
    ["0.1", "0.01"].map((rate) => `Width=${width} lr=${rate}`),
  );
  return { ...runsAnswer(), runs: names.flatMap((name) => runsAnswer({ name }).runs) };
};

test("runs are found by words of their names, in any order, and the one that is shown stays", () => {
  const names = (words: string, kept?: string) =>
    findRuns(manyRuns().runs, words, kept).map(({ name }) => name);
  expect([names(""), names("nothing")].map(({ length }) => length)).toEqual([10, 0]);
  expect(names(" lr=0.1  width=10 ")).toEqual(["Width=10 lr=0.1"]);
  expect(names("0.01 width=1", "Width=4 lr=0.1")).toEqual([
    "Width=1 lr=0.01",
    "Width=4 lr=0.1",
    "Width=10 lr=0.01",
  ]);
});

test("many runs are filtered by typing; Enter takes the first, Escape shows all again", async () => {
  const { app, store } = await showPage({}, { ...ROUTES, runs: manyRuns });
  const field = app.querySelector<HTMLInputElement>('[data-testid="run-search"]');
  const names = (id: string) =>
    [...app.querySelectorAll<HTMLOptionElement>(`#${id} option`)].map((option) => option.value);
  const press = async (key: string) => {
    field?.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    await app.updateComplete;
  };
  if (field === null) throw new Error("ten runs must have a field to filter them");
  field.value = "0.01 width=1";
  field.dispatchEvent(new InputEvent("input", { bubbles: true }));
  await app.updateComplete;
  expect(app.querySelector('[data-testid="runs-found"]')?.textContent).toBe("2 of 10 runs");
  expect(names("run-b")).toEqual(["", "Width=1 lr=0.01", "Width=10 lr=0.01"]);
  await press("Enter");
  expect([store.selection.run, names("run")]).toEqual([
    "Width=1 lr=0.01",
    ["Width=1 lr=0.01", "Width=10 lr=0.01"],
  ]);
  await press("Escape");
  expect([field.value, names("run").length, store.selection.run]).toEqual(["", 10, "Width=1 lr=0.01"]);
});

test("few runs need no filter", async () => {
  const { app } = await showPage({});
  expect(app.querySelector('[data-testid="run-search"]')).toBeNull();
});

test("epochs that begin again are told from the least to the greatest", () => {
  const epochs = [3, 4, 4, 0, 1].map((epoch, index) => ({ epoch, step: 10 * index }));

  expect(epochsOf(epochs, 0, 49)).toEqual([0, 4]);
  expect(epochsOf(epochs, 15, 25)).toEqual([4, 4]);
});

test("a range touches the epochs that run through it", () => {
  const epochs = [
    { epoch: 0, step: 0 },
    { epoch: 1, step: 72 },
    { epoch: 2, step: 144 },
  ];
  expect([
    epochsOf(epochs, 0, 71),
    epochsOf(epochs, 71, 72),
    epochsOf(epochs, 150, 900),
    epochsOf([], 0, 9),
  ]).toEqual([[0, 0], [0, 1], [2, 2], null]);
});

test("health is said in sentences, and a healthy run says nothing", () => {
  const health = runsAnswer().runs[0]?.health;
  if (health === undefined) throw new Error("the fake run must have a health");
  expect(healthWords(health)).toEqual([]);
  expect(
    healthWords({
      ...health,
      corrupt_records: 1,
      dropped_batches: 12,
      warnings: [{ kind: "capture", message: "No loss.", count: 1 }],
    }),
  ).toEqual([
    "1 record is corrupt and left out.",
    "12 batches were dropped while recording, because the disk did not keep up.",
    "No loss.",
  ]);
});

const cellsOf = (table: Element | null): string[][] =>
  [...(table?.querySelectorAll("tbody tr[aria-rowindex]") ?? [])].map((row) =>
    [...row.querySelectorAll("td")].map((cell) => cell.textContent?.trim() ?? ""),
  );

test("the most confused pairs stand beside the matrix; a click shows the samples of that direction", async () => {
  const { app, store } = await showPage({ tab: "classes" }, { ...ROUTES, runs: () => runsAnswer() });
  const table = app.querySelector('[data-testid="pairs-table"]');
  expect(cellsOf(table)).toEqual([
    ["3", "5", "3", "75.0\u00a0%", "1"],
    ["5", "3", "1", "100.0\u00a0%", "3"],
  ]);
  table?.querySelector<HTMLElement>("tr[aria-rowindex='3'] td")?.click();
  expect(store.selection).toMatchObject({ target: 5, predicted: 3 });
  table?.querySelector<HTMLElement>("tr[aria-rowindex='3'] button")?.click();
  expect(store.selection).toMatchObject({ target: 3, predicted: 5 });
  table?.querySelector<HTMLElement>("[data-column='share'] button")?.click();
  expect(store.selection.pairSort).toEqual({ column: "share", descending: true });
});

test("what a class is most taken for leads to those samples", async () => {
  const { app, store } = await showPage({ tab: "classes" });
  app.querySelector<HTMLElement>('[data-testid="most-confused"]')?.click();
  expect(store.selection).toMatchObject({ target: 3, predicted: 5 });
});

test("the class search narrows the table of classes and the pairs", async () => {
  const asked: (string | null)[] = [];
  const classes = (query: URLSearchParams) => {
    asked.push(query.get("search"));
    return query.has("search") ? { ...ROUTES.classes(), total: 0, classes: [] } : ROUTES.classes();
  };
  const { app, store } = await showPage({ tab: "classes" }, { ...ROUTES, classes, runs: () => runsAnswer() });
  store.set({ search: " 8 " });
  for (let turn = 0; turn < 4; turn += 1) await settle();
  await app.updateComplete;
  expect(asked).toEqual([null, "8"]);
  expect([
    app.querySelector('[data-testid="classes-count"]')?.textContent?.split(" ·")[0],
    app.querySelector('[data-testid="pairs"] .state')?.textContent,
  ]).toEqual(["0 of 10 with “8”", "No such class was taken for another."]);
});

test("the clustered order is asked for when it is chosen, and only then", async () => {
  const asked: (string | null)[] = [];
  const confusion = (query: URLSearchParams) => {
    asked.push(query.get("order"));
    return ROUTES.confusion();
  };
  const { store } = await showPage({ tab: "classes" }, { ...ROUTES, confusion });
  store.select({ order: "name" });
  store.select({ order: "clustered" });
  for (let turn = 0; turn < 4; turn += 1) await settle();
  expect(asked).toEqual([null, "clustered"]);
});

test("a range without targets has no matrix and says so", async () => {
  const confusion = () =>
    encodeBlock({ batches: 1, samples: 5, classes: 10, shown: 1 }, [
      { name: "labels", dtype: "int32", shape: [1], bytes: bytesOf(Int32Array.of(3)) },
      { name: "counts", dtype: "uint32", shape: [1, 1], bytes: bytesOf(Uint32Array.of(0)) },
    ]);
  const { app } = await showPage({ tab: "classes" }, { ...ROUTES, confusion });
  expect([
    app.querySelector("bv-matrix"),
    app.querySelector('[data-testid="pairs"]'),
    app.querySelector('[data-testid="confusion"] .state')?.textContent,
  ]).toEqual([null, null, "No samples with a target in this range."]);
});

test("the sheet of a matrix holds what is shown, in its order; classes of one name keep apart", () => {
  const matrix = { labels: [0, 1, 2], counts: [3, 1, 0, 2, 2, 0, 0, 0, 0], clustered: [1, 0, 2] };
  const names = ["cat", "dog", "cat"];
  const options = { names, cells: "row", order: "clustered", log: false, diagonal: true } as const;
  expect(matrixSheet(new MatrixModel(matrix, options))).toEqual({
    head: ["target \\ predicted (share of row)", "1: dog", "0: cat", "2: cat"],
    rows: [
      ["1: dog", 0.5, 0.5, 0],
      ["0: cat", 0.25, 0.75, 0],
      ["2: cat", null, null, null],
    ],
  });
  const counts = matrixSheet(
    new MatrixModel(matrix, { ...options, names: null, cells: "count", order: "index" }),
  );
  expect(counts).toEqual({
    head: ["target \\ predicted (samples)", "0", "1", "2"],
    rows: [
      ["0", 3, 1, 0],
      ["1", 2, 2, 0],
      ["2", 0, 0, 0],
    ],
  });
  const pairs = pairSheet([{ target: 1, predicted: 0, count: 2, share: 0.5, back: 1 }], names);
  expect(pairs.rows).toEqual([[1, "dog", 0, "cat", 2, 0.5, 1]]);
  expect(pairs.head).toHaveLength(7);
});

test("sheets have a head for every cell", () => {
  const batches = batchSheet(
    [
      {
        step: 4,
        epoch: 0,
        index: 4,
        size: 64,
        wall_time: 1,
        loss: 0.5,
        error_rate: 0.1,
        confidence: 0.9,
        metrics: { accuracy: 0.9 },
        worst: { target: 0, predicted: 1, count: 2 },
      },
    ],
    ["accuracy"],
    ["cat", "dog"],
  );
  expect(Object.fromEntries(batches.head.map((name, index) => [name, batches.rows[0]?.[index]]))).toEqual({
    step: 4,
    epoch: 0,
    index: 4,
    size: 64,
    wall_time: 1,
    loss: 0.5,
    accuracy: 0.9,
    error_rate: 0.1,
    confidence: 0.9,
    worst_target: "cat",
    worst_predicted: "dog",
    worst_count: 2,
  });
  const samples = sampleSheet([SAMPLE], null);
  expect(samples.rows[0]).toHaveLength(samples.head.length);
});

test("a value in a style is a number, whatever the answer held", async () => {
  const { app } = await showPage({ batch: 4 });
  const styles = [...app.querySelectorAll<HTMLElement>("[style]")].map(({ style }) => style.cssText);
  expect(styles.length).toBeGreaterThan(0);
  expect(
    styles.every((text) => !text.includes("url") && !text.includes("undefined") && !text.includes("NaN")),
  ).toBe(true);
});

const READING = { read_bytes: 8.4e9, bytes: 2e10 };

test("a run that is still being read shows how far, and says what its figures are of", async () => {
  const runs = () => ({ ...runsAnswer({ indexing: READING }), indexing: READING });
  const { app } = await showPage({}, { ...ROUTES, runs });
  const find = (name: string): Element | null => app.querySelector(`[data-testid="${name}"]`);

  expect(find("badge")?.textContent).toContain("still indexing · 42\u00a0%");
  const bar = find("progress") as HTMLProgressElement;
  expect([bar.getAttribute("aria-label"), bar.value, bar.max]).toEqual(["Event files read", 42, 100]);
  expect(find("so-far")?.textContent).toContain("what was read so far: 8.4 of 20.0 GB, 720 batches");
  expect(find("sentence")?.textContent).toContain("720 batches read so far");
  expect(find("sentence")?.textContent).not.toContain("all 720");
});

test("a run that is read shows no progress", async () => {
  const { app } = await showPage({}, { ...ROUTES, runs: () => runsAnswer() });

  expect(app.querySelector("progress")).toBeNull();
  expect(app.querySelector('[data-testid="badge"]')?.textContent).toContain("720 of 732 batches");
});

test("before the first batches are read the page says so, and not that there is nothing", async () => {
  const indexing = { read_bytes: 3.1e9, bytes: 2e10 };
  const none = { phases: [], outputs: [], updated: null, indexing };
  const { app } = await showPage({}, { ...ROUTES, runs: () => ({ ...runsAnswer(none), indexing }) });
  expect(app.textContent).toContain("Still reading the event files: 3.1 of 20.0 GB.");
  expect(app.textContent).not.toContain("No batch has been recorded yet");

  document.body.replaceChildren();
  const looking = { read_bytes: 0, bytes: 0 };
  const empty = await showPage(
    {},
    { ...ROUTES, runs: () => ({ ...runsAnswer(), runs: [], indexing: looking }) },
  );
  expect(empty.app.textContent).toContain("Still looking for event files.");
  expect(empty.app.textContent).not.toContain("No recorded batches");
});

const SPIKES = [
  { step: 500, epoch: 6, loss: "NaN", ratio: null, error_rate: 1, worst: null },
  {
    step: 417,
    epoch: 5,
    loss: 1.95,
    ratio: 9.4,
    error_rate: 0.34,
    worst: { target: 3, predicted: 5, count: 9 },
  },
  { step: 60, epoch: 0, loss: 7, ratio: 3.5, error_rate: 0.5, worst: null },
];
const spiked = (query: URLSearchParams): unknown =>
  query.has("points") ? timelineBlock({ spikes: SPIKES }) : ROUTES.batches(query);

test("spikes are listed with what they are of, and open their batch", async () => {
  const { app, store } = await showPage({}, { ...ROUTES, runs: () => runsAnswer(), batches: spiked });
  const rows = (): string[][] =>
    [...app.querySelectorAll("#spikes tbody tr[aria-rowindex]")].map((row) =>
      [...row.querySelectorAll("td")].map((cell) => cell.textContent?.trim() ?? ""),
    );
  expect(rows()).toEqual([
    ["500", "NaN", "–", "100.0\u00a0%", "–"],
    ["417", "1.950", "9.4×", "34.0\u00a0%", "3 → 5 (9)"],
    ["60", "7.000", "3.5×", "50.0\u00a0%", "–"],
  ]);
  app.querySelector<HTMLElement>("#spikes tr[aria-rowindex='3']")?.click();
  expect(store.selection.batch).toBe(417);
});

test("Enter on the list of spikes opens the first, where none was chosen", async () => {
  const { app, store } = await showPage({}, { ...ROUTES, batches: spiked });
  app
    .querySelector("#spikes table")
    ?.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
  expect(store.selection.batch).toBe(500);
});

test("spikes are sorted by any figure; a loss that is not finite is the greatest", () => {
  const spikes = SPIKES.map((spike) => ({ ...spike, loss: Number(spike.loss) }));
  const steps = (column: string, descending: boolean): number[] =>
    sortSpikes(spikes, { column, descending }).map(({ step }) => step);
  expect([
    steps("ratio", true),
    steps("loss", false),
    steps("step", false),
    steps("error_rate", false),
  ]).toEqual([
    [500, 417, 60],
    [417, 60, 500],
    [60, 417, 500],
    [417, 60, 500],
  ]);
});

test("without spikes the timeline has the room of their list", async () => {
  const calm = (query: URLSearchParams): unknown =>
    query.has("points") ? timelineBlock({ spikes: [] }) : ROUTES.batches(query);
  const { app } = await showPage({}, { ...ROUTES, batches: calm });
  expect(app.querySelector('[data-testid="spikes"]')).toBeNull();
  expect(app.querySelector('[data-testid="timeline-loss"]')?.textContent).toContain("no spikes");
});

test("sheets of a batch and of spikes have a head for every cell", () => {
  const figures = { mean: 1, std: 2, zero_fraction: 0.5 };
  const layers = batchLayerSheet([
    { layer: "dense", ...figures, before: { ...figures, std: 1 } },
    { layer: "new", ...figures, before: null },
  ]);
  expect(layers.rows).toEqual([
    ["dense", 1, 2, 0.5, 1, 1, 0.5],
    ["new", 1, 2, 0.5, undefined, undefined, undefined],
  ]);
  const spikes = spikeSheet(
    SPIKES.map((spike) => ({ ...spike, loss: Number(spike.loss) })),
    ["a", "b", "c", "cat", "d", "dog"],
  );
  expect(spikes.rows[1]).toEqual([417, 5, 1.95, 9.4, 0.34, "cat", "dog", 9]);
  for (const { head, rows } of [layers, spikes])
    expect(rows.map((row) => row.length)).toEqual(rows.map(() => head.length));
});

test("a picture asks to be saved, and the page names it after the run and what it shows", async () => {
  const { app, store } = await showPage({}, { ...ROUTES, runs: () => runsAnswer() });
  app.querySelector<HTMLElement>('[data-testid="timeline-loss"] .head button[aria-label^="PNG"]')?.click();
  await settle();
  // There is no canvas here; the browser test looks at the file.
  expect(store.notice).toBe("the browser could not make the picture");
});

test("every key of the sheet does something", async () => {
  const { app, store } = await showPage({ batch: 4, target: 3 }, { ...ROUTES, batches: spiked });
  store.set({ help: true });
  await app.updateComplete;
  // Those of a table or of a picture are for whoever has the focus.
  const [everywhere] = app.querySelectorAll('[data-testid="keys-sheet"] section');
  const keys = [...(everywhere?.querySelectorAll("kbd") ?? [])].map((key) => key.textContent ?? "");
  const names: Record<string, string> = {
    "←": "ArrowLeft",
    "→": "ArrowRight",
    "↑": "ArrowUp",
    "↓": "ArrowDown",
    Esc: "Escape",
  };
  const pressed = keys.map((key) =>
    pressKey(
      store,
      names[key] ?? key,
      () => undefined,
      () => undefined,
    ),
  );
  expect(keys.length).toBeGreaterThan(12);
  expect(pressed).toEqual(pressed.map(() => true));
});

test("layers of a batch stand beside what they were before; a spread that has doubled is marked", async () => {
  const batch = {
    ...ROUTES.batch(),
    layers: [{ layer: "dense", mean: 1.9, std: 0.8, zero_fraction: 0.37, before: { ...figures, std: 0.2 } }],
  };
  const { app } = await showPage({ batch: 4 }, { ...ROUTES, batch: () => batch });
  const cells = [...app.querySelectorAll('[data-testid="batch-layers"] tbody td')];
  expect(cells.map((cell) => cell.textContent?.trim())).toEqual([
    "dense",
    "1.900",
    "1.000",
    "0.8000 ▲ 4.0×",
    "0.2000",
    "37.0\u00a0%",
    "0.0\u00a0%",
  ]);
});

test("a batch whose layers are not summarised leads to the nearest one where they are", async () => {
  const batch = (query: URLSearchParams) => ({
    ...ROUTES.batch(),
    step: Number(query.get("step")),
    layers: [],
    summarised: 10,
  });
  const { app, store } = await showPage({ batch: 4 }, { ...ROUTES, batch });
  const link = app.querySelector<HTMLButtonElement>('[data-testid="summarised"]');
  expect(link?.textContent?.trim()).toBe("batch 10");
  link?.click();
  expect(store.selection.batch).toBe(10);
});

test("the name of a layer is cut off at its beginning, and whole for whoever copies it", async () => {
  const layers = ["batch_normalization_11", "dense_1"].map((layer) => ({ layer, ...figures, before: null }));
  const { app } = await showPage({ batch: 4 }, { ...ROUTES, batch: () => ({ ...ROUTES.batch(), layers }) });
  const names = [...app.querySelectorAll('[data-testid="batch-layers"] tbody td:first-child')];
  expect(names.map((cell) => cell.textContent?.trim())).toEqual(["batch_normalization_11", "dense_1"]);
  expect(names.every((cell) => cell.querySelector(".tail > bdi") !== null)).toBe(true);
});

test("an error of the range is said, and does not look like waiting", async () => {
  const batches = (query: URLSearchParams): unknown =>
    query.has("start") && query.has("points")
      ? new Response("start must be a whole number.", { status: 400 })
      : ROUTES.batches(query);
  const { app } = await showPage({ start: 5, zoom: true }, { ...ROUTES, batches });
  expect(app.querySelector('[data-testid="error"]')?.textContent).toContain("start must be a whole number.");
  expect(app.textContent).not.toContain("Loading");
});

const goldenBlock = (name: string): ArrayBuffer => {
  const bytes = readFileSync(join(import.meta.dirname, "golden", name));
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
};
const goldenJson = (name: string): unknown =>
  JSON.parse(readFileSync(join(import.meta.dirname, "golden", name), "utf8"));
const LAYER_ROUTES = {
  ...ROUTES,
  layers: () => goldenJson("layers.json"),
  layer: () => goldenBlock("layer.bin"),
  units: () => goldenBlock("units.bin"),
  dead_units: () => goldenJson("dead_units.json"),
  gradients: () => goldenBlock("gradients.bin"),
  gradient: () => goldenBlock("gradient.bin"),
};

test("a layer is shown with its averages, its gradient and its dead units", async () => {
  const { app, store } = await showPage({ tab: "layers", layer: "dense", last: 3 }, LAYER_ROUTES);
  const text = (hook: string): string =>
    (app.querySelector(`[data-testid="${hook}"]`)?.textContent ?? "").replace(/\s+/g, " ").trim();
  expect(text("averages")).toContain(
    "activations of the range: 7 summaries together mean ± std2.857 ± 2.748",
  );
  expect(text("averages")).toContain("gradients of the range");
  expect(text("dead-list")).toBe("1 dead of 4, 25.0 %: 10 saturated of 4, 0.0 %");
  for (const hook of [
    "gradient-norms",
    "layer-heatmap",
    "gradient-heatmap",
    "layer-ridgeline",
    "gradient-ridgeline",
    "unit-heatmap",
    "layer-dead",
  ])
    expect(app.querySelectorAll(`[data-testid="${hook}"]`)).toHaveLength(1);
  const input = app.querySelector<HTMLInputElement>('[data-testid="dead-last"]');
  if (input === null) throw new Error("there must be an input");
  input.value = "50";
  input.dispatchEvent(new Event("change"));
  expect(store.selection.last).toBe(50);
  app.querySelector<HTMLElement>('[data-testid="unit-zero_fraction"]')?.click();
  expect(store.selection.unitFigure).toBe("zero_fraction");
});

test("without gradients the line that records them is shown", async () => {
  const { app } = await showPage(
    { tab: "layers", layer: "dense" },
    { ...LAYER_ROUTES, gradients: () => gradientsBlock([]) },
  );
  expect(app.querySelector('[data-testid="gradients"]')?.textContent).toContain(
    "BatchViewCallback(log_dir, gradients=True)",
  );
  expect(app.querySelector('[data-testid="gradient-heatmap"]')).toBeNull();
});

test("many layers are a heatmap, few are lines; names are text in both", async () => {
  for (const [layers, hook] of [
    [3, "gradient-norms"],
    [12, "gradient-norm-heatmap"],
  ] as const) {
    const names = Array.from({ length: layers }, (_, at) => `${HOSTILE}${at}`);
    const { app } = await showPage(
      { tab: "layers" },
      { ...LAYER_ROUTES, layers: () => ({ layers: [] }), gradients: () => gradientsBlock(names) },
    );
    expect(app.querySelectorAll(`[data-testid="${hook}"]`)).toHaveLength(1);
    expect(app.querySelectorAll("img, script")).toHaveLength(0);
    expect(app.querySelector('[data-testid="layers-table"]')?.textContent).toContain(`${HOSTILE}0`);
    expect(app.querySelector('[data-testid="layer-title"]')?.textContent).toBe(`${HOSTILE}0`);
    expect("hacked" in window).toBe(false);
    document.body.replaceChildren();
  }
});
